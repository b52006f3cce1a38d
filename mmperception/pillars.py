# SPDX-License-Identifier: Apache-2.0
"""
Points of one sweep -> occupied pillars, and the points in their order.

The first half of the preprocessing (tensors.py). Points are sorted by their pillar, so that what
follows reads and writes in a row: `network/swift_lidar.py` takes the maximum of each pillar in
passing, `network/crops.py` cuts boxes out. Pillars: Lang et al., PointPillars, CVPR 2019, with
dynamic occupancy instead of a fixed number of points.
"""

from dataclasses import dataclass

import numpy as np

# Columns of sorted points: x y z (m), intensity (0 where unknown), range (m, from above).
INTENSITY, RANGE, NUM_COLUMNS = 3, 4, 5
# NumPy sorts 16-bit keys by radix, in a tenth of the time of wider ones.
MAX_SHORT = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pillars:
    """
    The pillars of one sweep, its points sorted by them.

    Attributes
    ----------
    points : (N, 5) float32
        x y z, intensity (0 where unknown) and range of each.
    point_pillar : (N,) int64
        Row of the pillar each point belongs to, ascending.
    point_index : (N,) int64
        Where each point stood before sorting, among those that are kept.
    cell : (P,) int64
        Flat cell (y, x) of each occupied pillar, ascending.
    mean : (P, 3) float32
        Mean point, metres.

    """

    points: np.ndarray
    point_pillar: np.ndarray
    point_index: np.ndarray
    cell: np.ndarray
    mean: np.ndarray


def make_pillars(points, intensity, grid, z_range_m):
    """
    Assign points to occupied pillars.

    Parameters
    ----------
    points : (N, 3) float32
        In the frame of the grid; those outside of it or of the heights are left out.
    intensity : (N,) float32 or None
        None where the sensor gives none.
    grid : BevGrid
        Cells of the pillars.
    z_range_m : (float, float)
        Lowest and highest, exclusive.

    Returns
    -------
    Pillars

    """
    points = np.ascontiguousarray(points.T)
    # In cells from the corner of the grid.
    across = (points[0] - grid.x_min_m) / grid.cell_m
    along = (points[1] - grid.y_min_m) / grid.cell_m
    is_inside = (points[2] > z_range_m[0]) & (points[2] < z_range_m[1])
    is_inside &= (across >= 0) & (across < grid.num_x) & (along >= 0) & (along < grid.num_y)
    kept = np.flatnonzero(is_inside)
    cell = along[kept].astype(np.int32) * grid.num_x + across[kept].astype(np.int32)
    count = np.bincount(cell, minlength=grid.num_y * grid.num_x)
    occupied = np.flatnonzero(count > 0)  # (P,)
    count = count[occupied]
    order = _sorted_by_pillar(cell, occupied, grid.num_y * grid.num_x)
    kept = kept[order]
    points = np.take(points, kept, axis=1)
    mean = _means(points, count)
    rows = np.empty((len(kept), NUM_COLUMNS), np.float32)
    rows[:, :3] = points.T
    rows[:, INTENSITY] = 0.0 if intensity is None else np.take(intensity, kept)
    rows[:, RANGE] = np.sqrt(points[0] ** 2 + points[1] ** 2)
    return Pillars(
        points=rows,
        point_pillar=np.repeat(np.arange(len(occupied)), count),
        point_index=order,
        cell=occupied,
        mean=np.ascontiguousarray(mean.T),
    )


def _sorted_by_pillar(cell, occupied, num_cells):
    """Return the order (N,) of points by cell; points of one cell keep theirs."""
    kind = np.uint16 if len(occupied) <= MAX_SHORT else np.int64
    slot = np.empty(num_cells, kind)  # read where a point is, and only there
    slot[occupied] = np.arange(len(occupied))
    return np.argsort(np.take(slot, cell), kind='stable')


def _means(points, count):
    """Return the mean points (3, P) float32 of sorted points (3, N), summed in float64."""
    if not len(count):
        return np.zeros((3, 0), np.float32)
    begin = np.cumsum(count) - count
    total = np.stack([np.add.reduceat(axis, begin, dtype=np.float64) for axis in points])
    return (total / count).astype(np.float32)


def no_pillars():
    """Return the pillars of a sample without LiDAR."""
    return Pillars(
        points=np.zeros((0, NUM_COLUMNS), np.float32),
        point_pillar=np.zeros(0, np.int64),
        point_index=np.zeros(0, np.int64),
        cell=np.zeros(0, np.int64),
        mean=np.zeros((0, 3), np.float32),
    )
