# SPDX-License-Identifier: Apache-2.0
"""
Ground and obstacles of one sweep, from geometry alone.

Second stage of the safety path: `polar.py` before it, `cost.py` after it. No learned part, so
that an unknown thing is an obstacle too. The ground is the map of `height_map.py`.
"""

from dataclasses import dataclass, replace

from mmperception.datatypes import GroundSplit
from mmperception.height_map import (
    ground_grid,
    GroundGrid,
    grow_ground,
    low_heights,
    residual,
    tilt,
)
from mmperception.mist import without_mist
from mmperception.polar import bins_to, parts_of, polar_points
from mmperception.rays import LowestRays
import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ground:
    """
    The split of a sweep and what it was split by.

    `table` (R, S) float32 is the height map, `low` (R, S) float32 the low points that it was grown
    from, NaN for none; `plane` (3,) float64 the plane that fits around the
    LiDAR: its height there and its rise per metre along x and y. `steepest` (num_bins + 1,
    NUM_SECTORS) int32 are the lowest rays, of `LowestRays`.
    """

    split: GroundSplit
    plane: np.ndarray
    table: np.ndarray
    low: np.ndarray
    grid: GroundGrid
    steepest: np.ndarray


def split_ground(points_base, config):
    """
    Divide a sweep into ground, obstacles and the rest (overhanging, mist, own body, noise).

    Parameters
    ----------
    points_base : (N, 3) float32
        Metres in `base_link` (x forward, z up, ground near z = 0 at the robot).
    config : GroundConfig
        Slopes, heights and the outline of the robot's own body.

    Returns
    -------
    split : GroundSplit
        Beyond `range_m` nothing is ground or obstacle.

    Raises
    ------
    ValueError
        If the shape differs.

    """
    points = polar_points(points_base, (np.eye(4), np.eye(4)), bins_to(config.range_m), config)
    return model_ground(points, config).split


def model_ground(points, config):
    """
    Return the `Ground` of a sweep.

    Parameters
    ----------
    points : PolarPoints
        Around the LiDAR, whose lines of sight the ground grows along.
    config : GroundConfig
        As of `split_ground`.

    Returns
    -------
    ground : Ground

    """
    grid = ground_grid(config.cell_m, config.range_m)
    low = low_heights(points.lowest, grid, config.max_slope)
    plane = tilt(low, grid)
    table = grow_ground(low, grid, plane, config)
    surface = plane, residual(table, grid, plane, points.num_bins)
    split, steepest = _split(points, surface, config)
    is_obstacle = without_mist(points, split, steepest, config.mist_range_m)
    split = replace(split, is_obstacle=is_obstacle)
    return Ground(split=split, plane=plane, table=table, low=low, grid=grid, steepest=steepest)


def _split(points, surface, config):
    """
    Compare points with the ground below them; gather their rays on the way.

    Parameters
    ----------
    points : PolarPoints
        Of one sweep.
    surface : (3,) and (num_bins + 1, NUM_SECTORS)
        The plane, and the ground above its slope from `residual`.
    config : GroundConfig
        Heights and range.

    Returns
    -------
    split : GroundSplit
    steepest : (num_bins + 1, NUM_SECTORS) int32

    """
    (_, along_x, along_y), above = surface
    along_x, along_y, above = np.float32(along_x), np.float32(along_y), above.ravel()
    N, rays = len(points.x), LowestRays(points.num_bins, points.origin_base[2])
    height_m, (is_ground, is_obstacle) = np.empty(N, np.float32), np.empty((2, N), bool)
    for part in parts_of(N):
        height, range_m = height_m[part], points.range_m[part]
        place = points.place[part].astype(np.int64)
        np.subtract(points.z[part], above.take(place), out=height)
        height -= along_x * points.x[part]
        height -= along_y * points.y[part]
        is_near = range_m < config.range_m
        is_high = height >= config.obstacle_height_m
        np.logical_and(is_near, np.abs(height) < config.obstacle_height_m, out=is_ground[part])
        is_near &= height <= config.clearance_m
        np.logical_and(is_near, is_high, out=is_obstacle[part])
        rays.take(place, range_m, height)
    is_ground[points.own] = False
    is_obstacle[points.own] = False
    split = GroundSplit(height_m=height_m, is_ground=is_ground, is_obstacle=is_obstacle)
    return split, rays.steepest()
