# SPDX-License-Identifier: Apache-2.0
"""Frame -> Batch: pillars, images and projection, with answers computed by hand."""

from dataclasses import replace

from mmperception.datatypes import CameraModel, CameraView, Frame, Image, PointCloud
from mmperception.geometry import apply, project
from mmperception.grid import BevGrid
from mmperception.network.config import NetworkConfig
from mmperception.network.lidar import point_features
from mmperception.tensors import (
    images_from_frame,
    Inputs,
    inputs_from_frame,
    make_batch,
    prepare_camera,
)
import numpy as np
import pytest
import torch

CONFIG = NetworkConfig()
GRID = BevGrid(x_min_m=0.0, y_min_m=-4.0, cell_m=0.5, num_x=20, num_y=16)
OPTICAL_FROM_BASE = np.array(
    [[0, -1, 0, 0.3], [0, 0, -1, 1.5], [1, 0, 0, -0.2], [0, 0, 0, 1]], np.float64
)


def inputs(points, cameras=(), motion=None):
    points = np.asarray(points, np.float32).reshape(-1, 3)
    return Inputs(
        points=points,
        intensity=np.full(len(points), 0.5, np.float32),
        cameras=cameras,
        motion=motion,
    )


def camera_view(width=200, height=100, **model):
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
    K = np.array([[150.0, 0, 90], [0, 140, 55], [0, 0, 1]])
    return CameraView(
        name='camera',
        image=Image(stamp_ns=5, frame_id='optical', pixels=pixels),
        model=CameraModel(width=width, height=height, intrinsics=K, frame_id='optical', **model),
        camera_from_base=OPTICAL_FROM_BASE,
    )


def test_points_of_one_cell_become_one_pillar_with_their_mean():
    batch = make_batch([inputs([[1.1, -3.9, 0.2], [1.4, -3.6, 0.6]])], GRID, CONFIG)
    assert batch.pillar_cell.tolist() == [0 * 20 + 2]  # row 0, column 2
    assert batch.pillar_mean[0].tolist() == pytest.approx([1.25, -3.75, 0.4])
    assert batch.point_pillar.tolist() == [0, 0]


def test_point_features_are_offsets_height_mean_intensity_and_range():
    batch = make_batch([inputs([[3.0, 4.0 - 0.1, 0.7]])], GRID, CONFIG)
    features = point_features(batch)[0]
    # Cell centre (3.25, 3.75); offsets in cells of 0.5 m.
    assert features[:3].tolist() == pytest.approx([-0.5, 0.3, 0.7], abs=1e-5)
    assert features[3:6].abs().max() < 1e-6
    assert features[6:8].tolist() == [0.5, 1.0]
    assert features[8] == pytest.approx(np.hypot(3.0, 3.9) / 50, abs=1e-5)


def test_points_outside_the_window_or_height_are_left_out():
    far, high, inside = [30.0, 0, 0], [2.0, 0, 9.0], [2.0, 0, 0]
    batch = make_batch([inputs([far, high, inside])], GRID, CONFIG)
    assert len(batch.points) == 1


def test_order_of_points_changes_no_pillar():
    rng = np.random.default_rng(0)
    points = rng.uniform((0, -4, 0), (10, 4, 2), (500, 3))
    one = make_batch([inputs(points)], GRID, CONFIG)
    other = make_batch([inputs(points[::-1])], GRID, CONFIG)
    assert torch.equal(one.pillar_cell, other.pillar_cell)
    assert torch.allclose(one.pillar_mean, other.pillar_mean, atol=1e-5)


def test_a_sample_without_points_stays_in_the_batch():
    nothing = Inputs(points=None, intensity=None, cameras=(), motion=None)
    empty = inputs(np.zeros((0, 3)))
    batch = make_batch([nothing, inputs([[1, 0, 0]]), empty], GRID, CONFIG)
    assert batch.num_samples == 3
    assert batch.lidar_mask.tolist() == [False, True, True]
    assert (batch.pillar_cell // (GRID.num_x * GRID.num_y)).tolist() == [1]


def test_unknown_motion_is_all_zero_and_known_motion_is_flagged():
    batch = make_batch([inputs([]), inputs([], motion=(5.0, -0.3))], GRID, CONFIG)
    assert batch.motion[0].tolist() == [0, 0, 0]
    assert batch.motion[1].tolist() == pytest.approx([0.5, -0.3, 1.0])


def test_resized_image_keeps_points_on_their_pixels():
    view = camera_view()
    camera = prepare_camera(view, 640)
    assert camera.pixels.shape == (320, 640, 3)
    point = np.array([[6.0, 1.0, 0.8]])
    (pixel,), _ = project(apply(OPTICAL_FROM_BASE, point), view.model)
    u, v, depth = camera.pixel_from_base @ np.append(point, 1.0)
    expected = (pixel + 0.5) * (640 / 200, 320 / 100) - 0.5
    assert (u / depth, v / depth) == pytest.approx(tuple(expected))


def test_distorted_image_is_straightened_to_the_pinhole():
    view = camera_view(
        distortion=np.array([-0.3, 0.1, 0.002, -0.001, 0.0]), distortion_model='plumb_bob'
    )
    camera = prepare_camera(view, 640)
    point = np.array([[4.0, 0.9, 1.1]])
    (bent,), _ = project(apply(OPTICAL_FROM_BASE, point), view.model)
    u, v, depth = camera.pixel_from_base @ np.append(point, 1.0)
    # The straight pixel shows what the bent pixel of the source shows (up to interpolation).
    source = np.zeros((100, 200, 3), np.uint8)
    column, row = np.round(bent).astype(int)
    rows, columns = slice(row - 1, row + 2), slice(column - 1, column + 2)
    source[rows, columns] = 255
    bright = replace(view, image=replace(view.image, pixels=source))
    straight = prepare_camera(bright, 640).pixels
    assert straight[round(v / depth), round(u / depth)].min() > 200


def test_frame_points_arrive_in_base_link():
    base_from_lidar = np.eye(4)
    base_from_lidar[:3, 3] = (0.5, 0.1, 1.7)
    cloud = PointCloud(stamp_ns=1, frame_id='lidar', points=np.array([[2, 3, -1]], np.float32))
    frame = Frame(stamp_ns=1, cloud=cloud, base_from_lidar=base_from_lidar)
    found = inputs_from_frame(frame, CONFIG)
    assert found.points[0].tolist() == pytest.approx([2.5, 3.1, 0.7])
    assert found.intensity is None and found.motion is None


def test_points_are_sorted_by_pillar_and_know_where_they_stood():
    rng = np.random.default_rng(2)
    points = rng.uniform((0, -4, 0), (10, 4, 2), (400, 3)).astype(np.float32)
    other = rng.uniform((0, -4, 0), (10, 4, 2), (300, 3)).astype(np.float32)
    batch = make_batch([inputs(points), inputs(other)], GRID, CONFIG)
    assert (batch.point_pillar.diff() >= 0).all() and (batch.pillar_cell.diff() > 0).all()
    stood = np.concatenate((points, other))[batch.point_index]
    assert np.array_equal(batch.points[:, :3], stood)
    assert sorted(batch.point_index.tolist()) == list(range(700))


def test_images_prepared_apart_are_those_of_the_batch():
    view = camera_view()
    frame = Frame(stamp_ns=5, cloud=None, base_from_lidar=None, cameras=(view,))
    batch = make_batch([inputs_from_frame(frame, CONFIG)], GRID, CONFIG)
    for name, value in images_from_frame(frame, CONFIG).items():
        assert torch.equal(value, getattr(batch, name))
    assert inputs_from_frame(frame, CONFIG, with_cameras=False).cameras == ()
