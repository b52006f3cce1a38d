# SPDX-License-Identifier: Apache-2.0
"""
What a window of cells remembers of the sweeps: where obstacles stand and where it was seen free.

Between `rays.py` and `cost.py`. Obstacle points make cells lethal, rays that pass clear them,
what no ray reaches fades; holes are lethal too. The window moves by whole cells.
"""

import cv2
from mmperception.holes import find_holes
from mmperception.rays import NUM_SECTORS, polar_of_cells, relative_to_lidar, steepest_rays
from mmperception.terrain import shift_window, Terrain
import numpy as np
import torch

# A ray passes through what stood in a cell when it is lower than its top by this much.
CLEAR_MARGIN_M = 0.1
# What was seen only now may move: unseen, it fades in this share of `decay_s`, and in more of it
# with every sweep in which it is still there.
FRESH, TRUST = 0.4, 0.02
# The top of what is no obstacle but a hole: no ray can pass through it, ground seen there can.
HOLE_TOP_M = -1.0
HOLE_WINDOW, HOLE_CELLS = 9, 12  # so many cells of a square that wide: less may be a mirror image


class Evidence:
    """
    The memory of the cost grid.

    `strength` (Y, X) float32 of an obstacle: 1 known for long and just seen .. 0 none; `is_known`
    (Y, X) uint8 seen free at some time; `corner` (2,) int64 cell numbers of the window's corner,
    None before the first sweep; `terrain` remembers the ground.

    Parameters
    ----------
    config : Config

    """

    def __init__(self, config):
        self._config, self._cost = config, config.path_cost
        self._range_m, self._polar = polar_of_cells(self._cost.cells, self._cost.resolution_m)
        self._num_bins = int(self._polar.max()) // NUM_SECTORS + 1
        # Work space kept between sweeps: fresh pages for it would cost more than the sums do.
        shape = self._range_m.shape
        self._drop, self._count = np.empty_like(self._range_m), np.empty(shape, np.int32)
        self._free_height_m, self._free = None, None
        self._spare, self._spare_known = np.empty_like(self._range_m), np.empty(shape, np.uint8)
        self.terrain = Terrain(config)
        self.clear()

    def clear(self):
        """Forget everything."""
        shape = self._range_m.shape
        self.strength = np.zeros(shape, np.float32)
        self.is_known = np.zeros(shape, np.uint8)
        self._top_m = np.zeros(shape, np.float32)  # height above ground of an obstacle
        self.corner = None
        self._lidar_cell = None  # where the LiDAR stands in the window, in cells
        self.terrain.clear()

    def move(self, lidar_xy):
        """Move the window so that its middle cell holds the LiDAR, at (2,) metres in odom."""
        place = lidar_xy / self._cost.resolution_m
        corner = np.floor(place).astype(np.int64) - self._cost.cells // 2
        if self.corner is not None and (corner != self.corner).any():
            self._shift(corner - self.corner)
        self.corner = corner
        self._lidar_cell = (place - corner).astype(np.float32)

    def take(self, sweep, ground, elapsed_s, body):
        """
        Bring one sweep's hits and rays into what is remembered.

        Parameters
        ----------
        sweep : Sweep
            After `move` to its LiDAR.
        ground : Ground
            Of its points.
        elapsed_s : float
            Since the last sweep.
        body : (K, 2) int32
            Cells of the robot's own outline, which is free.

        """
        split = ground.split
        x, y = relative_to_lidar(sweep)
        lidar_height_m = float(sweep.lidar_origin_base[2])
        steepest = steepest_rays(x, y, split.height_m, lidar_height_m, self._num_bins)
        drop = self._drop  # per metre, of the lowest ray that passed over or ended in a cell
        steepest.ravel().take(self._polar, out=drop, mode='clip')
        cell = self._cells_at(x, y)
        is_hit = self._mark_hits(cell, split)
        self._fade(steepest, lidar_height_m, is_hit, elapsed_s)
        holes = find_holes(x, y, ground, sweep, self._config.ground)
        self._mark_holes(holes, lambda: cell[split.is_ground & (cell >= 0)])
        self.terrain.update(cell, ground, sweep, self.corner)
        self.is_known |= drop > self._free_drop(lidar_height_m)
        self.is_known &= self.strength <= 0
        cv2.fillConvexPoly(self.is_known, body, 1)
        cv2.fillConvexPoly(self.strength, body, 0.0)

    def _shift(self, shift):
        """Move all that is remembered; what is left behind becomes the next spare memory."""
        for name, spare in (
            ('strength', '_spare'),
            ('_top_m', '_spare'),
            ('is_known', '_spare_known'),
        ):
            array, moved = getattr(self, name), getattr(self, spare)
            shift_window(array, shift, moved)
            setattr(self, name, moved)
            setattr(self, spare, array)

    def _free_drop(self, lidar_height_m):
        """Return (Y, X) the drop per metre of a ray that is low over a cell just so."""
        if lidar_height_m != self._free_height_m:
            self._free_height_m = lidar_height_m
            self._free = np.float32(lidar_height_m - self._cost.free_below_m) / self._range_m
        return self._free

    def _mark_hits(self, cell, split):
        """
        Make cells with obstacle points lethal.

        One point is enough beside a known obstacle: a thin pole gives now two points in a cell
        and now one in the next.

        Parameters
        ----------
        cell : (N,) int32
            From `_cells_at`.
        split : GroundSplit
            Of the same points.

        Returns
        -------
        is_hit : (Y, X) uint8
            1 where a cell has any obstacle point.

        """
        cells = self._cost.cells
        chosen = np.flatnonzero(split.is_obstacle & (cell >= 0))
        cell = cell.take(chosen).astype(np.int64)
        self._count.fill(0)
        count, place = self._count.ravel(), torch.from_numpy(cell)
        torch.from_numpy(count).scatter_add_(
            0, place, torch.from_numpy(np.ones(len(cell), np.int32))
        )
        is_hit = count > 0
        hit = np.flatnonzero(is_hit)
        around = [hit + dy * cells + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        strength, top_m = self.strength.ravel(), self._top_m.ravel()
        top_m[hit] = 0.0
        num_near = sum(count.take(near, mode='clip') for near in around)
        is_beside = np.max([strength.take(near, mode='clip') for near in around], axis=0) > 0
        hit = hit[(num_near >= self._cost.min_points) | is_beside]
        strength[hit] = np.minimum(np.maximum(strength[hit], FRESH) + TRUST, 1.0)
        heights = torch.from_numpy(split.height_m.take(chosen))
        torch.from_numpy(top_m).scatter_reduce_(0, place, heights, 'amax')
        return is_hit.reshape(self._count.shape).view(np.uint8)

    def _mark_holes(self, places, ground_cell):
        """
        Make cells lethal where rays went down and no ground is seen beside; undo others.

        Parameters
        ----------
        places : x, y (M,) float32
            Where rays crossed the level of the ground, from `find_holes`.
        ground_cell : callable
            Returns the cells (K,) in which this sweep sees ground; asked for only if it matters.

        """
        strength, top_m = self.strength.ravel(), self._top_m.ravel()
        old = np.flatnonzero(top_m < 0)
        cell = np.unique(self._cells_at(*places))
        cell = cell[cell >= 0]
        if len(cell) < HOLE_CELLS and not len(old):
            return
        is_ground = np.zeros((self._cost.cells, self._cost.cells), np.uint8)
        is_ground.ravel()[ground_cell()] = 1
        strength[old[is_ground.ravel()[old] > 0]] = 0.0
        is_below = np.zeros_like(is_ground)
        is_below.ravel()[cell] = 1
        size = (HOLE_WINDOW, HOLE_WINDOW)
        is_sure = cv2.boxFilter(is_below, -1, size, normalize=False) >= HOLE_CELLS
        is_sure &= cv2.dilate(is_ground, np.ones((3, 3), np.uint8)) == 0
        hole = cell[is_sure.ravel()[cell]]
        hole = hole[(strength[hole] <= 0) | (top_m[hole] < 0)]
        strength[hole], top_m[hole] = 1.0, HOLE_TOP_M

    def _cells_at(self, x, y):
        """Return the cell (N,) int32 of places relative to the LiDAR, -1 outside the window."""
        per_m, cells = np.float32(1 / self._cost.resolution_m), np.int32(self._cost.cells)
        column = np.floor(x * per_m + self._lidar_cell[0]).astype(np.int32)
        row = np.floor(y * per_m + self._lidar_cell[1]).astype(np.int32)
        # As unsigned numbers negative ones are too large, too.
        is_inside = (column.view(np.uint32) < cells) & (row.view(np.uint32) < cells)
        row *= cells
        row += column
        row[~is_inside] = -1
        return row

    def _fade(self, steepest, lidar_height_m, is_hit, elapsed_s):
        """
        Clear what rays passed through; let fade what they did not reach.

        Parameters
        ----------
        steepest : (num_bins + 1, S) float32
            From `steepest_rays`.
        lidar_height_m : float
            Above the ground at the robot.
        is_hit : (Y, X) uint8
            1 where this sweep has an obstacle point.
        elapsed_s : float
            Since the last sweep.

        """
        # No ray clears an obstacle that is still hit, if only one cell further.
        is_beside_hit = cv2.dilate(is_hit, np.ones((3, 3), np.uint8)).ravel()
        strength, top_m = self.strength.ravel(), self._top_m.ravel()
        old = np.flatnonzero((strength > 0) & (is_hit.ravel() == 0))
        polar, range_m = self._polar.ravel()[old], self._range_m.ravel()[old]
        lowest_m = lidar_height_m - range_m * steepest[0].take(polar % NUM_SECTORS)
        beyond_m = lidar_height_m - range_m * steepest[1:].ravel().take(polar)
        is_hidden = lowest_m > top_m[old]
        decay_s = np.where(is_hidden, self._cost.hidden_decay_s, self._cost.decay_s)
        is_passed = beyond_m < top_m[old] - CLEAR_MARGIN_M
        is_passed &= (is_beside_hit[old] == 0) & (top_m[old] >= 0)
        left = np.maximum(strength[old] - elapsed_s / decay_s, 0.0)
        strength[old] = np.where(is_passed, 0.0, left)
        self.is_known.ravel()[old[is_passed]] = 1
