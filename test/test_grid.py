# SPDX-License-Identifier: Apache-2.0
"""The bird's-eye grid: metres, cells and halving."""

from mmperception.grid import BevGrid, centred_grid
import pytest


def test_centred_grid_reaches_the_same_distance_on_every_side():
    grid = centred_grid(51.2, 0.2)
    assert (grid.num_x, grid.num_y) == (512, 512)
    assert (grid.x_min_m, grid.y_min_m) == (-51.2, -51.2)
    assert grid.x_min_m + grid.num_x * grid.cell_m == pytest.approx(51.2)


def test_coarser_grid_covers_the_same_window_with_larger_cells():
    grid = BevGrid(x_min_m=1.0, y_min_m=-2.0, cell_m=0.2, num_x=10, num_y=20).coarser(2)
    assert (grid.cell_m, grid.num_x, grid.num_y) == (0.4, 5, 10)
    assert grid.x_min_m + grid.num_x * grid.cell_m == pytest.approx(3.0)
    assert grid.y_min_m + grid.num_y * grid.cell_m == pytest.approx(2.0)


def test_grid_that_cannot_be_halved_says_so():
    with pytest.raises(ValueError, match='not divisible'):
        BevGrid(x_min_m=0, y_min_m=0, cell_m=1.0, num_x=3, num_y=4).coarser(2)


def test_grid_without_cells_is_refused():
    with pytest.raises(ValueError, match='positive'):
        BevGrid(x_min_m=0, y_min_m=0, cell_m=1.0, num_x=0, num_y=4)
