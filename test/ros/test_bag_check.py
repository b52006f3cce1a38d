# SPDX-License-Identifier: Apache-2.0
"""`check` says what is in a bag, what is missing and what does not line up."""

from types import SimpleNamespace

import cv2
from mmperception.cli import check
from mmperception.config import Config, from_mapping
from mmperception.ros import bag
from mmperception.ros.bag_check import BagCheck
from mmperception.ros.recording import write_recording
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo
import synthetic

CONFIG = from_mapping({'lidar': {'stamp': 'middle'}})


@pytest.fixture(scope='module')
def drive(tmp_path_factory):
    path = tmp_path_factory.mktemp('bags') / 'drive'
    write_recording(path, synthetic.recording(num_sweeps=15))
    return path


def edited(drive, path, change):
    """Copy a bag; `change` takes and gives (topic, type, data, log_ns), or None to leave out."""
    with bag.BagWriter(path) as writer:
        for message in bag.read_messages(drive):
            kept = change(*message)
            if kept is not None:
                writer.write(*kept)
    return path


def without(*topics):
    return lambda topic, *rest: None if topic in topics else (topic, *rest)


def sentences(result, level):
    return ' | '.join(sentence for have, sentence in result.findings if have == level)


def test_a_good_bag_has_no_errors_and_no_warnings(drive):
    result = BagCheck(drive, CONFIG)
    assert not result.has_errors and not sentences(result, 'warning')
    assert 'camera camera is +10.0 ms from the sweep' in sentences(result, 'note')
    assert 'camera camera: 64x32, focal 50 px' in sentences(result, 'note')
    assert result.streams['/lidar/points'].rate_hz() == pytest.approx(10)
    assert result.streams['/lidar/points'].delay_ms() == pytest.approx(50)


def test_a_bag_without_transforms_cannot_be_used(drive, tmp_path):
    path = edited(drive, tmp_path / 'x', without('/tf', '/tf_static'))
    assert 'neither /tf nor /tf_static' in sentences(BagCheck(path, CONFIG), 'error')


def test_a_lidar_outside_of_the_tree_is_an_error_that_names_its_frame(drive, tmp_path):
    path = edited(drive, tmp_path / 'x', without('/tf_static'))
    assert 'from lidar to base_link' in sentences(BagCheck(path, CONFIG), 'error')


def test_without_odometry_there_is_a_warning(drive, tmp_path):
    path = edited(drive, tmp_path / 'x', without('/tf'))
    result = BagCheck(path, CONFIG)
    assert not result.has_errors
    assert 'without it there is no path_cost' in sentences(result, 'warning')


def test_a_missing_calibration_masks_the_camera_only(drive, tmp_path):
    path = edited(drive, tmp_path / 'x', without('/camera/camera_info'))
    result = BagCheck(path, CONFIG)
    assert not result.has_errors
    assert 'camera camera will be masked: no calibration' in sentences(result, 'warning')


def test_a_calibration_of_another_size_is_found(drive, tmp_path):
    def change(topic, type_name, data, log_ns):
        if topic == '/camera/camera_info':
            info = deserialize_message(data, CameraInfo)
            info.width = 128
            data = serialize_message(info)
        return topic, type_name, data, log_ns

    result = BagCheck(edited(drive, tmp_path / 'x', change), CONFIG)
    assert '64x32 but camera_info says 128x32' in sentences(result, 'warning')


def test_a_camera_of_another_name_is_found_and_the_setting_named(drive):
    result = BagCheck(drive, from_mapping({'camera_names': ['front']}))
    warning = sentences(result, 'warning')
    assert 'no images on /front/image_raw; there is /camera/image_raw' in warning
    assert 'set camera_names: [camera]' in warning


def test_a_lidar_of_another_name_is_found(drive, tmp_path):
    def change(topic, *rest):
        return ('/velodyne_points' if topic == '/lidar/points' else topic, *rest)

    result = BagCheck(edited(drive, tmp_path / 'x', change), CONFIG)
    assert 'no sweeps on /lidar/points; there is /velodyne_points' in sentences(result, 'warning')


def test_a_gap_between_sweeps_is_counted(drive, tmp_path):
    logs = iter(range(100))

    def change(topic, *rest):
        if topic != '/lidar/points':
            return topic, *rest
        return None if next(logs) in (6, 7, 8) else (topic, *rest)

    result = BagCheck(edited(drive, tmp_path / 'x', change), CONFIG)
    assert '/lidar/points: 1 of 12 messages after a gap' in sentences(result, 'warning')


def test_a_camera_that_is_far_from_the_sweeps_is_found(drive):
    config = from_mapping({'cameras': {'camera': {'tolerance_ms': 5.0}}})
    assert 'cameras.camera.offset_ms' in sentences(BagCheck(drive, config), 'warning')


def test_an_empty_bag_cannot_be_used(tmp_path):
    with bag.BagWriter(tmp_path / 'x'):
        pass
    result = BagCheck(tmp_path / 'x', Config())
    assert result.has_errors and 'no sweeps' in sentences(result, 'error')


def arguments(path, out):
    return SimpleNamespace(bag=path, out=out, params=None)


def test_the_command_draws_the_points_on_the_image(drive, tmp_path, capsys):
    assert check.run(arguments(drive, tmp_path)) == 0
    text = capsys.readouterr().out
    assert '/lidar/points' in text and text.endswith('usable\n')
    assert cv2.imread(str(tmp_path / 'check.png')).shape[2] == 3


def test_the_command_fails_for_a_bag_without_transforms(drive, tmp_path, capsys):
    path = edited(drive, tmp_path / 'x', without('/tf', '/tf_static'))
    assert check.run(arguments(path, tmp_path / 'out')) == 1
    assert 'error:   neither /tf nor /tf_static' in capsys.readouterr().out
    assert not (tmp_path / 'out').exists()
