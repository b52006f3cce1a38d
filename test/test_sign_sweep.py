# SPDX-License-Identifier: Apache-2.0
"""Which points of a sweep are looked at for the signs of one image, all of them together."""

from dataclasses import replace

from mmperception.geometry import apply, project
from mmperception.sign_range import LIDAR, place_sign, place_signs, rays_from_pixels, SweepPoints
import numpy as np
import pytest
from test_sign_range import (
    background,
    box_of,
    face_points,
    LENSES,
    make_frame,
    make_view,
    MODEL,
    SIGN,
    STOP,
)

LIMIT_30 = 1


def with_lens(lens):
    name, coefficients = lens
    return replace(MODEL, distortion=np.array(coefficients), distortion_model=name)


@pytest.mark.parametrize('lens', LENSES)
def test_the_points_between_rays_are_those_of_that_part_of_the_image_and_few_others(lens):
    view, rng = make_view(model=with_lens(lens)), np.random.default_rng(5)
    sweep = SweepPoints(make_frame(rng.normal(0, 15, (20000, 3)), rng.uniform(0, 1, 20000)))
    points = apply(view.camera_from_base @ sweep.base_from_lidar, sweep.cloud.points)
    pixels, depth_m = project(points, view.model)
    for box in ((5, 5, 105, 85), (580, 130, 660, 210), (1100, 250, 1240, 370)):
        x1, y1, x2, y2 = box
        corners = np.array([(x1, y1), (x2, y2), (x1, y2), (x2, y1)], np.float64)
        shown = (depth_m > 0) & (pixels >= box[:2]).all(axis=1) & (pixels <= box[2:]).all(axis=1)
        found, is_bright = sweep.between(view, rays_from_pixels(corners, view.model))
        assert 5 < shown.sum() <= len(found) < 3 * shown.sum()
        apart_m = np.linalg.norm(points[shown][:, None] - found, axis=2)
        assert apart_m.min(axis=1).max() < 1e-3
        expected = sweep.cloud.intensity[shown] > sweep.bright
        assert (is_bright[apart_m.argmin(axis=1)] == expected).all()


def test_a_point_that_is_no_number_lies_in_no_part_of_a_view():
    sweep = SweepPoints(make_frame(np.concatenate((face_points(SIGN), [[np.nan] * 3]))))
    corners = np.array([[0.0, 0.0], [1241.0, 374.0]])
    found, is_bright = sweep.between(make_view(), rays_from_pixels(corners, MODEL))
    assert np.isfinite(found).all() and len(found) == len(is_bright) == 8


def test_signs_of_one_image_stand_where_each_alone_does():
    left = np.array([22.0, 5.0, 3.0])
    points = np.concatenate((face_points(SIGN), face_points(left, 9, 4), background()))
    view, sweep = make_view(), SweepPoints(make_frame(points))
    boxes = np.array([box_of(SIGN), box_of(left, 0.6)])
    placed = place_signs(boxes, [STOP, LIMIT_30], view, sweep)
    assert [place.source for place in placed] == [LIDAR, LIDAR]
    positions = np.array([place.position for place in placed])
    assert positions == pytest.approx(np.array([SIGN, left]), abs=0.1)
    for place, box, class_id in zip(placed, boxes, (STOP, LIMIT_30), strict=True):
        alone = place_sign(box, class_id, view, sweep)
        assert place.position == pytest.approx(alone.position, abs=1e-5)
        assert place.covariance == pytest.approx(alone.covariance, abs=1e-5)


@pytest.mark.parametrize('lens', LENSES)
def test_an_image_without_signs_places_none(lens):
    view, sweep = make_view(model=with_lens(lens)), SweepPoints(make_frame(background()))
    assert place_signs(np.zeros((0, 4), np.float32), [], view, sweep) == []
