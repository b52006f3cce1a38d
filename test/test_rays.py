# SPDX-License-Identifier: Apache-2.0
"""The fast ways of the safety path give the answers of the plain ones."""

from mmperception.cost import Sweep
from mmperception.geometry import apply, apply_to_cloud, transform_from_yaw
from mmperception.ground import _low_heights, _polar_grid, SLICES
from mmperception.rays import (
    BIN_M,
    NUM_SECTORS,
    REFLECTION_M,
    relative_to_lidar,
    steepest_rays,
)
from mmperception.terrain import shift_window
import numpy as np
import pytest
from synthetic_scan import MOUNT, scan

POINTS = scan([(9, 1, 0, 11, 3, 1.5)], slope=(0.03, -0.02), num_rings=24, num_azimuths=211)


def test_a_cloud_moved_by_columns_lies_where_apply_puts_it():
    pose = transform_from_yaw((500.3, -80.2, 1.7), 0.8)
    assert np.allclose(apply_to_cloud(pose[:3], POINTS), apply(pose, POINTS), atol=1e-4)
    assert apply_to_cloud(pose[:2], POINTS).shape == (len(POINTS), 2)
    assert apply_to_cloud(pose[:3], POINTS[:0]).shape == (0, 3)


def test_points_relative_to_the_lidar_keep_millimetres_far_from_the_origin_of_odom():
    pose = transform_from_yaw((80_000.0, -90_000.0, 1.0), 2.1)
    sweep = Sweep(stamp_ns=1, points_base=POINTS, odom_from_base=pose, lidar_origin_base=MOUNT)
    plain = POINTS.astype(np.float64) @ pose[:2, :3].T - pose[:2, :3] @ MOUNT
    assert np.abs(relative_to_lidar(sweep).T - plain).max() < 1e-4


def test_the_steepest_ray_of_every_bin_is_that_of_a_loop_over_all_points():
    x, y, z = (POINTS - MOUNT.astype(np.float32)).T
    height = z + np.float32(MOUNT[2])
    num_bins = 100
    plain = np.full((num_bins + 1, NUM_SECTORS), -np.inf)
    is_ray = height >= REFLECTION_M
    assert 0 < (~is_ray).sum() < 500
    for px, py, ph in zip(x[is_ray], y[is_ray], height[is_ray], strict=True):
        reach = max(np.float32(np.sqrt(px * px + py * py)), BIN_M / 2)
        sector = int(np.float32(np.arctan2(py, px)) * np.float32(NUM_SECTORS / (2 * np.pi))
                     + np.float32(NUM_SECTORS / 2))  # fmt: skip
        last = min(int(np.float32(reach) * np.float32(1 / BIN_M)), num_bins)
        cell = plain[: last + 1, min(sector, NUM_SECTORS - 1)]
        np.maximum(cell, (np.float32(MOUNT[2]) - ph) / reach, out=cell)
    fast = steepest_rays(x, y, height, float(MOUNT[2]), num_bins)
    assert np.isfinite(plain).sum() > 1000
    differs = ~np.isclose(fast, plain, rtol=1e-4, atol=1e-5)
    assert differs.mean() < 1e-3  # a point on the border of two bins may be rounded to either


def test_the_low_end_of_every_ground_cell_is_that_of_a_loop_over_all_points():
    grid = _polar_grid(1.0, 50.0)
    rng = np.random.default_rng(4)
    number = len(grid.centers_m) * grid.num_sectors * SLICES
    piece = rng.integers(0, number, 20_000).astype(np.int32)
    z = rng.normal(0, 1, len(piece)).astype(np.float32)
    is_candidate = rng.random(len(piece)) < 0.7
    plain = np.full((len(grid.centers_m), grid.num_sectors), np.nan)
    slices = {}
    for place, height in zip(piece[is_candidate], z[is_candidate], strict=True):
        slices[place] = min(height, slices.get(place, np.inf))
    cells = {}
    for place, height in slices.items():
        cells.setdefault(place // SLICES, []).append(height)
    for cell, heights in cells.items():
        lows = sorted(heights)
        plain[divmod(cell, grid.num_sectors)] = lows[min(1, len(lows) - 1)]
    assert np.array_equal(_low_heights(piece, z, is_candidate, grid), plain, equal_nan=True)


@pytest.mark.parametrize('shift', [(0, 3), (-2, 5), (7, -1), (-20, 0), (4, 40)])
def test_a_moved_window_keeps_what_it_still_covers_and_begins_anew_elsewhere(shift):
    array = np.random.default_rng(0).random((20, 20)).astype(np.float32)
    out = np.full_like(array, 9.0)
    shift_window(array, np.array(shift), out)
    for y in range(20):
        for x in range(20):
            old_y, old_x = y + shift[1], x + shift[0]
            is_inside = 0 <= old_y < 20 and 0 <= old_x < 20
            assert out[y, x] == (array[old_y, old_x] if is_inside else 0)
