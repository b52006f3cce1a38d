# SPDX-License-Identifier: Apache-2.0
"""The benchmark of synchronisers judges as its protocol says, and ours passes it."""

import json

from mmperception.cli.main import main
from mmperception.evaluation.sync_benchmark import (
    BEGIN_NS,
    best_matches,
    Case,
    CASES,
    make_messages,
    measure,
    Message,
    MS,
    OurContestant,
    PERIOD_NS,
    PIVOT,
)
import pytest

PAIR = Case(name='pair', num_inputs=2, tolerance_ms=40.0)


def message(name, at_ms):
    return Message(name=name, stamp_ns=BEGIN_NS + at_ms * MS, arrival_ns=at_ms * MS)


class Latest:
    """Matches each sweep with whatever image came last, as a careless node would."""

    def __init__(self):
        self.image_ns = None

    def add(self, name, stamp_ns, now_ns):
        if name != PIVOT:
            self.image_ns = stamp_ns
            return []
        return [(stamp_ns, {'camera_1': self.image_ns})] if self.image_ns else []


def test_the_optimum_is_the_nearest_in_tolerance_and_the_earlier_on_a_tie():
    messages = [message(PIVOT, 100), message(PIVOT, 300)]
    messages += [message('camera_1', at_ms) for at_ms in (90, 110, 255, 360)]
    assert best_matches(PAIR, messages) == {
        BEGIN_NS + 100 * MS: {'camera_1': BEGIN_NS + 90 * MS},
        BEGIN_NS + 300 * MS: {},
    }


def test_a_contestant_that_takes_the_last_image_is_caught():
    loops = make_messages(PAIR, seconds=10.0)
    result = measure(PAIR, Latest(), loops)
    assert result['pivots'] > 80
    assert result['wrong'] > 0.8 * result['pivots'] and result['matched'] < 30
    assert result['skew_ms'] > 2 * result['optimal_skew_ms']


def test_a_contestant_that_lost_its_time_line_is_seen_to_stick():
    case = Case(name='loop', num_inputs=2, loops=2)
    loops = make_messages(case, seconds=5.0)
    ours = measure(case, OurContestant(case), loops)
    assert ours['resumed_ms'] < 500

    class Stuck(Latest):
        newest_ns = 0

        def add(self, name, stamp_ns, now_ns):
            if stamp_ns <= self.newest_ns:
                return []
            self.newest_ns = stamp_ns
            return super().add(name, stamp_ns, now_ns)

    assert measure(case, Stuck(), loops)['resumed_ms'] is None


@pytest.mark.parametrize('case', CASES, ids=lambda case: case.name)
def test_our_synchroniser_gives_the_optimum_in_every_case(case):
    result = measure(case, OurContestant(case), make_messages(case, seconds=15.0, seed=3))
    assert result['wrong'] == 0
    # What waits at the end of a loop was not asked for any more.
    num_waiting = 1 + round(case.max_wait_ms * MS / PERIOD_NS)
    assert result['matched'] >= result['pivots'] - num_waiting * case.loops
    assert result['sets'] > 100


def test_the_command_prints_and_writes_the_figures(tmp_path, capsys):
    out = tmp_path / 'sync.json'
    assert main(['bench', 'sync', '--seconds', '3', '--json', str(out)]) == 0
    figures = json.loads(out.read_text())
    assert set(figures['cases']) == {case.name for case in CASES}
    assert figures['cases']['one input dead']['mmperception']['wrong'] == 0
    assert 'mmperception' in capsys.readouterr().out


def test_a_length_that_is_no_time_is_wrong_use(capsys):
    assert main(['bench', 'sync', '--seconds', '-1']) == 2
    assert '--seconds' in capsys.readouterr().err
