# SPDX-License-Identifier: Apache-2.0
"""
Mist, rain and dust: which obstacle points of a sweep are only air. Used by `ground.py`.

Thick air returns some rays early, in all directions and the fewer the further away. How many is
measured in each sweep: ring by ring, of all directions the share of rays that ended where others
passed on at that height or below. An obstacle point that hangs like that is left out unless there
are more points around it than such air explains. Clear air leaves out nothing.
Source of the idea, to judge clutter by an ordered statistic of what lies around: Rohling, "Radar
CFAR thresholding in clutter and multiple target situations", IEEE Transactions on Aerospace and
Electronic Systems, 1983.
"""

import cv2
from mmperception.polar import BIN_M, NEAR_M, NUM_SECTORS
from mmperception.rays import DROP_TICK
import numpy as np

# Rings and directions in which the air is measured. Mist thins with range, which things do not,
# so no ring has more of it than a nearer one; before the first the robot hides too much.
RING_M, DIRECTIONS = 1.0, 16
FIRST_RING = int(NEAR_M / RING_M) - 1
SECTORS_EACH = NUM_SECTORS // DIRECTIONS
# So many directions must show something hanging, or the air is clear.
HAZY = DIRECTIONS // 4
# The air is as thick as in this share of the directions or thicker in the others: things hang in
# some, and the robot itself hides some.
QUANTILE = 0.65
# A direction with fewer rays says nothing. Rays are counted by each seventh point: a number of
# which no LiDAR's rings are a multiple.
FEWEST_RAYS, EVERY = 100, 7
# A ray passes on when it ends so many bins later, and not above the point by more than this.
BINS_LATER, ABOVE_M = 2, 0.03
# Points are counted in columns of three cells a side; by chance mist exceeds its mean by so many
# standard deviations and one more in hardly any column.
CELL_M, COLUMN_CELLS, DEVIATIONS, SPARE = 0.1, 3, 4.0, 1.0


def without_mist(points, split, steepest, reach_m):
    """
    Return which points are obstacles and no mist.

    Parameters
    ----------
    points : PolarPoints
        Of one sweep.
    split : GroundSplit
        Of the same points, by height alone.
    steepest : (num_bins + 1, NUM_SECTORS) int32
        Of `LowestRays`, of the same points.
    reach_m : float
        Mist is looked for up to here; 0: nowhere.

    Returns
    -------
    is_obstacle : (N,) bool
        That of `split` where the air is clear.

    """
    is_obstacle = split.is_obstacle
    if not reach_m or not _is_hazy(points, split, steepest):
        return is_obstacle
    near = np.flatnonzero(is_obstacle & (points.range_m < reach_m))
    hangs = _hangs(points, split, steepest, near)
    zone, range_m = _zone(points.place.take(near)), points.range_m.take(near)
    in_mist = _points_of_air(points, zone[hangs], int(np.ceil(reach_m / RING_M)))
    area = COLUMN_CELLS**2 * CELL_M**2 * DIRECTIONS / (2 * np.pi * RING_M)
    asked = np.flatnonzero(hangs & (in_mist.take(zone) > 0))
    if not len(asked):
        return is_obstacle
    range_m = range_m.take(asked)
    in_mist = in_mist.take(zone.take(asked)) * area / np.maximum(range_m, RING_M)
    most = in_mist + DEVIATIONS * np.sqrt(in_mist) + SPARE
    asked, column_m = near.take(asked), COLUMN_CELLS * CELL_M
    around = near[points.range_m.take(near) < range_m.max() + column_m]
    is_air = _column_counts(points, around, asked) <= most
    is_obstacle = is_obstacle.copy()
    is_obstacle[asked[is_air]] = False
    return is_obstacle


def _is_hazy(points, split, steepest):
    """Return whether anything hangs in many directions in the ring that begins the measuring."""
    begin, end = FIRST_RING * RING_M, (FIRST_RING + 1) * RING_M
    inner = points.near[split.is_obstacle.take(points.near)]
    range_m = points.range_m.take(inner)
    inner = inner[(range_m >= begin) & (range_m < np.float32(end))]
    hanging = inner[_hangs(points, split, steepest, inner)]
    zones = _zone(points.place.take(hanging))
    return np.count_nonzero(np.bincount(zones % DIRECTIONS, minlength=DIRECTIONS)) >= HAZY


def _hangs(points, split, steepest, chosen):
    """Return (M,) bool of some points: a ray passed on at their height or below."""
    later = points.place.take(chosen) + np.int32(BINS_LATER * NUM_SECTORS)
    drop = steepest.ravel().take(later, mode='clip').astype(np.float32)
    passed_m = np.float32(points.origin_base[2]) - drop * np.float32(DROP_TICK) * (
        points.range_m.take(chosen)
    )
    return passed_m < split.height_m.take(chosen) + np.float32(ABOVE_M)


def _zone(place):
    """Return the ring and direction (M,) int64, as one number, of places of `PolarPoints`."""
    ring = place // np.int32(NUM_SECTORS * round(RING_M / BIN_M))
    direction = place % np.int32(NUM_SECTORS) // np.int32(SECTORS_EACH)
    return ring.astype(np.int64) * DIRECTIONS + direction


def _points_of_air(points, hanging, num_rings):
    """
    Return how many points (num_rings * DIRECTIONS,) float64 the air alone gives in each zone.

    Parameters
    ----------
    points : PolarPoints
        All of the sweep.
    hanging : (M,) int64
        Zones of the points that hang.
    num_rings : int
        How far it is asked for.

    """
    shape, size = (num_rings, DIRECTIONS), num_rings * DIRECTIONS
    last = _zone(points.place[::EVERY])
    last = np.where(last < size, last, size + last % DIRECTIONS)
    ends = np.bincount(last, minlength=size + DIRECTIONS).reshape(-1, DIRECTIONS) * EVERY
    rays = ends[::-1].cumsum(axis=0)[:0:-1]  # (rings, directions): ended there or beyond
    number = np.bincount(hanging, minlength=size)[:size].reshape(shape)
    share = np.sort(np.where(rays < FEWEST_RAYS, np.inf, number / np.maximum(rays, 1)), axis=1)
    known = np.isfinite(share).sum(axis=1)
    chosen = share[np.arange(num_rings), (QUANTILE * np.maximum(known - 1, 0)).astype(int)]
    chosen[known < HAZY] = np.inf  # says nothing: as the ring before
    chosen[:FIRST_RING] = chosen[FIRST_RING]
    chosen = np.minimum.accumulate(chosen)
    return (np.where(np.isfinite(chosen), chosen, 0.0)[:, None] * rays).ravel()


def _column_counts(points, around, asked):
    """Return how many obstacle and own points lie in the column around each of those asked for."""
    side = 2 * (int(np.ceil(points.range_m.take(around).max() / CELL_M)) + 2)
    reach_m = np.float32((side // 2 - 2) * CELL_M)
    own = points.own[points.range_m.take(points.own) < reach_m]  # what leans on the robot
    cell = _column_cells(points, np.concatenate((around, own)), side)
    counts = np.bincount(cell, minlength=side * side).astype(np.float32).reshape(side, side)
    size = (COLUMN_CELLS, COLUMN_CELLS)
    counts = cv2.boxFilter(counts, -1, size, normalize=False, borderType=cv2.BORDER_CONSTANT)
    return counts.ravel().take(_column_cells(points, asked, side))


def _column_cells(points, chosen, side):
    """Return the cell (M,) int32 of some points in a square with so many cells a side."""
    x, y = (
        (array.take(chosen) * np.float32(1 / CELL_M) + np.float32(side // 2)).astype(np.int32)
        for array in (points.x, points.y)
    )
    return y * np.int32(side) + x
