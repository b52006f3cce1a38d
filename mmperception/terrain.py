# SPDX-License-Identifier: Apache-2.0
"""
Graded cost of the ground itself: rough where it changes within a step, steep where it slopes.

Used by `cost.py`. Kerbs, ruts and grass lie below the height of an obstacle and cost something;
roughness is the spread of ground heights within a block of cells, remembered while the window
moves; slope is that of the height map of the last sweep, against the vertical of odom, where
ground is seen: behind a hedge the map is a guess.
"""

import cv2
from mmperception.height_map import STEP_M
from mmperception.polar import BIN_M, in_ticks, NOTHING, TICK_M
from mmperception.rays import enlarged
import numpy as np
import torch

BLOCK_CELLS = 4
FEWEST_POINTS = 4
NEWEST_SHARE = 0.5  # of what is remembered of a block, that of the last look
# Roughness is looked at in turn from y to y along odom: of three sides the middle is most crowded.
SIDES_M = ((-1e3, -4.0), (-4.0, 4.0), (4.0, 1e3))
# Beyond, rings lie too far apart to tell a slope from a bend of the model.
SLOPE_RANGE_M = 20.0


class Terrain:
    """
    Remembers how rough the ground is in the window of the grid.

    Parameters
    ----------
    config : Config

    """

    def __init__(self, config):
        self._cost, self._ground = config.path_cost, config.ground
        self._blocks = self._cost.cells // BLOCK_CELLS + 2  # the window may begin within a block
        self._polar_cell = None  # of each block, see `_cell_of_block`
        self.clear()

    def clear(self):
        """Forget everything."""
        shape = (self._blocks, self._blocks)
        self._spread_m = np.zeros(shape, np.float32)
        self._steepness = np.zeros(shape, np.float32)  # 0 where slope begins to cost, 1 at most
        self._corner = None  # cell numbers (x, y) of the window's corner
        self._turn = 0

    def update(self, points, ground, lidar_cell, corner):
        """
        Take in the ground of one sweep, by turns: its slope, then its roughness side by side.

        Parameters
        ----------
        points : PolarPoints
            Of the sweep.
        ground : Ground
            Of these points.
        lidar_cell : (2,) float32
            Where the LiDAR stands in the window, in cells.
        corner : (2,) int64
            Cell numbers of the window's corner.

        """
        if not self._cost.terrain_cost:
            return
        self._move(corner)
        if self._turn == 0:
            self._update_slope(ground, points.up)
        else:
            self._update_roughness(points, ground.split, lidar_cell)
        self._turn = (self._turn + 1) % (len(SIDES_M) + 1)

    def _move(self, corner):
        if self._corner is not None:
            shift = corner // BLOCK_CELLS - self._corner // BLOCK_CELLS
            for name in ('_spread_m', '_steepness') if shift.any() else ():
                moved = np.empty_like(self._spread_m)
                shift_window(getattr(self, name), shift, moved)
                setattr(self, name, moved)
        self._corner = corner

    def _update_roughness(self, points, split, lidar_cell):
        B = self._blocks
        per_m = np.float32(1 / (BLOCK_CELLS * self._cost.resolution_m))
        begin = (lidar_cell + self._corner % BLOCK_CELLS) / BLOCK_CELLS
        # Sides end between two blocks.
        low, high = (np.floor(side * per_m + begin[1]) for side in SIDES_M[self._turn - 1])
        is_side = points.y >= np.float32((low - begin[1]) / per_m)
        is_side &= points.y < np.float32((high - begin[1]) / per_m)
        is_side &= split.is_ground
        chosen = np.flatnonzero(is_side)
        column, row = (
            np.floor(places.take(chosen) * per_m + np.float32(first)).astype(np.int32)
            for places, first in ((points.x, begin[0]), (points.y, begin[1]))
        )
        # As unsigned numbers negative ones are too large, too.
        is_outside = (column.view(np.uint32) >= np.uint32(B)) | (
            row.view(np.uint32) >= np.uint32(B)
        )
        row *= np.int32(B)
        row += column
        row[np.flatnonzero(is_outside)] = B * B
        block = row.astype(np.int64)
        places = torch.from_numpy(block)
        heights = torch.from_numpy(in_ticks(split.height_m.take(chosen)))
        low, high = (np.full(B * B + 1, fill) for fill in (NOTHING, -NOTHING))
        torch.from_numpy(low).scatter_reduce_(0, places, heights, 'amin')
        torch.from_numpy(high).scatter_reduce_(0, places, heights, 'amax')
        number = np.bincount(block, minlength=B * B + 1)
        seen = np.flatnonzero(number[:-1] >= FEWEST_POINTS)
        spread_m = self._spread_m.ravel()
        newest_m = (high[seen] - low[seen]) * np.float32(TICK_M)
        share = np.where(spread_m[seen] == 0, 1, NEWEST_SHARE)  # all of it where nothing is known
        spread_m[seen] += share * (newest_m - spread_m[seen])

    def _update_slope(self, ground, up):
        is_near = ground.grid.centers_m < SLOPE_RANGE_M
        slope = slopes_of(ground.table[is_near], ground.grid, up)
        lowest, highest = self._cost.slope_from, self._ground.max_slope
        share = np.clip((slope - lowest) / (highest - lowest), 0, 1).astype(np.float32)
        share[~_is_seen(ground.low[is_near], ground.table[is_near])] = 0  # the rest is guessed
        share[-1] = 0  # stands for all that is further
        self._steepness = share.ravel().take(self._cell_of_block(ground.grid.edges, share.shape))

    def _cell_of_block(self, edges, shape):
        """Return (B, B) int64: which cell of the height map, of this shape, a block lies in."""
        if self._polar_cell is None:
            steps = np.arange(self._blocks) - self._blocks / 2 + 0.5
            x, y = np.meshgrid(*[steps * BLOCK_CELLS * self._cost.resolution_m] * 2)
            bins = np.hypot(x, y) / BIN_M
            ring = np.minimum(np.searchsorted(edges, bins, 'right') - 1, shape[0] - 1)
            turn = np.arctan2(y, x) / (2 * np.pi) % 1.0
            sector = np.minimum((turn * shape[1]).astype(np.int64), shape[1] - 1)
            self._polar_cell = ring * shape[1] + sector
        return self._polar_cell

    def cost(self):
        """Return the cost of the ground of every cell of the window, (Y, X) int8."""
        lowest, highest = self._cost.rough_from_m, self._ground.obstacle_height_m
        rough = self._spread_m - np.float32(lowest)
        rough /= np.float32(highest - lowest)
        np.maximum(rough, self._steepness, out=rough)
        np.minimum(rough, np.float32(1), out=rough)
        cost = (rough * np.float32(self._cost.terrain_cost)).astype(np.uint8)
        x, y = self._corner % BLOCK_CELLS
        bottom, right = y + self._cost.cells, x + self._cost.cells
        return enlarged(cost, BLOCK_CELLS)[y:bottom, x:right].view(np.int8)


def _is_seen(low, table):
    """Return (R, S) bool: low points lie on the height map there or in a cell beside it."""
    is_seen = (np.abs(low - table) < STEP_M).astype(np.uint8)
    turned = np.concatenate((is_seen[:, -1:], is_seen, is_seen[:, :1]), axis=1)
    return cv2.dilate(turned, np.ones((3, 3), np.uint8))[:, 1:-1] > 0


def slopes_of(table, grid, up):
    """
    Return the slope of the ground, rise over run against the vertical of odom.

    Parameters
    ----------
    table : (R, S) float32
        The inner rings of a height map; smoothed along each line of sight, for rings of a metre
        are noisy.
    grid : GroundGrid
        Its rings and sectors.
    up : (3,) float64
        What heights are measured along, in odom: a robot on a slope sees level ground.

    Returns
    -------
    slope : (R, S) float32

    """
    center_m = grid.centers_m[: len(table)]
    along = np.gradient(table, center_m, axis=0)
    along[1:-1] = (along[:-2] + along[1:-1] + along[2:]) / 3
    step = 2 * np.pi / len(grid.axes)
    sideways = np.roll(table, -1, axis=1) - np.roll(table, 1, axis=1)
    sideways /= (2 * step * np.maximum(center_m, 2.0))[:, None]
    cos, sin = grid.axes.T.astype(np.float32)
    x, y, z = np.asarray(up, np.float32)
    rise_x, rise_y = along * cos - sideways * sin - x, along * sin + sideways * cos - y
    return np.hypot(rise_x, rise_y) / np.maximum(z, np.float32(1e-3))


def shift_window(array, shift, out):
    """
    Copy a square window that moved by `shift` (x, y) cells; new cells of `out` become 0.

    Parameters
    ----------
    array, out : (Y, X)
        Not the same memory.
    shift : (2,) int64
        How far the window moved.

    """
    cells = len(array)
    if (np.abs(shift) >= cells).any():
        out.fill(0)
        return
    x, y = (slice(max(s, 0), cells + min(s, 0)) for s in shift)
    to_x, to_y = (slice(max(-s, 0), cells + min(-s, 0)) for s in shift)
    top, bottom, left, right = to_y.start, to_y.stop, to_x.start, to_x.stop
    out[:top], out[bottom:] = 0, 0
    out[:, :left], out[:, right:] = 0, 0
    out[to_y, to_x] = array[y, x]
