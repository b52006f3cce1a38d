# SPDX-License-Identifier: Apache-2.0
"""
Pillar encoder and stem of lidar.py for one sample on a CPU.

What the network is told of points is linear in the points and in their pillars, so that it is
folded into the layer. Points are sorted by pillar: the n-th points of all pillars go through the
layer together, and the maximum is taken in passing, so that nothing leaves the cache. The stem
is one product over the occupied coarse cells; all others have the value of an empty cell.
"""

from mmperception.network.lidar import pillar_middles, RANGE_SCALE_M
from mmperception.network.swift_conv import Kept
import numpy as np
import torch

# Pillars with more points are taken apart: else a few would need hundreds of rounds.
MAX_ROUNDS = 16
# So many go through the layer together: what it gives stays in the cache of a core.
TOGETHER = 2048


class SwiftEncoder:
    """Batch -> pillar features (P, C), as `PillarEncoder` with its norm folded."""

    def __init__(self, encoder):
        self.weight = encoder.linear.weight.detach().T.contiguous()  # (9, C)
        self.bias = encoder.linear.bias.detach()

    def __call__(self, batch):
        P, N = len(batch.pillar_cell), len(batch.points)
        if N < 2:
            return torch.zeros(P, len(self.bias))
        pillar = batch.point_pillar.numpy()
        begin = np.flatnonzero(np.concatenate(([True], pillar[1:] != pillar[:-1])))
        length = np.diff(begin, append=N)
        number = -(-length // MAX_ROUNDS)  # parts of each pillar
        first = np.cumsum(number) - number
        offset = (np.arange(first[-1] + number[-1]) - np.repeat(first, number)) * MAX_ROUNDS
        part_length = np.minimum(np.repeat(length, number) - offset, MAX_ROUNDS)
        weight, same = self._folded(batch)
        parts = _parts(batch.points, weight, np.repeat(begin, number) + offset, part_length)
        # The same for all points of a pillar, so that it can wait until the maximum is known.
        return _joined(parts, first, number).add_(same).clamp_(min=0.0)

    def _folded(self, batch):
        """Return weights (5, C) for points as they are, and what each pillar adds (P, C)."""
        in_cell, height, from_mean, intensity, known, away = self.weight.split((2, 1, 3, 1, 1, 1))
        in_cell = in_cell / batch.grid.cell_m
        of_place = from_mean.clone()
        of_place[:2] += in_cell
        of_place[2] += height[0]
        middle, is_known = pillar_middles(batch)
        same = torch.cat((middle, batch.pillar_mean, is_known[:, None]), dim=1)
        same = torch.addmm(self.bias, same, torch.cat((-in_cell, -from_mean, known)))
        return torch.cat((of_place, intensity, away / RANGE_SCALE_M)), same


def _parts(points, weight, begin, length):
    """Return the maximum over each run of `length` rows from `begin`: (parts, C)."""
    order = np.argsort(MAX_ROUNDS - length.astype(np.uint16), kind='stable')
    rows, length = torch.from_numpy(begin[order]), length[order]
    best = torch.empty(len(rows), weight.shape[1])
    for first in range(0, len(rows), TOGETHER):
        some = slice(first, first + TOGETHER)
        _maxima(points, weight, rows[some], length[some], best[some])
    return torch.empty_like(best).index_copy_(0, torch.from_numpy(order), best)


def _maxima(points, weight, rows, length, best):
    """Fill `best` (n, C) with the maximum over the points of each run, longest first."""
    torch.mm(points.index_select(0, rows), weight, out=best)
    # How many parts have more than 0, 1, 2 ... points.
    reach = len(length) - np.cumsum(np.bincount(length, minlength=MAX_ROUNDS + 1))
    for step in range(1, int(length[0])):
        n = int(reach[step])
        values = points.index_select(0, rows[:n] + step) @ weight
        torch.maximum(best[:n], values, out=best[:n])


def _joined(parts, first, number):
    """Return the maximum over the `number` parts of each pillar, which begin at `first`."""
    if len(parts) == len(first):
        return parts
    best = parts.index_select(0, torch.from_numpy(first))
    several = np.flatnonzero(number > 1)
    order = np.argsort(-number[several], kind='stable')
    several = several[order]
    rows, count = torch.from_numpy(first[several]), number[several]
    found = parts.index_select(0, rows)
    for step in range(1, int(count[0])):
        n = int(np.searchsorted(-count, -step))
        values = parts.index_select(0, rows[:n] + step)
        torch.maximum(found[:n], values, out=found[:n])
    return best.index_copy_(0, torch.from_numpy(several), found)


class Occupancy:
    """
    The occupied cells of the coarse grid, and where each pillar lies in them.

    Attributes
    ----------
    num_y, num_x : int
        Of the coarse grid.
    cell : (Q,) int64 ndarray
        Flat coarse cells with pillars, ascending.
    slot : (P,) int64
        Row of `cell` of each pillar.
    quarter : (P,) int64
        Which of the four pillars under its coarse cell each is, as in `lidar.coarse_cells`.

    """

    def __init__(self, pillar_cell, grid):
        row, column = np.divmod(pillar_cell.numpy(), grid.num_x)
        self.num_y, self.num_x = grid.num_y // 2, grid.num_x // 2
        coarse = (row // 2) * self.num_x + column // 2
        is_occupied = np.zeros(self.num_y * self.num_x, bool)
        is_occupied[coarse] = True
        self.cell = np.flatnonzero(is_occupied)
        slot = np.empty(len(is_occupied), np.int64)
        slot[self.cell] = np.arange(len(self.cell))
        self.slot = torch.from_numpy(slot[coarse])
        self.quarter = torch.from_numpy((row % 2) * 2 + column % 2)


class SwiftStem:
    """Pillar features (P, C) -> dense map (1, C_out, Y, X) of `dtype`, as `SparseStem`."""

    def __init__(self, stem, dtype):
        norm, C = stem.norm, stem.shares.in_features
        scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
        shares = stem.shares.weight.detach().view(4, -1, C).transpose(1, 2)  # (4, C, C_out)
        self.weight = (shares * scale).reshape(4 * C, -1).contiguous()
        self.bias = norm.bias.detach() - norm.running_mean * scale
        self.empty = torch.relu(self.bias).to(dtype)
        self.kept = Kept()

    def __call__(self, pillars, occupancy):
        Q, C = len(occupancy.cell), pillars.shape[1]
        four = pillars.new_zeros(4 * Q, C)
        four.index_copy_(0, occupancy.slot * 4 + occupancy.quarter, pillars)
        rows = torch.addmm(self.bias, four.view(Q, 4 * C), self.weight).clamp_(min=0.0)
        Y, X = occupancy.num_y, occupancy.num_x
        dense = self.kept.like((1, len(self.bias), Y, X), self.empty.dtype)
        flat = dense.permute(0, 2, 3, 1).view(Y * X, -1)
        flat.copy_(self.empty.expand(Y * X, -1))
        flat.index_copy_(0, torch.from_numpy(occupancy.cell), rows.to(flat.dtype))
        return dense
