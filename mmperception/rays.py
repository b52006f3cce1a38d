# SPDX-License-Identifier: Apache-2.0
"""
Where the rays of a sweep went: the free-space half of the cost grid.

Used by `cost.py`. For every azimuth and range the lowest ray that went beyond is kept: a cell is
free when that ray passed low over it, and what was remembered there is gone when the ray passed
below its top. No ray is traced: two grids, one gather.
"""

from mmperception.geometry import apply_to_cloud
import numpy as np
import torch

# Rays are gathered by azimuth and range. Half a degree holds at least one beam of the LiDARs in
# use; 0.2 m keeps a wall and what stands before it apart.
NUM_SECTORS, BIN_M = 720, 0.2
# Points this far below the ground are reflections: no ray passed to them.
REFLECTION_M = -0.5


def polar_of_cells(cells, resolution_m):
    """Return for each cell its range (Y, X) float32 and its place in `steepest_rays` (int64)."""
    steps_m = ((np.arange(cells) - cells // 2) * resolution_m).astype(np.float32)
    x, y = np.meshgrid(steps_m, steps_m)
    range_m = np.maximum(np.sqrt(x * x + y * y), np.float32(resolution_m / 2))
    return range_m, _polar_index(x, y, range_m)


def _polar_index(x, y, range_m):
    """Return the number of the bin in range and azimuth, ranges first, int64."""
    turn = np.arctan2(y, x)
    turn *= np.float32(NUM_SECTORS / (2 * np.pi))
    turn += np.float32(NUM_SECTORS / 2)
    index = (range_m * np.float32(1 / BIN_M)).astype(np.int32)
    index *= np.int32(NUM_SECTORS)
    index += np.minimum(turn.astype(np.int32), np.int32(NUM_SECTORS - 1))
    return index.astype(np.int64)


def relative_to_lidar(sweep):
    """Return x and y (N,) float32 of the points, from the LiDAR along the axes of odom."""
    rows = np.array(sweep.odom_from_base[:2])
    rows[:, 3] = -rows[:, :3] @ np.asarray(sweep.lidar_origin_base, np.float64)
    return apply_to_cloud(rows, sweep.points_base).T


def steepest_rays(x, y, height_m, lidar_height_m, num_bins):
    """
    Find for each azimuth and range the lowest ray that went beyond.

    A ray that ended `drop` below the LiDAR at range d was `drop * r / d` below it at range r.

    Parameters
    ----------
    x, y : (N,) float32
        Ends of rays relative to the LiDAR.
    height_m : (N,) float32
        Of those ends above the local ground.
    lidar_height_m : float
        Above the ground at the robot.
    num_bins : int
        Of `BIN_M` in range; rays that end beyond the last have a row of their own.

    Returns
    -------
    steepest : (num_bins + 1, S) float32
        Largest drop per metre of the rays that ended in this bin or beyond; -inf for none.

    """
    range_m = np.maximum(np.sqrt(x * x + y * y), np.float32(BIN_M / 2))
    nearest_m = np.minimum(range_m, np.float32(num_bins * BIN_M + BIN_M / 2))
    place = torch.from_numpy(_polar_index(x, y, nearest_m))
    drop = (np.float32(lidar_height_m) - height_m) / range_m
    drop[np.flatnonzero(height_m < REFLECTION_M)] = -np.inf
    steepest = np.full((num_bins + 1, NUM_SECTORS), -np.inf, np.float32)
    flat = torch.from_numpy(steepest.reshape(-1))
    flat.scatter_reduce_(0, place, torch.from_numpy(drop), 'amax')
    for row in range(num_bins - 1, -1, -1):  # twice as fast as np.maximum.accumulate
        np.maximum(steepest[row], steepest[row + 1], out=steepest[row])
    return steepest
