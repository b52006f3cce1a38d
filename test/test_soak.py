# SPDX-License-Identifier: Apache-2.0
"""A soak fails for a leak, a death, a fault that nobody named, and output that stays away."""

from itertools import pairwise

from mmperception.evaluation.soak import judge, judge_fault, judge_memory
from mmperception.evaluation.soak_faults import (
    evidence_of,
    EXPECTED,
    Fault,
    goes_on,
    LIDAR,
    make_schedule,
    NODES,
    PATH_COST,
    PERCEPTION,
    RESULTS,
    Rises,
    SWEEP,
)
import pytest

SENSORS = {'lidar', 'camera', 'gps', 'imu', 'tf'}
SILENT = Fault(kind='silent', targets=('lidar',), begin_s=10.0, end_s=13.0)
COUNTS = {'fault.gap.count': 2, 'fault.silent.count': 1, 'fault.back.count': 0}
RISEN = {key: count + 1 for key, count in COUNTS.items()}
AWAY = Fault(kind='cleanup', targets=('perception',), begin_s=10.0, end_s=13.0)


def record(fault=SILENT, **changes):
    """Return what a soak records of a fault that was handled well."""
    result = {
        'fault': fault,
        'began_s': fault.begin_s,
        'ended_s': fault.end_s,
        'before': {LIDAR: COUNTS, SWEEP: COUNTS},
        'after': {LIDAR: RISEN, SWEEP: RISEN},
        'levels': {LIDAR: 1, SWEEP: 1, PATH_COST: 2},
        'reports': {LIDAR: 3, PERCEPTION: 3, PATH_COST: 3},
        'states': {},
        'heard': {'detections': 6, 'path_cost': 1},
        'injected': 12,
        'usual_s': {'detections': 0.4, 'path_cost': 0.2},
        'resumed_s': {'detections': (0.2, 0.5), 'path_cost': (0.1, 0.3)},
    }
    return {**result, **changes}


def samples(resident=lambda at_s: 600.0, threads=lambda at_s: 24, seconds=1000):
    return [(float(at_s), resident(at_s), threads(at_s)) for at_s in range(seconds)]


def soak(**changes):
    result = {
        'seconds': 1000.0,
        'elapsed_s': 1000.0,
        'records': [record()],
        'samples': samples(),
        'death': None,
        'totals': {},
        'messages': {},
        'log': {},
    }
    return {**result, **changes}


def test_a_soak_in_which_everything_was_handled_has_no_complaint():
    report = judge(soak())
    assert report['complaints'] == []
    assert report['faults_injected'] == report['faults_accounted'] == 1
    assert report['resumed_s']['detections'] == {'p50': 0.2, 'p99': 0.2, 'max': 0.2}
    assert report['arrived_s']['path_cost']['max'] == 0.3


def test_a_node_that_died_fails_the_soak_with_its_last_words():
    report = judge(soak(death='a callback failed', records=[]))
    assert report['complaints'] == ['a node died: a callback failed']


def test_a_fault_that_nobody_counted_is_named_with_what_was_looked_for():
    report = judge(
        soak(
            records=[
                record(),
                record(after={LIDAR: {**RISEN, 'fault.gap.count': 2}, SWEEP: RISEN}),
            ]
        )
    )
    assert report['faults_accounted'] == 1
    (sentence,) = report['complaints']
    assert sentence == 'silent lidar at 10 s: not seen: perception: lidar/points: ' + (
        'fault.gap.count rises'
    )


def test_a_count_that_is_not_there_at_all_has_not_risen():
    assert judge_fault(record(after={}))['complaints']
    assert not judge_fault(record(before={}))['complaints']


def test_a_fault_without_a_warning_while_it_lasts_is_not_accounted_for():
    complaints = judge_fault(record(levels={LIDAR: 0, SWEEP: 1, PATH_COST: 2}))['complaints']
    assert complaints == ['not seen: perception: lidar/points: a warning']


@pytest.mark.parametrize(
    ('both', 'complaints'),
    [
        ((0.9, 1.3), []),
        ((0.2, 1.5), ['detections came 1.50 s after the fault, usually 0.40 s']),
        (None, ['detections did not come back']),
    ],
)
def test_a_result_that_comes_back_late_or_never_is_named(both, complaints):
    resumed_s = {'path_cost': (0.1, 0.3)}
    if both is not None:
        resumed_s['detections'] = both
    assert judge_fault(record(resumed_s=resumed_s))['complaints'] == complaints


def test_who_wants_results_back_sooner_or_later_says_so():
    assert judge_fault(record(), resume_s=0.05)['complaints']
    late = record(resumed_s={'detections': (1.2, 1.6), 'path_cost': (0.1, 0.3)})
    assert judge_fault(late, resume_s=1.3)['complaints'] == []
    assert judge_fault({**late, 'usual_s': {}}, resume_s=1.3)['complaints']


def test_images_stand_in_for_a_silent_lidar_and_nothing_for_both():
    stopped = judge_fault(record(heard={'path_cost': 1}))
    assert stopped['complaints'] == ['detections stopped']
    both = Fault(kind='silent', targets=('camera', 'lidar'), begin_s=0, end_s=1)
    assert goes_on(SILENT) == {'detections'}
    assert goes_on(both) == set()


@pytest.mark.parametrize(
    ('states', 'reports', 'is_passed'),
    [
        (['unconfigured', 'active'], 0, True),
        (['inactive', 'active'], 0, False),
        (['unconfigured', 'inactive'], 0, False),
        (['unconfigured', 'active'], 2, False),
    ],
)
def test_a_node_that_was_sent_away_must_have_been_away_and_be_back(states, reports, is_passed):
    away = record(AWAY, states={'perception': states}, reports={PERCEPTION: reports})
    assert (judge_fault(away)['complaints'] == []) == is_passed


def test_memory_that_creeps_up_after_warm_up_fails_and_that_of_warming_up_does_not():
    leak = judge_memory(samples(lambda at_s: 600 + 0.05 * at_s), 1000)
    assert 'resident memory grew by' in leak['complaints'][0]
    warm_up = judge_memory(samples(lambda at_s: 300 if at_s < 100 else 600), 1000)
    assert warm_up['complaints'] == [] and warm_up['warm_up_s'] == 100
    spike = judge_memory(samples(lambda at_s: 900 if at_s == 500 else 600), 1000)
    assert spike['complaints'] == [] and spike['rss_max_mb'] == 900
    assert judge_memory([], 1000)['complaints'] == []


def test_threads_that_are_left_behind_fail_the_soak():
    left = judge_memory(samples(threads=lambda at_s: 24 + at_s // 100), 1000)
    assert left['complaints'] == ['threads grew from 25 to 33']


def test_at_most_three_minutes_are_warm_up():
    assert judge_memory([], 3600)['warm_up_s'] == 180


def test_the_faults_of_an_hour_are_one_after_the_other_and_of_every_kind_and_target():
    faults = make_schedule(3600, 1, SENSORS)
    assert 350 < len(faults) < 600
    for before, after in pairwise(faults):
        assert before.begin_s < before.end_s < after.begin_s - 3
    assert faults[-1].end_s < 3600 - 3
    drawn = {(fault.kind, target) for fault in faults for target in fault.targets}
    assert drawn == {(kind, t) for kind, targets in EXPECTED.items() for t in targets}
    assert any(len(fault.targets) == 2 for fault in faults)


def test_the_same_seed_gives_the_same_faults_and_another_does_not():
    assert make_schedule(600, 1, SENSORS) == make_schedule(600, 1, SENSORS)
    assert make_schedule(600, 1, SENSORS) != make_schedule(600, 2, SENSORS)


def test_sensors_that_are_not_in_the_bag_are_left_alone():
    faults = make_schedule(3600, 1, {'lidar', 'camera'})
    targets = {target for fault in faults for target in fault.targets}
    assert targets == {'lidar', 'camera', 'clock', *NODES}
    assert make_schedule(5, 1, SENSORS) == []


def test_every_fault_has_evidence_and_known_results():
    for fault in make_schedule(3600, 3, SENSORS):
        assert evidence_of(fault), fault
        assert goes_on(fault) <= set(RESULTS)
    assert str(Rises(status='a: b', keys=('c', 'd'))) == 'a: b: c or d rises'
