# SPDX-License-Identifier: Apache-2.0
"""GPS, IMU, transforms, grids, detections, tracks and truth, through messages and back."""

from dataclasses import replace

from autoware_perception_msgs.msg import TrackedObjects
from builtin_interfaces.msg import Time
from mmperception.canvas import CLASS_COLOURS
from mmperception.datatypes import CLASSES, CostGrid, Detections, Tracks
from mmperception.geometry import transform_from_yaw
from mmperception.ros import messages
from nav_msgs.msg import OccupancyGrid, Odometry
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Imu, NavSatFix
import synthetic
from vision_msgs.msg import Detection2DArray, Detection3DArray

STAMP_NS = synthetic.START_NS


def through_wire(message):
    return deserialize_message(serialize_message(message), type(message))


def detections():
    return Detections(
        stamp_ns=STAMP_NS,
        frame_id='base_link',
        center=np.float32([[10, 2, 0.5], [-3, 7, 0.9]]),
        size=np.float32([[4.2, 1.8, 1.6], [0.6, 0.5, 1.8]]),
        yaw=np.float32([0.5, -3.0]),
        score=np.float32([0.9, 0.4]),
        label=np.array([0, 1]),
        covariance=np.arange(72, dtype=np.float64).reshape(2, 6, 6),
        track_id=np.array([17, -1]),
    )


def tracks():
    return Tracks(
        stamp_ns=STAMP_NS,
        frame_id='odom',
        track_id=np.array([3, 2**40 + 1]),
        center=np.float32([[10, 2, 0.5], [-3, 7, 0.9]]),
        size=np.float32([[4.2, 1.8, 1.6], [1.7, 0.5, 1.8]]),
        yaw=np.float32([0.5, -3.0]),
        velocity=np.float32([[8.0, -1.5], [0.0, 0.1]]),
        score=np.float32([0.9, 0.4]),
        label=np.array([0, 2]),
        pose_covariance=np.arange(72, dtype=np.float64).reshape(2, 6, 6),
        velocity_covariance=np.arange(8, dtype=np.float64).reshape(2, 2, 2),
        is_stationary=np.array([False, True]),
    )


def assert_same(ours, theirs, names, atol=0.0):
    assert (ours.stamp_ns, ours.frame_id) == (theirs.stamp_ns, theirs.frame_id)
    for name in names.split():
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=atol)


def test_stamps_of_nineteen_digits_are_exact():
    assert messages.ns_from_time(messages.time_from_ns(STAMP_NS)) == 1_317_046_448_123_456_789
    assert messages.time_from_ns(1_000_000_001) == Time(sec=1, nanosec=1)


def test_detections_survive_the_way_through_a_message():
    back = messages.detections_from_msg(through_wire(messages.msg_from_detections(detections())))
    names = 'center size yaw score label covariance track_id'
    assert_same(detections(), back, names, atol=1e-6)


def test_a_detection_says_its_class_its_track_and_its_pose_twice():
    first, second = messages.msg_from_detections(detections()).detections
    assert first.results[0].hypothesis.class_id == 'vehicle'
    assert (first.id, second.id) == ('17', '')
    assert first.results[0].pose.pose == first.bbox.center
    assert first.header.frame_id == 'base_link'
    assert second.results[0].pose.covariance[0] == 36.0


def test_no_detections_are_an_empty_message():
    msg = messages.msg_from_detections(Detections.empty(STAMP_NS, 'base_link'))
    assert isinstance(msg, Detection3DArray) and not msg.detections
    assert msg.header.frame_id == 'base_link'
    assert len(messages.detections_from_msg(through_wire(msg))) == 0


def test_a_detection_of_no_class_of_ours_is_refused():
    msg = messages.msg_from_detections(detections())
    msg.detections[0].results[0].hypothesis.class_id = 'unicorn'
    with pytest.raises(ValueError, match="class_id: 'unicorn' is none of vehicle"):
        messages.detections_from_msg(msg)


def test_tracks_survive_the_way_through_a_message():
    back = messages.tracks_from_msg(through_wire(messages.msg_from_tracks(tracks())))
    names = (
        'track_id center size yaw velocity score label pose_covariance velocity_covariance '
        'is_stationary'
    )
    assert_same(tracks(), back, names, atol=1e-6)


def test_tracks_speak_autowares_language():
    car, cyclist = messages.msg_from_tracks(tracks()).objects
    assert (car.classification[0].label, cyclist.classification[0].label) == (1, 6)
    assert car.kinematics.orientation_availability == 2
    assert car.kinematics.twist_with_covariance.twist.linear.y == pytest.approx(-1.5)
    assert (car.shape.type, car.shape.dimensions.x) == (0, pytest.approx(4.2))
    assert (car.kinematics.is_stationary, cyclist.kinematics.is_stationary) == (False, True)


def test_what_is_not_observed_of_a_track_is_not_called_certain():
    kinematics = messages.msg_from_tracks(tracks()).objects[0].kinematics
    covariance = kinematics.twist_with_covariance.covariance.reshape(6, 6)
    assert (np.diag(covariance)[2:] > 100).all()


def test_the_uuid_of_a_track_is_stable_and_its_own():
    first = [bytes(one.object_id.uuid) for one in messages.msg_from_tracks(tracks()).objects]
    again = [bytes(one.object_id.uuid) for one in messages.msg_from_tracks(tracks()).objects]
    assert first == again and first[0] != first[1]
    assert first[0][6] >> 4 == 8 and first[0][8] >> 6 == 0b10  # a valid UUID, version 8


def test_no_tracks_are_an_empty_message():
    msg = messages.msg_from_tracks(Tracks.empty(STAMP_NS, 'odom'))
    assert isinstance(msg, TrackedObjects) and not msg.objects
    assert len(messages.tracks_from_msg(through_wire(msg))) == 0


def test_labels_number_the_classes():
    msg = messages.msg_from_classes(CLASSES, Time(sec=3))
    assert [(entry.class_id, entry.class_name) for entry in msg.class_map] == [
        (0, 'vehicle'), (1, 'pedestrian'), (2, 'cyclist'),
    ]  # fmt: skip


def markers_of(found, followed):
    """Return the markers by namespace and number, after what RViz refuses: one twice."""
    markers = through_wire(messages.msg_from_markers(found, followed)).markers
    assert markers[0].action == markers[0].DELETEALL
    by_name = {(marker.ns, marker.id): marker for marker in markers[1:]}
    assert len(by_name) == len(markers) - 1
    return by_name


def test_markers_clear_the_old_ones_also_when_nothing_is_there():
    nothing = markers_of(Detections.empty(1, 'base_link'), Tracks.empty(1, 'odom'))
    assert not nothing


def test_markers_of_a_silent_node_do_not_stay_on_the_screen():
    for marker in markers_of(detections(), tracks()).values():
        assert 0 < marker.lifetime.sec + marker.lifetime.nanosec / 1e9 <= 2


def test_markers_of_an_object_keep_their_number_whatever_its_place_in_the_array():
    both = markers_of(detections(), Tracks.empty(1, 'odom'))
    later = detections().select(np.array([False, True]))
    alone = markers_of(replace(later, track_id=np.array([17])), Tracks.empty(1, 'odom'))
    assert ('boxes', 17) in both and ('boxes', 17) in alone
    assert both['names', 17].text == 'vehicle 17 0.90'
    (untracked,) = (number for name, number in both if name == 'boxes' and number != 17)
    assert untracked < 0


def test_a_marker_stands_where_its_box_stands_and_turns_with_it():
    both = markers_of(detections(), Tracks.empty(1, 'odom'))
    box = both['boxes', 17]
    assert (box.header.frame_id, box.pose.position.x, box.pose.position.y) == ('base_link', 10, 2)
    assert (box.scale.x, box.scale.z) == pytest.approx((4.2, 1.6))
    assert 2 * np.arctan2(box.pose.orientation.z, box.pose.orientation.w) == pytest.approx(0.5)
    start, end = both['headings', 0].points[:2]  # on the roof, half a length to the front
    assert (start.x, start.y, start.z) == pytest.approx((10, 2, 1.3))
    assert (end.x, end.y) == pytest.approx((10 + 2.1 * np.cos(0.5), 2 + 2.1 * np.sin(0.5)))
    assert both['names', 17].pose.position.z > 1.3


def test_a_class_has_one_colour_in_markers_and_pictures():
    both = markers_of(detections(), Tracks.empty(1, 'odom'))
    for number, label in ((17, 0), (-2, 1)):
        color = both['boxes', number].color
        assert np.round(255 * np.array([color.r, color.g, color.b])) == pytest.approx(
            CLASS_COLOURS[label]
        )


def test_an_arrow_shows_motion_in_a_second_and_what_stands_has_none():
    arrows = [
        marker
        for (name, _), marker in markers_of(Detections.empty(1, 'base_link'), tracks()).items()
        if name == 'motion'
    ]
    (arrow,) = arrows
    assert (arrow.id, arrow.header.frame_id) == (3, 'odom')
    start, end = arrow.points
    assert (end.x - start.x, end.y - start.y, end.z - start.z) == pytest.approx((8.0, -1.5, 0))


def test_a_track_number_beyond_that_of_a_marker_is_no_error():
    moving = replace(tracks(), is_stationary=np.array([False, False]))
    names = markers_of(Detections.empty(1, 'base_link'), moving)
    assert set(names) == {('motion', 3), ('motion', 2**40 + 1 & 2**31 - 1)}


def test_a_cost_grid_survives_the_way_through_a_message():
    data = np.zeros((3, 5), np.int8)
    data[0, 1], data[2, 4], data[1, 0] = 100, -1, 42
    grid = CostGrid(
        stamp_ns=STAMP_NS, frame_id='odom', resolution_m=0.1, origin_xy_m=(-3.5, 12.25), data=data
    )
    msg = through_wire(messages.msg_from_cost_grid(grid))
    assert isinstance(msg, OccupancyGrid)
    assert (msg.info.width, msg.info.height, msg.data[1], msg.data[-1]) == (5, 3, 100, -1)
    back = messages.cost_grid_from_msg(msg)
    np.testing.assert_array_equal(back.data, data)
    assert (back.resolution_m, back.origin_xy_m) == (0.1, (-3.5, 12.25))
    msg.info.width = 6
    with pytest.raises(ValueError, match='data: expected 3 x 6 cells, got 15'):
        messages.cost_grid_from_msg(msg)


def test_a_satellite_fix_survives_the_way_through_a_message():
    fix = synthetic.fix()
    back = messages.fix_from_msg(through_wire(messages.msg_from_fix(fix)))
    assert (back.latitude_deg, back.longitude_deg, back.status) == (49.015, 8.4335, 0)
    np.testing.assert_array_equal(back.covariance, fix.covariance)


@pytest.mark.parametrize(
    ('kind', 'covariance'),
    [(0, np.eye(3)), (2, np.zeros((3, 3))), (2, np.full((3, 3), np.nan)), (1, -np.eye(3))],
)
def test_a_covariance_that_says_nothing_is_unknown(kind, covariance):
    msg = messages.msg_from_fix(synthetic.fix())
    msg.position_covariance_type, msg.position_covariance = kind, covariance.reshape(-1)
    assert messages.fix_from_msg(msg).covariance is None


def test_an_unknown_covariance_is_written_as_unknown():
    msg = messages.msg_from_fix(replace(synthetic.fix(), covariance=None))
    assert msg.position_covariance_type == NavSatFix.COVARIANCE_TYPE_UNKNOWN


def test_a_fix_of_nowhere_is_refused():
    with pytest.raises(ValueError, match='latitude/longitude'):
        messages.fix_from_msg(NavSatFix(latitude=float('nan')))


def test_an_imu_without_orientation_says_so_both_ways():
    msg = through_wire(messages.msg_from_imu(synthetic.imu()))
    assert msg.orientation_covariance[0] == -1
    back = messages.imu_from_msg(msg)
    assert back.orientation is None
    np.testing.assert_array_equal(back.angular_velocity, (0.01, -0.02, 0.2))
    np.testing.assert_array_equal(back.linear_acceleration, (0.3, 1.6, 9.81))


def test_an_imu_with_orientation_keeps_it():
    sample = replace(synthetic.imu(), orientation=np.array((0.1, 0.2, 0.3, 0.927)))
    back = messages.imu_from_msg(through_wire(messages.msg_from_imu(sample)))
    np.testing.assert_array_equal(back.orientation, sample.orientation)


def test_an_imu_of_nan_is_refused_by_name():
    msg = Imu()
    msg.angular_velocity.y = float('nan')
    with pytest.raises(ValueError, match='angular_velocity: .* not finite'):
        messages.imu_from_msg(msg)


def test_an_odometry_message_is_a_pose_and_a_twist():
    msg = Odometry()
    msg.pose.pose.position.x, msg.pose.pose.orientation.z = 4.0, 1.0
    msg.pose.pose.orientation.w = 1.0
    msg.twist.twist.linear.x, msg.twist.twist.angular.z = 3.0, -0.5
    np.testing.assert_allclose(
        messages.pose_from_msg(msg).odom_from_base,
        transform_from_yaw((4, 0, 0), np.pi / 2),
        atol=1e-12,
    )
    assert messages.twist_from_msg(msg) == (3.0, -0.5)


def test_transforms_survive_the_way_through_a_message():
    transform = transform_from_yaw((1.0, -2.0, 3.0), 2.5)
    msg = through_wire(messages.msg_from_transforms([('odom', 'base_link', STAMP_NS, transform)]))
    parent, child, stamp_ns, back = messages.transform_from_msg(msg.transforms[0])
    assert (parent, child, stamp_ns) == ('odom', 'base_link', STAMP_NS)
    np.testing.assert_allclose(back, transform, atol=1e-12)


def test_a_transform_without_rotation_is_refused_with_its_frames():
    msg = messages.msg_from_transforms([('odom', 'base_link', 1, np.eye(4))])
    msg.transforms[0].transform.rotation.w = 0.0
    with pytest.raises(ValueError, match='from base_link to odom: quaternion'):
        messages.transform_from_msg(msg.transforms[0])


@pytest.mark.parametrize(('parent', 'child'), [('', 'lidar'), ('odom', ''), ('odom', '/odom')])
def test_a_transform_needs_two_different_frames(parent, child):
    msg = messages.msg_from_transforms([(parent, child, 1, np.eye(4))])
    with pytest.raises(ValueError, match='two different frames'):
        messages.transform_from_msg(msg.transforms[0])


def test_truth_survives_the_way_through_messages():
    truth = synthetic.truth()
    boxes = through_wire(messages.msg_from_truth(truth))
    ignored = messages.msg_from_ignore_2d(truth.ignore_2d['camera'], 5, 'camera_optical')
    back = messages.truth_from_msgs(boxes, {'camera': through_wire(ignored)})
    assert (back.stamp_ns, back.kinds, back.object_id) == (
        STAMP_NS, ('van', 'pedestrian'), ('7', 'walker'),
    )  # fmt: skip
    for name in ('center', 'size', 'yaw', 'occlusion', 'is_ignored'):
        np.testing.assert_allclose(getattr(back, name), getattr(truth, name), atol=1e-6)
    np.testing.assert_array_equal(back.ignore_2d['camera'], truth.ignore_2d['camera'])


def test_truth_lies_in_messages_as_the_interface_says():
    van, walker = messages.msg_from_truth(synthetic.truth()).detections
    facts = [(r.hypothesis.class_id, r.hypothesis.score) for r in van.results]
    assert facts == [('van', 1.0), ('occlusion', 1.0)]
    facts = [(r.hypothesis.class_id, r.hypothesis.score) for r in walker.results]
    assert facts == [('pedestrian', 1.0), ('occlusion', -1.0), ('ignored', 1.0)]
    assert van.id == '7'


def test_truth_of_an_empty_street_is_empty():
    back = messages.truth_from_msgs(Detection3DArray(), {'camera': Detection2DArray()})
    assert len(back) == 0 and back.ignore_2d['camera'].shape == (0, 4)
