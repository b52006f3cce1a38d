# SPDX-License-Identifier: Apache-2.0
"""Sign faces: every class has its own, in the right shape and colours."""

import cv2
from mmperception.simulation.sign_faces import (
    NUM_CLASSES,
    sign_face,
    sign_outline,
    sign_shape,
)
import numpy as np
import pytest

SIZE = 64
AREAS = {
    'circle': np.pi / 4,
    'octagon': 2 * (np.sqrt(2) - 1),
    'diamond': 0.5,
    'triangle_up': np.sqrt(3) / 4,
    'triangle_down': np.sqrt(3) / 4,
}


def share_of_plate(face, is_colour):
    """Return which share of the plate's pixels `is_colour(r, g, b)` accepts."""
    r, g, b = (face[..., k].astype(int) for k in range(3))
    plate = face[..., 3] > 128
    return (is_colour(r, g, b) & plate).sum() / plate.sum()


def red_share(class_id):
    return share_of_plate(sign_face(class_id, SIZE), lambda r, g, b: r > g + 80)


def blue_share(class_id):
    return share_of_plate(sign_face(class_id, SIZE), lambda r, g, b: b > r + 60)


def black_share(class_id):
    return share_of_plate(sign_face(class_id, SIZE), lambda r, g, b: r + g + b < 200)


def test_no_two_classes_share_a_face():
    faces = [sign_face(c, SIZE).astype(float) for c in range(NUM_CLASSES)]
    for i in range(NUM_CLASSES):
        for j in range(i):
            difference = np.abs(faces[i] - faces[j]).max(axis=2)
            assert (difference > 100).mean() > 0.005, (i, j)


@pytest.mark.parametrize('class_id', range(NUM_CLASSES))
def test_the_plate_covers_the_area_of_its_shape(class_id):
    covered = (sign_face(class_id, SIZE)[..., 3] / 255.0).mean()
    assert covered == pytest.approx(AREAS[sign_shape(class_id)], rel=0.03)


def test_a_warning_triangle_points_up_and_yield_points_down():
    for class_id, wide, narrow in ((18, 50, 12), (13, 13, 51)):
        alpha = sign_face(class_id, SIZE)[..., 3] > 128
        assert alpha[wide].sum() > 2 * alpha[narrow].sum() > 0


@pytest.mark.parametrize('class_id', (0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 13, 15, 16, 18, 27))
def test_prohibition_and_danger_signs_have_a_red_rim(class_id):
    assert 0.2 < red_share(class_id) < 0.65
    assert blue_share(class_id) == 0


@pytest.mark.parametrize('class_id', (14, 17))
def test_stop_and_no_entry_are_mostly_red(class_id):
    assert red_share(class_id) > 0.6


@pytest.mark.parametrize('class_id', range(33, 41))
def test_mandatory_signs_are_mostly_blue_with_a_white_arrow(class_id):
    assert 0.5 < blue_share(class_id) < 0.9
    assert red_share(class_id) == 0


@pytest.mark.parametrize('class_id', (6, 32, 41, 42))
def test_end_of_signs_carry_no_colour(class_id):
    assert red_share(class_id) == blue_share(class_id) == 0
    assert black_share(class_id) > 0.05


def test_the_priority_road_is_yellow_in_white():
    face = sign_face(12, SIZE)
    assert tuple(face[32, 32, :3]) == (244, 184, 14)
    assert face[32, 8, :3].min() > 200


def test_left_and_right_arrows_mirror_each_other():
    for right, left in ((33, 34), (36, 37), (38, 39), (20, 19)):
        mirrored = sign_face(right, SIZE)[:, ::-1].astype(int)
        difference = np.abs(mirrored - sign_face(left, SIZE))
        assert (difference.max(axis=2) > 100).mean() < 0.01
    # Keep right points down to the right.
    white = sign_face(38, SIZE)[..., 0] > 200
    assert white[40:52, 40:52].mean() > white[40:52, 12:24].mean() + 0.3


def test_the_face_fills_its_outline_when_that_is_painted():
    for class_id in (1, 12, 13, 14, 25):
        mask = np.zeros((256, 256), np.uint8)
        corners = sign_outline(class_id) * (1, -1) + (0, 1)
        cv2.fillConvexPoly(mask, np.round(corners * 256 - 0.5).astype(int), 1)
        alpha = sign_face(class_id, 256)[..., 3] > 128
        assert (mask.astype(bool) == alpha).mean() > 0.98


def test_an_outline_is_convex_and_counter_clockwise():
    for class_id in range(NUM_CLASSES):
        edge = np.diff(sign_outline(class_id), axis=0, append=sign_outline(class_id)[:1])
        following = np.roll(edge, -1, axis=0)
        assert (edge[:, 0] * following[:, 1] - edge[:, 1] * following[:, 0] > 0).all()


@pytest.mark.parametrize('class_id', (-1, 43))
def test_a_class_that_does_not_exist_is_refused(class_id):
    with pytest.raises(ValueError, match='expected 0..42'):
        sign_face(class_id)


def test_changing_a_face_does_not_change_the_next_one():
    sign_face(14, SIZE)[:] = 0
    assert sign_face(14, SIZE)[..., 3].max() == 255
