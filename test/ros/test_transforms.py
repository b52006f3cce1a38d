# SPDX-License-Identifier: Apache-2.0
"""Transforms are looked up at the stamp, through the tree, and never made up."""

import threading
import time
from types import SimpleNamespace

from geometry_msgs.msg import TransformStamped
from mmperception.geometry import apply, invert, transform_from_yaw
from mmperception.ros import tf2_transforms
from mmperception.ros.headers import header_from, transform_message
from mmperception.ros.messages import msg_from_transforms
from mmperception.ros.transforms import TransformBuffer, TransformListener
import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
import synthetic
from tf2_msgs.msg import TFMessage

T0, MS = synthetic.START_NS, 1_000_000
BASE_FROM_LIDAR = transform_from_yaw((0.8, -0.2, 1.7), -0.1)
BASE_FROM_CAMERA = transform_from_yaw((1.4, 0.1, 1.5), 0.3)


@pytest.fixture
def buffer():
    """Two sensors on a robot that is known at 0, 100 and 200 ms."""
    result = TransformBuffer()
    result.set('base_link', 'lidar', 0, BASE_FROM_LIDAR, is_static=True)
    result.set('base_link', 'camera', 0, BASE_FROM_CAMERA, is_static=True)
    for stamp_ns in (T0 + 100 * MS, T0, T0 + 200 * MS):  # out of order
        result.set('odom', 'base_link', stamp_ns, synthetic.odom_from_base(stamp_ns))
    return result


def test_two_sensors_meet_at_the_robot(buffer):
    camera_from_lidar = buffer.lookup('camera', 'lidar', 5)
    np.testing.assert_allclose(camera_from_lidar, invert(BASE_FROM_CAMERA) @ BASE_FROM_LIDAR)
    point = apply(camera_from_lidar, np.array([[0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(apply(BASE_FROM_CAMERA, point), [[0.8, -0.2, 1.7]])


def test_a_frame_in_itself_is_the_identity_even_when_unknown(buffer):
    np.testing.assert_array_equal(buffer.lookup('moon', 'moon', 5), np.eye(4))


def test_between_two_stamps_the_robot_is_interpolated(buffer):
    stamp_ns = T0 + 125 * MS
    pose = buffer.lookup('odom', 'base_link', stamp_ns)
    first, last = (synthetic.odom_from_base(T0 + ms * MS) for ms in (100, 200))
    np.testing.assert_allclose(pose[:3, 3], 0.75 * first[:3, 3] + 0.25 * last[:3, 3])
    np.testing.assert_allclose(pose[:3, :3], synthetic.odom_from_base(stamp_ns)[:3, :3], atol=1e-9)


def test_a_known_stamp_is_exact_and_old_stamps_stay_right(buffer):
    for ms in (200, 0, 100):
        np.testing.assert_array_equal(
            buffer.lookup('odom', 'base_link', T0 + ms * MS),
            synthetic.odom_from_base(T0 + ms * MS),
        )


def test_two_stamps_are_joined_through_the_fixed_frame(buffer):
    camera_from_lidar = buffer.lookup_through('camera', T0 + 200 * MS, 'lidar', T0, 'odom')
    expected = (
        invert(synthetic.odom_from_base(T0 + 200 * MS) @ BASE_FROM_CAMERA)
        @ synthetic.odom_from_base(T0)
        @ BASE_FROM_LIDAR
    )
    np.testing.assert_allclose(camera_from_lidar, expected)


@pytest.mark.parametrize(
    ('ms', 'side'), [(-30, '30.0 ms before the oldest'), (230, '30.0 ms after the newest')]
)
def test_nothing_is_extrapolated_unless_it_is_allowed(buffer, ms, side):
    stamp_ns = T0 + ms * MS
    with pytest.raises(LookupError, match=f'from lidar to odom: .* {side} transform from base'):
        buffer.lookup('odom', 'lidar', stamp_ns)
    pose = buffer.lookup('odom', 'base_link', stamp_ns, extrapolate_ns=50 * MS)
    np.testing.assert_allclose(pose, synthetic.odom_from_base(stamp_ns), atol=0.02)
    with pytest.raises(LookupError):
        buffer.lookup('odom', 'base_link', stamp_ns, extrapolate_ns=29 * MS)


def test_a_frame_that_nobody_published_is_named(buffer):
    with pytest.raises(LookupError, match="from radar to base_link: nobody has published 'radar'"):
        buffer.lookup('base_link', 'radar', T0)
    with pytest.raises(LookupError, match="'a' and 'b'.*known frames: none at all"):
        TransformBuffer().lookup('b', 'a', T0)


def test_two_trees_are_not_connected(buffer):
    buffer.set('map', 'lidar_2', 0, np.eye(4), is_static=True)
    with pytest.raises(LookupError, match='below map and odom, not connected'):
        buffer.lookup('base_link', 'lidar_2', T0)


def test_a_loop_of_frames_is_an_error_and_does_not_hang():
    buffer = TransformBuffer()
    buffer.set('a', 'b', 0, np.eye(4), is_static=True)
    buffer.set('b', 'a', 0, np.eye(4), is_static=True)
    with pytest.raises(LookupError):
        buffer.lookup('c', 'a', T0)


def test_a_frame_may_get_another_parent(buffer):
    buffer.set('map', 'base_link', T0, transform_from_yaw((5, 0, 0), 0))
    assert buffer.lookup('map', 'base_link', T0)[0, 3] == 5
    with pytest.raises(LookupError):
        buffer.lookup('odom', 'base_link', T0)


def test_a_frame_that_is_published_as_static_and_as_moving_stays_static(buffer):
    buffer.set('base_link', 'lidar', T0, transform_from_yaw((9, 0, 0), 0))
    assert buffer.lookup('base_link', 'lidar', T0 + 5000 * MS)[0, 3] == 9
    assert buffer.frames()['lidar'] == ('base_link', True)


def test_names_with_a_leading_slash_mean_the_same_frames(buffer):
    np.testing.assert_array_equal(buffer.lookup('/base_link', '/lidar', T0), BASE_FROM_LIDAR)


def test_the_history_is_bounded(buffer):
    for second in range(1, 31):
        buffer.set('odom', 'base_link', T0 + second * 1000 * MS, np.eye(4))
    assert len(buffer.stamps('base_link')) == 11
    with pytest.raises(LookupError, match='before the oldest'):
        buffer.lookup('odom', 'base_link', T0)


def test_a_jump_back_beyond_the_history_begins_anew(buffer):
    earlier_ns = T0 - 3600 * 1000 * MS
    buffer.set('odom', 'base_link', earlier_ns, np.eye(4))
    assert buffer.stamps('base_link') == [earlier_ns]
    buffer.lookup('camera', 'lidar', T0)  # static ones stay


def test_clearing_forgets_what_moves_and_keeps_what_does_not(buffer):
    buffer.clear()
    buffer.lookup('camera', 'lidar', T0)
    with pytest.raises(LookupError):
        buffer.lookup('odom', 'base_link', T0)


def test_a_lookup_can_wait_for_a_transform_that_is_on_its_way(buffer):
    stamp_ns = T0 + 230 * MS
    timer = threading.Timer(
        0.05, buffer.set, ('odom', 'base_link', T0 + 300 * MS, synthetic.odom_from_base(stamp_ns))
    )
    timer.start()
    buffer.lookup('odom', 'base_link', stamp_ns, wait_s=5.0)
    timer.join()


def test_waiting_ends_and_unknown_frames_are_not_waited_for(buffer):
    begin = time.monotonic()
    with pytest.raises(LookupError):
        buffer.lookup('odom', 'radar', T0, wait_s=5.0)
    with pytest.raises(LookupError):
        buffer.lookup('odom', 'base_link', T0 + 900 * MS, wait_s=0.05)
    assert time.monotonic() - begin < 2.0


def test_a_broken_transform_is_left_out_and_the_good_ones_stay(buffer, caplog):
    msg = msg_from_transforms(
        [('base_link', 'gps', 0, np.eye(4)), ('base_link', 'x', 0, np.eye(4))]
    )
    msg.transforms[1].transform.translation.y = float('nan')
    buffer.set_message(msg, is_static=True)
    assert 'gps' in buffer.frames() and 'x' not in buffer.frames()
    assert 'from x to base_link' in caplog.text


def test_filling_and_asking_at_once_is_safe(buffer):
    failures = []

    def ask():
        for _ in range(300):
            try:
                buffer.lookup('odom', 'lidar', T0 + 150 * MS)
            except Exception as error:  # whatever it is, it fails the test
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for ms in range(201, 500):
        buffer.set('odom', 'base_link', T0 + ms * MS, np.eye(4))
    for thread in threads:
        thread.join()
    assert not failures


def test_the_listener_hears_tf_and_latched_static_tf():
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('tf_test', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    static = node.create_publisher(TFMessage, '/tf_static', latched)
    static.publish(msg_from_transforms([('base_link', 'lidar', 0, BASE_FROM_LIDAR)]))
    moving = node.create_publisher(TFMessage, '/tf', 10)
    buffer = TransformBuffer()
    listener = TransformListener(node, buffer)
    deadline = time.monotonic() + 10
    while len(buffer.frames()) < 2 and time.monotonic() < deadline:
        moving.publish(msg_from_transforms([('odom', 'base_link', T0, np.eye(4))]))
        executor.spin_once(timeout_sec=0.05)
    assert buffer.frames() == {'lidar': ('base_link', True), 'base_link': ('odom', False)}
    listener.destroy()
    executor.shutdown()
    node.destroy_node()
    context.shutdown()


class FakeTf2Buffer:
    """tf2's methods, answered by our own buffer: what the adapter must translate."""

    def __init__(self):
        self.own = TransformBuffer()

    def set_transform(self, msg, authority, is_static=False):
        self.own.set_message(TFMessage(transforms=[msg]), is_static)

    def set_transform_static(self, msg, authority):
        self.set_transform(msg, authority, True)

    def lookup_transform_core(self, target, source, stamp):
        stamp_ns = stamp.nanoseconds or self.own.stamps('base_link')[-1]
        try:
            transform = self.own.lookup(target, source, stamp_ns)
        except LookupError as error:
            raise FakeTransformException(str(error)) from error
        return TransformStamped(
            header=header_from(stamp_ns, target),
            child_frame_id=source,
            transform=transform_message(transform),
        )

    def clear(self):
        self.own.clear()


class FakeTransformException(Exception):
    pass


def test_the_adapter_to_tf2_answers_like_our_own_buffer(buffer, monkeypatch):
    fake = SimpleNamespace(TransformException=FakeTransformException)
    monkeypatch.setattr(tf2_transforms, 'tf2_ros', fake)
    adapter = tf2_transforms.Tf2Buffer(FakeTf2Buffer())
    adapter.set('base_link', 'lidar', 0, BASE_FROM_LIDAR, is_static=True)
    for ms in (0, 100, 200):
        adapter.set('odom', 'base_link', T0 + ms * MS, synthetic.odom_from_base(T0 + ms * MS))
    for stamp_ns in (T0, T0 + 125 * MS):
        np.testing.assert_allclose(
            adapter.lookup('odom', 'lidar', stamp_ns),
            buffer.lookup('odom', 'lidar', stamp_ns),
            atol=1e-9,
        )
    np.testing.assert_allclose(
        adapter.lookup_through('lidar', T0 + 200 * MS, 'lidar', T0, 'odom'),
        buffer.lookup_through('lidar', T0 + 200 * MS, 'lidar', T0, 'odom'),
        atol=1e-9,
    )
    with pytest.raises(LookupError, match='from radar to odom'):
        adapter.lookup('odom', 'radar', T0)
    with pytest.raises(LookupError, match='after the newest'):
        adapter.lookup('odom', 'base_link', T0 + 230 * MS)
    ahead = adapter.lookup('odom', 'base_link', T0 + 230 * MS, extrapolate_ns=50 * MS)
    np.testing.assert_allclose(ahead, synthetic.odom_from_base(T0 + 230 * MS), atol=0.02)
