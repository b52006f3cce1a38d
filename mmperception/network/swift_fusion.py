# SPDX-License-Identifier: Apache-2.0
"""
Fusion of fusion.py for one sample on a CPU, and how its evidence joins the LiDAR's map.

Keys and values are linear in what is read from the image, so they are computed once for each
place of the image's map and then sampled, instead of for each place of each pillar; all tensors
lie with pillars last, as sampling gives them. Evidence is on few cells: what it adds to the join's
first convolution is computed for these, never for a map of zeros.
"""

from dataclasses import dataclass

from mmperception.network.fusion import (
    AttentionFusion,
    FIXED_HEIGHTS_M,
    MAX_OFFSET_PX,
    project_pillars,
)
import numpy as np
import torch
import torch.nn.functional as F


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """`rows` (E, C) float32 of camera evidence at `cell` (E,) of the coarse grid, flat."""

    rows: torch.Tensor
    cell: np.ndarray


def make_reader(fusion):
    """Return what reads the images for the pillars, for this kind of fusion."""
    return AttentionReader(fusion) if isinstance(fusion, AttentionFusion) else PlainReader(fusion)


class PlainReader:
    """The fusion as it is, for kinds without a swift one."""

    def __init__(self, fusion):
        self.fusion = fusion

    def __call__(self, pillars, batch, features, motion, occupancy):
        found = self.fusion(pillars, batch, features, motion)
        rows = found.new_zeros(len(occupancy.cell), found.shape[1])
        rows.index_add_(0, occupancy.slot, found)
        return Evidence(rows=rows, cell=occupancy.cell)


class AttentionReader:
    """Evidence of all cameras, as `AttentionFusion`."""

    def __init__(self, fusion):
        self.fusion = fusion
        key, value = fusion.key, fusion.value
        self.of_map = torch.cat((key.weight, value.weight)).detach()  # (2 D, C)
        self.key_bias = (key.bias + fusion.place).detach()  # (2 S, D)
        self.value_bias = value.bias.detach()

    def __call__(self, pillars, batch, features, motion, occupancy):
        rows = pillars.new_zeros(len(occupancy.cell), pillars.shape[1])
        is_read = np.zeros(len(rows), bool)
        size = batch.images.shape[-2:]
        for k in range(batch.images.shape[1]):
            matrix = batch.pixel_from_base[:, k]
            _, is_seen = project_pillars(batch.pillar_mean[None], matrix, size)
            index = self.fusion._choose(is_seen[0] & batch.image_mask[0, k], batch)
            if not len(index):
                continue
            points = batch.pillar_mean[index].repeat(1 + len(FIXED_HEIGHTS_M), 1, 1)  # (S, n, 3)
            for s, height in enumerate(FIXED_HEIGHTS_M):
                points[1 + s, :, 2] = height
            where, is_seen = project_pillars(points.view(1, -1, 3), matrix, size)
            places = where.view(*points.shape[:2], 2), is_seen.view(points.shape[:2])
            found = self._attend(pillars[index], features[:, k], *places, motion[0])
            slot = occupancy.slot[index]
            rows.index_add_(0, slot, found)
            is_read[slot.numpy()] = True
        read = np.flatnonzero(is_read)
        return Evidence(rows=rows[torch.from_numpy(read)], cell=occupancy.cell[read])

    def _attend(self, pillars, features, where, is_seen, motion):
        """As `AttentionFusion.attend`; `where` (S, n, 2), `is_seen` (S, n)."""
        fusion = self.fusion
        _, C, h, w = features.shape
        n, heads = len(pillars), fusion.num_heads
        query = F.linear(pillars, fusion.query.weight, fusion.query.bias).T.contiguous()
        D, S = len(query), len(where)
        step = where.new_tensor([0.5 * MAX_OFFSET_PX / w, 0.5 * MAX_OFFSET_PX / h])
        offset = torch.tanh(fusion.offset(pillars)).view(n, S, 2).transpose(0, 1)
        places = torch.cat((where, where + offset * step))  # (2 S, n, 2)
        # Keys and values as two samples of a batch: sampling has one thread for each.
        maps = (self.of_map @ features.reshape(C, h * w)).view(2, D, h, w)
        places = places.expand(2, -1, -1, -1)
        key, value = F.grid_sample(maps, places, mode='bilinear', align_corners=False)
        motion_key, motion_value = fusion.motion_key(motion), fusion.motion_value(motion)
        score = self._scores(query, key, torch.cat((self.key_bias, motion_key[None])))
        score[:, : 2 * S].masked_fill_(~torch.cat((is_seen, is_seen)), -1e4)
        weight = score.softmax(dim=1)  # (heads, 2 S + 1, n)
        by_head = value.view(heads, D // heads, 2 * S, n)
        rest = weight[:, -1:]  # of the motion token, (heads, 1, n)
        found = (motion_value - self.value_bias).view(heads, -1, 1) * rest
        found += self.value_bias.view(heads, -1, 1)
        for s in range(2 * S):
            found.addcmul_(by_head[:, :, s], weight[:, s, None])
        found = found.view(D, n).T.contiguous()
        gate = torch.sigmoid(fusion.gate(torch.cat((pillars, found), dim=1)))
        return gate.mul_(fusion.out(found))

    def _scores(self, query, key, bias):
        """Return (heads, 2 S + 1, n): query times key, the last one the motion token's."""
        heads = self.fusion.num_heads
        D, n = query.shape
        # What of the keys is the same for all pillars, as one product.
        head = torch.arange(D) // (D // heads)
        same = torch.where(head == torch.arange(heads)[:, None], bias[:, None], 0.0)
        score = (same.view(-1, D) @ query).view(-1, heads, n).transpose(0, 1).contiguous()
        for s in range(key.shape[1]):
            product = (query * key[:, s]).view(heads, -1, n)
            score[:, s] += product.sum(1)
        return score.mul_((heads / D) ** 0.5)


class SparseJoin:
    """
    First block of the join: stride-2 3x3 convolution of map and evidence, ReLU.

    The evidence's share: for each of the nine taps its cells of the right parity give to one cell.
    """

    def __init__(self, block, dtype):
        conv = block[0]
        weight, C, self.dtype = conv.weight.detach(), conv.out_channels, dtype
        # The map has as many channels as the block gives; the evidence has the others.
        of_map, taps = weight[:, :C], weight[:, C:]
        self.of_map = of_map.to(dtype).contiguous(memory_format=torch.channels_last)
        self.taps = taps.permute(1, 2, 3, 0).reshape(taps.shape[1], 9 * C)
        self.bias = conv.bias.detach()

    def __call__(self, fine, evidence):
        base = F.conv2d(fine.to(self.dtype), self.of_map, None, 2, 1)
        _, C, Y, X = base.shape
        flat = self.bias.repeat(Y * X, 1)  # (Y X, C)
        target, source = self._targets(evidence.cell, fine.shape[3], Y, X)
        given = (evidence.rows @ self.taps).view(-1, C)  # (9 E, C)
        flat.index_add_(0, target, given.index_select(0, source))
        flat += base.permute(0, 2, 3, 1).reshape(Y * X, C)
        return flat.clamp_(min=0.0).view(1, Y, X, C).permute(0, 3, 1, 2)

    def _targets(self, cell, num_x, Y, X):
        """Return which flat cells are added to, and which rows of (E, 9) each gets."""
        row, column = np.divmod(cell, num_x)
        twice_row = row[:, None] + 1 - np.arange(3)  # (E, 3): twice the row that the tap adds to
        twice_column = column[:, None] + 1 - np.arange(3)
        is_row = (twice_row % 2 == 0) & (twice_row >= 0) & (twice_row < 2 * Y)
        is_column = (twice_column % 2 == 0) & (twice_column >= 0) & (twice_column < 2 * X)
        source = np.flatnonzero(is_row[:, :, None] & is_column[:, None])
        target = (twice_row // 2 * X)[:, :, None] + (twice_column // 2)[:, None]
        return torch.from_numpy(target.ravel()[source]), torch.from_numpy(source)
