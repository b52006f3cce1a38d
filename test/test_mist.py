# SPDX-License-Identifier: Apache-2.0
"""Mist is told from obstacles by the sweep itself; clear air leaves out nothing."""

from dataclasses import replace

from mmperception.config import Config
from mmperception.cost import CostMapper, Sweep
from mmperception.evaluation.corruptions import corrupt_points
from mmperception.geometry import transform_from_yaw
from mmperception.ground import model_ground, split_ground
from mmperception.polar import bins_to, polar_points
import numpy as np
import pytest
from synthetic_scan import MOUNT, scan

CONFIG = Config()
MISTY = replace(CONFIG.ground, mist_range_m=0.0)
POLE = (7.0, -2.0, 0, 7.06, -1.94, 2.2)
CHILD = (6.0, 2.4, 0, 6.3, 2.7, 1.0)
BAR = (9.0, -6.0, 0.9, 9.05, 6.0, 0.95)  # across the road, 5 cm thick
WALLS = [(-15, -3.2, 0, 25, -2.8, 2.0), (-15, 2.8, 0, 25, 3.2, 2.0)]


def in_fog(points, severity, seed=0):
    """Return the points of a scan in `base_link` in fog, and which are mist."""
    rows = np.column_stack((points - np.float32(MOUNT), np.ones(len(points)))).astype(np.float32)
    changed, index = corrupt_points(rows, 'fog', severity, np.random.default_rng(seed))
    is_mist = (changed[:, :3] != rows[index, :3]).any(axis=1)
    return changed[:, :3] + np.float32(MOUNT), is_mist


def split_of(points, ground=CONFIG.ground):
    """Return the split around the LiDAR where it stands."""
    poses = np.eye(4), transform_from_yaw(MOUNT, 0.0)
    polar = polar_points(points - np.float32(MOUNT), poses, bins_to(ground.range_m), ground)
    return model_ground(polar, ground).split


def within(points, box, margin=0.05):
    low, high = np.float32(box[:3]) - margin, np.float32(box[3:]) + margin
    return ((points > low) & (points < high)).all(axis=1)


@pytest.mark.parametrize('severity', [1, 2, 3])
def test_mist_over_an_open_road_is_no_obstacle(severity):
    points, is_mist = in_fog(scan(num_rings=64, num_azimuths=1800), severity)
    near = is_mist & (np.hypot(*(points - np.float32(MOUNT))[:, :2].T) < 15)
    with_mist = split_of(points, MISTY).is_obstacle[near].sum()
    assert with_mist > 1000
    assert split_of(points).is_obstacle[near].sum() < 0.01 * with_mist


@pytest.mark.parametrize('thing', [POLE, CHILD, BAR])
@pytest.mark.parametrize('severity', [1, 2])
def test_thin_small_and_hanging_things_stay_obstacles_in_mist(thing, severity):
    points, is_mist = in_fog(scan([thing], num_rings=64, num_azimuths=1800), severity)
    asked = within(points, thing) & ~is_mist & split_of(points, MISTY).is_obstacle
    assert asked.sum() >= 20
    assert split_of(points).is_obstacle[asked].mean() > 0.8


def test_clear_air_leaves_out_nothing_though_much_hangs_around():
    hanging = [(x, y, 0.9, x + 1.2, y + 1.2, 1.1) for x in (-3, 0, 3.5) for y in (-3.5, 2.2)]
    for boxes in ([], [POLE, CHILD, BAR], hanging, WALLS):
        points = scan(boxes, num_rings=64, num_azimuths=1800)
        left, all_of_it = split_of(points), split_of(points, MISTY)
        assert (left.is_obstacle == all_of_it.is_obstacle).all()


def test_mist_between_walls_is_told_by_the_ways_that_are_open():
    points, is_mist = in_fog(scan(WALLS, num_rings=64, num_azimuths=1800), 2)
    lane = is_mist & (np.abs(points[:, 1]) < 2.4) & (points[:, 0] > 4) & (points[:, 0] < 15)
    with_mist = split_of(points, MISTY).is_obstacle[lane].sum()
    assert with_mist > 100
    assert split_of(points).is_obstacle[lane].sum() < 0.15 * with_mist


def test_a_sweep_of_nothing_or_of_mist_alone_is_split_too():
    nothing = split_ground(np.zeros((0, 3), np.float32), CONFIG.ground)
    assert len(nothing.is_obstacle) == 0
    points, is_mist = in_fog(scan(num_rings=64, num_azimuths=1800), 3)
    alone = split_of(points[is_mist])
    assert alone.height_m.shape == (is_mist.sum(),)


def test_a_robot_in_mist_sees_the_way_free_and_what_stands_in_it():
    boxes = [(12, -1, 0, 13, 1, 1.5), POLE]
    lethal = {}
    for ground in (MISTY, CONFIG.ground):
        mapper = CostMapper(replace(CONFIG, ground=ground))
        for index in range(5):
            points, _ = in_fog(scan(boxes, num_rings=64, num_azimuths=1800), 1, seed=index)
            sweep = Sweep(
                stamp_ns=10**18 + index * 10**8,
                points_lidar=points - np.float32(MOUNT),
                base_from_lidar=transform_from_yaw(MOUNT, 0.0),
                odom_from_base=np.eye(4),
            )
            grid = mapper.integrate(sweep).grid
        row, column = np.nonzero(grid.data == 100)
        x, y = (np.stack((column, row)) + 0.5) * grid.resolution_m + np.array(
            grid.origin_xy_m
        ).reshape(2, 1)
        is_way = (x > 4) & (x < 11.7) & (np.abs(y) < 1.1)
        is_box = (x > 11.9) & (x < 13.1) & (np.abs(y) < 1.1)
        is_pole = np.hypot(x - 7.03, y + 1.97) < 0.15
        lethal[ground.mist_range_m] = is_way.sum(), is_box.sum(), is_pole.sum()
    assert lethal[0.0][0] > 50
    way, box, pole = lethal[CONFIG.ground.mist_range_m]
    assert way == 0 and box >= 15 and pole >= 1
