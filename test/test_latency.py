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
import numpy as np


class Perceiver:
    """Answers at once and counts."""

    def __init__(self):
        self.seen = []

    def perceive(self, frame):
        """Return an empty perception."""
        self.seen.append(frame.stamp_ns)
        return SimpleNamespace(
            detections=Detections.empty(frame.stamp_ns, 'base_link'),
            tracks=Tracks.empty(frame.stamp_ns, 'odom'),
            timings_ms={'network': 2.0, 'track': 1.0},
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
