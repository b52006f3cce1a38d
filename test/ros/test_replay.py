# SPDX-License-Identifier: Apache-2.0
"""A bag through DDS into the nodes: no sweep is lost, bad input ends in one sentence."""

import json
import os
from pathlib import Path
import subprocess
import sys
from time import monotonic, sleep
from types import SimpleNamespace

from graph import save_weights
from mmperception.config import from_mapping
from mmperception.ros import bag
from mmperception.ros.observer import Observer
from mmperception.ros.player import Drop, in_play_order, message_class
from mmperception.ros.recording import write_recording
from mmperception.ros.replay_plan import drop_from_text, expects_grids, prepare, ReplayPlan
from mmperception.ros.stamps import stamp_of
from mmperception.ros.summary import dropped, faults
import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import PointCloud2
from tiny_drive import BEGIN_NS, PERIOD_NS, recording

NUM_SWEEPS = 16
# Of the replay with losses: the camera is gone from 0.15 s to 0.35 s, the LiDAR from 0.6 s on.
LOSSES = ['--drop', 'camera@0.15-0.35', '--drop', 'lidar@0.6-1.4']
SENT = [*range(6), *range(14, 16)]
# The LiDAR is silent for half a second before images stand in for sweeps.
IMAGE_PIVOTS = range(10, 14)
CONFIG = from_mapping({})


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('replay')


@pytest.fixture(scope='module')
def tiny_bag(folder):
    path = folder / 'tiny'
    write_recording(path, recording(NUM_SWEEPS))
    return path


@pytest.fixture(scope='module')
def params(folder):
    weights = save_weights(folder)
    path = folder / 'params.yaml'
    path.write_text(
        f'weights: {weights}\nallow_unverified: true\ndevice: cpu\nthreads: 1\n'
        'path_cost: {cells: 100, resolution_m: 0.2}\n'
    )
    return path


def run_replay(*arguments):
    """Run the verb in a process of its own, as a user would."""
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, '-m', 'mmperception.cli.main', 'replay', *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False, timeout=120
    )


def copy_of(source, path, is_kept):
    """Write a bag with some of the topics of another; return where."""
    with bag.BagWriter(path) as writer:
        for topic, kind, data, log_ns in bag.read_messages(source):
            if is_kept(topic):
                writer.write(topic, kind, data, log_ns)
    return path


def children_of(out):
    """Return the ids of processes that were started with the parameters of this replay."""
    found = []
    for path in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            if f'{out}/params.yaml'.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def assert_one_sentence(done, exit_code, *words):
    assert done.returncode == exit_code, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith('mmperception replay: '), done.stderr
    assert all(word in last for word in words), last
    assert 'Traceback' not in done.stderr


@pytest.fixture(scope='module')
def replayed(folder, tiny_bag, params):
    """Replay the tiny bag once, with sensors that are gone for a while."""
    out = folder / 'result'
    done = run_replay(tiny_bag, '--out', out, '--params', params, *LOSSES)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(
        done=done, out=out, summary=json.loads((out / 'summary.json').read_text())
    )


def test_no_sweep_is_lost_and_images_stand_in_while_the_lidar_is_gone(replayed):
    summary = replayed.summary
    assert summary['sweeps_in'] == summary['sweeps_processed'] == len(SENT)
    num_pivots = len(SENT) + len(IMAGE_PIVOTS)
    assert summary['pivots_in'] == summary['pivots_processed'] == num_pivots
    assert summary['mode'] == 'replay'
    assert summary['device'] == 'cpu'


def test_the_grid_says_that_the_lidar_is_gone_at_most_once(replayed):
    assert replayed.summary['path_cost_messages'] in (len(SENT), len(SENT) + 1)


def test_the_summary_has_the_promised_keys_and_no_others(replayed):
    assert set(replayed.summary) == {
        'sweeps_in', 'sweeps_processed', 'pivots_in', 'pivots_processed', 'detections', 'signs',
        'path_cost_messages', 'dropped', 'latency_ms', 'faults', 'device', 'weights', 'mode',
    }  # fmt: skip
    assert set(replayed.summary['detections']) == {'vehicle', 'pedestrian', 'cyclist'}
    for stage in ('total', 'network', 'stamp_to_publish', 'path_cost.total'):
        assert set(replayed.summary['latency_ms'][stage]) == {'p50', 'p99'}, stage


def test_the_recorded_output_holds_an_answer_to_every_sweep_and_what_is_needed_to_see_it(replayed):
    expected = {BEGIN_NS + n * PERIOD_NS for n in SENT}
    for topic in ('/detections', '/tracks', '/path_cost', '/obstacle_points', '/ground_points'):
        answers = [
            stamp_of(d) for _, _, d, _ in bag.read_messages(replayed.out / 'output', [topic])
        ]
        assert len(answers) == len(set(answers)), topic
        assert expected <= set(answers), topic
    images = {BEGIN_NS + n * PERIOD_NS + 10_000_000 for n in IMAGE_PIVOTS}
    detections = bag.read_messages(replayed.out / 'output', ['/detections'])
    assert {stamp_of(data) for _, _, data, _ in detections} == expected | images
    contents = bag.contents_of(replayed.out / 'output')
    assert {'/tf', '/tf_static', '/camera/image_raw/compressed'} <= set(contents.topics)
    assert contents.counts['/camera/image_raw/compressed'] == NUM_SWEEPS - 2
    assert contents.counts['/costmap_filter_info'] == 1


def test_results_stand_in_the_output_at_the_time_of_what_they_are_about(replayed, tiny_bag):
    begin_ns = bag.contents_of(tiny_bag).begin_ns
    for topic, _, data, log_ns in bag.read_messages(replayed.out / 'output'):
        assert log_ns >= begin_ns, topic
        if topic in ('/detections', '/path_cost', '/tracks', '/obstacle_points', '/signs_2d'):
            assert log_ns == stamp_of(data), topic
        if topic in ('/label_info', '/costmap_filter_info'):
            assert log_ns == begin_ns, topic


def test_a_replay_ends_with_the_absolute_paths_of_its_results_and_leaves_no_process(replayed):
    lines = replayed.done.stdout.strip().splitlines()
    for name in ('summary.json', 'overview.png', 'obstacles.geojson', 'signs.geojson', 'output'):
        path = (replayed.out / name).resolve()
        assert path.exists()
        assert str(path) in lines
    assert not children_of(replayed.out)


def test_results_that_are_there_are_kept_unless_forced(replayed, tiny_bag, params):
    done = run_replay(tiny_bag, '--out', replayed.out, '--params', params)
    assert_one_sentence(done, 1, 'exists', '--force')


def test_an_interrupted_replay_leaves_no_process_and_no_half_bag(folder, tiny_bag, params):
    out = folder / 'interrupted'
    command = [sys.executable, '-m', 'mmperception.cli.main', 'replay', tiny_bag, '--out', out]
    process = subprocess.Popen([*map(str, command), '--params', str(params)])
    try:
        assert wait_for(lambda: children_of(out) and (out / 'nodes.log').exists())
    finally:
        process.terminate()
    assert process.wait(30) == 130
    assert wait_for(lambda: not children_of(out))
    assert {path.name for path in out.iterdir()} == {'params.yaml', 'nodes.log', 'fastdds.xml'}


def wait_for(condition, timeout_s=30.0):
    deadline = monotonic() + timeout_s
    while not condition() and monotonic() < deadline:
        sleep(0.05)
    return condition()


def test_unreadable_weights_end_the_replay_with_the_reason(folder, tiny_bag):
    out = folder / 'no_weights'
    done = run_replay(tiny_bag, '--out', out, '--weights', folder / 'absent.safetensors')
    assert_one_sentence(done, 1, 'absent.safetensors')
    assert not children_of(out)


def test_an_unknown_parameter_is_wrong_use(folder, tiny_bag):
    path = folder / 'wrong.yaml'
    path.write_text('lidar: {stmp: middle}\n')
    done = run_replay(tiny_bag, '--out', folder / 'wrong', '--params', path)
    assert_one_sentence(done, 2, 'lidar.stmp', 'lidar.stamp')


def test_a_bag_without_transforms_is_refused(folder, tiny_bag):
    path = copy_of(tiny_bag, folder / 'no_tf', lambda topic: not topic.startswith('/tf'))
    done = run_replay(path, '--out', folder / 'no_tf_result')
    assert_one_sentence(done, 1, '/tf')


def test_a_bag_without_sweeps_and_images_is_refused_and_the_topics_named(folder, tiny_bag):
    path = copy_of(tiny_bag, folder / 'blind', lambda topic: topic.startswith('/tf'))
    done = run_replay(path, '--out', folder / 'blind_result')
    assert_one_sentence(done, 1, '/lidar/points', '/camera/image_raw')


def test_a_replay_of_which_no_sweep_was_processed_has_failed(folder, tiny_bag, params):
    path = copy_of(tiny_bag, folder / 'no_static', lambda topic: topic != '/tf_static')
    out = folder / 'no_static_result'
    done = run_replay(path, '--out', out, '--params', params)
    assert_one_sentence(done, 1, 'no sweep was processed', 'nodes.log')
    summary = json.loads((out / 'summary.json').read_text())
    assert summary['sweeps_processed'] == 0
    assert summary['dropped']['perception'] == {'no_transform': NUM_SWEEPS}


@pytest.mark.parametrize('place', ['file', 'file/below'])
def test_results_that_cannot_be_written_name_their_place(folder, tiny_bag, place):
    (folder / 'file').write_text('')
    done = run_replay(tiny_bag, '--out', folder / place, '--force')
    assert_one_sentence(done, 1, str(folder / place), '--out')


def test_results_of_an_earlier_run_are_not_taken_for_those_of_a_new_one(folder, tiny_bag):
    out = folder / 'stale'
    out.mkdir()
    for name in ('overview.mp4', 'summary.json', 'notes.txt'):
        (out / name).write_text('old')
    prepare(ReplayPlan(bag=tiny_bag, out=out, config=CONFIG, may_overwrite=True))
    assert {path.name for path in out.iterdir()} == {'notes.txt', 'params.yaml'}


@pytest.mark.parametrize('rate', ['0', '-1', 'nan', 'inf'])
def test_a_rate_that_is_none_is_wrong_use(folder, tiny_bag, rate):
    done = run_replay(tiny_bag, '--out', folder / 'rate', f'--rate={rate}')
    assert_one_sentence(done, 2, '--rate')


def plan_of(contents, topic='/none', *drops):
    """Return what decides about grids: a plan with drops, and a bag with one message."""
    counts = SimpleNamespace(has_odom=contents, counts={topic: 1})
    return SimpleNamespace(drops=drops), counts


def test_a_grid_is_expected_with_transforms_or_an_odometry_topic_that_is_played():
    drop = drop_from_text('odom', CONFIG)
    assert expects_grids(*plan_of(True))
    assert expects_grids(*plan_of(True, '/odom', drop))
    assert expects_grids(*plan_of(False, '/odom'))
    assert not expects_grids(*plan_of(False, '/odom', drop))
    assert not expects_grids(*plan_of(False))


def test_a_truncated_bag_is_refused_and_its_last_readable_stamp_named(folder, tiny_bag):
    path = folder / 'cut.mcap'
    whole = next(tiny_bag.glob('*.mcap')).read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    done = run_replay(path, '--out', folder / 'cut_result')
    assert_one_sentence(done, 1, 'truncated')


def test_an_empty_cloud_and_a_missing_calibration_are_no_errors(folder, tiny_bag, params):
    path, out = folder / 'poor', folder / 'poor_result'
    empty = PointCloud2()
    with bag.BagWriter(path) as writer:
        for topic, kind, data, log_ns in bag.read_messages(tiny_bag):
            if topic == '/camera/camera_info':
                continue
            if topic == '/lidar/points' and stamp_of(data) == BEGIN_NS + 2 * PERIOD_NS:
                data = serialize_message(emptied(data, empty))
            writer.write(topic, kind, data, log_ns)
    done = run_replay(path, '--out', out, '--params', params)
    assert done.returncode == 0, done.stderr
    summary = json.loads((out / 'summary.json').read_text())
    assert summary['sweeps_processed'] == NUM_SWEEPS
    assert summary['dropped']['camera/image_raw'] == {'masked': NUM_SWEEPS}
    assert {'topic': 'lidar/points', 'kind': 'empty', 'count': 1, 'max_ms': 0} in summary['faults']
    assert 'no camera_info on camera/camera_info' in done.stderr


def test_with_neither_camera_nor_lidar_nothing_is_processed_and_both_are_named(
    folder, tiny_bag, params
):
    out = folder / 'blindfolded'
    losses = ('--drop', 'camera', '--drop', 'lidar')
    done = run_replay(tiny_bag, '--out', out, '--params', params, *losses)
    assert done.returncode == 0, done.stderr
    summary = json.loads((out / 'summary.json').read_text())
    assert [summary[key] for key in ('sweeps_in', 'sweeps_processed', 'pivots_in')] == [0, 0, 0]
    named = {(one['topic'], one['kind']) for one in summary['faults']}
    for topic in ('lidar/points', 'camera/image_raw', 'camera/camera_info'):
        assert (topic, 'missing') in named
        assert f'[perception]: {topic}: nothing has come' in done.stdout
    assert '[path_cost]: lidar/points: nothing has come' in done.stdout


def test_live_output_is_back_within_a_second_of_the_sensor(folder, params):
    """At double rate, so that what is said in seconds of the bag lasts half as long."""
    path, out, rate, back_s = folder / 'long', folder / 'long_result', 2.0, 3.0
    write_recording(path, recording(40))
    options = ('--mode', 'live', '--rate', rate, '--drop', 'lidar@1-3')
    done = run_replay(path, '--out', out, '--params', params, *options)
    assert done.returncode == 0, done.stderr
    begin_ns = bag.contents_of(path).begin_ns
    for topic in ('/path_cost', '/detections'):
        said_s = [
            (log_ns - begin_ns) / 1e9
            for _, _, data, log_ns in bag.read_messages(out / 'output', [topic])
            if stamp_of(data) - begin_ns >= back_s * 1e9
        ]
        assert said_s and min(said_s) < back_s + rate * 1.0, topic


def emptied(data, empty):
    from rclpy.serialization import deserialize_message

    full = deserialize_message(data, PointCloud2)
    empty.header, empty.fields, empty.point_step = full.header, full.fields, full.point_step
    empty.height = 1
    return empty


def test_small_inputs_leave_early_and_everything_else_keeps_its_order():
    log = [('sweep', 0), ('fix', 1), ('sweep', 10), ('fix', 11), ('sweep', 20)]
    messages = [(name, name, b'', ns) for name, ns in log]
    played = [(name, ns) for name, _, _, ns in in_play_order(messages, {'fix': 5})]
    assert played == [('fix', 1), ('sweep', 0), ('fix', 11), ('sweep', 10), ('sweep', 20)]
    assert list(in_play_order([], {'fix': 5})) == []
    assert [m[3] for m in in_play_order(messages, {})] == [0, 1, 10, 11, 20]


@pytest.mark.parametrize(
    ('text', 'since_s', 'is_hidden'),
    [
        ('lidar', 0.0, True),
        ('lidar', 99.0, True),
        ('lidar@2-4.5', 1.9, False),
        ('lidar@2-4.5', 4.5, True),
        ('lidar@2-4.5', 4.6, False),
    ],
)
def test_a_sensor_is_withheld_between_its_times(text, since_s, is_hidden):
    drop = drop_from_text(text, CONFIG)
    assert drop.hides('/lidar/points', since_s) == is_hidden
    assert not drop.hides('/gps/fix', since_s)


def test_a_dropped_camera_takes_image_and_calibration_with_it():
    drop = drop_from_text('camera', CONFIG)
    assert drop == Drop(
        topics=('/camera/image_raw', '/camera/image_raw/compressed', '/camera/camera_info')
    )


@pytest.mark.parametrize('text', ['sonar', 'lidar@4-2', 'lidar@2', 'lidar@1.2.3-4', ''])
def test_what_cannot_be_withheld_is_named(text):
    with pytest.raises(ValueError, match='--drop'):
        drop_from_text(text, CONFIG)


def test_a_type_that_is_not_installed_is_named():
    assert message_class('sensor_msgs/msg/PointCloud2') is PointCloud2
    for name in ('no_such_msgs/msg/Thing', 'sensor_msgs/msg/NoSuchThing'):
        with pytest.raises(LookupError, match=name):
            message_class(name)


def test_the_stamp_of_a_serialised_message_is_found_in_either_byte_order():
    cloud = PointCloud2()
    cloud.header.stamp.sec, cloud.header.stamp.nanosec = 1_700_000_000, 123_456_789
    data = serialize_message(cloud)
    assert stamp_of(data) == 1_700_000_000_123_456_789
    swapped = b'\0\0\0\0' + data[4:8][::-1] + data[8:12][::-1]
    assert stamp_of(swapped) == 1_700_000_000_123_456_789
    with pytest.raises(ValueError, match='too short'):
        stamp_of(data[:11])


def test_drops_and_faults_are_read_out_of_the_diagnostics():
    statuses = {
        'perception: lidar/points': {
            'dropped.late': 3, 'dropped.reset': 0, 'fault.jump.count': 1, 'fault.jump.max_ms': 9.5,
        },
        'perception: pipeline': {'dropped.no_transform': 2, 'superseded': 4},
        'path_cost: lidar/points': {
            'dropped.late': 2, 'fault.jump.count': 1, 'fault.jump.max_ms': 9.25,
        },
        'perception: gps/fix': {'rate_hz': 9.9},
    }  # fmt: skip
    assert dropped(statuses) == {
        'lidar/points': {'late': 3},
        'perception': {'no_transform': 2, 'superseded': 4},
    }
    assert faults(statuses) == [
        {'topic': 'lidar/points', 'kind': 'jump', 'count': 1, 'max_ms': 9.5}
    ]
    assert dropped({}) == {}
    assert faults({}) == []


def test_a_sweep_is_in_flight_until_both_nodes_have_answered_or_dropped_it():
    node = SimpleNamespace(create_subscription=lambda *arguments, **options: None)
    observer = Observer(node, lambda *_: None, has_odom=True)
    observer.expect(1)
    observer.expect(2)
    assert observer.num_in_flight() == 2
    observer.sweeps[1].done = {'perception', 'path_cost'}
    observer.sweeps[2].done, observer.sweeps[2].dropped = {'perception'}, {'path_cost'}
    assert observer.num_in_flight() == 0
    observer.begin_loop()
    assert observer.counts()['sweeps_in'] == 2
    assert observer.counts()['sweeps_processed'] == 1
