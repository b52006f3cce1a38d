# SPDX-License-Identifier: Apache-2.0
"""
Ground and obstacles of one sweep, from geometry alone.

First stage of the safety path (`cost.py` is the second): no learned part, so that an unknown
thing is an obstacle too. The ground is a height map on a polar grid around the robot: the low
points of each cell, accepted outward ring by ring while they continue the slope found so far.
The idea of growing along lines of sight is that of Himmelsbach, von Hundelshausen and Wuensche,
"Fast segmentation of 3D point clouds for ground vehicles", 2010.
"""

from dataclasses import dataclass
from functools import lru_cache

from mmperception.datatypes import GroundSplit
import numpy as np
import torch

# A cell's ground candidate is the second lowest of the lowest points of its SLICES in azimuth:
# one reflection "below" a wet road does not count, yet a single ring of road below the side of a
# car, which fills the rest of the cell, does.
SLICES = 5
# Low points may rise above the continued slope by this much, and by this much more for each
# metre since ground was last seen: a road's change of slope, and the noise of the slope found.
# They may fall further: what is seen below an expected ground is hardly an obstacle.
STEP_M, BEND = 0.12, 0.06
# Slope is averaged over about this length; roads hardly change theirs over it.
SLOPE_LENGTH_M = 4.0
# The tilt of the robot is that of a plane with this share of the low points below it.
TILT_QUANTILE, TILT_RANGE_M = 0.3, 15.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Polar:
    """Rings (R) times sectors (S); `ring_of` (D,) maps decimetres of range to a ring."""

    centers_m: np.ndarray
    widths_m: np.ndarray
    ring_of: np.ndarray
    num_sectors: int
    blur: np.ndarray


@lru_cache(maxsize=4)
def _polar_grid(cell_m, range_m, num_sectors=120):
    """Rings of `cell_m` near the robot, wider far away where beams lie further apart."""
    edges = [0.0]
    while edges[-1] < range_m:
        edges.append(edges[-1] + max(cell_m, 0.06 * edges[-1]))
    edges = np.array(edges)
    centers = (edges[1:] + edges[:-1]) / 2
    decimetres = np.arange(int(np.ceil(range_m * 10)) + 2) / 10 + 0.05
    ring_of = np.minimum(np.searchsorted(edges, decimetres, 'right') - 1, len(centers) - 1)
    offsets = np.arange(num_sectors)
    apart = np.abs(
        (offsets[:, None] - offsets + num_sectors // 2) % num_sectors - num_sectors // 2
    )
    blur = np.maximum(0.0, 1.0 - apart / 3.0).astype(np.float32)
    return _Polar(
        centers_m=centers.astype(np.float32),
        widths_m=np.diff(edges).astype(np.float32),
        ring_of=ring_of.astype(np.int64),
        num_sectors=num_sectors,
        blur=blur,
    )


def split_ground(points_base, config):
    """
    Divide a sweep into ground, obstacles and the rest (overhanging, own body, noise).

    Parameters
    ----------
    points_base : (N, 3) float32
        Metres in `base_link` (x forward, z up, ground near z = 0 at the robot).
    config : GroundConfig
        Slopes, heights and the outline of the robot's own body.

    Returns
    -------
    split : GroundSplit
        Beyond `range_m` the outermost ground height is held.

    Raises
    ------
    ValueError
        If the shape differs.

    """
    if points_base.ndim != 2 or points_base.shape[1] != 3:
        raise ValueError(f'points_base: expected (N, 3), got {points_base.shape}')
    grid = _polar_grid(config.cell_m, config.range_m)
    x, y, z = np.ascontiguousarray(points_base.T, np.float32)
    range_m = np.sqrt(x * x + y * y)
    turn = (np.arctan2(y, x) * (0.5 / np.pi) + 0.5) * grid.num_sectors
    piece = np.minimum((turn * SLICES).astype(np.int64), grid.num_sectors * SLICES - 1)
    decimetre = np.minimum(range_m * 10, len(grid.ring_of) - 1).astype(np.int64)
    ring = grid.ring_of.take(decimetre)
    piece += ring * (grid.num_sectors * SLICES)
    is_own = is_own_body(x, y, config)
    low = _low_heights(piece, z, ~is_own & (z < 0.5 + config.max_slope * range_m), grid)
    table = grow_ground(low, grid, config)
    height_m = z - _interpolate(table, grid, piece // SLICES, (range_m, ring, turn))
    is_near = ~is_own & (range_m < config.range_m)
    return GroundSplit(
        height_m=height_m,
        is_ground=is_near & (np.abs(height_m) < config.obstacle_height_m),
        is_obstacle=is_near
        & (height_m >= config.obstacle_height_m)
        & (height_m <= config.clearance_m),
    )


def is_own_body(x, y, config):
    """Return (N,) bool: within the robot's own outline in `base_link`."""
    return (np.abs(x - config.self_center_x_m) < config.self_length_m / 2) & (
        np.abs(y - config.self_center_y_m) < config.self_width_m / 2
    )


def _low_heights(piece, z, is_candidate, grid):
    """
    Return the low end of each cell's heights.

    Parameters
    ----------
    piece : (N,) int64
        Slice of a cell that a point is in, counted along azimuth, then ring.
    z : (N,) float32
        Metres in `base_link`.
    is_candidate : (N,) bool
        False for the robot's own body and what is too high to be ground.
    grid : _Polar
        Whose cells `piece` counts, `SLICES` to each.

    Returns
    -------
    low : (R, S) float32
        NaN where empty.

    """
    low = torch.full((len(grid.centers_m) * grid.num_sectors * SLICES,), torch.inf)
    heights = torch.from_numpy(np.where(is_candidate, z, np.float32(np.inf)))
    low.scatter_reduce_(0, torch.from_numpy(piece), heights, 'amin')
    low = np.sort(low.numpy().reshape(-1, grid.num_sectors, SLICES), axis=2)
    low = np.where(np.isfinite(low[:, :, 1]), low[:, :, 1], low[:, :, 0])
    return np.where(np.isfinite(low), low, np.float32(np.nan))


def _tilt(low, grid):
    """
    Fit one plane to the low points around the robot, which may stand tilted or on a slope.

    Quantile regression by iterated weights: obstacles lie above the plane and pull it little.

    Returns
    -------
    level_m : float
        Height of the plane at the robot.
    slope : (S,) float32
        Rise per metre along each sector.

    """
    angle = (np.arange(grid.num_sectors) + 0.5) * 2 * np.pi / grid.num_sectors - np.pi
    axes = np.stack((np.cos(angle), np.sin(angle)), axis=1)
    ring, sector = np.nonzero(np.isfinite(low) & (grid.centers_m < TILT_RANGE_M)[:, None])
    heights = low[ring, sector].astype(np.float64)
    basis = np.column_stack((np.ones(len(ring)), axes[sector] * grid.centers_m[ring, None]))
    plane, weight = np.zeros(3), np.ones(len(ring))
    for _ in range(6):
        weighted = basis * weight[:, None]
        normal = weighted.T @ basis + np.diag((1.0, 25.0, 25.0))  # level and flat if in doubt
        plane = np.linalg.solve(normal, weighted.T @ heights)
        above = heights - basis @ plane
        weight = np.where(above > 0, TILT_QUANTILE, 1 - TILT_QUANTILE)
        weight /= np.maximum(np.abs(above), 0.05)
    return plane[0], (axes @ plane[1:]).astype(np.float32)


def grow_ground(low, grid, config):
    """
    Accept low points as ground outward from the robot; fill what is hidden.

    Parameters
    ----------
    low : (R, S) float32
        Ground candidates, NaN where a cell has none.
    grid : _Polar
        R rings and S sectors.
    config : GroundConfig
        Its `max_slope` holds uphill and downhill.

    Returns
    -------
    table : (R, S) float32
        Ground height at the middle of every cell.

    """
    table = np.empty_like(low)
    gap_m = np.zeros(grid.num_sectors, np.float32)
    level_m, slope = _tilt(low, grid)
    slope = np.clip(slope, -config.max_slope, config.max_slope)
    seen = height = np.full_like(gap_m, level_m)
    is_found, previous_m = np.zeros(grid.num_sectors, bool), 0.0
    for ring, center_m in enumerate(grid.centers_m):
        step_m = center_m - previous_m
        previous_m, gap_m = center_m, gap_m + step_m
        expected = height + slope * step_m
        rise = low[ring] - expected
        fall = np.where(is_found, 2 * BEND, config.max_slope)
        is_ground = (rise < STEP_M + BEND * gap_m) & (rise > -STEP_M - fall * gap_m)
        is_found |= is_ground  # NaN compares false
        height = np.where(is_ground, low[ring], expected)
        gain = is_ground * gap_m / (gap_m + SLOPE_LENGTH_M)
        slope = slope + gain * ((height - seen) / gap_m - slope)
        slope = np.clip(slope, -config.max_slope, config.max_slope)
        weight = is_ground + np.float32(0.1)  # what is seen outvotes what is assumed
        total, heights, slopes = np.stack((weight, weight * height, weight * slope)) @ grid.blur
        table[ring], slope = heights / total, slopes / total
        height = np.where(is_ground, height, table[ring])
        seen = np.where(is_ground, height, seen)
        gap_m = np.where(is_ground, np.float32(0), gap_m)
    return table


def _interpolate(table, grid, cell, polar):
    """Return the ground height (N,) at points by the plane through their cell."""
    range_m, ring, turn = polar
    along = np.zeros_like(table)
    along[1:-1] = (table[2:] - table[:-2]) / (grid.centers_m[2:] - grid.centers_m[:-2])[:, None]
    along[0], along[-1] = along[1], 0
    sideways = (np.roll(table, -1, axis=1) - np.roll(table, 1, axis=1)) / 2
    beyond_m = np.minimum(range_m - grid.centers_m.take(ring), grid.widths_m[-1])
    ground = table.ravel().take(cell)
    ground += along.ravel().take(cell) * beyond_m
    ground += sideways.ravel().take(cell) * (turn - np.floor(turn) - np.float32(0.5))
    return ground
