# SPDX-License-Identifier: Apache-2.0
"""The fast ways of the safety path give the answers of the plain ones."""

from dataclasses import replace

from mmperception.config_sections import GroundConfig, PathCostConfig
from mmperception.geometry import apply, apply_to_cloud, rotation_about, transform_from_yaw
from mmperception.height_map import CELLS_PER_TURN, ground_grid, low_heights, residual, SLICES
from mmperception.polar import (
    BIN_M,
    bins_to,
    is_own_body,
    NEAR_M,
    NOTHING,
    NUM_SECTORS,
    PART,
    parts_of,
    polar_points,
    TICK_M,
)
from mmperception.rays import DROP_TICK, enlarged, FreeSpace, LowestRays, NO_RAY, REFLECTION_M
from mmperception.terrain import shift_window
import numpy as np
import pytest
from synthetic_scan import MOUNT, scan

POINTS = scan([(9, 1, 0, 11, 3, 1.5)], slope=(0.03, -0.02), num_rings=24, num_azimuths=211)
CONFIG = GroundConfig()
NUM_BINS = 150


def tilted(translation, yaw, pitch):
    pose = transform_from_yaw(translation, yaw)
    pose[:3, :3] = pose[:3, :3] @ rotation_about((0, 1, 0), pitch)
    return pose


def polar_of(points_base, odom_from_base, base_from_lidar):
    points_lidar = apply(np.linalg.inv(base_from_lidar), points_base.astype(np.float64))
    poses = odom_from_base, base_from_lidar
    return polar_points(points_lidar.astype(np.float32), poses, NUM_BINS, CONFIG)


def test_a_cloud_moved_by_columns_lies_where_apply_puts_it():
    pose = transform_from_yaw((500.3, -80.2, 1.7), 0.8)
    assert np.allclose(apply_to_cloud(pose[:3], POINTS), apply(pose, POINTS), atol=1e-4)
    assert apply_to_cloud(pose[:2], POINTS).shape == (len(POINTS), 2)
    assert apply_to_cloud(pose[:3], POINTS[:0]).shape == (0, 3)


@pytest.mark.parametrize('number', [0, 1, PART, PART + 1, 5 * PART + 7])
def test_parts_cover_every_point_once(number):
    counted = np.zeros(number, int)
    for part in parts_of(number):
        counted[part] += 1
        assert part.stop - part.start <= PART
    assert (counted == 1).all()


def test_points_around_the_lidar_keep_millimetres_far_from_the_origin_of_odom():
    pose, mount = tilted((80_000.0, -90_000.0, 1.0), 2.1, 0.06), tilted(MOUNT, -0.4, 0.1)
    points = polar_of(POINTS, pose, mount)
    plain = (POINTS.astype(np.float64) - mount[:3, 3]) @ pose[:2, :3].T
    assert np.abs(np.stack((points.x, points.y), axis=1) - plain).max() < 1e-4
    assert np.abs(points.z - POINTS[:, 2]).max() < 1e-4  # heights stay those of the robot
    assert np.abs(points.range_m - np.hypot(*plain.T)).max() < 1e-4


def test_every_point_lies_in_the_bin_of_its_range_and_azimuth():
    points = polar_of(POINTS, tilted((3, 4, 0), 2.1, 0.06), tilted(MOUNT, -0.4, 0.1))
    azimuth = np.arctan2(points.y.astype(np.float64), points.x) % (2 * np.pi)
    sector = azimuth * NUM_SECTORS / (2 * np.pi)
    row = np.minimum(np.hypot(points.x, points.y) / BIN_M, NUM_BINS)
    plain = row.astype(int) * NUM_SECTORS + sector.astype(int)
    on_border = (np.abs(sector - np.round(sector)) < 0.03) | (np.abs(row - np.round(row)) < 1e-3)
    assert on_border.mean() < 0.2
    assert (points.place == plain)[~on_border].all()
    assert (points.place // NUM_SECTORS == NUM_BINS).any()  # beyond the last bin


def test_places_on_the_axes_are_in_the_first_sector_of_each_quarter():
    axes = np.float32([[5, 0, 0], [0, 5, 0], [-5, 0, 0], [0, -5, 0], [5, -1e-7, 0]])
    points = polar_of(axes, np.eye(4), np.eye(4))
    sectors = points.place % NUM_SECTORS
    assert (points.place // NUM_SECTORS == 25).all()
    for sector, quarter in zip(sectors, (0, 1, 2, 3, 4), strict=True):
        assert abs(sector - quarter * NUM_SECTORS // 4) <= 1


def test_points_on_the_robot_are_found_however_it_is_tilted_and_mounted():
    rng = np.random.default_rng(2)
    around = rng.uniform((-4, -4, -0.5), (6, 4, 2.5), (20_000, 3)).astype(np.float32)
    points = polar_of(around, tilted((3, 4, 0), 2.1, 0.15), tilted((2.5, 0.7, 2.0), 1.4, 0.3))
    own = np.flatnonzero(is_own_body(around[:, 0], around[:, 1], CONFIG))
    assert len(np.setxor1d(points.own, own)) <= 2  # rounded to either side of the outline
    assert len(own) > 1000
    near = np.flatnonzero(points.range_m < NEAR_M)
    assert len(near) > 1000 and np.isin(np.concatenate((near, points.own)), points.near).all()


def test_points_on_the_robot_are_not_the_lowest_of_their_bins():
    around = np.random.default_rng(3).uniform((-4, -4, -0.5), (9, 4, 2.5), (3000, 3))
    points = polar_of(around.astype(np.float32), np.eye(4), transform_from_yaw(MOUNT, 0.3))
    assert len(points.own) > 200 and (points.lowest == NOTHING).any()
    plain = np.full(points.lowest.size, np.inf)
    others = np.setdiff1d(np.arange(len(around)), points.own)
    np.minimum.at(plain, points.place[others], points.z[others])
    lowest = np.where(points.lowest == NOTHING, np.inf, points.lowest * TICK_M).ravel()
    assert (np.isinf(lowest) == np.isinf(plain)).all()
    is_there = np.isfinite(plain)
    assert np.abs(lowest[is_there] - plain[is_there]).max() <= TICK_M


def test_the_lowest_point_of_every_bin_is_that_of_a_loop_over_all_points():
    points = polar_of(POINTS, tilted((3, 4, 0), 2.1, 0.06), transform_from_yaw(MOUNT, 0.3))
    plain = np.full(points.lowest.size, np.inf)
    for index, (place, z) in enumerate(zip(points.place, points.z, strict=True)):
        if index not in points.own:
            plain[place] = min(plain[place], z)
    lowest = points.lowest.ravel()
    assert ((lowest == NOTHING) == np.isinf(plain)).all()
    is_there = lowest != NOTHING
    assert is_there.sum() > 500
    assert np.abs(lowest * TICK_M - plain)[is_there].max() <= TICK_M


def test_the_steepest_ray_of_every_bin_is_that_of_a_loop_over_all_points():
    points = polar_of(POINTS, np.eye(4), transform_from_yaw(MOUNT, 0.0))
    height = points.z.copy()
    rays = LowestRays(NUM_BINS, MOUNT[2])
    for part in parts_of(len(height)):
        place = points.place[part].astype(np.int64)
        rays.take(place, points.range_m[part], height[part])
    plain = np.full((NUM_BINS + 1, NUM_SECTORS), -np.inf)
    is_ray = height >= REFLECTION_M
    assert 0 < (~is_ray).sum() < 500
    for place, range_m, z in zip(
        points.place[is_ray], points.range_m[is_ray], height[is_ray], strict=True
    ):
        row, sector = divmod(int(place), NUM_SECTORS)
        cell = plain[: row + 1, sector]
        np.maximum(cell, (MOUNT[2] - z) / max(range_m, BIN_M / 2), out=cell)
    steepest = rays.steepest()
    assert steepest.shape == plain.shape and np.isfinite(plain).sum() > 1000
    assert ((steepest == NO_RAY) == np.isinf(plain)).all()
    is_there = np.isfinite(plain)
    assert np.abs(steepest * DROP_TICK - plain)[is_there].max() < 1e-5


@pytest.mark.parametrize(('resolution_m', 'cells'), [(0.1, 601), (0.2, 300), (0.05, 402)])
def test_a_cell_is_free_where_the_ray_over_its_square_was_low(resolution_m, cells):
    config = replace(PathCostConfig(), resolution_m=resolution_m, cells=cells)
    num_bins = bins_to(cells * resolution_m) + 1
    steepest = np.full((num_bins + 1, NUM_SECTORS), NO_RAY)
    steepest[:50, 100:400] = round(1.8 / 9 / DROP_TICK)  # on the ground at 9 m, free from 6.5 m
    is_free = FreeSpace(config, num_bins).cells(steepest, 1.8)
    assert is_free.shape == (cells, cells)
    y, x = np.mgrid[:cells, :cells] - cells // 2
    range_m, azimuth = np.hypot(x, y) * resolution_m, np.arctan2(y, x) % (2 * np.pi)
    sector = azimuth * NUM_SECTORS / (2 * np.pi)
    plain = (range_m >= (1.8 - config.free_below_m) * 5) & (range_m < 50 * BIN_M)
    plain &= (sector >= 100) & (sector < 400)
    assert 0.02 < plain.mean() < 0.9
    differs = (is_free > 0) != plain
    assert differs[np.abs(range_m - 6.5) > 0.4][:].mean() < 0.02
    assert differs.mean() < 0.03


@pytest.mark.parametrize('size', [1, 2, 3, 4])
def test_enlarged_cells_are_squares(size):
    squares = np.random.default_rng(0).integers(0, 250, (5, 7)).astype(np.uint8)
    assert (enlarged(squares, size) == np.kron(squares, np.ones((size, size), np.uint8))).all()


def test_the_low_end_of_every_ground_cell_is_the_second_lowest_of_its_slices():
    grid = ground_grid(1.0, 30.0)
    rng = np.random.default_rng(4)
    lowest = rng.integers(-2000, 9000, (NUM_BINS + 1, NUM_SECTORS)).astype(np.int32)
    lowest[rng.random(lowest.shape) < 0.9] = NOTHING
    low = low_heights(lowest, grid, CONFIG.max_slope)
    assert low.shape == (len(grid.centers_m), CELLS_PER_TURN) and np.isnan(low).any()
    for ring, sector in np.ndindex(low.shape):
        rows = slice(grid.edges[ring], grid.edges[ring + 1])
        columns = slice(sector * SLICES, (sector + 1) * SLICES)
        slices = lowest[rows, columns].min(axis=0) * TICK_M
        highest = 0.5 + CONFIG.max_slope * grid.centers_m[ring]
        slices = np.sort(slices[slices <= highest])
        if len(slices):
            assert abs(low[ring, sector] - slices[min(1, len(slices) - 1)]) < 2 * TICK_M
        else:
            assert np.isnan(low[ring, sector])


def test_the_ground_between_cells_is_interpolated_all_around():
    grid = ground_grid(1.0, 30.0)
    plane = np.array((0.3, 0.02, -0.05))
    turn = (np.arange(CELLS_PER_TURN) + 0.5) * 2 * np.pi / CELLS_PER_TURN
    bump = 0.2 * np.sin(turn + 0.3) + 0.01 * grid.centers_m[:, None]
    table = plane[0] + grid.centers_m[:, None] * (grid.axes @ plane[1:]) + bump
    fine = residual(table.astype(np.float32), grid, plane, NUM_BINS)
    turn = (np.arange(NUM_SECTORS) + 0.5) * 2 * np.pi / NUM_SECTORS
    middle = np.clip((np.arange(NUM_BINS + 1) + 0.5) * BIN_M, *grid.centers_m[[0, -1]])
    smooth = plane[0] + 0.2 * np.sin(turn + 0.3) + 0.01 * middle[:, None]
    assert np.abs(fine - smooth).max() < 1e-3


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
