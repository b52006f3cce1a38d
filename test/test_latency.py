# SPDX-License-Identifier: Apache-2.0
"""The frame benchmark: every stage of every frame once, the machine beside it."""

from types import SimpleNamespace

from mmperception.datatypes import (
    CameraModel,
    CameraView,
    Detections,
    Frame,
    Image,
    PointCloud,
    Tracks,
)
from mmperception.evaluation import latency
from mmperception.geometry import project
import numpy as np
import pytest


class Perceiver:
    """Answers at once and counts; with `every`, says that it looks for signs that often."""

    def __init__(self, every=0):
        self.seen, self.every = [], every

    def perceive(self, frame):
        """Return an empty perception."""
        self.seen.append(frame.stamp_ns)
        timings_ms, image_signs = {'network': 2.0, 'track': 1.0}, {}
        if self.every:
            is_skipped = bool((len(self.seen) - 1) % self.every)
            timings_ms['signs'] = 0.5 if is_skipped else 9.0
            image_signs['camera'] = SimpleNamespace(is_predicted=is_skipped)
        return SimpleNamespace(
            detections=Detections.empty(frame.stamp_ns, 'base_link'),
            tracks=Tracks.empty(frame.stamp_ns, 'odom'),
            image_signs=image_signs,
            timings_ms=timings_ms,
        )


class Mapper:
    """Takes sweeps and keeps them."""

    def __init__(self):
        self.sweeps = []

    def integrate(self, sweep):
        """Keep a sweep."""
        self.sweeps.append(sweep)


def frame(stamp_ns, odom_from_base=None):
    """Return a frame with one point, two metres ahead of a LiDAR that sits 1.7 m up."""
    base_from_lidar = np.eye(4)
    base_from_lidar[2, 3] = 1.7
    points = np.array([[2.0, 0.0, 0.5]], np.float32)
    return Frame(
        stamp_ns=stamp_ns,
        cloud=PointCloud(stamp_ns=stamp_ns, frame_id='lidar', points=points),
        base_from_lidar=base_from_lidar,
        odom_from_base=odom_from_base,
    )


def test_every_frame_is_timed_once_after_the_warm_up_in_turn(monkeypatch):
    monkeypatch.setattr(latency, 'ENOUGH', 7)
    perceiver, mapper, done = Perceiver(), Mapper(), []
    frames = [frame(1, np.eye(4)), frame(2, np.eye(4)), frame(3, np.eye(4))]
    times = latency.measure_frames(frames, perceiver, mapper, progress=lambda: done.append(1))
    assert {stage: len(values) for stage, values in times.items()} == {
        'network': 7, 'track': 7, 'path_cost': 7, 'frame': 7,
    }  # fmt: skip
    begin = latency.WARM_UP
    assert perceiver.seen[begin:] == [1, 2, 3, 1, 2, 3, 1]
    assert len(done) == 7
    assert mapper.sweeps[0].points_base[0].tolist() == [2.0, 0.0, np.float32(2.2)]


def test_images_that_were_looked_at_for_signs_and_skipped_ones_are_told_apart(monkeypatch):
    monkeypatch.setattr(latency, 'ENOUGH', 7)
    times = latency.measure_frames([frame(1)], Perceiver(every=3), Mapper())
    # Numbers 5 to 11: 6 and 9 are looked at.
    assert times['signs_looked'].tolist() == [9.0] * 2
    assert times['signs_skipped'].tolist() == [0.5] * 5
    assert sorted(times['signs']) == [0.5] * 5 + [9.0] * 2
    whole = [*times['frame_looked'], *times['frame_skipped']]
    assert sorted(whole) == sorted(times['frame'])


def test_a_place_in_space_stays_at_its_share_of_an_image_of_another_size():
    intrinsics = np.array([[70.0, 0, 19.5], [0, 70.0, 9.5], [0, 0, 1.0]])
    model = CameraModel(width=40, height=20, intrinsics=intrinsics, frame_id='optical')
    image = Image(stamp_ns=5, frame_id='optical', pixels=np.zeros((20, 40, 3), np.uint8))
    image.pixels[:, 20:] = 200
    view = CameraView(name='camera', image=image, model=model, camera_from_base=np.eye(4))
    larger = latency.with_image_size(Frame(stamp_ns=1, cameras=(view,)), (80, 60)).cameras[0]
    assert larger.image.pixels.shape == (60, 80, 3)
    assert larger.image.pixels[30, [30, 50], 0].tolist() == [0, 200]
    point = np.array([[0.1, 0.05, 1.0]])
    before, after = (project(point, m)[0][0] + 0.5 for m in (model, larger.model))
    assert after / (80, 60) == pytest.approx(before / (40, 20))


def test_without_odometry_or_cloud_there_is_no_path_cost_to_time():
    mapper = Mapper()
    row = latency.time_frame(frame(1), Perceiver(), mapper)
    assert 'path_cost' not in row
    assert not mapper.sweeps
    model = CameraModel(width=4, height=3, intrinsics=np.eye(3), frame_id='optical')
    image = Image(stamp_ns=5, frame_id='optical', pixels=np.zeros((3, 4, 3), np.uint8))
    view = CameraView(name='camera', image=image, model=model, camera_from_base=np.eye(4))
    blind = Frame(stamp_ns=5, cameras=(view,), odom_from_base=np.eye(4))
    assert 'path_cost' not in latency.time_frame(blind, Perceiver(), mapper)


def test_a_short_time_still_gives_one_frame():
    times = latency.measure_frames([frame(1)], Perceiver(), Mapper(), seconds=0.0)
    assert len(times['frame']) == 1


def test_the_machine_is_described_with_a_matrix_product_of_the_same_run(monkeypatch):
    monkeypatch.setattr(latency, 'MATRIX', 8)
    machine = latency.describe_machine('cpu')
    assert machine['threads'] >= 1
    assert machine['matmul_8_ms'] >= 0
    assert machine['processor']
