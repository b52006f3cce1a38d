# SPDX-License-Identifier: Apache-2.0
"""Corruptions are pinned: the same numbers on a small frame, everywhere and for ever."""

from dataclasses import replace
import zlib

from mmperception.datatypes import (
    CameraModel,
    CameraView,
    Detections,
    Frame,
    Image,
    PointCloud,
)
from mmperception.evaluation.corruptions import (
    CAMERA_CORRUPTIONS,
    corrupt_frame,
    corrupt_pixels,
    corrupt_points,
    extrinsic_error,
    generator,
    LIDAR_CORRUPTIONS,
    rings_in_file_order,
)
from mmperception.evaluation.robustness import robustness_metrics
from mmperception.recording import Sample, Truth
import numpy as np
import pytest


def make_points():
    """Return 8 rings of 36 points, a ring every 10 degrees of azimuth, all 20 m away."""
    azimuth = np.tile(np.radians(np.arange(36) * 10 + 5), 8)
    ring = np.repeat(np.arange(8), 36)
    xy = 20 * np.stack((np.cos(azimuth), np.sin(azimuth)), axis=1)
    return np.column_stack((xy, -0.1 * ring, ring / 10)).astype(np.float32)


def make_frame(level=100):
    points = make_points()
    pixels = np.full((20, 40, 3), level, np.uint8)
    pixels[:, 20:] = 200
    model = CameraModel(width=40, height=20, intrinsics=np.diag((30.0, 30, 1)), frame_id='c')
    view = CameraView(name='camera', image=Image(stamp_ns=5, frame_id='c', pixels=pixels),
                      model=model, camera_from_base=np.eye(4))  # fmt: skip
    cloud = PointCloud(stamp_ns=5, frame_id='lidar', points=points[:, :3].copy(),
                       intensity=points[:, 3].copy())  # fmt: skip
    return Frame(stamp_ns=5, cloud=cloud, base_from_lidar=np.eye(4), cameras=(view,))


def corrupted(name, severity, rng_name=None):
    return corrupt_points(make_points(), name, severity, generator(rng_name or name, severity, 7))


def test_rings_are_counted_where_the_azimuth_starts_again():
    points = make_points()
    ring = rings_in_file_order(np.arctan2(points[:, 1], points[:, 0]))
    assert ring.tolist() == np.repeat(np.arange(8), 36).tolist()
    assert len(rings_in_file_order(np.zeros(0))) == 0


def test_beams_keeps_every_second_fourth_and_eighth_ring():
    for severity, rings in ((1, {0, 2, 4, 6}), (2, {0, 4}), (3, {0})):
        _, index = corrupted('beams', severity)
        assert set((index // 36).tolist()) == rings


def test_fov_keeps_the_angles_ahead():
    for severity, number in ((1, 6), (2, 4), (3, 2)):
        points, _ = corrupted('fov', severity)
        assert len(points) == 8 * number and (points[:, 0] > 0).all()


def test_ray_drop_loses_what_its_generator_says():
    draw = np.random.default_rng(zlib.crc32(b'ray_drop/1/2/7')).random(288)
    _, index = corrupted('ray_drop', 2, 'ray_drop/1')
    assert index.tolist() == np.flatnonzero(draw >= 0.6).tolist()


def test_sector_loses_one_wedge_ahead():
    points, index = corrupted('sector', 3, 'sector/0')
    lost = np.setdiff1d(np.arange(36), index[index < 36])
    lost_degrees = (lost * 10 + 5 + 180) % 360 - 180
    assert len(lost) == 4 and np.ptp(np.sort(lost_degrees)) == 30 and abs(lost_degrees).max() < 65
    assert len(points) == 8 * 32


def test_fog_moves_what_returns_towards_the_sensor_on_its_ray():
    clean = make_points()
    points, index = corrupted('fog', 3, 'fog/0')
    share = np.linalg.norm(points[:, :3], axis=1) / np.linalg.norm(clean[index, :3], axis=1)
    assert np.allclose(points[:, :3], clean[index, :3] * share[:, None], atol=1e-5)
    moved = share < 0.999
    assert (points[moved, 3] == np.float32(0.05)).all() and moved.any()
    # Of 288 points 80 percent are lost at 20 m, and 30 percent of these come back.
    assert 0.1 < moved.sum() / 288 < 0.36 and 288 - len(index) > 120


# How many points are left at severity 1 of frame 7, and the sum of their coordinates.
PINNED = {
    'beams': (144, -43.2),
    'ray_drop': (198, -33.8927),
    'fov': (48, 901.0971),
    'sector': (280, -175.3903),
    'fog': (222, -48.8163),
}


@pytest.mark.parametrize('name', LIDAR_CORRUPTIONS)
def test_points_that_are_left_are_pinned(name):
    suffix = '' if name in ('beams', 'fov') else '/0'
    points, _ = corrupted(name, 1, name + suffix)
    assert len(points) == PINNED[name][0]
    assert points[:, :3].astype(np.float64).sum() == pytest.approx(PINNED[name][1], abs=1e-2)


def test_dark_glare_and_blur_on_a_step():
    pixels = make_frame().cameras[0].image.pixels
    dark = corrupt_pixels(pixels, 'dark', 1, generator('dark/0', 1, 0))
    noise = generator('dark/0', 1, 0).normal(0, 5, pixels.shape)
    expected = np.clip(np.round(pixels * 0.3 + noise), 0, 255)
    assert np.abs(dark.astype(float) - expected).max() <= 1
    glare = corrupt_pixels(pixels, 'glare', 2, None)
    assert (glare[6, 28] == 255).all()  # the centre: 0.7 of 40, 0.3 of 20
    distance = (28 - 10) ** 2 / (2 * 8.0**2)
    assert abs(int(glare[6, 10, 0]) - (100 + np.exp(-distance) * 155)) <= 1
    blur = corrupt_pixels(pixels, 'blur', 1, None)
    # Nine pixels around column 20: four of 100 (16..19), five of 200 (20..24).
    assert abs(int(blur[3, 20, 0]) - 1400 / 9) <= 1
    assert blur[3, 0, 0] == 100 and blur[3, 39, 0] == 200


def test_extrinsic_error_turns_about_the_diagonal_and_shifts_along_it():
    error = extrinsic_error(3)
    axis = np.ones(3) / np.sqrt(3)
    assert np.allclose(error[:3, :3] @ axis, axis, atol=1e-9)
    assert np.trace(error[:3, :3]) == pytest.approx(1 + 2 * np.cos(np.radians(2)), abs=1e-9)
    assert np.allclose(error[:3, 3], 0.1 * axis, atol=1e-9)
    frame = corrupt_frame(make_frame(), 'extrinsic', 3, 0)
    assert np.allclose(frame.cameras[0].camera_from_base, error, atol=1e-9)


def test_stale_image_is_that_of_an_earlier_frame_and_the_first_has_none_before():
    frames = [make_frame(level) for level in (10, 20, 30, 40)]
    for index, level in ((0, 10), (3, 10), (2, 10)):
        stale = corrupt_frame(frames[index], 'stale', 2, index, earlier=frames)
        assert stale.cameras[0].image.pixels[0, 0, 0] == level
    one = corrupt_frame(frames[3], 'stale', 1, 3, earlier=frames)
    assert one.cameras[0].image.pixels[0, 0, 0] == 30


@pytest.mark.parametrize('name', (*LIDAR_CORRUPTIONS, *CAMERA_CORRUPTIONS))
def test_the_clean_frame_is_left_alone_and_no_sensor_touches_the_other(name):
    frame, clean = make_frame(), make_frame()
    changed = corrupt_frame(frame, name, 2, 1, 0, earlier=[frame, frame])
    assert (frame.cloud.points == clean.cloud.points).all()
    assert (frame.cameras[0].image.pixels == clean.cameras[0].image.pixels).all()
    if name in LIDAR_CORRUPTIONS:
        assert changed.cameras is frame.cameras and len(changed.cloud.points) < 288
    else:
        assert changed.cloud is frame.cloud


def test_a_frame_without_its_sensor_passes_unchanged():
    frame = replace(make_frame(), cameras=())
    assert corrupt_frame(frame, 'dark', 1, 0, 0).cameras == ()


class Oracle:
    """Finds each vehicle that has points; without LiDAR too far away by `blind_shift_m`."""

    def __init__(self, samples, blind_shift_m=0.0):
        self.truth, self.blind_shift_m = samples[0].truth, blind_shift_m

    def detect(self, frame):
        if frame.cloud is None:
            moved = self.truth.center + np.array([self.blind_shift_m, 0, 0], np.float32)
            return self._found(moved, 1)
        near = np.abs(frame.cloud.points[:, 1] - self.truth.center[0, 1]) < 2
        N = int((near & (frame.cloud.points[:, 0] > 0)).sum() > 60)
        return self._found(self.truth.center, N)

    def _found(self, center, N):
        return Detections(
            stamp_ns=0, frame_id='base_link', center=center[:N],
            size=self.truth.size[:N], yaw=self.truth.yaw[:N],
            score=np.ones(N, np.float32), label=np.zeros(N, np.int64),
            track_id=np.full(N, -1), covariance=np.zeros((N, 6, 6)),
        )  # fmt: skip


def make_samples():
    rng = np.random.default_rng(0)
    points = rng.uniform((8, -1, 0), (12, 1, 1.5), (400, 3)).astype(np.float32)
    frame = replace(make_frame(), cameras=())
    frame = replace(
        frame, cloud=replace(frame.cloud, points=points, intensity=np.zeros(400, np.float32))
    )
    truth = Truth(
        stamp_ns=5, center=np.array([[10, 0, 0.75]], np.float32),
        size=np.array([[4.2, 2.1, 1.6]], np.float32), yaw=np.zeros(1, np.float32),
        kinds=('car',), occlusion=np.zeros(1, np.int64), object_id=('1',),
        is_ignored=np.zeros(1, bool),
    )  # fmt: skip
    return [Sample(frame=frame, truth=truth, source='s')] * 2


def test_suite_gives_shares_of_the_clean_score():
    samples = make_samples()
    metrics = robustness_metrics(samples, Oracle(samples))
    assert metrics['clean'].value == 100.0
    assert metrics['ray_drop_1'].value == 1.0
    assert metrics['ray_drop_3'].value < 0.5  # 40 of 400 points are left: too few
    assert metrics['dark_3'].value == 1.0 and metrics['camera_mean'].value == 1.0
    assert 0 < metrics['lidar_mean'].value < 1 and metrics['overall_mean'].count == 30


def test_without_lidar_the_camera_is_judged_by_image_boxes_and_by_places():
    samples = make_samples()
    view = make_frame().cameras[0]
    # A camera at the origin that looks along x, sharp enough for the car to count.
    sharp = np.array([[300.0, 0, 200], [0, 300, 100], [0, 0, 1]])
    model = CameraModel(width=400, height=200, frame_id='c', intrinsics=sharp)
    looks = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    image = replace(view.image, pixels=np.zeros((200, 400, 3), np.uint8))
    view = replace(view, model=model, camera_from_base=looks, image=image)
    samples = [replace(s, frame=replace(s.frame, cameras=(view,))) for s in samples]
    metrics = robustness_metrics(samples, Oracle(samples, blind_shift_m=1.5))
    assert metrics['lidar_gone_ap40_2m'].value == 100.0
    assert metrics['lidar_gone_ap40_2d_0.5'].value == 100.0
    metrics = robustness_metrics(samples, Oracle(samples, blind_shift_m=2.5))
    assert metrics['lidar_gone_ap40_2m'].value == 0.0
