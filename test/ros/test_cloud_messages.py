# SPDX-License-Identifier: Apache-2.0
"""PointCloud2: every vendor's layout is read, and a cloud that lies is refused by name."""

import array

from mmperception.config_sections import LidarConfig
from mmperception.datatypes import PointCloud
from mmperception.ros.messages import cloud_from_msg, msg_from_cloud, msg_from_points
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2, PointField
import synthetic

NUMBERS = {'i1': 1, 'u1': 2, 'i2': 3, 'u2': 4, 'i4': 5, 'u4': 6, 'f4': 7, 'f8': 8}
POINTS = np.array([[1.0, 2.0, 3.0], [-4.0, 5.5, 0.25], [30.0, -7.0, -1.5]])
STAMP_NS = synthetic.START_NS


def cloud_msg(fields, step, order='<', height=1, padding=0):
    """
    Lay out values as a driver would.

    `fields` are (name, offset, NumPy type, values); rows are padded with 0xAA.
    """
    N = len(fields[0][3])
    layout = {
        'names': [field[0] for field in fields],
        'offsets': [field[1] for field in fields],
        'formats': [order + field[2] for field in fields],
        'itemsize': step,
    }
    records = np.full(N * step, 0xAA, np.uint8).view(np.dtype(layout))
    for name, _, _, values in fields:
        records[name] = values
    rows = records.view(np.uint8).reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xAA)
    msg = PointCloud2(
        height=height,
        width=N // height,
        is_bigendian=order == '>',
        point_step=step,
        row_step=rows.shape[1],
        is_dense=False,
    )
    msg.header.frame_id = 'velodyne'
    msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(STAMP_NS, 1_000_000_000)
    msg.fields = [
        PointField(name=name, offset=offset, datatype=NUMBERS[kind], count=1)
        for name, offset, kind, _ in fields
    ]
    msg.data = array.array('B', rows.tobytes())
    return msg


def xyz(points=POINTS, kind='f4', offsets=(0, 4, 8)):
    return [(name, offset, kind, points[:, i]) for i, (name, offset) in enumerate(
        zip('xyz', offsets, strict=True))]  # fmt: skip


def test_a_velodyne_cloud_is_read():
    fields = [
        *xyz(),
        ('intensity', 16, 'f4', [0.0, 51.0, 255.0]),
        ('ring', 20, 'u2', [0, 31, 63]),
        ('time', 24, 'f4', [-0.05, -0.025, 0.0]),
    ]
    cloud = cloud_from_msg(cloud_msg(fields, 32), LidarConfig(stamp='end'))
    assert (cloud.stamp_ns, cloud.frame_id) == (STAMP_NS, 'velodyne')
    np.testing.assert_array_equal(cloud.points, POINTS.astype(np.float32))
    np.testing.assert_allclose(cloud.intensity, [0, 0.2, 1])
    assert cloud.ring.tolist() == [0, 31, 63]
    np.testing.assert_allclose(cloud.time_ns, [-50_000_000, -25_000_000, 0], atol=2)


def test_an_ouster_cloud_is_read():
    fields = [
        *xyz(),
        ('intensity', 16, 'f4', [10.0, 20.0, 30.0]),
        ('t', 20, 'u4', [0, 400, 99_000_000]),
        ('reflectivity', 24, 'u2', [1, 2, 3]),
        ('ring', 26, 'u1', [5, 6, 127]),
        ('range', 32, 'u4', [1000, 2000, 3000]),
    ]
    cloud = cloud_from_msg(cloud_msg(fields, 48, height=3), LidarConfig())
    np.testing.assert_array_equal(cloud.points, POINTS.astype(np.float32))
    np.testing.assert_allclose(cloud.intensity, np.array([10, 20, 30]) / 255, rtol=1e-6)
    assert cloud.ring.tolist() == [5, 6, 127]
    assert cloud.time_ns.tolist() == [0, 400, 99_000_000]


def test_a_hesai_cloud_with_absolute_seconds_is_read():
    times = STAMP_NS / 1e9 + np.array([0.0, 0.01, 0.0999])
    fields = [
        *xyz(),
        ('intensity', 16, 'f4', [0.1, 0.2, 0.3]),
        ('timestamp', 24, 'f8', times),
        ('ring', 32, 'u2', [2, 1, 0]),
    ]
    cloud = cloud_from_msg(cloud_msg(fields, 48), LidarConfig())
    np.testing.assert_allclose(cloud.time_ns, [0, 10_000_000, 99_900_000], atol=1_000)
    np.testing.assert_array_equal(cloud.intensity, np.float32([0.1, 0.2, 0.3]))


def test_a_livox_cloud_with_absolute_nanoseconds_and_odd_offsets_is_read():
    times = float(STAMP_NS) + np.array([0.0, 2_000_000.0, 3_000_000.0])
    fields = [
        *xyz(),
        ('intensity', 12, 'f4', [0.0, 128.0, 255.0]),
        ('tag', 16, 'u1', [16, 0, 16]),
        ('line', 17, 'u1', [0, 3, 5]),
        ('timestamp', 18, 'f8', times),
    ]
    cloud = cloud_from_msg(cloud_msg(fields, 26), LidarConfig())
    np.testing.assert_array_equal(cloud.points, POINTS.astype(np.float32))
    assert cloud.ring.tolist() == [0, 3, 5]
    np.testing.assert_allclose(cloud.time_ns, [0, 2_000_000, 3_000_000], atol=512)


@pytest.mark.parametrize(
    ('kind', 'values', 'unit', 'expected'),
    [
        ('f4', [0.0, 0.05, 0.1], 'auto', [0, 50_000_000, 100_000_000]),
        ('f4', [0.0, 50_000.0, 100_000.0], 'auto', [0, 50_000_000, 100_000_000]),
        ('u4', [0, 50_000, 100_000], 'auto', [0, 50_000_000, 100_000_000]),
        ('u4', [0, 50_000_000, 100_000_000], 'auto', [0, 50_000_000, 100_000_000]),
        ('u4', [0, 5, 10], 'us', [0, 5_000, 10_000]),
        ('i4', [-7, 5, 10], 'ns', [-7, 5, 10]),
    ],
)
def test_the_unit_of_relative_times_is_known(kind, values, unit, expected):
    msg = cloud_msg([*xyz(), ('time', 12, kind, values)], 16)
    cloud = cloud_from_msg(msg, LidarConfig(time_unit=unit))
    np.testing.assert_allclose(cloud.time_ns, expected, atol=5)


def test_a_time_field_of_another_name_is_read_when_it_is_named():
    msg = cloud_msg([*xyz(), ('when', 12, 'u4', [1, 2, 3]), ('t', 16, 'u4', [9, 9, 9])], 20)
    config = LidarConfig(time_field='when', time_unit='us')
    assert cloud_from_msg(msg, config).time_ns.tolist() == [1_000, 2_000, 3_000]
    with pytest.raises(ValueError, match='fields: moment missing'):
        cloud_from_msg(msg, LidarConfig(time_field='moment'))


def test_times_from_the_begin_are_moved_when_the_header_is_the_end():
    msg = cloud_msg([*xyz(), ('t', 12, 'u4', [0, 60_000_000, 100_000_000])], 16)
    cloud = cloud_from_msg(msg, LidarConfig(stamp='end'))
    assert cloud.time_ns.tolist() == [-100_000_000, -40_000_000, 0]


def test_times_far_from_the_header_are_refused_by_name():
    msg = cloud_msg([*xyz(), ('timestamp', 16, 'f8', [5e8, 5e8, 5e8])], 24)
    with pytest.raises(ValueError, match=r'timestamp.*lidar\.time_unit'):
        cloud_from_msg(msg, LidarConfig(time_relative=False, time_unit='s'))


def test_integer_intensity_is_brought_to_one():
    bytes_msg = cloud_msg([*xyz(), ('intensity', 12, 'u1', [0, 51, 255])], 13)
    np.testing.assert_allclose(cloud_from_msg(bytes_msg, LidarConfig()).intensity, [0, 0.2, 1])
    words_msg = cloud_msg([*xyz(), ('intensity', 12, 'u2', [0, 13107, 65535])], 14)
    np.testing.assert_allclose(cloud_from_msg(words_msg, LidarConfig()).intensity, [0, 0.2, 1])
    scaled = cloud_from_msg(words_msg, LidarConfig(intensity_scale=26214.0))
    np.testing.assert_allclose(scaled.intensity, [0, 0.5, 1])


def test_a_dark_scene_of_bytes_is_not_taken_for_bright():
    msg = cloud_msg([*xyz(), ('intensity', 12, 'u1', [0, 1, 1])], 13)
    np.testing.assert_allclose(
        cloud_from_msg(msg, LidarConfig()).intensity, np.array([0, 1, 1]) / 255
    )


def test_big_endian_rows_with_padding_are_read():
    fields = [*xyz(np.repeat(POINTS, 2, axis=0)), ('intensity', 12, 'f4', np.arange(6) / 6)]
    msg = cloud_msg(fields, 20, order='>', height=2, padding=12)
    cloud = cloud_from_msg(msg, LidarConfig())
    np.testing.assert_array_equal(cloud.points, np.repeat(POINTS, 2, axis=0).astype(np.float32))
    np.testing.assert_allclose(cloud.intensity, np.arange(6) / 6, rtol=1e-6)
    assert cloud.points.dtype == np.float32 and cloud.points.dtype.isnative


def test_coordinates_of_double_precision_in_another_order_are_read():
    msg = cloud_msg(xyz(kind='f8', offsets=(16, 0, 8)), 24)
    np.testing.assert_array_equal(
        cloud_from_msg(msg, LidarConfig()).points, POINTS.astype(np.float32)
    )


def test_points_that_are_no_numbers_too_near_or_too_far_are_dropped():
    points = np.array(
        [[np.nan, 1, 1], [1, 2, 3], [np.inf, 0, 0], [0.1, 0, 0], [119, 0, 0], [0, 121, 0]]
    )
    rings = [0, 1, 2, 3, 4, 5]
    msg = cloud_msg([*xyz(points), ('ring', 12, 'u2', rings)], 16)
    cloud = cloud_from_msg(msg, LidarConfig())
    np.testing.assert_array_equal(cloud.points, np.float32([[1, 2, 3], [119, 0, 0]]))
    assert cloud.ring.tolist() == [1, 4]


def test_an_empty_cloud_is_a_cloud_of_no_points():
    for msg in (PointCloud2(), cloud_msg([(n, o, k, v[:0]) for n, o, k, v in xyz()], 12)):
        cloud = cloud_from_msg(msg, LidarConfig())
        assert cloud.points.shape == (0, 3)


def test_an_organised_cloud_of_nan_alone_is_empty():
    cloud = cloud_from_msg(cloud_msg(xyz(np.full((4, 3), np.nan)), 12, height=2), LidarConfig())
    assert len(cloud.points) == 0


@pytest.mark.parametrize(
    ('field', 'value', 'message'),
    [
        ('width', 4, 'row_step: 48 bytes are too few for width 4 x point_step 16'),
        ('width', 2**31, 'width x height: .* more than lidar.max_points'),
        ('height', 2, 'data: expected height 2 x row_step 48 = 96 bytes, got 48'),
        ('row_step', 40, 'row_step: 40 bytes are too few'),
        ('row_step', 64, 'data: expected height 1 x row_step 64'),
        ('point_step', 10, 'fields: z at offset 8 ends beyond point_step 10'),
        ('point_step', 0, 'fields: x at offset 0 ends beyond point_step 0'),
        ('data', array.array('B', bytes(47)), 'data: expected .* 48 bytes, got 47'),
        ('data', array.array('B'), 'data: .* got 0'),
        ('fields', [], r'fields: x, y, z missing among \[\]'),
    ],
)
def test_a_cloud_that_lies_about_its_size_is_refused_by_name(field, value, message):
    msg = cloud_msg([*xyz(), ('intensity', 12, 'f4', [0, 0, 0])], 16)
    setattr(msg, field, value)
    with pytest.raises(ValueError, match=message):
        cloud_from_msg(msg, LidarConfig())


def test_an_unknown_datatype_is_refused_by_name():
    msg = cloud_msg(xyz(), 12)
    msg.fields[1].datatype = 77
    with pytest.raises(ValueError, match='fields: y has the unknown datatype 77'):
        cloud_from_msg(msg, LidarConfig())


@pytest.mark.parametrize('has_times', [True, False])
def test_a_cloud_survives_the_way_through_a_message(has_times):
    cloud = synthetic.cloud(has_times=has_times)
    msg = deserialize_message(serialize_message(msg_from_cloud(cloud)), PointCloud2)
    back = cloud_from_msg(msg, LidarConfig(stamp='middle'))
    assert (back.stamp_ns, back.frame_id) == (cloud.stamp_ns, cloud.frame_id)
    for name in ('points', 'intensity', 'ring'):
        np.testing.assert_array_equal(getattr(back, name), getattr(cloud, name))
    assert (back.time_ns is None) == (not has_times)
    if has_times:
        np.testing.assert_array_equal(back.time_ns, cloud.time_ns)


def test_a_cloud_of_bare_points_has_no_other_fields():
    cloud = PointCloud(stamp_ns=1, frame_id='lidar', points=np.float32([[1, 2, 3]]))
    msg = msg_from_cloud(cloud)
    assert [field.name for field in msg.fields] == ['x', 'y', 'z']
    assert cloud_from_msg(msg, LidarConfig()).ring is None


def test_chosen_points_leave_with_their_height_in_the_sweeps_frame():
    cloud = synthetic.cloud(num_points=4)
    height_m = np.float32([0.1, 0.2, 0.3, 0.4])
    msg = msg_from_points(cloud, np.array([False, True, False, True]), height_m)
    assert [field.name for field in msg.fields] == ['x', 'y', 'z', 'intensity', 'height']
    assert (msg.header.frame_id, msg.width, msg.point_step) == ('lidar', 2, 20)
    values = np.frombuffer(msg.data, np.float32).reshape(2, 5)
    np.testing.assert_array_equal(values[:, :3], cloud.points[[1, 3]])
    np.testing.assert_array_equal(values[:, 3], cloud.intensity[[1, 3]])
    np.testing.assert_array_equal(values[:, 4], np.float32([0.2, 0.4]))


def test_no_chosen_point_is_an_empty_message_that_can_be_read():
    cloud = synthetic.cloud(num_points=4)
    msg = msg_from_points(cloud, np.zeros(4, bool), np.zeros(4, np.float32))
    assert (msg.width, len(msg.data), len(msg.fields)) == (0, 0, 5)
    assert len(cloud_from_msg(msg, LidarConfig()).points) == 0


def test_reading_agrees_with_the_distributions_own_reader():
    point_cloud2 = pytest.importorskip('sensor_msgs_py.point_cloud2')
    msg = msg_from_cloud(synthetic.cloud())
    theirs = point_cloud2.read_points(msg)
    ours = cloud_from_msg(msg, LidarConfig())
    np.testing.assert_array_equal(theirs['x'], ours.points[:, 0])
    np.testing.assert_array_equal(theirs['ring'], ours.ring)


@pytest.mark.parametrize('late', [1e300, -1e300, 1e12])
def test_point_times_that_no_clock_has_are_refused_not_wrapped_around(late):
    times = np.zeros(3)
    times[1] = late
    fields = [(name, 4 * i, 'f4', POINTS[:, i]) for i, name in enumerate('xyz')]
    msg = cloud_msg([*fields, ('time', 12, 'f8', times)], 20)
    with pytest.raises(ValueError, match='time puts points'):
        cloud_from_msg(msg, LidarConfig(time_unit='s'))
