# SPDX-License-Identifier: Apache-2.0
"""
Graded cost of the ground itself: rough where it changes within a step, steep where it slopes.

Used by `cost.py`. Kerbs, ruts and grass lie below the height of an obstacle and cost something;
roughness is the spread of ground heights within a block of cells, remembered while the window
moves; slope is that of the height map of the last sweep, against the vertical of odom.
"""

import numpy as np
import torch

BLOCK_BITS = 2
BLOCK_CELLS = 1 << BLOCK_BITS
FEWEST_POINTS = 4
NEWEST_SHARE = 0.5
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
        self.clear()

    def clear(self):
        """Forget everything."""
        shape = (self._blocks, self._blocks)
        self._spread_m = np.zeros(shape, np.float32)
        self._steepness = np.zeros(shape, np.float32)  # 0 where slope begins to cost, 1 at most
        self._corner = None  # cell numbers (x, y) of the window's corner
        self._is_turn_of_slope = False

    def update(self, cell, ground, sweep, corner):
        """
        Take in the ground of one sweep: in turn its roughness and its slope, which share the time.

        Parameters
        ----------
        cell : (N,) int32
            Cell of each point in the window, -1 outside.
        ground : Ground
            Of the same points.
        sweep : Sweep
            Whose points these are.
        corner : (2,) int64
            Cell numbers of the window's corner.

        """
        if not self._cost.terrain_cost:
            return
        self._move(corner)
        if self._is_turn_of_slope:
            self._update_slope(ground, sweep)
        else:
            self._update_roughness(cell, ground.split)
        self._is_turn_of_slope = not self._is_turn_of_slope

    def _move(self, corner):
        if self._corner is not None:
            shift = corner // BLOCK_CELLS - self._corner // BLOCK_CELLS
            for name in ('_spread_m', '_steepness') if shift.any() else ():
                moved = np.empty_like(self._spread_m)
                shift_window(getattr(self, name), shift, moved)
                setattr(self, name, moved)
        self._corner = corner

    def _update_roughness(self, cell, split):
        B, cells = self._blocks, self._cost.cells
        chosen = np.flatnonzero(split.is_ground & (cell >= 0))
        row = cell.take(chosen)
        column = row % np.int32(cells)
        row //= np.int32(cells)
        x, y = (self._corner % BLOCK_CELLS).astype(np.int32)
        column += x
        row += y
        block = ((row >> BLOCK_BITS) * np.int32(B) + (column >> BLOCK_BITS)).astype(np.int64)
        heights, places = torch.from_numpy(split.height_m.take(chosen)), torch.from_numpy(block)
        low, high = (np.full(B * B, fill, np.float32) for fill in (np.inf, -np.inf))
        torch.from_numpy(low).scatter_reduce_(0, places, heights, 'amin')
        torch.from_numpy(high).scatter_reduce_(0, places, heights, 'amax')
        seen = np.flatnonzero(np.bincount(block, minlength=B * B) >= FEWEST_POINTS)
        spread_m = self._spread_m.ravel()
        spread_m[seen] += NEWEST_SHARE * (high[seen] - low[seen] - spread_m[seen])

    def _update_slope(self, ground, sweep):
        is_near = ground.grid.centers_m < SLOPE_RANGE_M
        slope = slopes_of(ground.table[is_near], ground.grid, sweep.odom_from_base)
        lowest, highest = self._cost.slope_from, self._ground.max_slope
        share = np.clip((slope - lowest) / (highest - lowest), 0, 1).astype(np.float32)
        if not share.any():
            self._steepness.fill(0)
            return
        share[-1] = 0  # stands for all that is further
        steps = np.arange(self._blocks) - self._blocks / 2 + 0.5
        steps_m = (steps * BLOCK_CELLS * self._cost.resolution_m).astype(np.float32)
        x, y = np.meshgrid(steps_m, steps_m)  # along the axes of odom, from the LiDAR
        turn, origin = sweep.odom_from_base.astype(np.float32), sweep.lidar_origin_base
        x, y = (turn[0, 0] * x + turn[1, 0] * y + np.float32(origin[0]),
                turn[0, 1] * x + turn[1, 1] * y + np.float32(origin[1]))  # fmt: skip
        ring = ground.grid.ring_of.take((np.hypot(x, y) * 10).astype(np.int64), mode='clip')
        sectors = ground.grid.num_sectors
        turn = (np.arctan2(y, x) * np.float32(0.5 / np.pi) + np.float32(0.5)) * sectors
        sector = np.minimum(turn.astype(np.int64), sectors - 1)
        self._steepness = share[np.minimum(ring, len(share) - 1), sector]

    def cost(self):
        """Return the cost of the ground of every cell of the window, (Y, X) int8."""
        lowest, highest = self._cost.rough_from_m, self._ground.obstacle_height_m
        rough = np.clip((self._spread_m - lowest) / (highest - lowest), self._steepness, 1)
        cost = (rough * self._cost.terrain_cost).astype(np.int8)
        fine = np.repeat(np.repeat(cost, BLOCK_CELLS, axis=0), BLOCK_CELLS, axis=1)
        x, y = self._corner % BLOCK_CELLS
        bottom, right = y + self._cost.cells, x + self._cost.cells
        return fine[y:bottom, x:right]


def slopes_of(table, grid, odom_from_base):
    """
    Return the slope of the ground, rise over run against the vertical of odom.

    Parameters
    ----------
    table : (R, S) float32
        The inner rings of a height map; smoothed along each line of sight, for rings of a metre
        are noisy.
    grid : _Polar
        Its rings and sectors.
    odom_from_base : (4, 4) float64
        Pose of the robot: a robot on a slope sees level ground.

    Returns
    -------
    slope : (R, S) float32

    """
    center_m = grid.centers_m[: len(table)]
    along = np.gradient(table, center_m, axis=0)
    along[1:-1] = (along[:-2] + along[1:-1] + along[2:]) / 3
    step = 2 * np.pi / grid.num_sectors
    sideways = np.roll(table, -1, axis=1) - np.roll(table, 1, axis=1)
    sideways /= (2 * step * np.maximum(center_m, 2.0))[:, None]
    angle = ((np.arange(grid.num_sectors) + 0.5) * step - np.pi).astype(np.float32)
    cos, sin = np.cos(angle), np.sin(angle)
    rise_x, rise_y = along * cos - sideways * sin, along * sin + sideways * cos
    turn = odom_from_base[:3, :3].astype(np.float32)
    x, y, z = (row[2] - row[0] * rise_x - row[1] * rise_y for row in turn)  # the normal in odom
    return np.hypot(x, y) / np.maximum(z, np.float32(1e-3))


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
