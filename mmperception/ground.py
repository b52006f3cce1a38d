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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ground:
    """
    The split of a sweep and what it was split by.

    `table` (R, S) float32 is the height map; `plane` (3,) float64 the plane that fits around the
    robot: its height there and its rise per metre along x and y.
    """

    split: GroundSplit
    plane: np.ndarray
    table: np.ndarray
    grid: _Polar


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
        ring_of=ring_of.astype(np.int32),
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
    return model_ground(points_base, config).split


def model_ground(points_base, config):
    """Return the `Ground` of a sweep; arguments and errors as of `split_ground`."""
    if points_base.ndim != 2 or points_base.shape[1] != 3:
        raise ValueError(f'points_base: expected (N, 3), got {points_base.shape}')
    grid = _polar_grid(config.cell_m, config.range_m)
    x, y, z = np.ascontiguousarray(points_base.T, np.float32)
    range_m = np.sqrt(x * x + y * y)
    turn = np.arctan2(y, x)
    turn *= np.float32(0.5 / np.pi)
    turn += np.float32(0.5)
    turn *= np.float32(grid.num_sectors)
    # 32 bits are half the work of 64; only what indexes is widened.
    piece = (turn * np.float32(SLICES)).astype(np.int32)
    np.minimum(piece, grid.num_sectors * SLICES - 1, out=piece)
    decimetre = (range_m * np.float32(10)).astype(np.int32)
    np.minimum(decimetre, len(grid.ring_of) - 1, out=decimetre)
    ring = grid.ring_of.take(decimetre)
    cell = piece // SLICES
    cell += ring * np.int32(grid.num_sectors)
    piece += ring * np.int32(grid.num_sectors * SLICES)
    is_near = ~is_own_body(x, y, config)
    is_low = z < np.float32(0.5) + np.float32(config.max_slope) * range_m
    low = _low_heights(piece, z, is_near & is_low, grid)
    plane = _tilt(low, grid)
    table = grow_ground(low, grid, plane, config)
    height_m = z - _interpolate(table, grid, cell, (range_m, ring, turn))
    is_near &= range_m < config.range_m
    is_ground = is_near & (np.abs(height_m) < config.obstacle_height_m)
    is_obstacle = is_near & (height_m >= config.obstacle_height_m)
    is_obstacle &= height_m <= config.clearance_m
    split = GroundSplit(height_m=height_m, is_ground=is_ground, is_obstacle=is_obstacle)
    return Ground(split=split, plane=plane, table=table, grid=grid)


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
    piece : (N,) int32
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
    low = np.full((len(grid.centers_m), grid.num_sectors, SLICES), np.inf, np.float32)
    heights = torch.from_numpy(np.where(is_candidate, z, np.float32(np.inf)))
    flat = torch.from_numpy(low.reshape(-1))
    flat.scatter_reduce_(0, torch.from_numpy(piece.astype(np.int64)), heights, 'amin')
    low.sort(axis=2)
    low = np.where(np.isfinite(low[:, :, 1]), low[:, :, 1], low[:, :, 0])
    return np.where(np.isfinite(low), low, np.float32(np.nan))


def _tilt(low, grid):
    """
    Fit one plane to the low points around the robot, which may stand tilted or on a slope.

    Quantile regression by iterated weights: obstacles lie above the plane and pull it little.

    Returns
    -------
    plane : (3,) float64
        Its height at the robot, and its rise per metre along x and y.

    """
    axes = _sector_axes(grid)
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
    return plane


def _sector_axes(grid):
    """Return the direction (S, 2) of each sector in `base_link`."""
    angle = (np.arange(grid.num_sectors) + 0.5) * 2 * np.pi / grid.num_sectors - np.pi
    return np.stack((np.cos(angle), np.sin(angle)), axis=1)


def grow_ground(low, grid, plane, config):
    """
    Accept low points as ground outward from the robot; fill what is hidden.

    Parameters
    ----------
    low : (R, S) float32
        Ground candidates, NaN where a cell has none.
    grid : _Polar
        R rings and S sectors.
    plane : (3,) float64
        Where to begin, from `_tilt`.
    config : GroundConfig
        Its `max_slope` holds uphill and downhill.

    Returns
    -------
    table : (R, S) float32
        Ground height at the middle of every cell.

    """
    table = np.empty_like(low)
    gap_m = np.zeros(grid.num_sectors, np.float32)
    slope = (_sector_axes(grid) @ plane[1:]).astype(np.float32)
    steepest = np.float32(config.max_slope)
    slope = np.minimum(np.maximum(slope, -steepest), steepest)
    height = np.full_like(gap_m, plane[0])
    seen = height.copy()
    may_fall = np.full_like(gap_m, steepest)  # until ground was found for the first time
    previous_m, votes = 0.0, np.empty((3, grid.num_sectors), np.float32)
    for ring, center_m in enumerate(grid.centers_m):
        step_m = center_m - previous_m
        previous_m = center_m
        gap_m = gap_m + step_m
        expected = height + slope * step_m
        rise = low[ring] - expected
        is_ground = rise < STEP_M + BEND * gap_m  # NaN compares false
        is_ground &= rise > -STEP_M - may_fall * gap_m
        may_fall[is_ground] = 2 * BEND
        height = expected
        np.copyto(height, low[ring], where=is_ground)
        gain = is_ground * gap_m
        gain /= gap_m + np.float32(SLOPE_LENGTH_M)
        slope = slope + gain * ((height - seen) / gap_m - slope)
        slope = np.minimum(np.maximum(slope, -steepest), steepest)
        # What is seen outvotes what is assumed.
        np.add(is_ground, np.float32(0.1), out=votes[0])
        np.multiply(votes[0], height, out=votes[1])
        np.multiply(votes[0], slope, out=votes[2])
        total, heights, slopes = votes @ grid.blur
        np.divide(heights, total, out=table[ring])
        slope = slopes / total
        height = np.where(is_ground, height, table[ring])
        np.copyto(seen, height, where=is_ground)
        np.copyto(gap_m, np.float32(0), where=is_ground)
    return table


def _interpolate(table, grid, cell, polar):
    """Return the ground height (N,) at points by the plane through their cell."""
    range_m, ring, turn = polar
    along = np.zeros_like(table)
    along[1:-1] = (table[2:] - table[:-2]) / (grid.centers_m[2:] - grid.centers_m[:-2])[:, None]
    along[0], along[-1] = along[1], 0
    sideways = (np.roll(table, -1, axis=1) - np.roll(table, 1, axis=1)) / 2
    cell = cell.astype(np.intp)
    beyond_m = range_m - grid.centers_m.take(ring)
    np.minimum(beyond_m, grid.widths_m[-1], out=beyond_m)
    beyond_m *= along.ravel().take(cell)
    ground = table.ravel().take(cell)
    ground += beyond_m
    aside = turn - np.floor(turn)
    aside -= np.float32(0.5)
    aside *= sideways.ravel().take(cell)
    ground += aside
    return ground
