# SPDX-License-Identifier: Apache-2.0
"""
The cells in which something stands, as a list: few of a window, so that it is cheap to go over.

Used by `evidence.py`. Each has a strength (1 known for long and just seen, 0 gone) and the height
of its top above the ground, and knows in how many sweeps it was hit; a hole has a top below the
ground.
"""

import cv2
import numpy as np

COLUMNS = ('x', 'y', 'strength', 'top_m', 'sweeps')


class Standing:
    """
    Cells of a square window, told apart by column and row.

    `x`, `y`, `sweeps` (K,) int32, in the window the first two, `strength`, `top_m` (K,) float32;
    `image` (Y, X) uint8 is 1 where one of them is, after `move` and after `draw`.

    Parameters
    ----------
    cells : int
        Per side of the window.

    """

    def __init__(self, cells):
        self._cells = cells
        self.image = np.zeros((cells, cells), np.uint8)
        self._drawn = np.zeros(0, np.int64)
        self.clear()

    def __len__(self):
        return len(self.x)

    def clear(self):
        """Forget all."""
        self.x, self.y = np.zeros((2, 0), np.int32)
        self.strength, self.top_m = np.zeros((2, 0), np.float32)
        self.sweeps = np.zeros(0, np.int32)
        self._show(self.cell())

    def cell(self):
        """Return the number (K,) int64 of each cell in the window."""
        cell = self.y * np.int32(self._cells)
        cell += self.x
        return cell.astype(np.int64)

    def move(self, shift):
        """Let the window move by `shift` (x, y) cells; what it leaves is forgotten."""
        self.x = self.x - np.int32(shift[0])
        self.y = self.y - np.int32(shift[1])
        # As unsigned numbers negative ones are too large, too.
        is_inside = self.x.view(np.uint32) < np.uint32(self._cells)
        is_inside &= self.y.view(np.uint32) < np.uint32(self._cells)
        self.keep(is_inside)
        self._show(self.cell())

    def _show(self, cell):
        """Let `image` be 1 at these cells only."""
        self.image.ravel()[self._drawn] = 0
        self.image.ravel()[cell] = 1
        self._drawn = cell

    def keep(self, is_kept):
        """Forget all but these (K,) bool."""
        if not is_kept.all():
            kept = np.flatnonzero(is_kept)
            for name in COLUMNS:
                setattr(self, name, getattr(self, name).take(kept))

    def add(self, cell, strength, top_m):
        """Take in cells (M,) that are none of these, with their strength and top."""
        row = cell // self._cells
        new = (cell - row * self._cells, row, strength, top_m, 1)
        for name, values in zip(COLUMNS, new, strict=True):
            old = getattr(self, name)
            number = len(old)
            joined = np.empty(number + len(cell), old.dtype)
            joined[:number], joined[number:] = old, values
            setattr(self, name, joined)

    def draw(self, body):
        """
        Bring `image` up to date.

        Parameters
        ----------
        body : (L, 2) int32
            Columns and rows of an outline; what stands within is forgotten.

        Returns
        -------
        cell : (K,) int64
            Of each that is left.

        """
        cell = self.cell()
        self._show(cell)
        cv2.fillConvexPoly(self.image, body, 0)
        is_left = self.image.ravel().take(cell).view(bool)
        self.keep(is_left)
        return cell if len(cell) == len(self) else cell[is_left]
