# SPDX-License-Identifier: Apache-2.0
"""What an input's status says, and which lines of the log follow from it."""

from diagnostic_msgs.msg import DiagnosticStatus
from mmperception.config import Config
from mmperception.ros.diagnostics import status, values_of
from mmperception.ros.fault_log import FaultLog, WORDS
from mmperception.ros.meter import Meter, Moment
from mmperception.stamp_watch import StampWatch
import pytest

SECOND = 1_000_000_000
T0 = 1_700_000_000 * SECOND


def at(clock_ns, steady_ns):
    return Moment(clock_ns, steady_ns, T0 if clock_ns else 0)


def heard(meter, begin, end, step=SECOND // 10):
    for time in range(begin, end, step):
        meter.add(T0 + time, at(T0 + time, time))


def test_a_dead_input_is_named_in_its_status_and_forgotten_when_it_is_back():
    meter = Meter(Config(), StampWatch())
    heard(meter, 0, 3 * SECOND)
    then = 12 * SECOND
    dead = meter.report('perception: imu/data', at(T0 + then, then))
    assert (dead.level, dead.message.split(':')[0]) == (
        DiagnosticStatus.WARN,
        'silent for 9100 ms',
    )
    values = values_of(dead)
    assert (values['rate_hz'], values['fault.silent.count']) == (0.0, 1)
    heard(meter, then, then + 2 * SECOND)
    alive = meter.report('perception: imu/data', at(T0 + then + 2 * SECOND, then + 2 * SECOND))
    values = values_of(alive)
    assert (alive.level, alive.message) == (DiagnosticStatus.OK, 'receiving')
    assert values['fault.silent.max_ms'] == values['fault.back.max_ms'] == 9100.0
    assert (values['fault.silent.count'], values['fault.back.count']) == (1, 1)


def test_calibration_that_is_sent_once_is_never_called_silent_or_old():
    meter = Meter(Config(), may_rest=True)
    meter.add(T0, at(T0, 0))
    report = meter.report('perception: camera/camera_info', at(T0 + 3600 * SECOND, 3600 * SECOND))
    assert (report.level, report.message) == (DiagnosticStatus.OK, 'receiving')
    assert not [key for key in values_of(report) if key.startswith('fault')]


@pytest.mark.parametrize('verdict', ['duplicate', 'zero_stamp'])
def test_what_must_be_left_out_is_counted_as_dropped_and_as_a_fault(verdict):
    meter = Meter(Config(), StampWatch())
    heard(meter, 0, SECOND)
    stamp_ns = T0 if verdict == 'duplicate' else 0
    assert meter.add(stamp_ns, at(T0 + SECOND, SECOND)) == verdict
    values = values_of(meter.report('perception: gps/fix', at(T0 + SECOND, SECOND)))
    assert values[f'dropped.{verdict}'] == values[f'fault.{verdict}.count'] == 1


def test_an_input_that_was_never_heard_is_stale():
    meter = Meter(Config(), StampWatch())
    report = meter.report('perception: gps/fix', at(0, 0))  # played time has not begun
    assert (report.level, report.message) == (DiagnosticStatus.STALE, 'nothing received')
    meter.report('perception: gps/fix', at(T0, SECOND))
    assert not meter.faults
    for seconds in (2, 5):
        report = meter.report('perception: gps/fix', at(T0 + seconds * SECOND, SECOND))
    values = values_of(report)
    assert (values['fault.missing.count'], values['fault.missing.max_ms']) == (1, 5000.0)


def test_what_a_robot_may_lack_is_never_called_missing():
    meter = Meter(Config(), StampWatch(), may_lack=True)
    for seconds in range(10):
        meter.report('perception: odom', at(T0 + seconds * SECOND, seconds * SECOND))
    assert not meter.faults


def test_in_mode_replay_fixes_sent_ahead_of_their_time_are_not_called_silent_at_the_end():
    meter = Meter(Config(mode='replay'), StampWatch())
    for tenths in range(50):
        stamp_ns = T0 + tenths * SECOND // 10
        meter.add(stamp_ns, at(max(T0, stamp_ns - 2 * SECOND), 0))
    meter.report('perception: gps/fix', at(T0 + 5 * SECOND, 60 * SECOND))  # a slow machine
    assert not meter.faults
    meter.report('perception: gps/fix', at(T0 + 9 * SECOND, 60 * SECOND))
    assert meter.faults['silent'].max_ns == 4_100 * SECOND // 1000


def said_of(kind, **values):
    """Return the lines that two reports of a fault, counted once and then again, lead to."""
    lines = []
    log = FaultLog(lines.append)
    for count in (1, 1, 2):
        facts = {f'fault.{kind}.count': count, f'fault.{kind}.last_ms': 1234.0, **values}
        log.say([status('perception: camera/image_raw', DiagnosticStatus.OK, '', facts)])
    return lines


@pytest.mark.parametrize('kind', WORDS)
def test_every_kind_of_fault_has_words_that_name_the_topic_and_come_once(kind):
    suggestion = {'constant_skew_ms': 40.0, 'suggested': 'cameras.camera.offset_ms: -40.0'}
    (line,) = said_of(kind, **suggestion)  # the second time comes too soon for a line of its own
    assert line.startswith('camera/image_raw: ')
    sized = ('future', 'regressing', 'gap', 'jump', 'loop', 'late', 'missing', 'silent', 'back')
    assert ('1234 ms' in line) == (kind in sized)


def test_a_constant_skew_is_said_with_the_setting_that_mends_it():
    (line,) = said_of(
        'constant_skew', constant_skew_ms=40.0, suggested='cameras.camera.offset_ms: -40.0'
    )
    assert 'always +40.0 ms from the sweep' in line
    assert 'cameras.camera.offset_ms: -40.0 mends it' in line
