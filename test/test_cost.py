# SPDX-License-Identifier: Apache-2.0
"""The cost grid: free, lethal, unknown, graded, and how they change over sweeps."""

from dataclasses import replace

import cv2
from mmperception.config import Config
from mmperception.cost import CostMapper, Sweep
from mmperception.cost_paint import HIGHEST_GRADE, paint, SeenSign
from mmperception.datatypes import Tracks
from mmperception.geometry import apply, invert, rotation_about, transform_from_yaw
from mmperception.ground import model_ground
from mmperception.polar import bins_to, polar_points
from mmperception.terrain import Terrain
import numpy as np
import pytest
from synthetic_scan import MOUNT, scan

CONFIG = Config()
START_NS = 1_316_000_000_123_456_789
BOX = (10, 2, 0, 11, 4, 1.5)


def sweep_at(points, seconds=0.0, pose=None, tracks=None):
    return Sweep(
        stamp_ns=START_NS + int(seconds * 1e9),
        points_lidar=points - np.float32(MOUNT),
        base_from_lidar=transform_from_yaw(MOUNT, 0.0),
        odom_from_base=np.eye(4) if pose is None else pose,
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


def test_a_hidden_obstacle_is_remembered_the_longer_the_longer_it_stood():
    far, screen = (15, -1, 0, 16, 1, 1.5), (6, -4, 0, 6.5, 4, 2.2)
    mapper = CostMapper(CONFIG)
    drive_by(mapper, lambda t: [far], np.arange(0, 3.01, 0.1))
    soon = drive_by(mapper, lambda t: [far, screen], np.arange(3.1, 3.91, 0.2))
    late = drive_by(mapper, lambda t: [far, screen], (4.2,))
    assert at(soon, 15.05, 0.05) == 100
    assert at(late, 15.05, 0.05) == -1
    mapper = CostMapper(CONFIG)
    drive_by(mapper, lambda t: [far], (0.0,))
    assert at(drive_by(mapper, lambda t: [far, screen], (0.2,)), 15.05, 0.05) == 100
    assert at(drive_by(mapper, lambda t: [far, screen], (0.5,)), 15.05, 0.05) == -1


def test_a_car_that_passes_behind_a_screen_leaves_nothing_there_after_half_a_second():
    screen = (6, -2, 0, 6.5, 2, 2.2)

    def world(seconds):
        y = -8 + 8 * min(seconds, 1.0)  # it comes to a halt in the shadow of the screen
        return [screen, (12, y, 0, 13, y + 2, 1.5)]

    mapper = CostMapper(CONFIG)
    before = drive_by(mapper, world, np.arange(0, 0.41, 0.1))
    after = drive_by(mapper, world, np.arange(0.5, 1.01, 0.1))
    assert (lethal_points(before)[:, 0] > 11).any()
    assert not (lethal_points(after)[:, 0] > 11).any()


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


def test_a_low_cart_that_passes_leaves_nothing_below_the_rays():
    small = replace(CONFIG.ground, self_center_x_m=0.0, self_length_m=2.0, self_width_m=1.0)
    mapper = CostMapper(replace(CONFIG, ground=small))
    for step in range(23):
        x, rear = 0.5 * step, 18 - 0.9 * step
        cart = (rear - 2, 1.3, 0, rear, 1.9, 0.4)
        points = scan([cart], origin=MOUNT + (x, 0, 0)) - np.float32([x, 0, 0])
        pose = transform_from_yaw((x, 0, 0), 0.0)
        left = lethal_points(mapper.integrate(sweep_at(points, 0.1 * step, pose)).grid)
        if step >= 16:
            assert len(left) > 10 and left[:, 0].max() < rear + 0.5


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


def pit(depth_m, x0, x1, y0, y1, num_rings=64):
    """Scan a flat road with a hole or, without an end, a step down."""
    points = scan(num_rings=num_rings)
    rays = points.astype(np.float64) - MOUNT
    is_in = (points[:, 2] < 0.3) & (points[:, 0] > x0) & (points[:, 0] < x1)
    is_in &= (points[:, 1] > y0) & (points[:, 1] < y1)
    floor = (MOUNT[2] + depth_m) / -rays[:, 2]
    wall = (x1 - MOUNT[0]) / np.maximum(rays[:, 0], 1e-6)  # the far wall stops what looks ahead
    share = np.where(is_in, np.minimum(floor, np.where(rays[:, 0] > 0, wall, np.inf)), 1.0)
    return (MOUNT + rays * share[:, None]).astype(np.float32)


def test_a_hole_in_the_road_is_lethal_and_the_road_around_it_is_not():
    grid = CostMapper(CONFIG).integrate(sweep_at(pit(0.6, 7.0, 8.5, -0.8, 0.8))).grid
    found = lethal_points(grid)
    assert len(found) > 12
    assert (found > (6.9, -0.9)).all() and (found < (8.6, 0.9)).all()
    assert at(grid, 6.05, 0.05) == 0 and at(grid, 7.75, 2.05) == 0


def test_a_step_down_across_the_road_is_lethal_and_a_step_of_ten_centimetres_is_not():
    def ahead(depth_m):
        grid = CostMapper(CONFIG).integrate(sweep_at(pit(depth_m, 7.0, 60, -60, 60))).grid
        return [(grid.data[:, 300 + c] == 100).any() for c in range(63, 80)]  # x 7.1 .. 8.8

    assert any(ahead(0.8)) and not any(ahead(0.1))


def test_a_hole_is_kept_while_it_cannot_be_seen_and_goes_when_ground_is_seen_there():
    mapper = CostMapper(CONFIG)
    mapper.integrate(sweep_at(pit(0.6, 7.0, 8.5, -0.8, 0.8)))
    unseen = scan(num_rings=64)
    unseen = unseen[np.hypot(unseen[:, 0], unseen[:, 1]) > 12]
    assert len(lethal_points(mapper.integrate(sweep_at(unseen, 2.0)).grid)) > 12
    grid = mapper.integrate(sweep_at(scan(num_rings=64, num_azimuths=3600), 2.1)).grid
    assert len(lethal_points(grid)) < 5


def test_mirror_images_in_a_wet_road_are_no_hole():
    points = scan([BOX], num_rings=64)
    mirrored = points[points[:, 2] > 0.3] * np.float32([1, 1, -1])
    grid = CostMapper(CONFIG).integrate(sweep_at(np.concatenate((points, mirrored)))).grid
    found = lethal_points(grid)
    assert (found > np.array(BOX[:2]) - 0.15).all() and (found < np.array(BOX[3:5]) + 0.15).all()


def test_holes_can_be_switched_off():
    config = replace(CONFIG, ground=replace(CONFIG.ground, hole_depth_m=0.0))
    grid = CostMapper(config).integrate(sweep_at(pit(0.6, 7.0, 8.5, -0.8, 0.8))).grid
    assert not (grid.data == 100).any()


def test_a_kerb_costs_something_and_the_road_before_it_nothing():
    kerb = scan([(-60, 4, -1, 60, 60, 0.16)], num_rings=64, num_azimuths=1800)
    mapper = CostMapper(CONFIG)
    for step in range(4):
        grid = mapper.integrate(sweep_at(kerb, 0.1 * step)).grid
    along = [max(at(grid, x, 4.05 + d) for d in (-0.2, 0.0, 0.2)) for x in (4.05, 5.05, 6.05)]
    assert 10 < max(along) <= CONFIG.path_cost.terrain_cost
    assert at(grid, 5.05, 2.55) == 0 and not (grid.data == 100).any()


@pytest.mark.parametrize('slope, costs', [(0.02, False), (0.2, True)])
def test_a_steep_slope_costs_and_a_gentle_one_does_not(slope, costs):
    points = scan(slope=(0.0, slope), num_rings=64)
    mapper = CostMapper(CONFIG)
    for step in range(2):  # roughness and slope take turns
        grid = mapper.integrate(sweep_at(points, 0.1 * step)).grid
    assert (at(grid, 8.05, 0.05) > 0) == costs and not (grid.data == 100).any()


def test_ground_that_is_only_guessed_has_no_slope_that_costs():
    lidar = transform_from_yaw(MOUNT, 0.0)
    points = scan(slope=(0.0, 0.2), num_rings=64) - np.float32(MOUNT)
    polar = polar_points(points, (np.eye(4), lidar), bins_to(50), CONFIG.ground)
    seen = model_ground(polar, CONFIG.ground)
    for ground, costs in (
        (seen, True),
        (replace(seen, low=np.full_like(seen.low, np.nan)), False),
    ):
        terrain = Terrain(CONFIG)
        terrain.update(polar, ground, np.float32((0.5, 0.5)), np.array((-300, -300)))
        assert (terrain.cost() > 0).any() == costs


def test_a_robot_on_a_slope_sees_level_ground_and_the_grid_knows_better():
    points, tilted = scan(num_rings=64), np.eye(4)
    tilted[:3, :3] = rotation_about((0, 1, 0), -0.2)
    mapper = CostMapper(CONFIG)
    for step in range(2):
        grid = mapper.integrate(sweep_at(points, 0.1 * step, tilted)).grid
    assert at(grid, 8.05, 0.05) > 0


def seen_sign(name, seconds=0.0, place=(12.0, -2.0)):
    return SeenSign(name=name, place_xy=place, yaw=0.0, stamp_ns=START_NS + int(seconds * 1e9))


def integrate_signs(signs, seconds=1.0):
    return CostMapper(CONFIG).integrate(replace(sweep_at(scan(), seconds), signs=signs)).grid


def test_no_entry_closes_the_way_beyond_the_sign_and_stop_costs_less():
    closed = integrate_signs((seen_sign('no_entry'),))
    stop = integrate_signs((seen_sign('stop'),))
    give_way = integrate_signs((seen_sign('yield'),))
    assert at(closed, 13.05, 0.05) == 90 and at(stop, 13.05, 0.05) == 30
    assert at(give_way, 13.05, 0.05) == 10
    assert at(closed, 10.05, 0.05) == 0 == at(closed, 13.05, 3.05)
    assert not (closed.data >= 99).any()


def test_other_signs_and_signs_of_long_ago_or_of_later_close_nothing():
    signs = (seen_sign('priority_road'), seen_sign('no_entry', -20.0), seen_sign('no_entry', 5.0))
    assert not (integrate_signs(signs).data > 0).any()


def test_the_way_of_a_fast_car_has_no_gaps():
    tracks = make_tracks((8.0, -15.0), (0.0, 20.0), 0, size=(4.0, 1.8, 1.5))
    grid = CostMapper(CONFIG).integrate(sweep_at(scan(), tracks=tracks)).grid
    way = [at(grid, 8.05, y) for y in np.arange(-15, 24, 0.2)]
    assert min(way) > 0 and way[0] > way[100] > way[-1]


def test_what_is_less_certain_costs_less_and_is_wider():
    sure = make_tracks((10.0, -4.0), (0.0, 1.5), 1)
    unsure = replace(sure, velocity_covariance=np.eye(2)[None] * 1.0)
    grids = [CostMapper(CONFIG).integrate(sweep_at(scan(), tracks=t)).grid for t in (sure, unsure)]
    ahead = [at(grid, 10.05, -2.05) for grid in grids]
    width = [int((grid.data[279] > 0).sum()) for grid in grids]  # y = -2.3 .. -2.2
    assert ahead[0] > ahead[1] > 0 and width[1] > width[0] > 0


def test_painting_a_part_of_the_window_is_painting_all_of_it():
    rng = np.random.default_rng(4)
    corners = rng.integers(-30, 30, (40, 8, 2), np.int32)
    corners += rng.integers(-20, 180, (40, 1, 2), np.int32)  # some reach out of the window
    values = rng.integers(1, HIGHEST_GRADE + 1, 40)
    for chosen in (slice(0, 0), slice(0, 1), slice(0, 40)):
        cost, canvas = np.full((160, 160), 7, np.int8), np.zeros((160, 160), np.uint8)
        paint(cost, corners[chosen], values[chosen], 6)
        for index in np.argsort(values[chosen], kind='stable'):
            hull = cv2.convexHull(corners[chosen][index])
            cv2.fillConvexPoly(canvas, hull, int(values[chosen][index]))
        soft = cv2.boxFilter(canvas, -1, (7, 7), borderType=cv2.BORDER_CONSTANT)
        assert (cost == np.maximum(soft.view(np.int8), 7)).all()
