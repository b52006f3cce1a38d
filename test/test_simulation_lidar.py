# SPDX-License-Identifier: Apache-2.0
"""The simulated LiDAR: file order, noise, skew by motion, and what it says of each actor."""

from mmperception.geometry import points_in_boxes
from mmperception.simulation.lidar import BLOCKS, column_time, scan, SweepPath
from mmperception.simulation.materials import BRICK, CLOTH_TOP, code, SIGN_FACE
from mmperception.simulation.mesh import empty_mesh, merge
from mmperception.simulation.shapes import box
from mmperception.simulation.street import Moment
from mmperception.simulation.truth import boxes_as_seen, boxes_at_stamp
import numpy as np
import pytest
import torch


def moment_of(still=(), moving=(), velocity=(), centers=()):
    """Return a street made of meshes; each of `moving` is an actor."""
    meshes = [*still, *moving]
    owner = [-1] * sum(len(mesh) for mesh in still)
    for k, mesh in enumerate(moving):
        owner += [k] * len(mesh)
    A = len(moving)
    return Moment(
        mesh=merge(meshes) if meshes else empty_mesh(),
        owner=torch.tensor(owner, dtype=torch.int64),
        prop=torch.tensor([-1 if k >= 0 else 0 for k in owner], dtype=torch.int64),
        actors=tuple(f'actor{k}' for k in range(A)),
        velocity=np.array(velocity, np.float64).reshape(A, 3),
        centers=np.array(centers, np.float64).reshape(A, 3),
        sizes=np.ones((A, 3)),
        yaws=np.zeros(A),
    )


def path_at(speed_mps=0.0, yaw_rate=0.0):
    """Return the path of a sensor 1.73 m up that drives along +x and turns."""

    def pose(time_s):
        cos, sin = np.cos(yaw_rate * time_s), np.sin(yaw_rate * time_s)
        transform = np.eye(4)
        transform[:2, :2] = ((cos, -sin), (sin, cos))
        transform[:3, 3] = speed_mps * time_s, 0.0, 1.73
        return transform

    return SweepPath(pose)


def ground():
    """Return flat ground; large, since a sweep sees far."""
    return box((0, 0, -0.5), (150, 150, 1), code(BRICK))


@pytest.fixture(scope='module')
def sweep():
    walls = [ground(), box((12, 4, 2), (1, 9, 4), code(BRICK)), box((-9, 0, 2), (1, 30, 4), BRICK)]
    return scan(moment_of(walls), path_at(), np.random.default_rng(1))


def test_rings_come_in_file_order_each_from_straight_ahead_to_the_left(sweep):
    azimuth = np.arctan2(sweep.points[:, 1], sweep.points[:, 0]) % (2 * np.pi)
    ring = np.concatenate(([0], np.cumsum(np.diff(azimuth) < -np.pi)))
    present = np.unique(sweep.ring, return_inverse=True)[1]
    np.testing.assert_array_equal(ring, present)
    assert sweep.ring.max() == 63
    assert (np.diff(azimuth)[np.diff(ring) == 0] >= -1e-6).all()


def test_rings_lie_at_the_elevations_of_the_sensor(sweep):
    for ring in (5, 20, 40, 63):
        height, tangents = BLOCKS[ring // 32]
        x, y, z = sweep.points[sweep.ring == ring].T
        np.testing.assert_allclose((z - height) / np.hypot(x, y), tangents[ring % 32], atol=1e-5)


def test_ground_is_measured_below_the_sensor_within_its_noise(sweep):
    is_ground = (sweep.ring > 40) & (sweep.points[:, 0] > 0)
    assert np.median(sweep.points[is_ground, 2]) == pytest.approx(-1.73, abs=0.01)
    assert sweep.points[is_ground, 2].std() < 0.02


def test_wall_is_measured_at_its_near_face(sweep):
    x, y, z = sweep.points.T
    on_wall = (np.abs(y - 4) < 4) & (z > -1) & (x > 5)
    assert on_wall.sum() > 500
    assert np.median(x[on_wall]) == pytest.approx(11.5, abs=0.02)
    assert 0.005 < x[on_wall].std() < 0.06


def test_times_follow_azimuth_from_behind_over_front_to_behind(sweep):
    azimuth = np.arctan2(sweep.points[:, 1], sweep.points[:, 0])
    expected = column_time(azimuth) * 1e9
    gap = np.abs(sweep.time_ns - expected)
    assert np.minimum(gap, 1e8 - gap).max() < 0.1e9 / 2000
    assert sweep.time_ns.min() < -49e6
    assert sweep.time_ns.max() > 49e6


def test_driving_skews_what_stands_to_the_side():
    # Facing left is a quarter turn after facing forward: 25 ms, 0.25 m at 10 m/s.
    post = box((0.0, 8.0, 1.7), (0.2, 0.2, 3.4), code(BRICK))
    sweep = scan(moment_of([post]), path_at(10.0), np.random.default_rng(2))
    assert np.median(sweep.points[:, 0]) == pytest.approx(-0.25, abs=0.02)
    ahead = box((8.0, 0.0, 1.7), (0.2, 0.2, 3.4), code(BRICK))
    sweep = scan(moment_of([ahead]), path_at(10.0), np.random.default_rng(2))
    assert np.median(sweep.points[:, 0]) == pytest.approx(7.9, abs=0.02)


def test_turning_skews_what_stands_behind():
    # Almost behind, on the left: 48 ms after the stamp; 0.5 rad/s turn it by 0.024 rad.
    post = box((-10.0, 1.2, 1.7), (0.2, 0.2, 3.4), code(BRICK))
    sweep = scan(moment_of([post]), path_at(0.0, 0.5), np.random.default_rng(3))
    turned = np.arctan2(sweep.points[:, 1], sweep.points[:, 0]).mean()
    time_s = 0.1 * np.arctan2(1.2, -10.0) / (2 * np.pi)
    assert turned == pytest.approx(np.arctan2(1.2, -10.0) - 0.5 * time_s, abs=0.003)


def test_box_moved_with_the_sweep_holds_the_points_of_a_moving_actor():
    car = box((-6.0, 5.0, 0.8), (4.0, 1.8, 1.6), code(CLOTH_TOP))
    moment = moment_of([], [car], [(-9.0, 0, 0)], [(-6.0, 5.0, 0.8)])
    path = path_at(8.0, 0.2)
    sweep = scan(moment, path, np.random.default_rng(4))
    size = np.array([[4.0, 1.8, 1.6]])
    base_from_lidar = np.eye(4)
    base_from_lidar[2, 3] = 1.73
    points = sweep.points + np.float32((0, 0, 1.73))
    center, yaw = boxes_as_seen(moment, path, base_from_lidar)
    assert sweep.hits.tolist() == [len(points)]
    assert points_in_boxes(points, center, size, yaw, 0.08).mean() > 0.99
    still = boxes_at_stamp(moment, path.world_from_lidar @ np.linalg.inv(base_from_lidar))
    assert points_in_boxes(points, still[0], size, still[1], 0.08).mean() < 0.96


def test_half_hidden_actor_is_reached_by_more_rays_than_hit_it():
    target = box((15.0, 0.0, 1.0), (2.0, 4.0, 2.0), code(CLOTH_TOP))
    screen = box((7.0, 1.0, 1.0), (0.1, 2.0, 4.0), code(BRICK))
    moment = moment_of([screen], [target], [(0, 0, 0)], [(15.0, 0, 1.0)])
    sweep = scan(moment, path_at(), np.random.default_rng(5))
    assert 0.35 < sweep.hits[0] / sweep.reached[0] < 0.6


def test_sign_face_shines_and_brick_does_not():
    face = box((10.0, 0.0, 1.7), (0.1, 2.0, 2.0), code(SIGN_FACE, 3))
    brick = box((-10.0, 0.0, 1.7), (0.1, 2.0, 2.0), code(BRICK))
    sweep = scan(moment_of([face, brick]), path_at(), np.random.default_rng(6))
    is_ahead = sweep.points[:, 0] > 0
    assert np.median(sweep.intensity[is_ahead]) > 0.8
    assert np.median(sweep.intensity[~is_ahead]) < 0.5


def test_nothing_around_gives_an_empty_sweep():
    sweep = scan(moment_of(), path_at(), np.random.default_rng(7))
    assert sweep.points.shape == (0, 3)
    assert sweep.points.dtype == np.float32
    assert sweep.hits.tolist() == []
