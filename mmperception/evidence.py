# SPDX-License-Identifier: Apache-2.0
"""
What a window of cells remembers of the sweeps: where obstacles stand and where it was seen free.

Between `rays.py` and `cost.py`. Obstacle points make cells lethal, rays that pass clear them,
what no ray reaches fades; holes are lethal too. The window moves by whole cells.
"""

import cv2
from mmperception.holes import find_holes, HOLE_CELLS
from mmperception.polar import in_ticks, NUM_SECTORS, place_of, TICK_M
from mmperception.rays import DROP_TICK, FreeSpace
from mmperception.standing import Standing
from mmperception.terrain import shift_window, Terrain
import numpy as np
import torch

# A ray passes through what stood in a cell when it is lower than its top by this much.
CLEAR_MARGIN_M = 0.1
# What was seen only now may move: unseen, it fades in this share of `decay_s`, and in more of it
# with every sweep in which it is still there.
FRESH, TRUST = 0.4, 0.02
# What no ray can see, too near and too low, is remembered for `hidden_decay_s` if it was seen in
# so many sweeps on the way there; what was seen in fewer came from aside, and has passed.
APPROACHED = 5
# The top of what is no obstacle but a hole: no ray can pass through it, ground seen there can.
HOLE_TOP_M = -1.0
HOLE_WINDOW = 9  # cells a side of the square that must hold `HOLE_CELLS` of them


class Evidence:
    """
    The memory of the cost grid.

    `standing` lists the cells of obstacles; `is_known` (Y, X) uint8 seen free at some time;
    `corner` (2,) int64 cell numbers of the window's corner, None before the first sweep;
    `terrain` remembers the ground.

    Parameters
    ----------
    config : Config
    num_bins : int
        Of the points that will come, see `PolarPoints`.

    """

    def __init__(self, config, num_bins):
        self._config, self._cost = config, config.path_cost
        cells = self._cost.cells
        self._free_space = FreeSpace(self._cost, num_bins)
        self._num_bins = num_bins
        # Of each cell the highest obstacle point of a sweep, in ticks, and how many there are if
        # nothing stood there (beside what stands one is enough); 0 for none, and between sweeps.
        # The last entries take what lies outside of the window.
        self._top = np.zeros(cells * cells + 1, np.int32)
        self._count, self._order = np.zeros_like(self._top), np.empty_like(self._top)
        self._spare_known = np.empty((cells, cells), np.uint8)
        around = np.arange(-1, 2)
        self._around = (around[:, None] * cells + around).reshape(-1, 1)
        self.standing, self.terrain = Standing(cells), Terrain(config)
        self.clear()

    def clear(self):
        """Forget everything."""
        self.standing.clear()
        self.is_known = np.zeros_like(self._spare_known)
        self.corner = None
        self._lidar_cell = None  # where the LiDAR stands in the window, in cells
        self.terrain.clear()

    def move(self, lidar_xy):
        """Move the window so that its middle cell holds the LiDAR, at (2,) metres in odom."""
        place = lidar_xy / self._cost.resolution_m
        corner = np.floor(place).astype(np.int64) - self._cost.cells // 2
        if self.corner is not None and (corner != self.corner).any():
            cells = self._cost.cells
            shift = np.minimum(np.maximum(corner - self.corner, -cells), cells)
            self.standing.move(shift)
            shift_window(self.is_known, shift, self._spare_known)
            self.is_known, self._spare_known = self._spare_known, self.is_known
        self.corner = corner
        self._lidar_cell = (place - corner).astype(np.float32)

    def take(self, points, ground, elapsed_s, body):
        """
        Bring one sweep's hits and rays into what is remembered.

        Parameters
        ----------
        points : PolarPoints
            After `move` to their LiDAR.
        ground : Ground
            Of these points.
        elapsed_s : float
            Since the last sweep.
        body : (K, 2) int32
            Cells of the robot's own outline, which is free.

        """
        lidar_height_m = float(points.origin_base[2])
        is_free = self._free_space.cells(ground.steepest, lidar_height_m)
        cv2.bitwise_or(self.is_known, is_free, dst=self.is_known)
        new = self._count_hits(points, ground.split)
        self._update(new, ground.steepest, lidar_height_m, elapsed_s)
        holes = find_holes(points, ground, lidar_height_m, self._config.ground)
        self._mark_holes(holes, points, ground.split)
        self.is_known.ravel()[self.standing.draw(body)] = 0
        cv2.fillConvexPoly(self.is_known, body, 1)
        self.terrain.update(points, ground, self._lidar_cell, self.corner)

    def _count_hits(self, points, split):
        """Fill `_top` and `_count` from the points of obstacles; return the new cells (M,)."""
        chosen = np.flatnonzero(split.is_obstacle)
        cell = self._cells_at(points.x.take(chosen), points.y.take(chosen))
        heights = torch.from_numpy(in_ticks(split.height_m.take(chosen)))
        torch.from_numpy(self._top).scatter_reduce_(0, torch.from_numpy(cell), heights, 'amax')
        self._top[-1] = 0
        is_new = self.standing.image.ravel().take(cell, mode='clip') == 0
        cell = cell.take(np.flatnonzero(is_new))
        cell = cell[cell < self.is_known.size]
        np.add.at(self._count, cell, np.int32(1))
        # Of the points of a cell the one that wrote last stands for all.
        order = np.arange(len(cell), dtype=np.int32)
        self._order[cell] = order
        return cell.take(np.flatnonzero(self._order.take(cell) == order))

    def _update(self, new, steepest, lidar_height_m, elapsed_s):
        """
        Make cells with obstacle points lethal, clear what rays passed, let fade the rest.

        One point is enough beside a known obstacle: a thin pole gives now two points in a cell
        and now one in the next.

        Parameters
        ----------
        new : (M,) int64
            Cells with obstacle points in which nothing stood.
        steepest : (num_bins + 1, S) int32
            Of `LowestRays`.
        lidar_height_m : float
            Above the ground at the robot.
        elapsed_s : float
            Since the last sweep.

        """
        standing, cell = self.standing, self.standing.cell()
        is_enough = self._count.take(new) >= self._cost.min_points
        few = np.flatnonzero(~is_enough)
        near = new.take(few) + self._around
        num_near = self._count.take(near, mode='clip').sum(axis=0)
        is_beside = standing.image.ravel().take(near, mode='clip').any(axis=0)
        is_enough[few] = (num_near >= self._cost.min_points) | is_beside
        top = self._top.take(cell)
        is_seen = top > 0
        seen = np.flatnonzero(is_seen)
        strength = np.maximum(standing.strength.take(seen), FRESH) + np.float32(TRUST)
        standing.strength[seen] = np.minimum(strength, 1.0)
        standing.sweeps[seen] += 1
        standing.top_m[seen] = top.take(seen) * np.float32(TICK_M)
        self._fade(np.flatnonzero(~is_seen), steepest, lidar_height_m, elapsed_s)
        enough = new.take(np.flatnonzero(is_enough))
        top_m = self._top.take(enough) * np.float32(TICK_M)
        self._top[cell] = 0
        self._top[new] = self._count[new] = 0
        standing.keep(standing.strength > 0)
        standing.add(enough, FRESH + TRUST, top_m)

    def _fade(self, old, steepest, lidar_height_m, elapsed_s):
        """
        Clear what rays passed through; let fade what they did not reach.

        Parameters
        ----------
        old : (M,) int64
            Of the standing cells, those without an obstacle point in this sweep.
        steepest : (num_bins + 1, S) int32
            Of `LowestRays`.
        lidar_height_m : float
            Above the ground at the robot.
        elapsed_s : float
            Since the last sweep.

        """
        standing, middle = self.standing, np.int32(self._cost.cells // 2)
        cell_m = np.float32(self._cost.resolution_m)
        x, y, top_m = (array.take(old) for array in (standing.x, standing.y, standing.top_m))
        x_m, y_m = ((steps - middle).astype(np.float32) * cell_m for steps in (x, y))
        range_m, place = place_of(x_m, y_m, self._num_bins - 1)
        range_m = np.maximum(range_m, cell_m / 2)
        range_m *= np.float32(DROP_TICK)
        lowest_m = lidar_height_m - range_m * steepest[0].take(place % NUM_SECTORS)
        beyond_m = lidar_height_m - range_m * steepest[1:].ravel().take(place)
        is_hidden = lowest_m > top_m
        is_hidden &= (standing.sweeps.take(old) >= APPROACHED) | (top_m < 0)  # or a hole
        decay_s = np.where(is_hidden, self._cost.hidden_decay_s, self._cost.decay_s)
        left = standing.strength.take(old) - (elapsed_s / decay_s).astype(np.float32)
        # No ray clears an obstacle that is still hit, if only one cell further; nor a hole.
        passed = np.flatnonzero((beyond_m < top_m - CLEAR_MARGIN_M) & (top_m >= 0))
        cell = y.take(passed).astype(np.int64) * self._cost.cells + x.take(passed)
        around = self._top.take(cell + self._around, mode='clip')
        is_clear = np.bitwise_or.reduce(around, axis=0) == 0
        left[passed[is_clear]] = 0.0
        self.is_known.ravel()[cell[is_clear]] = 1
        standing.strength[old] = left

    def _mark_holes(self, places, points, split):
        """
        Make cells lethal where rays went down and no ground is seen beside; undo others.

        Parameters
        ----------
        places : x, y (M,) float32
            Where rays crossed the level of the ground, from `find_holes`.
        points : PolarPoints
            Of this sweep.
        split : GroundSplit
            Of the same points.

        """
        standing = self.standing
        cell = np.unique(self._cells_at(*places))
        cell = cell[cell < self.is_known.size]
        is_hole = standing.top_m < 0
        if len(cell) < HOLE_CELLS and not is_hole.any():
            return
        cell = self._crowded(cell)
        if not len(cell) and not is_hole.any():
            return
        asked = np.concatenate((cell, standing.cell()[is_hole]))
        is_ground = self._image_of(self._ground_cells(points, split, asked))
        standing.keep(~is_hole | (is_ground.ravel().take(standing.cell()) == 0))
        beside = cv2.dilate(is_ground, np.ones((3, 3), np.uint8))
        hole = cell[beside.ravel().take(cell) == 0]
        known = np.isin(standing.cell(), hole) & (standing.top_m < 0)
        standing.strength[known] = 1.0
        standing.add(np.setdiff1d(hole, standing.cell()), 1.0, HOLE_TOP_M)

    def _crowded(self, cell):
        """Return those of some cells (K,) that have enough of them around."""
        if not len(cell):
            return cell
        first, margin = cell.min() // self._cost.cells, HOLE_WINDOW // 2
        first, last = max(first - margin, 0), cell.max() // self._cost.cells + margin + 1
        rows = self._image_of(cell)[first:last]
        size, border = (HOLE_WINDOW, HOLE_WINDOW), cv2.BORDER_CONSTANT
        number = cv2.boxFilter(rows, -1, size, normalize=False, borderType=border)
        return cell[number.ravel().take(cell - first * self._cost.cells) >= HOLE_CELLS]

    def _ground_cells(self, points, split, asked):
        """Return the cells (K,) int64 in which a sweep sees ground, as far as near those asked."""
        chosen = split.is_ground.copy()
        row, column = np.divmod(asked, self._cost.cells)
        for places, cells, begin in zip(
            (points.x, points.y), (column, row), self._lidar_cell, strict=True
        ):
            low, high = np.array((cells.min() - 2, cells.max() + 3), np.float32) - begin
            chosen &= places > low * np.float32(self._cost.resolution_m)
            chosen &= places < high * np.float32(self._cost.resolution_m)
        chosen = np.flatnonzero(chosen)
        cell = self._cells_at(points.x.take(chosen), points.y.take(chosen))
        return cell[cell < self.is_known.size]

    def _image_of(self, cell):
        """Return (Y, X) uint8: 1 at these cells."""
        image = np.zeros_like(self.is_known)
        image.ravel()[cell] = 1
        return image

    def _cells_at(self, x, y):
        """Return the cell (N,) int64 of places around the LiDAR; outside: the number of all."""
        per_m, cells = np.float32(1 / self._cost.resolution_m), np.uint32(self._cost.cells)
        column = self._steps(x * per_m, self._lidar_cell[0])
        row = self._steps(y * per_m, self._lidar_cell[1])
        # As unsigned numbers negative ones are too large, too.
        is_outside = (column.view(np.uint32) >= cells) | (row.view(np.uint32) >= cells)
        row *= np.int32(cells)
        row += column
        row[np.flatnonzero(is_outside)] = self.is_known.size
        return row.astype(np.int64)

    def _steps(self, cells, begin):
        """Return int32: places in cells, rounded down; right from a window below the first on."""
        cells += begin + np.float32(self._cost.cells)
        steps = cells.astype(np.int32)
        steps -= np.int32(self._cost.cells)
        return steps
