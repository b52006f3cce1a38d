# SPDX-License-Identifier: Apache-2.0
"""
Crops: the points in and around each of some boxes, in the axes of the box.

What the second stage (refine.py) looks at. Points come sorted by their pillars (pillars.py), so
that those near a box are a few runs in memory.
"""

from dataclasses import dataclass

import numpy as np

MAX_POINTS = 256
# Of the points near a box so many are looked at, by lot: nearly always enough for `MAX_POINTS`.
MANY_POINTS = 2 * MAX_POINTS
# How far around the proposed box points are looked at: along and across, and up and down.
MARGIN_M, MARGIN_Z_M = 0.8, 0.5
MAX_LOT = np.iinfo(np.uint32).max


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoxPoints:
    """
    Points in and around M boxes, one box after another.

    Attributes
    ----------
    local : (K, 3) float32
        In the axes of the box of each.
    lot : (K,) uint32
        Of each point: who is taken when there are too many.
    stored : (M,) int64
        Points of each box that are here.
    begin : (M,) int64
        Row of the first point of each.
    count : (M,) float32
        Points that there are in each box; an estimate where there are many.

    """

    local: np.ndarray
    lot: np.ndarray
    stored: np.ndarray
    begin: np.ndarray
    count: np.ndarray

    def points(self, boxes, wanted=MAX_POINTS):
        """
        Return as many points of each of the boxes as are wanted: (n, wanted, 3).

        `boxes` (n,) are rows that have some. Of fewer points some come again, of more the lot
        takes some.
        """
        stored = self.stored[boxes]
        taken = self.begin[boxes, None] + np.arange(wanted) % stored[:, None]
        for n in np.flatnonzero(stored > wanted):
            begin = self.begin[boxes[n]]
            taken[n] = begin + chosen(self.lot[slice(begin, begin + stored[n])], wanted)
        return np.take(self.local, taken, axis=0)


def crop_points(batch, b, center, size, yaw):
    """
    Gather the points in and around the boxes (M,) of sample `b`.

    Returns
    -------
    BoxPoints

    """
    point, owner = _points_around(batch, b, center, size, yaw)
    lot = lots(np.take(batch.point_index.numpy(), point))
    share = MANY_POINTS / np.maximum(np.bincount(owner, minlength=len(center)), MANY_POINTS)
    if (share < 1.0).any():
        drawn = np.flatnonzero(lot <= (share * MAX_LOT).astype(np.uint32)[owner])
        point, owner, lot = point[drawn], owner[drawn], lot[drawn]
    local = _in_axes_of_owners(batch, point, owner, center, yaw)
    half = size / 2 + np.float32((MARGIN_M, MARGIN_M, MARGIN_Z_M))
    is_inside = np.ones(len(owner), bool)
    for axis, place in enumerate(local):
        is_inside &= np.abs(place) < np.take(half[:, axis], owner)
    inside = np.flatnonzero(is_inside)
    stored = np.bincount(owner[inside], minlength=len(center))
    return BoxPoints(
        local=np.stack([np.take(axis, inside) for axis in local], axis=1),
        lot=lot[inside],
        stored=stored,
        begin=np.cumsum(stored) - stored,
        count=(stored / share).astype(np.float32),
    )


def in_box_axes(points, center, yaw):
    """Return points (N, 3) from the centre of a box, along its length, width and height."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], np.float32)
    return (points - center) @ turn


def lots(number):
    """
    Return a lot for each of the points of these numbers: who is taken when there are too many.

    By lot and not every n-th: then a point more or less at the rim of a box changes one point of
    the crop, not all of them, and nearly equal boxes see nearly the same.
    """
    return number.astype(np.uint32) * np.uint32(2654435761)  # Knuth's hash


def chosen(lot, wanted):
    """Return `wanted` rows: those of the lowest lots, or all and some of them again."""
    number = len(lot)
    if number <= wanted:
        return np.arange(wanted) % number
    return np.argpartition(lot, wanted)[:wanted]


def _in_axes_of_owners(batch, point, owner, center, yaw):
    """Return points (3, K) in the axes of the box that owns each."""
    x, y, z = np.take(batch.points.numpy(), point, axis=0)[:, :3].T
    x, y, z = (place - np.take(center[:, axis], owner) for axis, place in enumerate((x, y, z)))
    cos, sin = np.take(np.cos(yaw), owner), np.take(np.sin(yaw), owner)
    return x * cos + y * sin, y * cos - x * sin, z


def _points_around(batch, b, center, size, yaw):
    """
    Return the points (K,) in the pillars that each grown box touches, and the box (K,) of each.

    Pillars are sorted by row and column, and points by pillar: what a box touches in one row of
    the grid is one run of points.
    """
    grid = batch.grid
    half = size[:, :2] / 2 + np.float32(MARGIN_M)
    cos, sin = np.cos(yaw), np.sin(yaw)
    reach = np.abs(sin) * half[:, 0] + np.abs(cos) * half[:, 1]
    low, high = _cells(
        center[:, 1] - reach, center[:, 1] + reach, (grid.y_min_m, grid.cell_m, grid.num_y)
    )
    row, box = _runs(low, high)
    # From the middle of the box to both edges of the row.
    below = grid.y_min_m + row * grid.cell_m - center[box, 1]
    edges = _span(half[box].T, cos[box], sin[box], below, below + grid.cell_m)
    left, right = _cells(
        center[box, 0] + edges[0], center[box, 0] + edges[1],
        (grid.x_min_m, grid.cell_m, grid.num_x),
    )  # fmt: skip
    first = (b * grid.num_y + row) * grid.num_x
    pillar_cell, point_pillar = batch.pillar_cell.numpy(), batch.point_pillar.numpy()
    begin = np.searchsorted(pillar_cell, first + left)
    end = np.searchsorted(pillar_cell, first + right)
    point, run = _runs(np.searchsorted(point_pillar, begin), np.searchsorted(point_pillar, end))
    return point, box[run]


def _span(half, cos, sin, below, above):
    """Return least and greatest x of turned boxes (half length and width) between two y."""
    spans = []
    for extent, c, s in ((half[0], cos, sin), (half[1], -sin, cos)):
        # abs(c x + s y) <= extent, for the y of the band that leaves the most room.
        c = np.where(np.abs(c) < 1e-6, 1e-6, c)
        ends = np.stack([(sign * extent - s * y) / c for sign in (-1, 1) for y in (below, above)])
        spans.append((ends.min(0), ends.max(0)))
    return np.maximum(spans[0][0], spans[1][0]), np.minimum(spans[0][1], spans[1][1])


def _cells(low, high, axis):
    """Return the first cell and the one after the last of intervals, inside the grid."""
    low_m, cell_m, number = axis
    begin = np.clip(np.floor((low - low_m) / cell_m), 0, number).astype(np.int64)
    end = np.clip(np.ceil((high - low_m) / cell_m), 0, number).astype(np.int64)
    return begin, np.maximum(begin, end)


def _runs(begin, end):
    """Return the numbers of all runs begin..end - 1, one after another, and the run of each."""
    length = end - begin
    run = np.repeat(np.arange(len(length)), length)
    return np.arange(len(run)) - (np.cumsum(length) - length - begin)[run], run
