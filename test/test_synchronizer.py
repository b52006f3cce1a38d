# SPDX-License-Identifier: Apache-2.0
"""Streams with known answers: late, doubled, backwards, absent; and the optimum for all others."""

from concurrent.futures import ThreadPoolExecutor
import random

from mmperception.synchronizer import InputSpec, Synchronizer
import pytest

MS = 1_000_000
T0 = 1_317_384_506_400_000_123  # 19 digits: floats would lose the last ones


def make(mode='live', camera=None, others=(), **settings):
    camera = camera or InputSpec(name='camera', tolerance_ns=60 * MS)
    lidar = InputSpec(name='lidar')
    return Synchronizer(lidar, (camera, *others), mode=mode, **settings)


def feed(sync, messages):
    """Add (name, ms after T0[, steady ms]) in order; the payload is the ms. Gather the sets."""
    sets = []
    for name, at_ms, *steady in messages:
        now_ns = (steady[0] if steady else at_ms) * MS
        sets += sync.add(name, T0 + at_ms * MS, at_ms, now_ns)
    return sets


def pairs(sets, name='camera'):
    return [(s.payload, s.members[name] and s.members[name].payload) for s in sets]


def test_the_nearest_image_is_taken_also_when_it_comes_after_the_sweep():
    sync = make()
    assert feed(sync, [('camera', 970), ('lidar', 1000)]) == []
    (matched,) = feed(sync, [('camera', 1010)])
    assert (matched.payload, matched.members['camera'].payload) == (1000, 1010)
    assert matched.stamp_ns == T0 + 1000 * MS
    assert matched.members['camera'].stamp_ns == 1_317_384_507_410_000_123
    assert matched.skew_ns == {'camera': 10 * MS}
    assert matched.waited_ns == 10 * MS
    assert (matched.pivot, matched.missing) == ('lidar', {})


def test_of_two_images_equally_near_the_earlier_is_taken():
    assert pairs(feed(make(), [('camera', 980), ('lidar', 1000), ('camera', 1020)])) == [
        (1000, 980)
    ]


def test_the_offset_is_added_to_the_stamp_before_matching():
    camera = InputSpec(name='camera', offset_ns=40 * MS, tolerance_ns=20 * MS)
    (matched,) = feed(make(camera=camera), [('camera', 950), ('lidar', 1000), ('camera', 1000)])
    assert matched.members['camera'].payload == 950
    assert matched.skew_ns == {'camera': -10 * MS}


def test_an_image_may_serve_two_sweeps():
    sets = feed(make(), [('lidar', 1000), ('lidar', 1050), ('camera', 1020), ('camera', 1200)])
    assert pairs(sets) == [(1000, 1020), (1050, 1020)]


def test_an_image_outside_the_tolerance_is_missing_and_says_how_far_it_is():
    (matched,) = feed(make(), [('camera', 900), ('lidar', 1000), ('camera', 1061)])
    assert matched.members == {'camera': None}
    assert matched.missing == {'camera': 'nearest is +61.0 ms away'}
    assert matched.skew_ns == {}


def test_an_image_exactly_at_the_tolerance_still_counts():
    assert pairs(feed(make(), [('lidar', 1000), ('camera', 1060)])) == [(1000, 1060)]


def test_without_any_image_the_sweep_is_given_out_when_the_wait_is_over():
    sync = make(max_wait_ns=150 * MS)
    assert feed(sync, [('lidar', 1000, 5000)]) == []
    assert sync.poll(5149 * MS) == []
    (matched,) = sync.poll(5150 * MS)
    assert matched.missing == {'camera': 'nothing received'}
    assert matched.waited_ns == 150 * MS


def test_nothing_in_gives_nothing_out():
    sync = make()
    assert (sync.poll(10), sync.flush(20)) == ([], [])
    assert sync.faults() == {'lidar': {}, 'camera': {}}
    assert sync.statistics()['lidar']['rate_hz'] == 0.0


def test_without_a_required_image_the_sweep_is_dropped_and_counted():
    camera = InputSpec(name='camera', tolerance_ns=60 * MS, required=True)
    sync = make(camera=camera)
    sets = feed(sync, [('lidar', 1000), ('camera', 1090), ('lidar', 1100), ('camera', 1190)])
    assert pairs(sets) == [(1100, 1090)]
    assert sync.statistics()['lidar']['dropped'] == {'without camera': 1}


def test_a_known_period_settles_the_sweep_before_the_next_image_comes():
    camera = InputSpec(name='camera', tolerance_ns=60 * MS, min_period_ns=95 * MS)
    assert pairs(feed(make(camera=camera), [('camera', 990), ('lidar', 1000)])) == [(1000, 990)]


def test_a_known_period_does_not_settle_while_a_nearer_image_is_possible():
    camera = InputSpec(name='camera', tolerance_ns=60 * MS, min_period_ns=95 * MS)
    assert feed(make(camera=camera), [('camera', 950), ('lidar', 1000)]) == []


def test_a_measured_regular_period_shortens_the_wait():
    sync = make()
    feed(sync, [('camera', 100 * i) for i in range(1, 15)])
    assert pairs(feed(sync, [('lidar', 1410)])) == [(1410, 1400)]


def test_an_irregular_stream_is_not_trusted_to_keep_its_period():
    sync = make()
    feed(
        sync, [('camera', at) for at in (0, 100, 130, 230, 260, 360, 390, 490, 520, 620, 650, 750)]
    )
    assert feed(sync, [('lidar', 755)]) == []


def test_in_replay_a_wait_never_ends_while_messages_flow():
    other = InputSpec(name='rear', tolerance_ns=60 * MS)
    sync = make('replay', others=(other,))
    sets = feed(sync, [(n, at) for at in range(1000, 3000, 100) for n in ('lidar', 'camera')])
    assert sets == []
    assert sync.poll(2_900 * MS) == []
    flushed = sync.flush(3_000 * MS)
    assert pairs(flushed) == [(at, at) for at in range(1000, 3000, 100)]
    assert {s.missing['rear'] for s in flushed} == {'nothing received'}


def test_in_replay_a_player_that_waits_for_an_answer_is_not_waited_for_for_ever():
    """A bag without images, played with back-pressure, must not stand still."""
    sync = make('replay')
    assert feed(sync, [('lidar', 1000), ('lidar', 1100)]) == []
    assert sync.poll(5_000 * MS) == []  # one poll after a frozen moment proves nothing
    sync.poll(5_010 * MS)
    assert pairs(sync.poll(5_020 * MS)) == [(1000, None), (1100, None)]
    assert pairs(feed(sync, [('lidar', 1200, 5_030), ('lidar', 1300, 5_040)])) == [(1200, None)]
    assert pairs(feed(sync, [('camera', 1290, 5_050)])) == []  # heard again: waited for again
    assert pairs(feed(sync, [('lidar', 1400, 5_060), ('camera', 1390, 5_070)])) == [(1300, 1290)]


def test_a_doubled_message_is_dropped_and_the_first_is_kept():
    sync = make()
    sync.add('camera', T0, 'first', 0)
    sync.add('camera', T0, 'second', 1)
    (matched,) = sync.add('lidar', T0, 'sweep', 2)
    assert matched.members['camera'].payload == 'first'
    assert sync.add('lidar', T0, 'sweep again', 3) == []
    faults = sync.faults()
    assert faults['camera']['duplicate'].count == faults['lidar']['duplicate'].count == 1
    assert sync.statistics()['camera']['dropped'] == {'duplicate': 1}


def test_a_doubled_message_is_known_also_after_its_set_is_gone():
    sync = make()
    feed(sync, [(n, at) for at in (1000, 1100, 1200) for n in ('camera', 'lidar')])
    feed(sync, [('camera', 1000)])
    assert sync.faults()['camera']['duplicate'].count == 1


def test_a_zero_stamp_is_dropped_and_counted():
    sync = make()
    assert sync.add('lidar', 0, 'sweep', 0) == []
    assert sync.flush(1) == []
    assert sync.faults()['lidar']['zero_stamp'].count == 1


def test_a_message_out_of_order_is_still_matched_and_its_step_back_is_measured():
    sync = make()
    sent = [('lidar', 1000), ('camera', 960), ('camera', 930), ('camera', 1050), ('camera', 1075)]
    sets = feed(sync, sent)
    assert pairs(sets) == [(1000, 960)]
    fault = sync.faults()['camera']['regressing']
    assert (fault.count, fault.max_ns) == (1, 30 * MS)


def test_a_sweep_older_than_the_last_set_is_late_and_output_never_goes_back():
    sync = make()
    sets = feed(sync, [('lidar', 1000), ('camera', 1000), ('lidar', 950)])
    assert pairs(sets) == [(1000, 1000)]
    assert sync.statistics()['lidar']['dropped'] == {'late': 1}


def test_sweeps_out_of_order_that_still_wait_are_given_out_in_order():
    assert pairs(feed(make(), [('lidar', 1050), ('lidar', 1000), ('camera', 1051)])) == [
        (1000, 1051),
        (1050, 1051),
    ]


def test_an_image_that_comes_after_its_set_was_given_out_is_late_by_name_and_time():
    sync = make(max_wait_ns=150 * MS)
    feed(sync, [('lidar', 1000, 0)])
    assert len(sync.poll(150 * MS)) == 1
    feed(sync, [('camera', 1010, 190)])
    fault = sync.faults()['camera']['late']
    assert (fault.count, fault.max_ns) == (1, 40 * MS)


def test_an_image_farther_than_the_one_used_is_not_called_late():
    sync = make()
    feed(sync, [('camera', 1000), ('lidar', 1000), ('camera', 1040)])
    assert 'late' not in sync.faults()['camera']


def test_a_loop_of_the_recording_starts_over_and_loses_no_set_of_the_new_round():
    sync = make('replay')
    sweep = [(n, at) for at in range(10_000, 12_000, 100) for n in ('lidar', 'camera')]
    first = feed(sync, sweep)
    second = feed(sync, [('camera', 9_990), *sweep]) + sync.flush(0)
    assert len(first) == 20
    assert pairs(second)[0] == (10_000, 10_000)
    assert [s.payload for s in second] == list(range(10_000, 12_000, 100))
    fault = sync.faults()['lidar']['loop']
    assert (fault.count, fault.max_ns) == (1, 1_900 * MS)
    assert sync.resets == {'jump': 1}


def test_what_waits_is_given_out_before_a_jump():
    sync = make('replay')
    feed(sync, [('camera', 9_960), ('lidar', 10_000)])
    assert pairs(feed(sync, [('lidar', 2_000)])) == [(10_000, 9_960)]


def test_a_clock_that_was_set_forward_is_a_jump_and_a_silent_sensor_is_a_gap():
    sync = make()
    feed(sync, [('camera', 100 * i) for i in range(20)])
    feed(sync, [('camera', 61_900, 2_000)])
    feed(sync, [('camera', 62_600, 2_700)])
    faults = sync.faults()['camera']
    assert (faults['jump'].count, faults['jump'].max_ns) == (1, 60_000 * MS)
    assert (faults['gap'].count, faults['gap'].max_ns) == (1, 700 * MS)


def test_a_dead_pivot_does_not_let_memory_grow():
    sync = make(buffer=8)
    feed(sync, [('camera', 33 * i) for i in range(100)])
    assert sync.statistics()['camera']['dropped'] == {'overflow': 92}


def test_when_too_many_sweeps_wait_the_oldest_is_given_out_not_lost():
    sync = make('replay', buffer=4)
    sets = feed(sync, [('lidar', 100 * i) for i in range(1, 11)])
    assert [s.payload for s in sets] == [100, 200, 300, 400, 500, 600]


def with_fallback(mode):
    return make(mode, fallback_pivot='camera', fallback_after_ns=500 * MS)


def test_live_the_camera_becomes_the_pivot_when_the_lidar_is_silent():
    sync = with_fallback('live')
    feed(sync, [('lidar', 1000), ('camera', 1000)])
    assert feed(sync, [('camera', at) for at in (1100, 1200, 1300, 1400, 1500)]) == []
    (matched,) = feed(sync, [('camera', 1600)])
    assert (matched.pivot, matched.payload) == ('camera', None)
    assert matched.stamp_ns == T0 + 1600 * MS
    assert matched.members['camera'].payload == 1600
    assert matched.missing == {'lidar': 'silent'}


def test_live_the_lidar_takes_the_pivot_back_at_once():
    sync = with_fallback('live')
    feed(sync, [('camera', at) for at in range(0, 1000, 100)])
    sets = feed(sync, [('lidar', 1010), ('camera', 1020), ('camera', 1100)])
    assert [(s.pivot, s.payload) for s in sets] == [('lidar', 1010)]


def test_in_replay_silence_is_judged_by_stamps_and_a_sweep_that_is_back_is_not_lost():
    sync = with_fallback('replay')
    feed(sync, [('lidar', 1000, 0), ('camera', 1010, 0)])
    cameras = [('camera', at, 0) for at in range(1110, 2010, 100)]
    sets = feed(sync, [*cameras, ('lidar', 2000, 0), ('camera', 2010, 0), ('camera', 2110, 0)])
    assert [(s.pivot, (s.stamp_ns - T0) // MS) for s in sets] == [
        ('camera', at) for at in range(1510, 2010, 100)
    ] + [('lidar', 2000)]


def test_in_replay_a_sweep_of_the_same_moment_goes_before_the_image_that_waits():
    sync = with_fallback('replay')
    feed(sync, [('camera', at, 0) for at in range(1000, 2000, 100)])
    sets = feed(sync, [('lidar', 1890, 0), ('camera', 2000, 0)])
    assert [(s.pivot, s.payload) for s in sets] == [('lidar', 1890)]
    assert sets[0].members['camera'].payload == 1900


def test_reset_forgets_messages_and_keeps_counts():
    sync = make()
    feed(sync, [('camera', 1000), ('camera', 1000), ('lidar', 1010)])
    sync.reset('deactivated')
    assert sync.flush(0) == []
    assert pairs(feed(sync, [('lidar', 500), ('camera', 510)])) == [(500, 510)]
    assert sync.faults()['camera']['duplicate'].count == 1
    assert sync.resets == {'deactivated': 1}


def test_statistics_name_rate_skew_and_what_was_not_used():
    sync = make()
    feed(sync, [(n, at) for at in range(0, 3000, 100) for n in ('camera', 'lidar')])
    feed(sync, [('camera', 3000), ('camera', 3050), ('camera', 3080), ('lidar', 3081)])
    feed(sync, [('camera', 3100)])
    camera = sync.statistics()['camera']
    assert camera['received'] == 34
    assert camera['matched'] == 31
    assert 10.0 < camera['rate_hz'] < 11.0
    assert camera['newest_stamp_ns'] == T0 + 3100 * MS
    assert (camera['skew_p50_ns'], camera['skew_max_ns']) == (0, 1 * MS)
    assert camera['dropped'] == {'unmatched': 2}


def test_an_unknown_input_is_named():
    with pytest.raises(LookupError, match="'radar' is none of lidar, camera"):
        make().add('radar', T0, None, 0)


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match='fallback_pivot'):
        make(fallback_pivot='radar')
    with pytest.raises(ValueError, match='doubled'):
        make(others=(InputSpec(name='camera'),))
    with pytest.raises(ValueError, match='mode'):
        make(mode='fast')


def best(pivot_ns, stamps, tolerance_ns):
    inside = [s for s in stamps if abs(s - pivot_ns) <= tolerance_ns]
    return min(inside, key=lambda s: (abs(s - pivot_ns), s), default=None)


def jittered(rng, period_ms, end_ms, loss):
    stamps = [at + rng.uniform(-0.2, 0.2) * period_ms for at in range(0, end_ms, period_ms)]
    return [T0 + int(s * MS) + rng.randrange(MS) for s in stamps if rng.random() > loss]


@pytest.mark.parametrize('mode', ['live', 'replay'])
@pytest.mark.parametrize('seed', range(25))
def test_every_set_is_the_optimum_when_every_message_is_in_time(mode, seed):
    """Random rates, jitter, loss and delays below the wait, each stream in order."""
    rng = random.Random(seed)
    specs = [InputSpec(name=n, tolerance_ns=rng.randrange(5, 80) * MS) for n in 'abc']
    sync = Synchronizer(InputSpec(name='lidar'), tuple(specs), mode=mode, max_wait_ns=250 * MS)
    stamps = {'lidar': jittered(rng, 100, 5000, 0.05)}
    stamps |= {s.name: jittered(rng, rng.choice([33, 50, 100]), 5000, 0.1) for s in specs}
    arrivals = []
    for name, column in stamps.items():
        latest = 0
        for stamp in column:
            latest = max(latest, stamp + rng.randrange(100 * MS))
            arrivals.append((latest, stamp, name))
    sets = [s for now, stamp, name in sorted(arrivals) for s in sync.add(name, stamp, stamp, now)]
    sets += sync.flush(max(arrivals)[0])
    assert [s.stamp_ns for s in sets] == stamps['lidar']
    for matched in sets:
        for spec in specs:
            member = matched.members[spec.name]
            want = best(matched.stamp_ns, stamps[spec.name], spec.tolerance_ns)
            assert (member and member.payload) == want


def test_many_threads_lose_no_sweep():
    sync = make(buffer=1000)

    def send(name):
        return [s for i in range(500) for s in sync.add(name, T0 + i * 100 * MS, i, 0)]

    with ThreadPoolExecutor(2) as pool:
        sets = [s for part in pool.map(send, ('lidar', 'camera')) for s in part]
    sets += sync.flush(0)
    assert sorted(s.payload for s in sets) == list(range(500))
