# SPDX-License-Identifier: Apache-2.0
"""Whatever streams do, sets are the optimum, in order, within memory, and the same every time."""

from dataclasses import dataclass
import random

from hypothesis import given, settings, strategies
from mmperception.synchronizer import InputSpec, Synchronizer
import pytest

MS = 1_000_000
T0 = 1_700_000_000_123_456_789
SECONDS, MAX_DELAY_MS, BUFFER = 4, 100, 64
seeds = strategies.integers(0, 2**32 - 1)
often = settings(max_examples=60, deadline=None, derandomize=True)


@dataclass(frozen=True)
class Sent:
    arrival_ns: int
    stamp_ns: int
    name: str


def stream(rng, name, is_ordered, twice=0.0):
    """Return what one input sends: random rate, jitter and loss, some messages doubled."""
    period_ns = int(1e9 / rng.choice((7, 10, 20, 30)))
    loss = rng.choice((0.0, 0.1, 0.4))
    sent, latest_ns = [], 0
    for number in range(int(SECONDS * 1e9 / period_ns)):
        stamp_ns = T0 + int((number + rng.uniform(-0.4, 0.4)) * period_ns)
        if rng.random() < loss:
            continue
        arrival_ns = stamp_ns + rng.randrange(MAX_DELAY_MS * MS)
        if is_ordered:
            arrival_ns = latest_ns = max(latest_ns, arrival_ns)
        sent.append(Sent(arrival_ns, stamp_ns, name))
        if rng.random() < twice:
            sent.append(Sent(arrival_ns + rng.randrange(30 * MS), stamp_ns, name))
    return sent


def specs_of(rng):
    return [InputSpec(name=name, tolerance_ns=rng.randrange(5, 90) * MS) for name in 'abc']


def run(specs, sent, mode='live', by_arrival=True):
    """Return the sets of these messages and the synchroniser; memory is bounded at every step."""
    sync = Synchronizer(
        InputSpec(name='lidar'), tuple(specs), mode=mode, max_wait_ns=250 * MS, buffer=BUFFER
    )
    sets = []
    for one in sorted(sent, key=lambda one: one.arrival_ns) if by_arrival else sent:
        sets += sync.add(one.name, one.stamp_ns, one.stamp_ns, one.arrival_ns)
        assert all(len(held) <= BUFFER for held in sync._streams.values())
        assert len(sync._pending) <= BUFFER
    return sets + sync.flush(sent[-1].arrival_ns), sync


def optimum(pivot_ns, sent, spec):
    """Return the nearest stamp of an input inside its tolerance, the earlier on a tie."""
    near = [one.stamp_ns for one in sent if one.name == spec.name]
    near = [stamp for stamp in near if abs(stamp - pivot_ns) <= spec.tolerance_ns]
    return min(near, key=lambda stamp: (abs(stamp - pivot_ns), stamp), default=None)


def chosen(matched, name):
    return matched.members[name] and matched.members[name].stamp_ns


@pytest.mark.parametrize('mode', ['live', 'replay'])
@often
@given(seed=seeds)
def test_jittered_lossy_and_doubled_streams_give_the_optimum_in_order(mode, seed):
    rng = random.Random(seed)
    specs = specs_of(rng)
    sent = [one for name in ('lidar', *'abc') for one in stream(rng, name, True, twice=0.1)]
    sets, sync = run(specs, sent, mode)
    assert [one.stamp_ns for one in sets] == sorted(
        {s.stamp_ns for s in sent if s.name == 'lidar'}
    )
    for matched in sets:
        for spec in specs:
            assert chosen(matched, spec.name) == optimum(matched.stamp_ns, sent, spec)
    for name, faults in sync.faults().items():
        stamps = [one.stamp_ns for one in sent if one.name == name]
        doubled = len(stamps) - len(set(stamps))
        assert (faults['duplicate'].count if 'duplicate' in faults else 0) == doubled


@pytest.mark.parametrize('mode', ['live', 'replay'])
@often
@given(seed=seeds)
def test_of_messages_out_of_order_each_that_missed_its_sweep_is_counted_as_late(mode, seed):
    rng = random.Random(seed)
    specs = specs_of(rng)
    sent = stream(rng, 'lidar', True)
    for spec in specs:
        sent += stream(rng, spec.name, False, twice=0.05)
    sets, sync = run(specs, sent, mode)
    assert [one.stamp_ns for one in sets] == [s.stamp_ns for s in sent if s.name == 'lidar']
    for spec in specs:
        wanted = [(optimum(s.stamp_ns, sent, spec), chosen(s, spec.name)) for s in sets]
        missed = {want for want, got in wanted if want != got}
        late = sync.faults()[spec.name].get('late')
        assert len(missed) <= (late.count if late else 0)


@often
@given(seed=seeds)
def test_once_known_disorder_costs_no_sweep_its_best_message(seed):
    """The second half of a stream whose disorder the first half has shown."""
    rng = random.Random(seed)
    spec = InputSpec(name='a', tolerance_ns=60 * MS)
    sent = [Sent(T0 + n * 100 * MS, T0 + n * 100 * MS, 'lidar') for n in range(60)]
    for number in range(120):
        stamp_ns = T0 + number * 50 * MS + 7 * MS
        delay_ns = 80 * MS if number % 4 == 2 else rng.randrange(5 * MS)
        sent.append(Sent(stamp_ns + delay_ns, stamp_ns, 'a'))
    sets, _ = run([spec], sent)
    for matched in sets[10:-2]:
        assert chosen(matched, 'a') == optimum(matched.stamp_ns, sent, spec)


@often
@given(seed=seeds)
def test_in_replay_the_sets_do_not_depend_on_when_messages_arrive(seed):
    """A loaded machine delivers the topics of a bag interleaved in another way each time."""
    rng = random.Random(seed)
    specs = specs_of(rng)
    streams = [stream(rng, name, True) for name in ('lidar', *'abc')]
    first, _ = run(specs, [one for part in streams for one in part], 'replay')
    order = [index for index, part in enumerate(streams) for _ in part]
    rng.shuffle(order)
    parts = [iter(part) for part in streams]
    again, sync = run(specs, [next(parts[index]) for index in order], 'replay', by_arrival=False)
    overflow = sum(s['dropped'].get('overflow', 0) for s in sync.statistics().values())
    if not overflow and len(streams[0]) <= BUFFER:
        assert strip(again) == strip(first)


def strip(sets):
    """Return sets without how long they waited."""
    return [one._replace(waited_ns=0) for one in sets]
