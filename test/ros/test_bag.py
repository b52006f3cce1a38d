# SPDX-License-Identifier: Apache-2.0
"""Bags come back bit by bit, appear as a whole or not at all, and say where they break off."""

from importlib import import_module
from itertools import chain
import os
import re
import shutil

from mmperception.config import from_mapping
from mmperception.config_sections import LidarConfig
from mmperception.ros import bag, bag_storage, messages
from mmperception.ros.mcap_scan import is_whole, last_readable_ns
from mmperception.ros.recording import write_recording
import numpy as np
import pytest
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, Image, Imu, NavSatFix, PointCloud2
from std_msgs.msg import String
import synthetic
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray, Detection3DArray
import yaml

CLASSES = (
    CameraInfo, Detection2DArray, Detection3DArray, Image, Imu, NavSatFix, PointCloud2, TFMessage,
)  # fmt: skip
OUTPUT_TYPES = (
    'autoware_perception_msgs/msg/TrackedObjects',
    'diagnostic_msgs/msg/DiagnosticArray',
    'nav2_msgs/msg/CostmapFilterInfo',
    'nav2_msgs/msg/SpeedLimit',
    'nav_msgs/msg/OccupancyGrid',
    'vision_msgs/msg/LabelInfo',
    'visualization_msgs/msg/MarkerArray',
)


@pytest.fixture(scope='module')
def drive(tmp_path_factory):
    """Return the bag of a small drive with point times."""
    path = tmp_path_factory.mktemp('bags') / 'drive'
    write_recording(path, synthetic.recording(has_times=True))
    return path


def messages_of(path, topic):
    classes = {bag.type_name_of(kind): kind for kind in CLASSES}
    return [
        (deserialize_message(data, classes[type_name]), log_ns)
        for _, type_name, data, log_ns in bag.read_messages(path, {topic})
    ]


def events_of(kind):
    events = synthetic.recording(has_times=True).events
    return [event for event in events if type(event.value).__name__ == kind]


def test_the_topics_of_a_drive_are_those_of_a_robot(drive):
    contents = bag.contents_of(drive)
    assert contents.topics == {
        '/camera/camera_info': 'sensor_msgs/msg/CameraInfo',
        '/camera/image_raw': 'sensor_msgs/msg/Image',
        '/gps/fix': 'sensor_msgs/msg/NavSatFix',
        '/imu/data': 'sensor_msgs/msg/Imu',
        '/lidar/points': 'sensor_msgs/msg/PointCloud2',
        '/tf': 'tf2_msgs/msg/TFMessage',
        '/tf_static': 'tf2_msgs/msg/TFMessage',
        '/truth/detections': 'vision_msgs/msg/Detection3DArray',
        '/truth/ignore_2d': 'vision_msgs/msg/Detection2DArray',
    }
    assert contents.counts['/lidar/points'] == contents.counts['/camera/camera_info'] == 4
    assert contents.num_messages == sum(contents.counts.values())
    assert contents.begin_ns == synthetic.START_NS - synthetic.PERIOD_NS
    assert contents.duration_s == pytest.approx(0.5)
    assert contents.latched == {'/tf_static'} and contents.has_odom


def test_sweeps_come_back_bit_by_bit(drive):
    for event, (msg, log_ns) in zip(
        events_of('PointCloud'), messages_of(drive, '/lidar/points'), strict=True
    ):
        cloud = messages.cloud_from_msg(msg, LidarConfig(stamp='middle'))
        assert (cloud.stamp_ns, log_ns) == (event.value.stamp_ns, event.log_ns)
        for name in ('points', 'intensity', 'ring', 'time_ns'):
            np.testing.assert_array_equal(getattr(cloud, name), getattr(event.value, name))


def test_images_come_back_bit_by_bit_with_their_calibration(drive):
    infos = messages_of(drive, '/camera/camera_info')
    for event, (msg, _), (info, _) in zip(
        events_of('Image'), messages_of(drive, '/camera/image_raw'), infos, strict=True
    ):
        np.testing.assert_array_equal(messages.image_from_msg(msg).pixels, event.value.pixels)
        assert msg.encoding == 'rgb8' and msg.header == info.header
        model = messages.camera_model_from_msg(info, rectified=True)
        np.testing.assert_array_equal(model.intrinsics, synthetic.camera_model().intrinsics)


def test_motion_and_mounting_are_transforms(drive):
    poses = messages_of(drive, '/tf')
    assert len(poses) == len(events_of('Pose'))
    (message,) = poses[7][0].transforms
    parent, child, stamp_ns, pose = messages.transform_from_msg(message)
    assert (parent, child) == ('odom', 'base_link')
    np.testing.assert_allclose(pose, synthetic.odom_from_base(stamp_ns), atol=1e-12)
    ((static, _),) = messages_of(drive, '/tf_static')
    mounted = map(messages.transform_from_msg, static.transforms)
    places = {child: at for _, child, _, at in mounted}
    assert set(places) == {'lidar', 'imu_link', 'gps_link', 'camera_optical'}
    mounting = synthetic.mounting()
    np.testing.assert_allclose(places['lidar'], mounting.base_from_lidar, atol=1e-12)
    np.testing.assert_allclose(
        places['camera_optical'], mounting.base_from_camera['camera'], atol=1e-12
    )


def test_satellite_fixes_and_inertial_samples_come_back(drive):
    fix = messages.fix_from_msg(messages_of(drive, '/gps/fix')[2][0])
    assert fix.latitude_deg == 49.015 and fix.covariance[2, 2] == 0.25
    assert messages.imu_from_msg(messages_of(drive, '/imu/data')[0][0]).orientation is None


def test_truth_lies_at_the_stamps_of_sweep_and_image(drive):
    (truth, _), *_ = messages_of(drive, '/truth/detections')
    (ignored, _), *_ = messages_of(drive, '/truth/ignore_2d')
    assert messages.ns_from_time(truth.header.stamp) == synthetic.START_NS
    assert messages.ns_from_time(ignored.header.stamp) == synthetic.START_NS + 10_000_000
    assert ignored.header.frame_id == 'camera_optical'


def test_messages_come_in_the_order_in_which_they_were_logged(drive):
    stamps = [log_ns for *_, log_ns in bag.read_messages(drive)]
    assert stamps == sorted(stamps) and len(stamps) == bag.contents_of(drive).num_messages


def test_only_the_asked_topics_are_read(drive):
    topics = {topic for topic, *_ in bag.read_messages(drive, {'/gps/fix', '/nothing'})}
    assert topics == {'/gps/fix'}
    assert not list(bag.read_messages(drive, {'/nothing'}))


@pytest.mark.skipif(bag_storage.rosbags is None, reason='rosbag2_py writes its own version')
def test_the_metadata_is_of_a_version_that_humble_reads(drive):
    (info,) = yaml.safe_load((drive / 'metadata.yaml').read_text()).values()
    assert (info['version'], info['storage_identifier']) == (8, 'mcap')
    qos = {
        entry['topic_metadata']['name']: yaml.safe_load(
            entry['topic_metadata']['offered_qos_profiles']
        )[0]
        for entry in info['topics_with_message_count']
    }
    assert qos['/tf_static']['durability'] == 1  # transient local
    assert qos['/lidar/points']['durability'] == 2
    assert all(profile['reliability'] == 1 for profile in qos.values())


def test_a_bag_brings_its_settings_along(drive):
    config = from_mapping(bag.settings_of(drive))
    assert config.lidar.stamp == 'middle' and config.camera('camera').rectified
    assert bag.settings_of(drive.parent) == {}


def test_wrong_settings_in_a_bag_are_an_error_that_names_their_file(drive, tmp_path):
    path = shutil.copytree(drive, tmp_path / 'bag')
    (path / 'perception.yaml').write_text('lidar: {stmp: middle}\n')
    with pytest.raises(ValueError, match=r'bag/perception\.yaml: .*lidar\.stmp.*lidar\.stamp'):
        bag.settings_of(path)


def test_a_bag_file_alone_can_be_read(drive):
    (file,) = drive.glob('*.mcap')
    assert bag.contents_of(file).counts == bag.contents_of(drive).counts
    assert bag.settings_of(file) == bag.settings_of(drive)


def test_a_bag_whose_recorder_died_before_the_metadata_can_be_read(drive, tmp_path):
    (file,) = drive.glob('*.mcap')
    (tmp_path / 'bag').mkdir()
    (tmp_path / 'bag' / 'x.mcap').write_bytes(file.read_bytes())
    assert bag.contents_of(tmp_path / 'bag').counts == bag.contents_of(drive).counts


def test_every_type_that_the_nodes_publish_can_be_recorded(tmp_path):
    with bag.BagWriter(tmp_path / 'out') as writer:
        for number, type_name in enumerate(OUTPUT_TYPES):
            package, _, name = type_name.partition('/msg/')
            kind = getattr(import_module(f'{package}.msg'), name)
            writer.write_message(f'/topic_{number}', kind(), number)
    found = {f'/topic_{number}': type_name for number, type_name in enumerate(OUTPUT_TYPES)}
    assert bag.contents_of(tmp_path / 'out').topics == found


def test_a_latched_topic_of_the_nodes_is_recorded_as_such(tmp_path):
    with bag.BagWriter(tmp_path / 'out') as writer:
        writer.write_message('/robot/path_cost', String(data='x'), 1)
        writer.write_message('/robot/tracks', String(data='x'), 1)
    assert bag.contents_of(tmp_path / 'out').latched == {'/robot/path_cost'}


def test_a_broken_transform_does_not_hide_what_is_in_a_bag(tmp_path):
    msg = messages.msg_from_transforms([('odom', 'base_link', 1, np.eye(4))])
    msg.transforms[0].transform.rotation.w = 0.0
    with bag.BagWriter(tmp_path / 'out') as writer:
        writer.write_message('/tf', msg, 1)
    assert bag.contents_of(tmp_path / 'out').has_odom


def test_a_type_that_is_not_installed_cannot_be_recorded(tmp_path):
    with pytest.raises(LookupError, match='no_such_msgs'), bag.BagWriter(tmp_path / 'x') as writer:
        writer.write('/topic', 'no_such_msgs/msg/Thing', b'\0\1\0\0', 1)
    assert not list(tmp_path.iterdir())


def test_a_bag_that_fails_halfway_leaves_nothing_behind(tmp_path):
    recording = synthetic.recording()
    broken = chain((next(recording.events) for _ in range(9)), (1 / 0 for _ in range(1)))
    with pytest.raises(ZeroDivisionError):
        write_recording(tmp_path / 'x', type(recording)(
            mounting=recording.mounting, events=broken, num_sweeps=4))  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_a_bag_that_fails_halfway_leaves_the_old_one_in_its_place(tmp_path):
    write_recording(tmp_path / 'x', synthetic.recording(num_sweeps=1))
    with pytest.raises(ZeroDivisionError), bag.BagWriter(tmp_path / 'x', force=True) as writer:
        writer.write_message('/a', String(), 1)
        raise ZeroDivisionError
    assert bag.contents_of(tmp_path / 'x').counts['/lidar/points'] == 1
    assert os.listdir(tmp_path) == ['x']


def test_an_existing_bag_is_replaced_only_by_force(tmp_path):
    write_recording(tmp_path / 'x', synthetic.recording(num_sweeps=1))
    with pytest.raises(ValueError, match='exists: .* --force'):
        write_recording(tmp_path / 'x', synthetic.recording(num_sweeps=2))
    write_recording(tmp_path / 'x', synthetic.recording(num_sweeps=2), force=True)
    assert bag.contents_of(tmp_path / 'x').counts['/lidar/points'] == 2
    assert os.listdir(tmp_path) == ['x']


def test_a_folder_that_is_no_bag_is_never_replaced(tmp_path):
    (tmp_path / 'thesis.txt').write_text('three years of work')
    with pytest.raises(ValueError, match='is no bag: it is not replaced'):
        write_recording(tmp_path, synthetic.recording(), force=True)
    assert (tmp_path / 'thesis.txt').is_file()


def test_a_recording_of_nothing_is_an_error_and_no_bag(tmp_path):
    recording = synthetic.recording(num_sweeps=0, has_motion=False)
    with pytest.raises(ValueError, match='holds no events'):
        write_recording(tmp_path / 'x', recording)
    assert not list(tmp_path.iterdir())


def test_a_truncated_bag_names_the_last_stamp_that_can_be_read(drive, tmp_path):
    (file,) = drive.glob('*.mcap')
    whole = file.read_bytes()
    sizes = (len(whole) // 3, len(whole) // 2, len(whole) - 9)
    seen = []
    for number, size in enumerate(sizes):
        cut = tmp_path / f'{number}.mcap'
        cut.write_bytes(whole[:size])
        assert not is_whole(cut)
        last_ns = last_readable_ns(cut)
        seen.append(last_ns)
        seconds, nanoseconds = divmod(last_ns, 10**9)
        with pytest.raises(ValueError, match=rf'truncated; .* {seconds}\.{nanoseconds:09d} '):
            list(bag.read_messages(cut))
    logs = [log_ns for *_, log_ns in bag.read_messages(drive)]
    assert set(seen) <= set(logs) and seen == sorted(seen) and seen[0] < seen[-1] == max(logs)


@pytest.mark.parametrize('content', [b'', b'\x89MCAP0\r\n'])
def test_a_file_without_any_message_says_so(tmp_path, content):
    (tmp_path / 'x.mcap').write_bytes(content)
    with pytest.raises(ValueError, match='no message in it can be read'):
        bag.contents_of(tmp_path / 'x.mcap')


@pytest.mark.parametrize('name', ['x.mcap', 'x.txt'])
def test_a_text_file_is_called_no_bag_and_not_truncated(tmp_path, name):
    (tmp_path / name).write_text('no bag at all, only a long text')
    with pytest.raises(ValueError, match=rf'{name}: no (MCAP file|bag)'):
        bag.contents_of(tmp_path / name)


def test_a_damaged_index_is_an_error_that_names_the_bag_or_nothing_is_lost(drive, tmp_path):
    (file,) = drive.glob('*.mcap')
    whole = bytearray(file.read_bytes())
    whole[-200:-60] = bytes(140)
    (tmp_path / 'x.mcap').write_bytes(whole)
    try:
        found = list(bag.read_messages(tmp_path / 'x.mcap'))
    except ValueError as error:
        assert re.search(r'x\.mcap: cannot be read as a bag', str(error))
    else:  # rosbag2_py reads on without the index
        assert found == list(bag.read_messages(drive))


@pytest.mark.parametrize('name', ['absent', 'empty'])
def test_where_there_is_no_bag_the_error_names_the_place(tmp_path, name):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match=rf'{name}: .*no .*bag|{name}: no bag'):
        bag.contents_of(tmp_path / name)
