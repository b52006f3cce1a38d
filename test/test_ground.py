# SPDX-License-Identifier: Apache-2.0
"""The ground model: what is road, what stands on it, what hangs above."""

from dataclasses import replace

from hypothesis import given, strategies
from mmperception.config_sections import GroundConfig
from mmperception.ground import split_ground
from mmperception.polar import is_own_body
import numpy as np
import pytest
from synthetic_scan import scan

CONFIG = GroundConfig()


def in_box(points, box, margin_m=0.05):
    low, high = np.array(box[:3]) - margin_m, np.array(box[3:]) + margin_m
    return ((points >= low) & (points <= high)).all(axis=1)


def test_no_points_give_an_empty_split():
    split = split_ground(np.zeros((0, 3), np.float32), CONFIG)
    assert split.height_m.shape == split.is_ground.shape == split.is_obstacle.shape == (0,)


def test_a_flat_road_is_ground_everywhere_and_nothing_else():
    points = scan()
    split = split_ground(points, CONFIG)
    near = np.hypot(points[:, 0], points[:, 1]) < CONFIG.range_m
    assert split.is_ground[near].all()
    assert not split.is_obstacle.any()
    assert np.abs(split.height_m[near]).max() < 0.1


@given(strategies.floats(-0.15, 0.15), strategies.floats(-0.15, 0.15))
def test_a_slope_in_any_direction_is_ground(along_x, along_y):
    points = scan(slope=(along_x, along_y), num_rings=32, num_azimuths=360)
    points = points[~is_own_body(points[:, 0], points[:, 1], CONFIG)]
    split = split_ground(points, CONFIG)
    near = np.hypot(points[:, 0], points[:, 1]) < 25
    assert split.is_obstacle[near].mean() < 0.002
    assert split.is_ground[near].mean() > 0.998


def test_a_box_on_a_slope_has_its_height_above_the_slope():
    z = 0.15 * 12
    box = (12, 2, z - 1, 13, 4, z + 0.8)
    points = scan([box], slope=(0.15, 0))
    split = split_ground(points, CONFIG)
    on_box = in_box(points, box) & (points[:, 2] > 0.15 * points[:, 0] + 0.3)
    assert on_box.sum() > 50
    assert split.is_obstacle[on_box].all()
    assert np.abs(split.height_m - (points[:, 2] - 0.15 * points[:, 0]))[on_box].max() < 0.12
    near = np.hypot(points[:, 0], points[:, 1]) < 40
    assert not split.is_obstacle[~in_box(points, box) & near].any()


def test_a_kerb_of_twelve_centimetres_is_no_obstacle():
    points = scan([(-60, 3, -1, 60, 60, 0.12)])
    near = np.hypot(points[:, 0], points[:, 1]) < 25
    split = split_ground(points, CONFIG)
    assert split.is_ground[near].all()
    assert not split.is_obstacle.any()


def test_a_wall_is_an_obstacle_up_to_the_clearance_and_the_road_before_it_is_ground():
    wall = (10, -5, 0, 10.3, 5, 3)
    points = scan([wall])
    split = split_ground(points, CONFIG)
    on_wall = in_box(points, wall, 0.06)
    body = on_wall & (points[:, 2] > 0.35) & (points[:, 2] < 2.2)
    above = on_wall & (points[:, 2] > 2.45)
    assert body.sum() > 500 and split.is_obstacle[body].all()
    assert not split.is_obstacle[above].any() and not split.is_ground[above].any()
    assert split.is_ground[np.hypot(points[:, 0], points[:, 1]) < 9.5].all()


def test_a_gate_overhead_is_neither_obstacle_nor_ground():
    gate = (8, -3, 1.9 + 0.6, 8.4, 3, 3.2)
    points = scan([gate], origin=(0, 0, 2.4))
    split = split_ground(points, CONFIG)
    on_gate = in_box(points, gate)
    assert on_gate.sum() > 100
    assert not split.is_obstacle.any()
    assert not split.is_ground[on_gate].any()


def test_a_road_with_a_crown_beside_a_parked_car_is_no_obstacle():
    # Seen in a street whose lane falls off by a tenth to the left: the first ground seen there
    # lies half a metre below the robot, and above it most points are those of the car.
    car = (-2, 4.9, -0.4, 2.5, 6.6, 1.0)
    points = scan([car], slope=(0, -0.1))
    split = split_ground(points, CONFIG)
    road = ~in_box(points, car, 0.06) & (np.hypot(points[:, 0], points[:, 1]) < 20)
    assert split.is_ground[road].all()
    assert split.is_obstacle[in_box(points, car) & (points[:, 2] > 0)].all()


def test_what_stands_alone_on_sparse_far_rings_is_an_obstacle():
    person = (28.0, -6.3, 0, 28.4, -5.8, 1.7)
    points = scan([person], num_rings=24)
    split = split_ground(points, CONFIG)
    on_person = in_box(points, person, 0.08) & (points[:, 2] > 0.7)
    assert on_person.sum() > 5 and split.is_obstacle[on_person].all()


def test_reflections_below_the_road_do_not_turn_the_road_into_an_obstacle():
    points = scan()
    road = split_ground(points, CONFIG)
    ghosts = np.random.default_rng(3).uniform((-20, -20, -2), (20, 20, -1), (40, 3))
    split = split_ground(np.concatenate((points, ghosts.astype(np.float32))), CONFIG)
    assert not split.is_obstacle.any()
    on_road, on_ghosts = np.split(split.is_ground, [len(points)])
    assert (on_road == road.is_ground).mean() > 0.998
    assert not on_ghosts.any()


def test_the_robots_own_body_is_neither_ground_nor_obstacle():
    body = np.float32([[2.1, -0.4, 0.9], [-0.8, 0.7, 0.02]])
    beside = np.float32([[2.1, -1.4, 0.9]])
    config = replace(CONFIG, self_center_x_m=1.3, self_length_m=5.0, self_width_m=2.2)
    split = split_ground(np.concatenate((scan(), body, beside)), config)
    assert split.is_obstacle[-3:].tolist() == [False, False, True]
    assert not split.is_ground[-3:].any()


def test_the_order_of_points_changes_nothing_and_the_input_stays_as_it_was():
    points = scan([(9, 1, 0, 11, 3, 1.5)], slope=(0.05, -0.03))
    before = points.copy()
    order = np.random.default_rng(1).permutation(len(points))
    one, other = split_ground(points, CONFIG), split_ground(points[order], CONFIG)
    assert (points == before).all()
    assert (one.height_m[order] == other.height_m).all()
    assert (one.is_obstacle[order] == other.is_obstacle).all()


def test_points_beyond_the_modelled_range_are_left_out():
    points = np.concatenate((scan(), np.float32([[70, 5, 1.0]])))
    split = split_ground(points, CONFIG)
    assert not split.is_obstacle[-1] and not split.is_ground[-1]


def test_a_wrong_shape_is_refused_by_name():
    with pytest.raises(ValueError, match='points: expected'):
        split_ground(np.zeros((5, 4), np.float32), CONFIG)
