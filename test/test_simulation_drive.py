# SPDX-License-Identifier: Apache-2.0
"""Simulated scenes and drives: labels that fit, streams in order, the same for a seed."""

from itertools import islice

from mmperception.datatypes import GpsFix, Image, ImuSample, PointCloud, Pose
from mmperception.geometry import apply, invert, points_in_boxes, project
from mmperception.recording import Truth
from mmperception.simulation.drive import _SWEEP, simulate_samples, SimulatedDrive
from mmperception.simulation.mounting import CAMERA, make_mounting
import numpy as np
import pytest

KINDS = {'car', 'van', 'truck', 'pedestrian', 'cyclist'}


@pytest.fixture(scope='module')
def samples():
    return list(simulate_samples(11, num=4))


def test_scenes_are_about_as_dense_as_a_real_sweep(samples):
    counts = [len(sample.frame.cloud.points) for sample in samples]
    assert min(counts) > 60_000
    assert max(counts) < 128_000


def test_truth_boxes_hold_points(samples):
    empty = total = 0
    for sample in samples:
        truth = sample.truth
        assert set(truth.kinds) <= KINDS
        points = apply(sample.frame.base_from_lidar, sample.frame.cloud.points)
        inside = points_in_boxes(points, truth.center, truth.size, truth.yaw, 0.1).sum(1)
        empty, total = empty + (inside == 0).sum(), total + len(truth)
    assert total > 40
    # A single point at a rim may lie outside by noise.
    assert empty <= 0.05 * total


def test_boxes_begin_just_above_the_ground(samples):
    gaps = []
    for sample in samples:
        truth = sample.truth
        points = apply(sample.frame.base_from_lidar, sample.frame.cloud.points)
        for center, size in zip(truth.center, truth.size, strict=True):
            near = np.linalg.norm(points[:, :2] - center[:2], axis=1) < 3.0
            if np.linalg.norm(center[:2]) < 20 and near.sum() > 100:
                floor = np.quantile(points[near, 2], 0.05)
                gaps.append(center[2] - size[2] / 2 - floor)
    assert len(gaps) > 10
    assert 0.0 < np.median(gaps) < 0.12


def test_same_seed_gives_the_same_scene_and_another_seed_another(samples):
    again, other = next(simulate_samples(11)), next(simulate_samples(12))
    np.testing.assert_array_equal(again.frame.cloud.points, samples[0].frame.cloud.points)
    np.testing.assert_array_equal(again.truth.center, samples[0].truth.center)
    assert again.truth.object_id == samples[0].truth.object_id
    assert other.frame.cloud.points.shape != again.frame.cloud.points.shape


def test_no_samples_when_none_are_asked_for():
    assert list(simulate_samples(1, num=0)) == []


def test_sensors_sit_where_the_recordings_have_them():
    mounting = make_mounting()
    assert mounting.base_from_lidar[2, 3] == pytest.approx(1.73)
    assert mounting.base_from_camera[CAMERA][2, 3] == pytest.approx(1.65)
    # A point 20 m ahead of the camera and 2 m to its left lands left of the middle.
    camera_from_base = invert(mounting.base_from_camera[CAMERA])
    point = np.array([[21.08, 1.75, 1.65]])
    pixels, depth = project(apply(camera_from_base, point), mounting.camera_models[CAMERA])
    assert depth[0] == pytest.approx(20.0)
    np.testing.assert_allclose(pixels[0], (609.56 - 721.54 * 0.1, 172.85), atol=0.01)


@pytest.fixture(scope='module')
def drive():
    return SimulatedDrive(seconds=0.4, seed=1)


@pytest.fixture(scope='module')
def events(drive):
    grey = np.full((375, 1242, 3), 90, np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmperception.simulation.drive._picture', lambda *args: grey)
        return list(drive.recording().events)


def of_type(events, kind):
    return [event for event in events if isinstance(event.value, kind)]


def test_events_come_in_the_order_of_their_log_time(events):
    times = [event.log_ns for event in events]
    assert times == sorted(times)
    assert {type(event.value) for event in events} == {
        GpsFix, Image, ImuSample, PointCloud, Pose, Truth
    }  # fmt: skip


def test_every_sweep_has_truth_and_an_image_ten_milliseconds_later(events, drive):
    sweeps, truths = of_type(events, PointCloud), of_type(events, Truth)
    images = of_type(events, Image)
    assert len(sweeps) == len(truths) == len(images) == drive.num_sweeps == 4
    for sweep, truth, image in zip(sweeps, truths, images, strict=True):
        assert truth.value.stamp_ns == sweep.value.stamp_ns
        assert image.value.stamp_ns - sweep.value.stamp_ns == 10_000_000
        assert image.camera == CAMERA
        # Logged when it was complete: half a turn after it faced forward.
        assert sweep.log_ns == sweep.value.stamp_ns + 50_000_000
        assert np.abs(sweep.value.time_ns).max() <= 50_000_000


def test_poses_cover_every_measured_point(events):
    sweeps, poses = of_type(events, PointCloud), of_type(events, Pose)
    first, last = sweeps[0].value, sweeps[-1].value
    assert poses[0].value.stamp_ns <= first.stamp_ns + first.time_ns.min()
    assert poses[-1].value.stamp_ns >= last.stamp_ns + last.time_ns.max()


def test_car_moves_forward_at_eight_to_twelve_metres_a_second(events):
    poses = [event.value for event in of_type(events, Pose)]
    seconds = (poses[-1].stamp_ns - poses[0].stamp_ns) / 1e9
    step = (invert(poses[0].odom_from_base) @ poses[-1].odom_from_base)[:3, 3]
    assert 7.5 < step[0] / seconds < 13
    assert abs(step[1]) < 0.5


def test_imu_feels_gravity_and_gps_knows_its_error(events):
    imu = [event.value for event in of_type(events, ImuSample)]
    mean = np.mean([sample.linear_acceleration for sample in imu], axis=0)
    assert np.linalg.norm(mean) == pytest.approx(9.81, abs=0.5)
    assert mean[2] > 9
    fix = of_type(events, GpsFix)[0].value
    assert fix.latitude_deg == pytest.approx(49.0112, abs=0.01)
    assert 0.1 < np.sqrt(fix.covariance[0, 0]) < 2


def test_objects_keep_their_names_and_move_little_between_sweeps(events):
    truths = [event.value for event in of_type(events, Truth)]
    shared = 0
    for before, after in zip(truths, truths[1:], strict=False):
        places = dict(zip(after.object_id, after.center, strict=True))
        for name, center in zip(before.object_id, before.center, strict=True):
            if name in places:
                shared += 1
                assert np.linalg.norm(places[name][:2] - center[:2]) < 3.0
    assert shared > 20


def test_truth_of_a_drive_holds_the_deskewed_points(events):
    poses = [event.value for event in of_type(events, Pose)]
    stamps = np.array([pose.stamp_ns for pose in poses])
    lidar = make_mounting().base_from_lidar
    cloud, truth = of_type(events, PointCloud)[1].value, of_type(events, Truth)[1].value
    stamp_pose = poses[np.argmin(np.abs(stamps - cloud.stamp_ns))].odom_from_base
    nearest = np.abs((cloud.stamp_ns + cloud.time_ns)[:, None] - stamps).argmin(1)
    points = np.empty_like(cloud.points)
    for k in np.unique(nearest):
        moved = invert(stamp_pose) @ poses[k].odom_from_base @ lidar
        points[nearest == k] = apply(moved, cloud.points[nearest == k])
    parked = np.array([name.startswith(('car', 'van')) for name in truth.object_id])
    inside = points_in_boxes(
        points, truth.center[parked], truth.size[parked], truth.yaw[parked], 0.15
    ).sum(1)
    assert (inside > 0).mean() > 0.9


def test_same_seed_gives_the_same_drive(drive, events):
    first = of_type(events, PointCloud)[2].value
    cloud, _ = SimulatedDrive(seconds=0.4, seed=1)._sweep(2)
    np.testing.assert_array_equal(cloud.points, first.points)


def test_picture_of_a_drive_shows_a_street():
    (sample,) = islice(SimulatedDrive(seconds=0.1, seed=1).samples(), 1)
    (view,) = sample.frame.cameras
    assert view.image.pixels.shape == (375, 1242, 3)
    assert view.image.pixels.std() > 20
    assert view.is_compensated


def test_a_drive_made_by_several_processes_is_the_one_made_by_one():
    made_by = SimulatedDrive(1.5, 7)
    jobs = [(_SWEEP, 9), (_SWEEP, 3)]
    for (cloud, truth), job in zip(made_by._made(jobs), jobs, strict=True):
        alone, labels = SimulatedDrive(1.5, 7).make(*job)
        np.testing.assert_array_equal(cloud.points, alone.points)
        np.testing.assert_array_equal(truth.center, labels.center)
