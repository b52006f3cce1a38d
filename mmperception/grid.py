# SPDX-License-Identifier: Apache-2.0
"""
The bird's-eye grid: the one place where metres become cells and back.

Passed to tensors, network, decoder and training alike, so that none has its own idea of the
range. Rows run along y, columns along x; cell (0, 0) touches the corner of smallest x and y.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BevGrid:
    """A window of square cells in `base_link`: corner, cell size and number of cells."""

    x_min_m: float
    y_min_m: float
    cell_m: float
    num_x: int
    num_y: int

    def __post_init__(self):
        if self.cell_m <= 0 or self.num_x <= 0 or self.num_y <= 0:
            raise ValueError(f'grid must have positive cells, got {self}')

    def coarser(self, factor):
        """Return the grid of the same window with cells `factor` times as large."""
        if self.num_x % factor or self.num_y % factor:
            raise ValueError(f'{self.num_x}x{self.num_y} cells are not divisible by {factor}')
        return BevGrid(
            x_min_m=self.x_min_m,
            y_min_m=self.y_min_m,
            cell_m=self.cell_m * factor,
            num_x=self.num_x // factor,
            num_y=self.num_y // factor,
        )


def centred_grid(range_m, cell_m):
    """Return the square grid that reaches `range_m` to every side of the robot."""
    cells = int(round(2 * range_m / cell_m))
    return BevGrid(x_min_m=-range_m, y_min_m=-range_m, cell_m=cell_m, num_x=cells, num_y=cells)
