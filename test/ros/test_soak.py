# SPDX-License-Identifier: Apache-2.0
"""A short soak over real DDS, what is done to messages in it, and what ends it."""

import os
from pathlib import Path
import signal
import threading

from graph import save_weights
from mmperception.config import from_mapping
from mmperception.evaluation.soak import judge
from mmperception.evaluation.soak_faults import EXPECTED, Fault
from mmperception.ros import bag, messages
from mmperception.ros.recording import write_recording
from mmperception.ros.replay_plan import prepare, ReplayPlan
from mmperception.ros.soak import sensors_in, soak, SoakPlan
from mmperception.ros.soak_meddling import CHANGES, LIES, Meddler, stamped
from mmperception.ros.soak_run import AWAY, JUMP_S, SoakRun, usage
from mmperception.ros.soak_stream import load_lap, Recorded, sensors_of
from mmperception.ros.stamps import stamp_of
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2
from test_cloud_messages import cloud_msg, xyz
from tiny_drive import BEGIN_NS, PERIOD_NS, recording

NUM_SWEEPS, RATE_HZ, SECOND_NS = 20, 10.0, 1_000_000_000
# On a busy machine; the soak itself is measured with one second.
RESUME_S = 2.5
FIRST_S, LENGTH_S, STEP_S = 3.0, 2.2, 5.0
# One of every way in which faults are made: held back, changed, the clock, the states.
CHOSEN = (
    ('silent', 'camera'),
    ('truncated', 'gps'),
    ('clock_back', 'clock'),
    ('cleanup', 'perception'),
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('soak')


@pytest.fixture(scope='module')
def tiny_bag(folder):
    path = folder / 'tiny'
    write_recording(path, recording(NUM_SWEEPS))
    return path


@pytest.fixture(scope='module')
def weights(folder):
    return str(save_weights(folder))


def plan_of(folder, tiny_bag, weights, name, seconds):
    small = {'cells': 100, 'resolution_m': 0.2}
    values = {**bag.settings_of(tiny_bag), 'weights': weights, 'allow_unverified': True}
    config = from_mapping({**values, 'device': 'cpu', 'threads': 1, 'path_cost': small})
    out = folder / name
    params = prepare(ReplayPlan(bag=tiny_bag, out=out, config=config))
    return SoakPlan(
        bag=tiny_bag, out=out, params=params, log=out / 'nodes.log', config=config,
        rate_hz=RATE_HZ, seconds=seconds,
    )  # fmt: skip


def test_a_short_soak_accounts_for_every_fault_and_output_comes_back(folder, tiny_bag, weights):
    faults = []
    for number, (kind, target) in enumerate(CHOSEN):
        begin_s = FIRST_S + STEP_S * number
        faults.append(
            Fault(kind=kind, targets=(target,), begin_s=begin_s, end_s=begin_s + LENGTH_S)
        )
    told = []
    plan = plan_of(folder, tiny_bag, weights, 'short', FIRST_S + STEP_S * len(faults))
    recorded = soak(plan, faults, told.append)
    report = judge(recorded, RESUME_S)
    assert report['complaints'] == []
    assert report['faults_accounted'] == len(CHOSEN)
    assert len(recorded['samples']) > 15
    assert report['memory']['rss_now_mb'] > 50 and report['memory']['threads_now'] > 3
    assert recorded['messages']['detections'] > 50
    assert recorded['totals']['perception: gps/fix: dropped.bad_message'] > 0


def test_nodes_that_die_end_a_soak_with_their_death(folder, tiny_bag, weights, monkeypatch):
    plan = plan_of(folder, tiny_bag, weights, 'death', 60.0)
    has_begun, play = threading.Event(), SoakRun.play

    def tell_and_play(run, *arguments):
        has_begun.set()
        play(run, *arguments)

    monkeypatch.setattr(SoakRun, 'play', tell_and_play)

    def kill():
        # Not by the clock: nodes that die before the soak begins are another error.
        has_begun.wait(60)
        for path in Path('/proc').glob('[0-9]*/cmdline'):
            try:
                if str(plan.params).encode() in path.read_bytes():
                    os.kill(int(path.parent.name), signal.SIGKILL)
                    return
            except OSError:
                continue

    killer = threading.Thread(target=kill)
    killer.start()
    recorded = soak(plan, [], lambda _: None)
    killer.join()
    assert recorded['elapsed_s'] < 55
    (sentence,) = judge(recorded)['complaints']
    assert sentence.startswith('a node died: exit code -9')


def test_a_lap_is_thinned_out_and_as_long_as_its_sweeps_and_one_more(tiny_bag):
    topics = sensors_of(from_mapping({}))
    lap, length_s = load_lap(tiny_bag, topics, RATE_HZ)
    assert length_s == pytest.approx(NUM_SWEEPS / 10, abs=1e-6)
    assert count(lap, '/lidar/points') == count(lap, '/camera/image_raw') == NUM_SWEEPS
    thin, length_s = load_lap(tiny_bag, topics, 5.0)
    for topic in ('/lidar/points', '/camera/image_raw', '/camera/camera_info'):
        assert count(thin, topic) == NUM_SWEEPS / 2
    assert length_s == pytest.approx(NUM_SWEEPS / 10, abs=1e-6)
    assert count(thin, '/tf') == count(lap, '/tf') > NUM_SWEEPS
    assert all(one.due_s <= two.due_s for one, two in zip(lap, lap[1:], strict=False))
    sweep = next(one for one in lap if one.sensor == 'lidar')
    assert sweep.lag_ns == 1_000_000
    assert sensors_in(tiny_bag, from_mapping({})) == {'lidar', 'camera', 'gps', 'tf'}


def count(lap, topic):
    return sum(message.topic == topic for message in lap)


def recorded_of(tiny_bag, topic):
    lap, _ = load_lap(tiny_bag, sensors_of(from_mapping({})), RATE_HZ)
    return next(message for message in lap if message.topic == topic)


@pytest.mark.parametrize('topic', ['/lidar/points', '/gps/fix', '/camera/image_raw'])
def test_a_stamped_message_is_the_same_but_for_its_stamp(tiny_bag, topic):
    message, stamp_ns = recorded_of(tiny_bag, topic), 1_800_000_000_987_654_321
    data = stamped(message, stamp_ns)
    assert stamp_of(data) == stamp_ns
    assert data[12:] == bytes(message.data)[12:]


def test_a_stamped_transform_is_the_same_but_for_its_stamp(tiny_bag):
    from tf2_msgs.msg import TFMessage

    message = recorded_of(tiny_bag, '/tf')
    (one,) = deserialize_message(stamped(message, 7 * SECOND_NS + 5), TFMessage).transforms
    assert (one.header.stamp.sec, one.header.stamp.nanosec) == (7, 5)
    assert (one.header.frame_id, one.child_frame_id) == ('odom', 'base_link')


def test_every_kind_of_the_table_is_something_that_can_be_done():
    known = {*CHANGES, 'late', 'burst', 'clock_silent', *JUMP_S, *AWAY}
    assert set(EXPECTED) == known


def sweep():
    msg = cloud_msg(xyz(), step=12)
    return Recorded(
        sensor='lidar', topic='/lidar/points', type_name='sensor_msgs/msg/PointCloud2',
        data=serialize_message(msg), due_s=0.0, lag_ns=0,
    )  # fmt: skip


def test_a_fault_changes_its_sensor_only_and_counts_what_it_changed():
    meddler = Meddler('silent', ('camera',), 1)
    assert len(meddler.change(sweep(), BEGIN_NS, 0.0)) == 1
    assert meddler.injected == 0
    meddler = Meddler('silent', ('lidar',), 1)
    assert meddler.change(sweep(), BEGIN_NS, 0.0) == []
    assert meddler.injected == 1


def test_what_is_late_leaves_two_seconds_later_and_a_burst_all_at_once():
    late, burst = Meddler('late', ('lidar',), 1), Meddler('burst', ('lidar',), 1)
    for number in range(3):
        for meddler in (late, burst):
            stamp_ns = BEGIN_NS + number * PERIOD_NS
            assert meddler.change(sweep(), stamp_ns, 0.1 * number) == []
    assert [stamp_of(data) for _, data in late.release(2.15)] == [BEGIN_NS, BEGIN_NS + PERIOD_NS]
    assert len(late.release(float('inf'))) == 1
    assert burst.release(1e9) == []
    assert len(burst.release(float('inf'))) == 3
    assert burst.injected == 3


def test_every_third_message_of_a_regressing_sensor_is_set_back():
    meddler = Meddler('regressing', ('lidar',), 1)
    sent = [meddler.change(sweep(), BEGIN_NS, 0.0)[0] for _ in range(6)]
    assert [stamp_of(data) < BEGIN_NS for data in sent] == [False, False, True] * 2
    assert meddler.injected == 2


def test_lies_are_about_every_type_that_is_played_and_never_believed():
    assert {'PointCloud2', 'Image', 'CompressedImage', 'NavSatFix', 'Imu'} <= set(LIES)
    for lie in LIES['PointCloud2']:
        msg = cloud_msg(xyz(), step=12)
        lie(msg)
        with pytest.raises(ValueError):
            messages.cloud_from_msg(msg, from_mapping({}).lidar)


def test_a_cloud_of_numbers_that_are_none_is_read_as_empty():
    (data,) = Meddler('not_finite', ('lidar',), 1).change(sweep(), BEGIN_NS, 0.0)
    msg = deserialize_message(data, PointCloud2)
    assert len(messages.cloud_from_msg(msg, from_mapping({}).lidar).points) == 0
    (data,) = Meddler('empty', ('lidar',), 1).change(sweep(), BEGIN_NS, 0.0)
    assert len(deserialize_message(data, PointCloud2).data) == 0


def test_memory_and_threads_of_a_process_are_those_of_the_system():
    resident_mb, threads = usage(os.getpid())
    held = np.ones(10_000_000)
    assert usage(os.getpid())[0] > resident_mb + 70
    assert threads >= threading.active_count() > 0
    assert held.all()
