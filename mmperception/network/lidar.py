# SPDX-License-Identifier: Apache-2.0
"""
LiDAR branch: points -> pillars -> bird's-eye features.

Pillar encoder of PointPillars (Lang et al., CVPR 2019, eq. of section 2.1) with max pooling over
the points of a pillar; a small three-scale backbone. The first stride-2 convolution runs on
occupied pillars only: a 2x2 kernel needs no neighbours, so each pillar adds its own share.
"""

from mmperception.network.blocks import conv_block, upsample
from mmperception.pillars import INTENSITY, RANGE
import torch
from torch import nn
import torch.nn.functional as F

NUM_POINT_FEATURES = 9
# Metres over which the range feature reaches 1; keeps it in the size of the others.
RANGE_SCALE_M = 50.0


class PillarEncoder(nn.Module):
    """Point features (N, 9) -> pillar features (P, C)."""

    def __init__(self, channels):
        super().__init__()
        self.linear = nn.Linear(NUM_POINT_FEATURES, channels, bias=False)
        self.norm = nn.BatchNorm1d(channels, eps=1e-3, momentum=0.05)

    def forward(self, batch):
        P, C = len(batch.pillar_cell), self.linear.out_features
        if len(batch.points) < 2:  # batch norm cannot estimate from fewer
            return torch.zeros(P, C, device=batch.points.device)
        with torch.autocast(batch.points.device.type, enabled=False):  # heights to the mm
            points = F.relu(self.norm(self.linear(point_features(batch))))  # (N, C)
        index = batch.point_pillar[:, None].expand(-1, C)
        # ReLU makes every value at least 0, so 0 is the neutral start of the maximum.
        return points.new_zeros(P, C).scatter_reduce(0, index, points, 'amax')


def point_features(batch):
    """
    Return what the network is told of each point of a batch (N, 9).

    Place in its cell x y (cells from the middle), height, place from the mean point of its pillar
    x y z, intensity, whether that is known, range. `swift_lidar.SwiftEncoder` folds this away.
    """
    pillar, points = batch.point_pillar, batch.points
    middle, is_known = pillar_middles(batch)
    return torch.cat(
        (
            (points[:, :2] - middle[pillar]) / batch.grid.cell_m,
            points[:, 2:3],
            points[:, :3] - batch.pillar_mean[pillar],
            points[:, INTENSITY, None],
            is_known[pillar, None],
            points[:, RANGE, None] / RANGE_SCALE_M,
        ),
        dim=1,
    )


def pillar_middles(batch):
    """Return the middles (P, 2) of the pillars, m, and whether intensity is known there (P,)."""
    grid, cell = batch.grid, batch.pillar_cell
    size = grid.num_y * grid.num_x
    row, column = cell % size // grid.num_x, cell % grid.num_x
    x = grid.x_min_m + (column + 0.5) * grid.cell_m
    y = grid.y_min_m + (row + 0.5) * grid.cell_m
    return torch.stack((x, y), dim=1), batch.has_intensity[cell // size].float()


class SparseStem(nn.Module):
    """
    Stride-2 stem on occupied pillars: (P, C) -> (B, C_out, Y / 2, X / 2).

    Each of the four pillars under a coarse cell has its own matrix, and the sum of their shares
    is what a dense 2x2 convolution of stride 2 gives, without the dense map.
    """

    def __init__(self, channels_in, channels_out):
        super().__init__()
        self.shares = nn.Linear(channels_in, 4 * channels_out, bias=False)
        self.norm = nn.BatchNorm2d(channels_out, eps=1e-3, momentum=0.05)

    def forward(self, pillars, cells, num_samples, grid):
        coarse, part = coarse_cells(cells, grid)
        C = self.norm.num_features
        shares = self.shares(pillars).view(-1, 4, C)  # (P, 4, C)
        shares = shares[torch.arange(len(part), device=part.device), part]  # (P, C)
        dense = scatter_sum(shares, coarse, num_samples, grid.coarser(2))
        return F.relu(self.norm(dense))


def coarse_cells(cells, grid):
    """Return the flat cell of `grid.coarser(2)` and the quarter 0..3 of it for each cell."""
    column = cells % grid.num_x
    row = cells // grid.num_x  # of all samples stacked: num_y is even, so halves never mix
    coarse = (row // 2) * (grid.num_x // 2) + column // 2
    return coarse, (row % 2) * 2 + column % 2


def scatter_sum(values, cells, num_samples, grid):
    """Add rows (P, C) into their flat cells; returns (B, C, Y, X), channels last in memory."""
    C = values.shape[1]
    flat = values.new_zeros(num_samples * grid.num_y * grid.num_x, C)
    flat = flat.index_add(0, cells, values)
    return flat.view(num_samples, grid.num_y, grid.num_x, C).permute(0, 3, 1, 2)


class BevBackbone(nn.Module):
    """
    Three scales, merged downwards: (B, C, Y, X) -> fine (B, C1, Y, X), middle (B, C2, Y/2, X/2).

    The finest scale costs four times the next: it has one convolution only, after the merge.
    """

    def __init__(self, channels):
        super().__init__()
        c1, c2, c3 = channels
        self.scale2 = nn.Sequential(conv_block(c1, c2, 2), *(conv_block(c2, c2) for _ in '123'))
        self.scale3 = nn.Sequential(conv_block(c2, c3, 2), *(conv_block(c3, c3) for _ in '1234'))
        self.lateral2 = nn.Conv2d(c2, c1, 1, bias=False)
        self.lateral3 = nn.Conv2d(c3, c2, 1, bias=False)
        self.merge2 = conv_block(c2, c2)
        self.merge1 = conv_block(c1, c1)

    def forward(self, bev):
        second = self.scale2(bev)
        third = self.scale3(second)
        second = self.merge2(second + upsample(self.lateral3(third)))
        return self.merge1(bev + upsample(self.lateral2(second))), second
