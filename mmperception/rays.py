# SPDX-License-Identifier: Apache-2.0
"""
Where the rays of a sweep went: the free-space half of the cost grid.

Used by `cost.py`. For every azimuth and range the lowest ray that went beyond is kept: a cell is
free when that ray passed low over it, and what was remembered there is gone when the ray passed
below its top. No ray is traced: two grids, one gather.
"""

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
    turn = np.arctan2(y, x) * np.float32(NUM_SECTORS / (2 * np.pi)) + np.float32(NUM_SECTORS / 2)
    sector = np.minimum(turn.astype(np.int64), NUM_SECTORS - 1)
    return (range_m * np.float32(1 / BIN_M)).astype(np.int64) * NUM_SECTORS + sector


def relative_to_lidar(sweep):
    """Return x and y (N,) float32 of the points, from the LiDAR along the axes of odom."""
    origin = np.asarray(sweep.lidar_origin_base, np.float64)
    rotation = sweep.odom_from_base[:2, :3]
    shift = (rotation @ origin).astype(np.float32)
    return rotation.astype(np.float32) @ sweep.points_base.T - shift[:, None]


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
    steepest = torch.full(((num_bins + 1) * NUM_SECTORS,), -torch.inf)
    steepest.scatter_reduce_(0, place, torch.from_numpy(drop), 'amax')
    steepest = steepest.numpy().reshape(-1, NUM_SECTORS)
    for row in range(num_bins - 1, -1, -1):  # twice as fast as np.maximum.accumulate
        np.maximum(steepest[row], steepest[row + 1], out=steepest[row])
    return steepest
