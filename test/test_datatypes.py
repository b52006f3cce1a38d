# SPDX-License-Identifier: Apache-2.0
"""The nouns refuse what is not theirs, and say what they wanted."""

from dataclasses import FrozenInstanceError, replace

from mmperception.datatypes import (
    CameraModel,
    CameraView,
    CostGrid,
    Detections,
    Frame,
    GpsFix,
    GroundSplit,
    Image,
    PointCloud,
    Pose,
    Tracks,
)
from mmperception.recording import Truth
import numpy as np
import pytest


def cloud(num=3, **more):
    points = np.arange(3 * num, dtype=np.float32).reshape(num, 3)
    return PointCloud(stamp_ns=1, frame_id='lidar', points=points, **more)


def model(**more):
    intrinsics = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
    values = {'width': 640, 'height': 480, 'intrinsics': intrinsics, 'frame_id': 'optical', **more}
    return CameraModel(**values)


def image(height=480, width=640):
    return Image(stamp_ns=1, frame_id='optical', pixels=np.zeros((height, width, 3), np.uint8))


def three_detections():
    return replace(
        Detections.empty(5, 'base_link'),
        center=np.array([[1, 0, 0], [2, 0, 0], [3, 0, 0]], np.float32),
        size=np.ones((3, 3), np.float32),
        yaw=np.array([0.1, 0.2, 0.3], np.float32),
        score=np.array([0.9, 0.5, 0.4], np.float32),
        label=np.array([0, 2, 1]),
        covariance=np.zeros((3, 6, 6)),
        track_id=np.array([7, -1, 9]),
    )


@pytest.mark.parametrize(
    ('make', 'sentence'),
    [
        (
            lambda: replace(cloud(), points=np.zeros((2, 4), np.float32)),
            r"\('N', 3\) float32, got",
        ),
        (lambda: replace(cloud(), points=np.zeros((2, 3))), r'got \(2, 3\) float64'),
        (lambda: replace(cloud(), points=[[1, 2, 3]]), 'points: expected'),
        (lambda: cloud(intensity=np.zeros(2, np.float32)), r'intensity: expected \(3,\) float32'),
        (lambda: cloud(ring=np.zeros(3, np.int64)), 'ring: expected'),
        (lambda: cloud(time_ns=np.zeros(3)), 'time_ns: expected'),
        (lambda: replace(image(), pixels=np.zeros((4, 5), np.uint8)), 'pixels: expected'),
        (lambda: model(width=0), 'image size must be positive, got 0x480'),
        (lambda: model(intrinsics=np.zeros((3, 3))), 'uncalibrated'),
        (lambda: model(intrinsics=np.full((3, 3), np.nan)), 'intrinsics'),
        (lambda: model(distortion_model='fov'), "'fov' is none of"),
        (lambda: Pose(stamp_ns=1, odom_from_base=np.zeros((4, 4))), 'odom_from_base: not a'),
        (lambda: Pose(stamp_ns=1, odom_from_base=np.full((4, 4), np.nan)), 'odom_from_base: not'),
        (lambda: Pose(stamp_ns=1, odom_from_base=np.eye(3)), r'odom_from_base: expected \(4, 4\)'),
        (lambda: Frame(stamp_ns=1), 'a cloud or at least one camera'),
        (lambda: Frame(stamp_ns=1, cloud=cloud()), 'give both or neither'),
        (lambda: replace(three_detections(), yaw=np.zeros(2, np.float32)), 'yaw: expected'),
        (lambda: replace(three_detections(), label=np.zeros(3, np.int32)), 'label: expected'),
        (
            lambda: GroundSplit(
                height_m=np.zeros(3, np.float32),
                is_ground=np.zeros(2, bool),
                is_obstacle=np.zeros(3, bool),
            ),
            'is_ground: expected',
        ),
        (
            lambda: CostGrid(
                stamp_ns=1,
                frame_id='odom',
                resolution_m=0.1,
                origin_xy_m=(0.0, 0.0),
                data=np.zeros((2, 2), np.uint8),
            ),
            'data: expected',
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_an_image_of_another_size_than_its_camera_info_names_both_sizes():
    with pytest.raises(ValueError, match='camera front: the image is 320x240 .* 640x480'):
        CameraView(name='front', image=image(240, 320), model=model(), camera_from_base=np.eye(4))


def fix(latitude=49.0, longitude=8.4, **more):
    values = {'altitude_m': float('nan'), 'status': 0, **more}
    return GpsFix(
        stamp_ns=1, frame_id='gps', latitude_deg=latitude, longitude_deg=longitude, **values
    )


def test_a_fix_may_lack_altitude_and_covariance_but_not_its_place():
    assert fix().has_fix and fix().covariance is None
    assert not fix(status=-1).has_fix
    for latitude, longitude in ((91.0, 8.0), (49.0, 181.0), (float('nan'), 8.0)):
        with pytest.raises(ValueError, match='not on Earth'):
            fix(latitude, longitude)
    with pytest.raises(ValueError, match='covariance: expected'):
        fix(covariance=np.zeros(9))


def test_values_cannot_be_changed_after_they_are_made():
    with pytest.raises(FrozenInstanceError):
        cloud().stamp_ns = 2


def test_stamps_of_nineteen_digits_stay_exact():
    stamp_ns = 1_317_384_506_400_000_123
    assert replace(cloud(), stamp_ns=stamp_ns).stamp_ns == 1_317_384_506_400_000_123


def test_an_empty_world_is_a_valid_one():
    assert len(cloud(0).points) == 0
    assert len(Detections.empty(5, 'base_link')) == 0
    assert len(Tracks.empty(5, 'odom')) == 0
    assert Detections.empty(5, 'base_link').select(np.zeros(0, bool)).frame_id == 'base_link'


def test_selected_detections_keep_their_order_and_all_their_columns():
    chosen = three_detections().select(np.array([2, 0]))
    assert chosen.center[:, 0].tolist() == [3, 1]
    assert chosen.track_id.tolist() == [9, 7]
    assert chosen.label.tolist() == [1, 0]
    assert (chosen.stamp_ns, chosen.frame_id) == (5, 'base_link')
    assert len(three_detections().select(np.array([True, False, False]))) == 1


def test_truth_needs_a_kind_and_an_object_for_every_box():
    boxes = three_detections()
    values = {
        'stamp_ns': 5,
        'center': boxes.center,
        'size': boxes.size,
        'yaw': boxes.yaw,
        'occlusion': np.zeros(3, np.int64),
        'is_ignored': np.zeros(3, bool),
    }
    assert len(Truth(kinds=('car',) * 3, object_id=('a', 'b', 'c'), **values)) == 3
    with pytest.raises(ValueError, match='expected 3 entries each'):
        Truth(kinds=('car',) * 2, object_id=('a', 'b', 'c'), **values)
