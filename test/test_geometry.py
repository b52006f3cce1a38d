# SPDX-License-Identifier: Apache-2.0
"""Transforms, lenses and boxes against answers by hand and against OpenCV's own projection."""

from dataclasses import replace

import cv2
from mmperception.datatypes import CameraModel
from mmperception.geometry import (
    apply,
    box_corners,
    interpolate,
    invert,
    is_inside_image,
    points_in_boxes,
    project,
    quaternion_from_rotation,
    rotation_about,
    rotation_from_quaternion,
    transform_boxes,
    transform_from,
    transform_from_yaw,
    widest_tangent,
    wrap_angle,
    yaw_of,
)
import numpy as np
import pytest

# A turn of 90 degrees left about z and a shift: base x points along a's y.
HALF = np.sqrt(0.5)


def camera(model='none', distortion=(), width=1242, height=375):
    return CameraModel(
        width=width,
        height=height,
        intrinsics=np.array([[721.5, 0, 609.6], [0, 718.0, 172.9], [0, 0, 1.0]]),
        frame_id='optical',
        distortion=np.array(distortion, np.float64),
        distortion_model=model,
    )


def directions(num=300, widest=0.7, seed=2):
    rng = np.random.default_rng(seed)
    depth = rng.uniform(1.0, 40.0, num)
    return np.column_stack((rng.uniform(-widest, widest, (num, 2)) * depth[:, None], depth))


def test_apply_turns_then_shifts():
    a_from_b = transform_from((1.0, 2.0, 3.0), (0, 0, HALF, HALF))
    np.testing.assert_allclose(apply(a_from_b, np.array([[10.0, 0.5, -1.0]])), [[0.5, 12.0, 2.0]])
    assert apply(a_from_b, np.zeros((0, 3), np.float32)).shape == (0, 3)
    assert apply(a_from_b, np.ones((2, 3), np.float32)).dtype == np.float32


def test_apply_maps_points_of_any_leading_shape():
    a_from_b = transform_from((1.0, 2.0, 3.0), (0, 0, HALF, HALF))
    points = np.arange(24, dtype=np.float64).reshape(2, 4, 3)
    np.testing.assert_allclose(
        apply(a_from_b, points).reshape(-1, 3), apply(a_from_b, points.reshape(-1, 3))
    )


def test_invert_undoes_a_transform():
    a_from_b = transform_from((4.0, -7.0, 0.3), (0.1, -0.2, 0.5, 0.8))
    np.testing.assert_allclose(invert(a_from_b) @ a_from_b, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(invert(a_from_b), np.linalg.inv(a_from_b), atol=1e-12)


@pytest.mark.parametrize(
    ('quaternion', 'image_of_x'),
    [((0, 0, HALF, HALF), (0, 1, 0)), ((0, HALF, 0, HALF), (0, 0, -1)), ((1, 0, 0, 0), (1, 0, 0))],
)
def test_a_quaternion_turns_x_where_it_should(quaternion, image_of_x):
    np.testing.assert_allclose(rotation_from_quaternion(quaternion)[:, 0], image_of_x, atol=1e-12)


def test_quaternions_survive_the_way_there_and_back():
    rng = np.random.default_rng(0)
    half_turns = [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (HALF, HALF, 0, 0), (0, 0, 0, 1)]
    for quaternion in [*half_turns, *rng.normal(size=(50, 4))]:
        q = np.array(quaternion) / np.linalg.norm(quaternion)
        again = quaternion_from_rotation(rotation_from_quaternion(5 * q))
        assert again[3] >= 0
        assert abs(abs(again @ q) - 1) < 1e-9


def test_a_quaternion_without_direction_is_refused():
    for bad in ((0, 0, 0, 0), (np.nan, 0, 0, 1)):
        with pytest.raises(ValueError, match='quaternion'):
            rotation_from_quaternion(bad)


def test_rotation_about_an_axis_agrees_with_opencv():
    axis, angle = np.array([1.0, -2.0, 0.5]), 0.7
    expected = cv2.Rodrigues(axis / np.linalg.norm(axis) * angle)[0]
    np.testing.assert_allclose(rotation_about(axis, angle), expected, atol=1e-12)


def test_yaw_comes_back_and_angles_wrap():
    assert yaw_of(transform_from_yaw((1, 2, 3), -2.5)) == pytest.approx(-2.5)
    np.testing.assert_allclose(
        wrap_angle(np.array([3.5, -3.5, np.pi])), [3.5 - 2 * np.pi, 2 * np.pi - 3.5, -np.pi]
    )


def test_interpolation_goes_a_quarter_of_the_way_and_beyond():
    start, end = transform_from_yaw((0, 0, 0), 0.2), transform_from_yaw((8, -4, 2), 1.0)
    np.testing.assert_allclose(
        interpolate(start, end, 0.25), transform_from_yaw((2, -1, 0.5), 0.4), atol=1e-9
    )
    np.testing.assert_allclose(
        interpolate(start, end, 1.5), transform_from_yaw((12, -6, 3), 1.4), atol=1e-9
    )
    np.testing.assert_allclose(interpolate(start, start, 0.7), start)


def test_interpolation_turns_about_one_axis_in_space_at_constant_rate():
    first = np.eye(4)
    first[:3, :3] = rotation_about((1, 1, 0), 0.3)
    last = np.eye(4)
    last[:3, :3] = first[:3, :3] @ rotation_about((0.2, -1, 0.5), 2.4)
    third = interpolate(first, last, 1 / 3)
    np.testing.assert_allclose(
        third[:3, :3], first[:3, :3] @ rotation_about((0.2, -1, 0.5), 0.8), atol=1e-9
    )


def test_a_point_projects_by_hand():
    pixels, depth_m = project(np.array([[1.0, -0.5, 10.0]]), camera())
    np.testing.assert_allclose(pixels, [[609.6 + 72.15, 172.9 - 35.9]])
    assert depth_m.tolist() == [10.0]


LENSES = [
    ('plumb_bob', (-0.37, 0.2, 0.001, -0.0007, -0.07)),
    ('rational_polynomial', (0.4, -0.1, 0.0005, -0.002, 0.01, 0.7, -0.05, 0.02)),
]


@pytest.mark.parametrize(('model', 'distortion'), LENSES)
def test_bent_lenses_project_like_opencv(model, distortion):
    points = directions()
    lens = camera(model, distortion)
    expected, _ = cv2.projectPoints(
        points, np.zeros(3), np.zeros(3), lens.intrinsics, lens.distortion
    )
    np.testing.assert_allclose(project(points, lens)[0], expected[:, 0], atol=1e-6)


def test_a_fisheye_projects_like_opencv_far_to_the_side():
    points = directions(widest=1.7)
    lens = camera(*FISHEYE)
    expected, _ = cv2.fisheye.projectPoints(
        points[:, None], np.zeros(3), np.zeros(3), lens.intrinsics, lens.distortion
    )
    pixels, _ = project(points, lens)
    np.testing.assert_allclose(pixels, expected[:, 0], atol=1e-6)
    centre, _ = project(np.array([[0.0, 0.0, 5.0]]), lens)
    np.testing.assert_allclose(centre, [[609.6, 172.9]])


def test_few_coefficients_mean_that_the_others_are_zero():
    points = directions()
    short, long = camera('plumb_bob', (-0.3, 0.1)), camera('plumb_bob', (-0.3, 0.1, 0, 0, 0))
    np.testing.assert_array_equal(project(points, short)[0], project(points, long)[0])


FISHEYE = ('equidistant', (0.05, -0.02, 0.004, -0.001))


@pytest.mark.parametrize('lens', [camera(), camera(*LENSES[0]), camera(*LENSES[1])])
def test_points_far_beside_or_behind_the_camera_are_never_inside_the_image(lens):
    """Also where the polynomial of the lens turns back, as plumb_bob does at 52 degrees."""
    angle = np.radians(np.arange(56, 305, 0.5))
    points = np.column_stack((np.sin(angle), 0.01 * np.ones(len(angle)), np.cos(angle))) * 10
    pixels, depth_m = project(points, lens)
    assert np.isfinite(pixels).all()
    assert not is_inside_image(pixels, depth_m, lens).any()


def test_a_fisheye_sees_far_to_the_side_and_not_behind():
    angle = np.radians([80.0, 86.0, 95.0, 180.0])
    points = np.column_stack((np.sin(angle), np.zeros(4), np.cos(angle))) * 10
    lens = replace(camera(*FISHEYE), width=4000)
    pixels, depth_m = project(points, lens)
    assert pixels[0, 0] == pytest.approx(609.6 + 721.5 * bent(np.radians(80.0)))
    assert is_inside_image(pixels, depth_m, lens).tolist() == [True, False, False, False]


def bent(angle):
    """Kannala and Brandt's odd polynomial with the coefficients of `FISHEYE`."""
    k1, k2, k3, k4 = FISHEYE[1]
    return angle + k1 * angle**3 + k2 * angle**5 + k3 * angle**7 + k4 * angle**9


def test_a_lens_is_trusted_up_to_where_its_polynomial_turns_back():
    # r (1 - 0.4 r^2) rises until r = sqrt(1 / 1.2).
    assert widest_tangent(camera('plumb_bob', (-0.4,))) == pytest.approx(1.2**-0.5, abs=0.01)
    assert widest_tangent(camera('plumb_bob', (0.1,))) == pytest.approx(np.tan(1.19))
    assert widest_tangent(camera()) == np.inf


def test_the_first_and_the_last_pixel_are_inside_and_the_next_are_not():
    pixels = np.array([[0, 0], [1241, 374], [1241.5, 10], [-0.5, 10], [10, 375]])
    inside = is_inside_image(pixels, np.full(5, 3.0), camera())
    assert inside.tolist() == [True, True, False, False, False]
    assert not is_inside_image(pixels[:1], np.array([-3.0]), camera()).any()
    assert not is_inside_image(pixels[:1], np.array([3.0]), camera(), margin_px=1).any()


def test_projecting_nothing_gives_nothing_and_float32_stays_float32():
    pixels, depth_m = project(np.zeros((0, 3), np.float32), camera(*LENSES[0]))
    assert pixels.shape == (0, 2) and depth_m.shape == (0,)
    assert project(directions().astype(np.float32), camera(*LENSES[0]))[0].dtype == np.float32


def test_corners_of_a_turned_box_by_hand():
    # 4 m long, 2 m wide, 1 m high at (10, 2, 0.5), heading +y.
    corners = box_corners(
        np.array([[10.0, 2, 0.5]]), np.array([[4.0, 2, 1]]), np.array([np.pi / 2])
    )
    expected = [[9, 4, 0], [9, 0, 0], [11, 0, 0], [11, 4, 0]]
    np.testing.assert_allclose(corners[0, :4], expected, atol=1e-9)
    np.testing.assert_allclose(corners[0, 4:], np.array(expected) + (0, 0, 1), atol=1e-9)
    nothing = np.zeros((0, 3), np.float32)
    assert box_corners(nothing, nothing, np.zeros(0, np.float32)).shape == (0, 8, 3)


def test_points_are_in_the_box_that_holds_them():
    center = np.array([[10.0, 2, 0.5], [-5, 0, 1]])
    size = np.array([[4.0, 2, 1], [1, 1, 1]])
    points = np.array([[9.2, 3.8, 0.1], [11.8, 2.0, 0.5], [-5.4, 0.4, 1.4], [10, 2, 1.1]])
    inside = points_in_boxes(points, center, size, np.array([np.pi / 2, 0.0]))
    assert inside.tolist() == [[True, False, False, False], [False, False, True, False]]
    grown = points_in_boxes(points, center, size, np.array([np.pi / 2, 0.0]), margin_m=0.9)
    assert grown[0].tolist() == [True, True, False, True]
    assert points_in_boxes(points, center[:0], size[:0], np.zeros(0)).shape == (0, 4)
    assert points_in_boxes(points[:0], center, size, np.zeros(2)).shape == (2, 0)


def test_moving_boxes_moves_their_corners():
    rng = np.random.default_rng(4)
    center, size = rng.normal(size=(6, 3)), rng.uniform(1, 4, (6, 3))
    yaw = rng.uniform(-3, 3, 6)
    a_from_b = transform_from_yaw((3.0, -20.0, 1.0), 2.1)
    moved, turned = transform_boxes(a_from_b, center, yaw)
    assert moved.dtype == turned.dtype == np.float32
    np.testing.assert_allclose(
        box_corners(moved, size, turned),
        apply(a_from_b, box_corners(center, size, yaw)),
        atol=1e-5,
    )
    assert transform_boxes(a_from_b, center[:0], yaw[:0])[0].shape == (0, 3)


def test_a_box_in_a_tilted_frame_keeps_its_heading_on_the_ground():
    pitched = np.eye(4)
    pitched[:3, :3] = rotation_about((0, 1, 0), 0.1)
    _, yaw = transform_boxes(pitched, np.zeros((1, 3)), np.array([0.6]))
    assert yaw[0] == pytest.approx(np.arctan2(np.sin(0.6), np.cos(0.6) * np.cos(0.1)))
