# SPDX-License-Identifier: Apache-2.0
"""
Transforms are looked up at the stamp, through the tree, and never made up.

Every test holds for our own buffer and, where a ROS distribution brings it, for the one over
tf2; the last ones give one stream to both and compare.
"""

import threading
import time

from mmperception.geometry import apply, invert, transform_from_yaw
from mmperception.ros.messages import msg_from_transforms
from mmperception.ros.tf2_transforms import make_transforms, tf2_ros, Tf2Buffer
from mmperception.ros.transforms import take_message, TransformBuffer, TransformListener
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


needs_tf2 = pytest.mark.skipif(tf2_ros is None, reason='tf2_ros comes with a ROS distribution')


@pytest.fixture(params=[TransformBuffer, pytest.param(Tf2Buffer, marks=needs_tf2)])
def empty(request):
    """Return a buffer that has heard nothing."""
    return request.param()


@pytest.fixture
def buffer(empty):
    """Two sensors on a robot that is known at 0, 100 and 200 ms."""
    result = empty
    result.put('base_link', 'lidar', 0, BASE_FROM_LIDAR, is_static=True)
    result.put('base_link', 'camera', 0, BASE_FROM_CAMERA, is_static=True)
    for stamp_ns in (T0 + 100 * MS, T0, T0 + 200 * MS):  # out of order
        result.put('odom', 'base_link', stamp_ns, synthetic.odom_from_base(stamp_ns))
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
        np.testing.assert_allclose(
            buffer.lookup('odom', 'base_link', T0 + ms * MS),
            synthetic.odom_from_base(T0 + ms * MS),
            atol=1e-12,
        )


def test_nothing_is_extrapolated_unless_it_is_allowed(buffer):
    stamp_ns = T0 + 230 * MS
    with pytest.raises(LookupError, match='from lidar to odom: .* 30.0 ms after the newest'):
        buffer.lookup('odom', 'lidar', stamp_ns)
    pose = buffer.lookup('odom', 'base_link', stamp_ns, extrapolate_ns=50 * MS)
    np.testing.assert_allclose(pose, synthetic.odom_from_base(stamp_ns), atol=0.02)
    with pytest.raises(LookupError):
        buffer.lookup('odom', 'base_link', stamp_ns, extrapolate_ns=29 * MS)


def test_before_the_oldest_stamp_nothing_is_known_however_near(buffer):
    with pytest.raises(LookupError, match='from lidar to odom'):
        buffer.lookup('odom', 'lidar', T0 - MS, extrapolate_ns=1000 * MS)


def test_a_frame_that_nobody_published_is_named(buffer, empty):
    with pytest.raises(LookupError, match='from radar to base_link: .*radar'):
        buffer.lookup('base_link', 'radar', T0)


def test_our_own_buffer_names_the_frames_that_it_knows():
    buffer = TransformBuffer()
    with pytest.raises(LookupError, match="'a' and 'b'.*known frames: none at all"):
        buffer.lookup('b', 'a', T0)
    buffer.put('odom', 'base_link', T0, np.eye(4))
    with pytest.raises(LookupError, match="published 'radar' .*known frames: base_link, odom"):
        buffer.lookup('base_link', 'radar', T0)


def test_two_trees_are_not_connected(buffer):
    buffer.put('map', 'lidar_2', 0, np.eye(4), is_static=True)
    with pytest.raises(LookupError, match='from lidar_2 to base_link: .*not'):
        buffer.lookup('base_link', 'lidar_2', T0)


def test_a_loop_of_frames_is_an_error_and_does_not_hang(empty):
    buffer = empty
    buffer.put('a', 'b', 0, np.eye(4), is_static=True)
    buffer.put('b', 'a', 0, np.eye(4), is_static=True)
    with pytest.raises(LookupError):
        buffer.lookup('c', 'a', T0)


def test_a_frame_may_get_another_parent(buffer):
    later_ns = T0 + 300 * MS
    buffer.put('map', 'base_link', later_ns, transform_from_yaw((5, 0, 0), 0))
    assert buffer.lookup('map', 'base_link', later_ns)[0, 3] == 5
    with pytest.raises(LookupError):
        buffer.lookup('odom', 'base_link', later_ns)


def test_a_frame_that_is_published_as_static_and_as_moving_stays_static(buffer):
    buffer.put('base_link', 'lidar', T0, transform_from_yaw((9, 0, 0), 0))
    for stamp_ns in (T0, T0 + 5000 * MS):
        np.testing.assert_allclose(
            buffer.lookup('base_link', 'lidar', stamp_ns), BASE_FROM_LIDAR, atol=1e-9
        )


def test_names_with_a_leading_slash_mean_the_same_frames(buffer):
    base_from_lidar = buffer.lookup('/base_link', '/lidar', T0)
    np.testing.assert_allclose(base_from_lidar, BASE_FROM_LIDAR, atol=1e-12)


def test_what_is_older_than_the_history_is_forgotten(buffer):
    for second in range(1, 31):
        buffer.put('odom', 'base_link', T0 + second * 1000 * MS, np.eye(4))
    buffer.lookup('odom', 'base_link', T0 + 21_000 * MS)
    with pytest.raises(LookupError, match='from base_link to odom'):
        buffer.lookup('odom', 'base_link', T0)


def test_our_own_history_is_bounded():
    buffer = TransformBuffer()
    for second in range(31):
        buffer.put('odom', 'base_link', T0 + second * 1000 * MS, np.eye(4))
    assert len(buffer.stamps('base_link')) == 11


@pytest.mark.parametrize('back_s', [3, 3600])
def test_stamps_that_go_back_begin_anew(buffer, back_s):
    earlier_ns = T0 - back_s * 1000 * MS
    for ms in (0, 100):
        buffer.put('odom', 'base_link', earlier_ns + ms * MS, transform_from_yaw((ms, 0, 0), 0))
    pose = buffer.lookup('odom', 'base_link', earlier_ns + 50 * MS)
    assert pose[0, 3] == pytest.approx(50)
    with pytest.raises(LookupError):
        buffer.lookup('odom', 'base_link', T0 + 100 * MS)
    buffer.lookup('camera', 'lidar', T0)  # static ones stay


def test_what_was_in_flight_when_time_jumped_does_not_pull_at_later_poses(buffer):
    buffer.put('odom', 'base_link', T0 + 9900 * MS, transform_from_yaw((500, 0, 0), 0))
    buffer.clear()
    buffer.put('odom', 'base_link', T0 + 9950 * MS, transform_from_yaw((500, 0, 0), 0))
    for ms in (0, 20):
        buffer.put('odom', 'base_link', T0 + ms * MS, np.eye(4))
    with pytest.raises(LookupError, match='after the newest'):
        buffer.lookup('odom', 'base_link', T0 + 40 * MS)


def test_a_short_drive_that_starts_over_without_a_clock_is_heard_again(buffer):
    for ms in (0, 100, 200):
        stamp_ns = T0 + ms * MS
        buffer.put('odom', 'base_link', stamp_ns, synthetic.odom_from_base(stamp_ns))
        np.testing.assert_allclose(
            buffer.lookup('odom', 'base_link', stamp_ns),
            synthetic.odom_from_base(stamp_ns),
            atol=1e-9,
        )


def test_a_static_transform_that_comes_late_holds_for_earlier_stamps_too(buffer):
    with pytest.raises(LookupError):
        buffer.lookup('odom', 'gps_link', T0 + 100 * MS)
    buffer.put('base_link', 'gps_link', T0 + 9000 * MS, BASE_FROM_CAMERA, is_static=True)
    np.testing.assert_allclose(
        buffer.lookup('odom', 'gps_link', T0 + 100 * MS),
        synthetic.odom_from_base(T0 + 100 * MS) @ BASE_FROM_CAMERA,
        atol=1e-9,
    )


def test_clearing_forgets_what_moves_and_keeps_what_does_not(buffer):
    buffer.clear()
    buffer.lookup('camera', 'lidar', T0)
    with pytest.raises(LookupError):
        buffer.lookup('odom', 'base_link', T0)


def test_a_lookup_can_wait_for_a_transform_that_is_on_its_way(buffer):
    stamp_ns = T0 + 230 * MS
    timer = threading.Timer(
        0.05, buffer.put, ('odom', 'base_link', T0 + 300 * MS, synthetic.odom_from_base(stamp_ns))
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
        [('base_link', 'x', 0, np.eye(4)), ('base_link', 'gps', 0, np.eye(4))]
    )
    msg.transforms[0].transform.translation.y = float('nan')
    take_message(buffer, msg, is_static=True)
    buffer.lookup('base_link', 'gps', T0)
    with pytest.raises(LookupError):
        buffer.lookup('base_link', 'x', T0)
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
        buffer.put('odom', 'base_link', T0 + ms * MS, np.eye(4))
    for thread in threads:
        thread.join()
    assert not failures


def test_the_listener_hears_tf_and_latched_static_tf(empty):
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('tf_test', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    static = node.create_publisher(TFMessage, '/tf_static', latched)
    static.publish(msg_from_transforms([('base_link', 'lidar', 0, BASE_FROM_LIDAR)]))
    moving = node.create_publisher(TFMessage, '/tf', 10)
    listener = TransformListener(node, empty)
    deadline, pose = time.monotonic() + 10, None
    while pose is None and time.monotonic() < deadline:
        moving.publish(msg_from_transforms([('odom', 'base_link', T0, np.eye(4))]))
        executor.spin_once(timeout_sec=0.05)
        try:
            pose = empty.lookup('odom', 'lidar', T0)
        except LookupError:
            continue
    np.testing.assert_allclose(pose, BASE_FROM_LIDAR, atol=1e-9)
    listener.destroy()
    executor.shutdown()
    node.destroy_node()
    context.shutdown()


def test_nodes_use_tf2_where_it_is_installed():
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('tf_choice', context=context)
    buffer, listener = make_transforms(node)
    assert isinstance(buffer, TransformBuffer if tf2_ros is None else Tf2Buffer)
    listener.destroy()
    node.destroy_node()
    context.shutdown()


def stream(rng):
    """Yield (parent, child, stamp_ns, transform, is_static) as a robot sends them, and a bag."""
    for loop_ns in (0, -40_000 * MS):  # the second time far earlier: beyond the history
        for number in range(400):
            stamp_ns = T0 + loop_ns + number * 20 * MS + int(rng.integers(-25, 25)) * MS
            yield 'odom', 'base_link', stamp_ns, synthetic.odom_from_base(stamp_ns), False
            if number % 5 == 0:
                turned = transform_from_yaw((0.1, 0.0, 1.0), number * 0.01)
                yield 'base_link', 'mast', stamp_ns, turned, False
            if number == 150:  # late
                yield 'mast', 'lidar', stamp_ns, BASE_FROM_LIDAR, True


@needs_tf2
def test_both_buffers_answer_alike_all_along_one_stream():
    own, tf2 = TransformBuffer(), Tf2Buffer()
    rng = np.random.default_rng(4)
    num_known = num_unknown = 0
    for number, (parent, child, stamp_ns, transform, is_static) in enumerate(stream(rng)):
        for buffer in (own, tf2):
            buffer.put(parent, child, stamp_ns, transform, is_static)
        asked_ns = stamp_ns - int(rng.integers(-80, 12_000)) * MS * int(number % 3 == 0)
        extrapolate_ns = int(rng.integers(0, 2)) * 100 * MS
        for target, source in (('odom', 'base_link'), ('lidar', 'odom')):
            answers = []
            for buffer in (own, tf2):
                try:
                    answers.append(buffer.lookup(target, source, asked_ns, extrapolate_ns))
                except LookupError:
                    answers.append(None)
            if answers[0] is None or answers[1] is None:
                assert answers == [None, None], (number, target, asked_ns)
                num_unknown += 1
                continue
            num_known += 1
            np.testing.assert_allclose(*answers, atol=1e-6)
    assert num_known > 500 and num_unknown > 100
