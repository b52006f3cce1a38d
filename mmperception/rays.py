# SPDX-License-Identifier: Apache-2.0
"""
Where the rays of a sweep went: the free-space half of the cost grid.

Used by `evidence.py`. For every azimuth and range the lowest ray that went beyond is kept: a cell
is free when that ray passed low over it, and what was remembered there is gone when the ray
passed below its top. No ray is traced: two grids, one gather.
"""

from mmperception.polar import BIN_M, NUM_SECTORS, place_of
import numpy as np
import torch

# Drops of rays per metre are whole numbers of this, as heights are of `TICK_M`.
DROP_TICK = 2.0**-20
NO_RAY = np.int32(-(2**31))
# The largest of all rows beyond is found within and then between so many rows at a time.
BLOCK = 16
# Points this far below the ground are reflections: no ray passed to them.
REFLECTION_M = -0.5


WORDS = {2: np.uint16(0x0101), 4: np.uint32(0x01010101)}


class LowestRays:
    """
    Finds for each azimuth and range the lowest ray that went beyond.

    A ray that ended `drop` below the LiDAR at range d was `drop * r / d` below it at range r.

    Parameters
    ----------
    num_bins : int
        In range, of `BIN_M`; rays that end beyond the last have a row of their own.
    lidar_height_m : float
        Above the ground at the robot.

    """

    def __init__(self, num_bins, lidar_height_m):
        self._lidar_height_m = np.float32(lidar_height_m)
        self._num_rows = num_bins + 1
        self._table = np.full((-(-self._num_rows // BLOCK) * BLOCK, NUM_SECTORS), NO_RAY)
        self._flat = torch.from_numpy(self._table.reshape(-1))

    def take(self, place, range_m, height_m):
        """
        Take in ends of rays.

        Parameters
        ----------
        place : (N,) int64
            As of `PolarPoints`.
        range_m, height_m : (N,) float32
            From the LiDAR, and above the local ground.

        """
        drop = self._lidar_height_m - height_m
        drop /= np.maximum(range_m, np.float32(BIN_M / 2))
        drop *= np.float32(1 / DROP_TICK)
        drop = drop.astype(np.int32)
        drop[np.flatnonzero(height_m < REFLECTION_M)] = NO_RAY
        self._flat.scatter_reduce_(0, torch.from_numpy(place), torch.from_numpy(drop), 'amax')

    def steepest(self):
        """
        Return the largest drop of the rays that ended in a bin or beyond.

        Returns
        -------
        steepest : (num_bins + 1, S) int32
            Per metre, in `DROP_TICK`; `NO_RAY` for none.

        """
        blocks = self._table.reshape(-1, BLOCK, NUM_SECTORS)
        for row in range(BLOCK - 2, -1, -1):
            np.maximum(blocks[:, row], blocks[:, row + 1], out=blocks[:, row])
        for block in range(len(blocks) - 2, -1, -1):
            np.maximum(blocks[block], blocks[block + 1, 0], out=blocks[block])
        return self._table[: self._num_rows]


class FreeSpace:
    """
    Lays what rays say in range and azimuth over the cells of the window.

    Asked in squares as wide as the bins are long: more would be made up.

    Parameters
    ----------
    config : PathCostConfig
        With the cells, their size and how low a ray is that shows free space.
    num_bins : int
        Rows of `LowestRays` without the last.

    """

    def __init__(self, config, num_bins):
        self._cells = config.cells
        self._below_m = config.free_below_m
        self._square = max(int(BIN_M / config.resolution_m + 1e-6), 1)
        self._middle_m = (np.arange(num_bins + 1) + 0.5)[:, None] * BIN_M
        squares = -(-self._cells // self._square)
        middle = np.arange(squares) * self._square + (self._square - 1) / 2 - self._cells // 2
        steps_m = (middle * config.resolution_m).astype(np.float32)
        x, y = np.meshgrid(steps_m, steps_m)
        _, place = place_of(x.ravel(), y.ravel(), num_bins)
        self._place = torch.from_numpy(place.astype(np.int32))
        self._middle_m = self._middle_m[: place.max() // NUM_SECTORS + 1]
        self._shape = squares, squares

    def cells(self, steepest, lidar_height_m):
        """
        Return where rays passed low.

        Parameters
        ----------
        steepest : (num_bins + 1, S) int32
            Of `LowestRays`.
        lidar_height_m : float
            Above the ground at the robot.

        Returns
        -------
        is_free : (Y, X) uint8
            Around the LiDAR, in its window.

        """
        drop = (lidar_height_m - self._below_m) / (self._middle_m * DROP_TICK)
        lowest = np.clip(drop, -(2**31), 2**31 - 1).astype(np.int32)
        is_free = (steepest[: len(lowest)] > lowest).view(np.uint8).reshape(-1)
        is_free = torch.from_numpy(is_free).index_select(0, self._place).numpy()
        return enlarged(is_free.reshape(self._shape), self._square)[: self._cells, : self._cells]


def enlarged(squares, size):
    """Return each cell of (Y, X) uint8 as a square of `size` cells, contiguous."""
    Y, X = squares.shape
    if size in WORDS:  # a cell is copied sideways as the bytes of a word
        wide = (squares * WORDS[size]).view(np.uint8)
    else:
        wide = squares.repeat(size, axis=1)
    fine = np.empty((Y, size, X * size), np.uint8)
    fine[:] = wide[:, None]
    return fine.reshape(Y * size, X * size)
