# SPDX-License-Identifier: Apache-2.0
"""The cost grid: free, lethal, unknown, graded, and how they change over sweeps."""

from dataclasses import replace

from mmperception.config import Config
from mmperception.cost import CostMapper, Sweep
from mmperception.datatypes import Tracks
from mmperception.geometry import apply, invert, transform_from_yaw
import numpy as np
import pytest
from synthetic_scan import MOUNT, scan

CONFIG = Config()
START_NS = 1_316_000_000_123_456_789
BOX = (10, 2, 0, 11, 4, 1.5)


def sweep_at(points, seconds=0.0, pose=None, tracks=None):
    return Sweep(
        stamp_ns=START_NS + int(seconds * 1e9),
        points_base=points,
        odom_from_base=np.eye(4) if pose is None else pose,
        lidar_origin_base=MOUNT,
        tracks=tracks,
    )


def drive_by(mapper, boxes_of, times_s):
    """Integrate scans of a changing world from a standing robot; return the last grid."""
    for seconds in times_s:
        grid = mapper.integrate(sweep_at(scan(boxes_of(seconds)), seconds)).grid
    return grid


def at(grid, x, y):
    column, row = (np.floor((np.array([x, y]) - grid.origin_xy_m) / grid.resolution_m)).astype(int)
    return int(grid.data[row, column])


def lethal_points(grid):
    row, column = np.nonzero(grid.data == 100)
    return (np.stack((column, row), axis=1) + 0.5) * grid.resolution_m + grid.origin_xy_m


def make_tracks(center, velocity, label, size=(0.6, 0.6, 1.7), seconds=0.0):
    speed = np.linalg.norm(velocity)
    return Tracks(
        stamp_ns=START_NS + int(seconds * 1e9),
        frame_id='odom',
        track_id=np.array([7]),
        center=np.float32([[*center, 0.9]]),
        size=np.float32([size]),
        yaw=np.float32([np.arctan2(velocity[1], velocity[0])]),
        velocity=np.float32([velocity]),
        score=np.float32([0.8]),
        label=np.array([label]),
        pose_covariance=np.eye(6)[None] * 0.01,
        velocity_covariance=np.eye(2)[None] * 0.04,
        is_stationary=np.array([speed < 0.5]),
    )


def test_a_box_is_lethal_the_road_before_it_free_and_what_it_hides_unknown():
    grid = CostMapper(CONFIG).integrate(sweep_at(scan([BOX]))).grid
    assert grid.frame_id == 'odom' and grid.stamp_ns == START_NS
    assert grid.data.shape == (600, 600) and grid.data.dtype == np.int8
    assert at(grid, 10.05, 3.05) == 100
    assert at(grid, 6.05, 0.05) == 0
    assert at(grid, 14.05, 4.05) == -1  # in its shadow
    assert at(grid, 10.05, -3.05) == 0  # mirrored: nothing stands there


def test_lethal_cells_lie_on_the_box_and_nowhere_else():
    points = lethal_points(CostMapper(CONFIG).integrate(sweep_at(scan([BOX]))).grid)
    assert len(points) > 20
    assert (points > np.array(BOX[:2]) - 0.15).all() and (points < np.array(BOX[3:5]) + 0.15).all()


def test_cost_falls_with_the_distance_to_the_obstacle_and_ends_at_the_inflation():
    grid = CostMapper(CONFIG).integrate(sweep_at(scan([BOX]))).grid
    row = [at(grid, 9.85 - 0.1 * step, 3.05) for step in range(12)]
    assert 85 <= row[0] <= 98
    assert row == sorted(row, reverse=True)
    assert row[5] > 0 and row[9] == 0


def test_a_gate_overhead_leaves_the_road_below_it_free():
    gate = (8, -3, 2.5, 8.4, 3, 3.2)
    grid = CostMapper(CONFIG).integrate(sweep_at(scan([gate]))).grid
    assert at(grid, 8.15, 0.05) == 0 and not (grid.data == 100).any()


def test_no_points_leave_all_unknown_but_the_place_where_the_robot_stands():
    path_cost = CostMapper(CONFIG).integrate(sweep_at(np.zeros((0, 3), np.float32)))
    grid = path_cost.grid
    assert len(path_cost.split.height_m) == 0
    assert at(grid, 1.3, 0.0) == 0 and at(grid, 6.0, 0.0) == -1
    assert (grid.data == -1).mean() > 0.99 and not (grid.data == 100).any()
    assert set(path_cost.timings_ms) == {'ground', 'evidence', 'grade'}


def test_a_single_stray_point_is_no_obstacle_but_two_in_neighbouring_cells_are():
    road = scan()
    stray, pair = np.float32([[7, 1.02, 0.8]]), np.float32([[7, 1.02, 0.8], [7.08, 1.05, 0.9]])
    alone = CostMapper(CONFIG).integrate(sweep_at(np.concatenate((road, stray)))).grid
    both = CostMapper(CONFIG).integrate(sweep_at(np.concatenate((road, pair)))).grid
    assert not (alone.data == 100).any()
    assert (both.data == 100).any()


def test_a_parked_box_stays_in_its_odom_cells_while_the_robot_drives_and_turns():
    mapper = CostMapper(CONFIG)
    for step in range(8):
        pose = transform_from_yaw((500.33 + 0.7 * step, -80.21 - 0.1 * step, 0.0), 0.1 * step)
        box_odom = np.array([[508, -79, 0], [509, -77, 1.5]])
        # The scanner knows upright boxes only, so the world is scanned in odom axes.
        origin = apply(pose, MOUNT)
        points_odom = scan([box_odom.ravel()], origin=origin)
        points = apply(invert(pose), points_odom.astype(np.float64)).astype(np.float32)
        grid = mapper.integrate(sweep_at(points, 0.1 * step, pose)).grid
        found = lethal_points(grid)
        assert len(found) > 20
        assert (found > box_odom[0, :2] - 0.2).all() and (found < box_odom[1, :2] + 0.2).all()
        cells = np.array(grid.origin_xy_m) / grid.resolution_m
        assert np.allclose(cells, np.round(cells), atol=1e-6)
        assert grid.data.shape == (600, 600)


def test_a_car_that_left_is_cleared_by_the_first_sweep_that_sees_through():
    mapper = CostMapper(CONFIG)
    before = drive_by(mapper, lambda t: [BOX], (0.0, 0.1))
    after = drive_by(mapper, lambda t: [], (0.2,))
    assert (before.data == 100).any()
    assert not (after.data == 100).any()
    assert at(after, 10.05, 3.05) == 0


def test_a_passing_car_leaves_no_smear_behind_it():
    def car_at(seconds):
        return [(8 + 10 * seconds, -4, 0, 12 + 10 * seconds, -2.2, 1.5)]

    grid = drive_by(CostMapper(CONFIG), car_at, np.arange(0, 1.01, 0.1))
    (now,) = car_at(1.0)
    points = lethal_points(grid)
    assert len(points) > 10
    assert (points[:, 0] > now[0] - 0.2).all() and (points[:, 0] < now[3] + 0.2).all()


def test_a_crossing_pedestrian_leaves_no_smear_and_no_shadow():
    def person_at(seconds):
        return [(9, -3 + 1.5 * seconds, 0, 9.4, -2.5 + 1.5 * seconds, 1.7)]

    mapper = CostMapper(CONFIG)
    drive_by(mapper, lambda t: [], (0.0,))
    grid = drive_by(mapper, person_at, np.arange(0.1, 2.01, 0.1))
    points = lethal_points(grid)
    assert len(points) >= 4 and (points[:, 1] > -0.2).all() and (points[:, 1] < 0.7).all()
    assert at(grid, 9.25, -2.75) == 0  # where it came from
    assert at(grid, 12.05, 0.05) == 0  # behind it, seen free before


def test_a_hidden_obstacle_is_remembered_and_then_forgotten():
    far, screen = (15, -1, 0, 16, 1, 1.5), (6, -4, 0, 6.5, 4, 2.2)
    mapper = CostMapper(CONFIG)
    drive_by(mapper, lambda t: [far], (0.0,))
    soon = drive_by(mapper, lambda t: [far, screen], (0.1, 0.5))
    late = drive_by(mapper, lambda t: [far, screen], (0.9, 1.3))
    assert at(soon, 15.05, 0.05) == 100
    assert at(late, 15.05, 0.05) == -1


def test_a_low_block_below_all_rays_stays_when_the_robot_stops_before_it():
    block = (8, -0.5, 0, 8.6, 0.5, 0.4)
    small = replace(CONFIG.ground, self_center_x_m=0.0, self_length_m=2.0, self_width_m=1.0)
    mapper = CostMapper(replace(CONFIG, ground=small))
    for step in range(50):
        x = min(0.3 * step, 6.8)  # the front of the robot is then 0.2 m short of the block
        points = scan([block], origin=MOUNT + (x, 0, 0)) - np.float32([x, 0, 0])
        pose = transform_from_yaw((x, 0, 0), 0.0)
        path_cost = mapper.integrate(sweep_at(points, 0.1 * step, pose))
    assert not path_cost.split.is_obstacle.any()  # nothing of it is seen any more
    left = lethal_points(path_cost.grid)
    assert len(left) > 10 and (np.abs(left - (8.0, 0.0)) < (0.8, 0.7)).all()


def test_a_crossing_pedestrian_raises_cost_along_its_way_and_fades_with_time():
    tracks = make_tracks((10.0, -4.0), (0.0, 1.5), 1)
    plain = CostMapper(CONFIG).integrate(sweep_at(scan())).grid
    grid = CostMapper(CONFIG).integrate(sweep_at(scan(), tracks=tracks)).grid
    assert not plain.data[plain.data >= 0].any()
    way = [at(grid, 10.05, y) for y in (-4.0, -3.0, -2.0, -1.2)]
    assert way[0] >= 90 and way == sorted(way, reverse=True) and way[-1] >= 5
    assert at(grid, 10.05, -7.0) == 0  # nothing behind it
    assert grid.data.max() < 99


def test_a_pedestrian_gets_more_room_than_a_vehicle_of_the_same_size():
    margins = []
    for label in (0, 1):
        tracks = make_tracks((10.0, 3.0), (0.0, 0.0), label, size=(1.0, 1.0, 1.7))
        grid = CostMapper(CONFIG).integrate(sweep_at(scan(), tracks=tracks)).grid
        margins.append(int((grid.data > 0).sum()))
    assert margins[1] > 1.5 * margins[0] > 0


def test_tracks_never_take_an_obstacle_away_and_never_make_unknown_known():
    plain = CostMapper(CONFIG).integrate(sweep_at(scan([BOX]))).grid
    tracks = make_tracks((10.5, 3.0), (2.0, 0.3), 0, size=(4.0, 1.8, 1.5))
    grid = CostMapper(CONFIG).integrate(sweep_at(scan([BOX]), tracks=tracks)).grid
    assert ((grid.data == 100) == (plain.data == 100)).all()
    assert ((grid.data == -1) == (plain.data == -1)).all()
    assert (grid.data >= plain.data).all() and (grid.data > plain.data).any()


def test_tracks_of_an_earlier_stamp_are_painted_where_they_are_now():
    tracks = make_tracks((10.0, -4.0), (0.0, 5.0), 2)
    grid = CostMapper(CONFIG).integrate(sweep_at(scan(), 0.4, tracks=tracks)).grid
    assert at(grid, 10.05, -2.05) >= 90 and at(grid, 10.05, -4.05) < 20


def test_a_clock_that_goes_back_forgets_what_was_known():
    mapper = CostMapper(CONFIG)
    drive_by(mapper, lambda t: [BOX], (5.0,))
    grid = mapper.integrate(sweep_at(np.zeros((0, 3), np.float32), 1.0)).grid
    assert not (grid.data == 100).any() and (grid.data == -1).mean() > 0.99


def test_a_jump_of_odometry_out_of_the_window_starts_from_nothing():
    mapper = CostMapper(CONFIG)
    drive_by(mapper, lambda t: [BOX], (0.0,))
    far = transform_from_yaw((1000.0, 0, 0), 0.0)
    grid = mapper.integrate(sweep_at(np.zeros((0, 3), np.float32), 0.1, far)).grid
    assert (grid.data == -1).mean() > 0.99


def test_equal_sweeps_in_any_point_order_give_equal_grids():
    one, other = CostMapper(CONFIG), CostMapper(CONFIG)
    for step in range(3):
        points = scan([(9 + step, 1, 0, 11 + step, 3, 1.5)])
        order = np.random.default_rng(step).permutation(len(points))
        first = one.integrate(sweep_at(points, 0.1 * step)).grid
        second = other.integrate(sweep_at(points[order], 0.1 * step)).grid
        assert (first.data == second.data).all()


@pytest.mark.parametrize('policy', ['lethal', 'unknown'])
def test_last_words_say_what_the_policy_says(policy):
    config = replace(CONFIG, path_cost=replace(CONFIG.path_cost, on_lidar_loss=policy))
    mapper = CostMapper(config)
    assert mapper.last_words(START_NS) is None
    pose = transform_from_yaw((20.0, 5.0, 0.0), np.pi / 2)
    mapper.integrate(sweep_at(scan([BOX]), 0.0, pose))
    grid = mapper.last_words(START_NS + 7)
    ahead, behind = at(grid, 20.0, 5.0 + 3.8 + 8.0), at(grid, 20.0, 5.0 - 6.0)
    assert grid.stamp_ns == START_NS + 7 and behind == -1
    assert at(grid, 20.0, 5.0 + 3.8 + 11.0) == -1
    assert ahead == (100 if policy == 'lethal' else -1)
    assert (at(grid, 20 - 3.05, 5 + 10.05) == 100) == (policy == 'lethal')  # the box
    assert (grid.data == -1).all() == (policy == 'unknown')


def test_cleared_means_as_new():
    mapper = CostMapper(CONFIG)
    drive_by(mapper, lambda t: [BOX], (0.0,))
    mapper.clear()
    assert mapper.last_words(START_NS) is None
    fresh = CostMapper(CONFIG).integrate(sweep_at(scan())).grid
    assert (mapper.integrate(sweep_at(scan())).grid.data == fresh.data).all()
