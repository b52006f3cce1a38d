# SPDX-License-Identifier: Apache-2.0
"""Signs as vision_msgs: names, tracks, sources and boxes arrive as they were sent."""

from dataclasses import replace

from mmperception.ros.headers import ns_from_time, yaw_from_quaternion
from mmperception.ros.sign_messages import (
    facing_from_msg,
    msg_from_image_signs,
    msg_from_signs,
    sightings_from_msg,
)
from mmperception.sign_classes import UNREAD
from mmperception.sign_facing import Facing
from mmperception.sign_stage import ImageSigns
from mmperception.sign_tracking import Signs
import numpy as np
import pytest

STAMP_NS = 1_317_046_448_123_456_789


def make_signs(classes=(1, UNREAD), sources=('lidar', 'size')):
    number = len(classes)
    return Signs(
        stamp_ns=STAMP_NS,
        frame_id='base_link',
        position=np.array([[20.0, -3.0, 2.2], [31.0, 4.0, 2.5]])[:number],
        covariance=np.diag([0.04, 0.01, 0.02]) * np.arange(1, number + 1).reshape(-1, 1, 1),
        width_m=np.array([0.6, 0.9])[:number],
        class_id=np.array(classes, np.int64),
        score=np.array([0.9, 0.7])[:number],
        certainty=np.array([0.95, 0.3])[:number],
        source=sources[:number],
        track_id=np.array([7, 12], np.int64)[:number],
        is_seen=np.ones(number, bool),
    )


def test_a_sign_says_its_name_its_track_and_where_its_range_is_from():
    msg = msg_from_signs(make_signs())
    assert ns_from_time(msg.header.stamp) == STAMP_NS and msg.header.frame_id == 'base_link'
    first, second = msg.detections
    assert first.results[0].hypothesis.class_id == 'speed_limit_30' and first.id == '7'
    assert first.results[0].hypothesis.score == pytest.approx(0.9)
    assert first.results[1].hypothesis.class_id == 'range_from_lidar'
    assert second.results[0].hypothesis.class_id == 'sign'
    assert second.results[1].hypothesis.class_id == 'range_from_size'
    position = first.results[0].pose.pose.position
    assert (position.x, position.y, position.z) == (20.0, -3.0, 2.2)
    covariance = np.array(second.results[0].pose.covariance).reshape(6, 6)
    assert np.diag(covariance)[:3] == pytest.approx([0.08, 0.02, 0.04])
    assert covariance[5, 5] > 100


def test_where_a_face_looks_arrives_with_its_doubt():
    signs = replace(make_signs(), facing=(Facing(2.5, 0.2), Facing()))
    turned, unknown = msg_from_signs(signs).detections
    arrived = facing_from_msg(turned)
    assert (arrived.yaw_rad, arrived.sigma_rad) == (pytest.approx(2.5), pytest.approx(0.2))
    assert not facing_from_msg(unknown).is_known
    # Without a measurement the plate is taken to look back at the robot.
    pose = unknown.results[0].pose.pose
    assert yaw_from_quaternion(pose.orientation) == pytest.approx(np.arctan2(-4.0, -31.0))
    # A publisher that fills in no variance did not measure it.
    turned.results[0].pose.covariance[35] = 0.0
    assert not facing_from_msg(turned).is_known


def test_only_signs_that_were_read_reach_the_speed_limit():
    stamp_ns, sightings = sightings_from_msg(msg_from_signs(make_signs()), 'base_link')
    assert stamp_ns == STAMP_NS
    (sign,) = sightings
    assert (sign.track, sign.class_id, sign.width_m) == ('7', 1, pytest.approx(0.6))
    assert sign.position == pytest.approx([20.0, -3.0, 2.2])


def test_no_sign_is_a_message_too():
    assert len(msg_from_signs(make_signs(classes=(), sources=())).detections) == 0
    assert len(msg_from_image_signs(None, STAMP_NS, 'camera_optical').detections) == 0


def test_a_position_that_is_no_number_is_left_out():
    msg = msg_from_signs(make_signs())
    msg.detections[0].bbox.center.position.x = float('nan')
    assert sightings_from_msg(msg, 'base_link')[1] == []


def test_image_boxes_have_their_middle_and_size():
    found = ImageSigns(
        boxes=np.array([[100.0, 50.0, 140.0, 80.0]], np.float32),
        class_id=np.array([14]),
        score=np.array([0.8]),
        track_id=np.array([7]),
        distance_m=np.array([12.0]),
    )
    (one,) = msg_from_image_signs(found, STAMP_NS, 'camera_optical').detections
    assert (one.bbox.center.position.x, one.bbox.center.position.y) == (120.0, 65.0)
    assert (one.bbox.size_x, one.bbox.size_y) == (40.0, 30.0)
    assert one.results[0].hypothesis.class_id == 'stop' and one.id == '7'


def test_signs_of_another_frame_are_refused():
    with pytest.raises(ValueError, match="signs in 'base_link', expected 'robot'"):
        sightings_from_msg(msg_from_signs(make_signs()), 'robot')
