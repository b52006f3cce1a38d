# SPDX-License-Identifier: Apache-2.0
"""Every fault of a time line has a name, a count and a size."""

from mmperception.stamp_watch import constant_skew, Silence, StampWatch
import pytest

MS = 1_000_000
T0 = 1_700_000_000_123_456_789


def feed(watch, steps_ms, elapsed_ms=None):
    """Send messages at these times; return the verdicts."""
    verdicts = []
    for index, at in enumerate(steps_ms):
        stamp_ns = T0 + at * MS if at is not None else 0
        now_ns = (at if elapsed_ms is None else elapsed_ms[index]) or 0
        verdicts.append(watch.inspect(stamp_ns, now_ns * MS))
        if verdicts[-1] == 'jump':
            watch.start_over()
        if verdicts[-1] in ('keep', 'jump'):
            watch.note(stamp_ns, now_ns * MS)
    return verdicts


@pytest.mark.parametrize(
    ('steps_ms', 'verdict', 'kind', 'max_ms'),
    [
        ([0, 100, None], 'zero_stamp', 'zero_stamp', 0),
        ([0, 100, 200, 100], 'duplicate', 'duplicate', 100),
        ([0, 100, 200, 150], 'keep', 'regressing', 50),
        ([*range(0, 1200, 100), 1500], 'keep', 'gap', 400),
        ([*range(5000, 9000, 100), 5050], 'jump', 'loop', 3850),
        ([*range(5000, 9000, 100), 7500], 'jump', 'jump', 1400),
        ([*range(5000, 9000, 100), -60_000], 'jump', 'jump', 68_900),
    ],
)
def test_what_is_wrong_with_a_stamp_is_named_and_measured(steps_ms, verdict, kind, max_ms):
    watch = StampWatch()
    assert feed(watch, steps_ms)[-1] == verdict
    assert {k: (f.count, f.max_ns // MS) for k, f in watch.faults.items()} == {kind: (1, max_ms)}


def test_a_healthy_time_line_has_no_fault():
    watch = StampWatch()
    assert set(feed(watch, range(0, 5000, 100))) == {'keep'}
    assert watch.faults == {}


def test_a_clock_that_was_set_forward_is_a_jump_and_lost_messages_are_a_gap():
    watch, regular = StampWatch(), list(range(0, 2000, 100))
    feed(watch, [*regular, 62_000], [*regular, 2000])
    assert set(watch.faults) == {'jump'}
    watch = StampWatch()
    feed(watch, [*regular, 62_000], [*regular, 62_000])
    assert set(watch.faults) == {'gap'}


def test_a_sensor_that_dies_is_named_once_and_its_return_with_how_long_it_was_away():
    silence = Silence(1000 * MS)
    for at in range(0, 5000, 100):
        assert silence.heard(at * MS, at * MS) == 0
    assert silence.begins(5800 * MS, 5800 * MS) == 0
    assert silence.begins(5950 * MS, 5950 * MS) == 1050 * MS
    assert silence.begins(6950 * MS, 6950 * MS) == 0
    assert silence.heard(15_900 * MS, 15_900 * MS) == 11_000 * MS
    assert not silence.is_silent


def test_a_silence_that_nobody_looked_at_is_known_from_the_message_that_ends_it():
    silence = Silence(1000 * MS)
    for at in range(0, 5000, 100):
        silence.heard(at * MS, at * MS)
    assert silence.heard(7000 * MS, 7000 * MS) == 2100 * MS


def test_a_slow_sensor_is_not_called_dead():
    silence = Silence(1000 * MS)
    for at in range(0, 60_000, 2000):
        assert silence.begins((at - 1) * MS, (at - 1) * MS) == 0
        assert silence.heard(at * MS, at * MS) == 0
    assert silence.begins(62_900 * MS, 62_900 * MS) == 0
    assert silence.begins(63_100 * MS, 63_100 * MS) == 5100 * MS


def test_an_exact_limit_holds_from_the_first_message_on_and_for_a_slow_sensor_too():
    silence = Silence(500 * MS, is_exact=True)
    assert silence.is_unheard
    for at in range(0, 20_000, 2000):
        assert silence.heard(at * MS, at * MS) == (2000 * MS if at else 0)
        assert not silence.is_unheard and not silence.is_silent
        assert silence.begins((at + 500) * MS, (at + 500) * MS) == 0
        assert silence.begins((at + 501) * MS, (at + 501) * MS) == 501 * MS
        assert silence.is_silent and silence.begins((at + 900) * MS, (at + 900) * MS) == 0
    silence.start_over()
    assert silence.is_unheard and not silence.is_silent


def test_a_clock_that_leaps_alone_or_stands_still_alone_is_no_silence():
    silence = Silence(1000 * MS)
    for at in range(0, 5000, 100):
        silence.heard(at * MS, at * MS)
    assert silence.begins(65_000 * MS, 5000 * MS) == 0  # played time ran ahead
    assert silence.begins(5000 * MS, 65_000 * MS) == 0  # the player waits


def test_what_was_never_heard_is_not_silent():
    assert Silence(1000 * MS).begins(10**15, 10**15) == 0


def test_a_skew_that_is_always_the_same_is_found_with_its_sign():
    skews = [40 * MS + n % 5 * MS for n in range(50)]
    assert constant_skew(skews) == (42 * MS, 4 * MS)
    assert constant_skew([-s for s in skews])[0] == -42 * MS


@pytest.mark.parametrize(
    'skews_ms',
    [
        [40] * 29,  # too few
        [(n * 7) % 100 - 50 for n in range(50)],  # a camera that runs freely
        [3] * 50,  # a shutter
        range(0, 5000, 100),  # a camera that died: the nearest is ever farther away
        [],
    ],
)
def test_what_varies_or_is_small_is_no_constant_skew(skews_ms):
    assert constant_skew([s * MS for s in skews_ms])[0] is None
