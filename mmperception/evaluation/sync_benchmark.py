# SPDX-License-Identifier: Apache-2.0
"""
What a synchroniser costs and how well it matches, on made-up streams (docs/benchmarks.md).

Every contestant gets the same messages in the same order, one after the other in the same run:
`add(name, stamp_ns, now_ns)` returns the sets that this message completed. Sets are compared with
the optimum: for each pivot and input the nearest message inside the tolerance, the earlier on a
tie. Streams run at 10 Hz with jitter, offsets and lost messages; looped ones play twice.
"""

from dataclasses import dataclass
from time import perf_counter_ns, thread_time_ns

from mmperception.synchronizer import InputSpec, Synchronizer
import numpy as np

BEGIN_NS, PERIOD_NS, MS = 1_700_000_000_000_000_000, 100_000_000, 1_000_000
PIVOT = 'lidar'
JITTER_MS, LATENCY_MS, LOST = 4.0, 15.0, 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """
    One kind of trouble.

    Attributes
    ----------
    name : str
    num_inputs : int
        The pivot among them.
    queue : int
        Messages kept per input.
    tolerance_ms : float
        Largest distance to the pivot; message_filters calls it slop.
    dead : bool
        The last input never speaks.
    rate : float
        Messages of the last input per sweep: a camera of 30 Hz has 3, a receiver of 1 Hz 0.1.
    max_wait_ms : float
        Longest wait of our synchroniser; message_filters waits until its queue is full.
    loops : int
        How often the streams are played, each time with the same stamps.

    """

    name: str
    num_inputs: int = 3
    queue: int = 30
    tolerance_ms: float = 40.0
    dead: bool = False
    rate: float = 1.0
    max_wait_ms: float = 150.0
    loops: int = 1

    @property
    def inputs(self):
        return [f'camera_{number}' for number in range(1, self.num_inputs)]


CASES = (
    *(Case(name=f'healthy, {n} inputs', num_inputs=n) for n in (2, 3, 4, 6)),
    *(Case(name=f'healthy, queue {queue}', queue=queue) for queue in (10, 100)),
    Case(name='tolerance 500 ms', tolerance_ms=500.0),
    Case(name='one input dead', dead=True),
    Case(name='one input dead, tolerance 500 ms', dead=True, tolerance_ms=500.0),
    Case(
        name='one input at 1 Hz, tolerance 500 ms', rate=0.1, tolerance_ms=500.0, max_wait_ms=700.0
    ),
    Case(name='one input at 30 Hz', rate=3),
    Case(name='the streams start over', loops=2),
    Case(name='one at 30 Hz, they start over', rate=3, loops=2),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A stamped message of one input, and when it came (ns since the begin, steady)."""

    name: str
    stamp_ns: int
    arrival_ns: int


class OurContestant:
    """The package's synchroniser in mode live, faults counted as in the nodes."""

    def __init__(self, case):
        tolerance_ns = int(case.tolerance_ms * MS)
        self.synchronizer = Synchronizer(
            InputSpec(name=PIVOT),
            tuple(InputSpec(name=name, tolerance_ns=tolerance_ns) for name in case.inputs),
            max_wait_ns=int(case.max_wait_ms * MS),
            buffer=case.queue,
        )

    def add(self, name, stamp_ns, now_ns):
        """Return [(pivot_ns, {input: stamp_ns})] of the sets that this message completed."""
        return [
            (one.stamp_ns, {n: member.stamp_ns for n, member in one.members.items() if member})
            for one in self.synchronizer.add(name, stamp_ns, None, now_ns)
        ]


def make_messages(case, seconds, seed=0):
    """
    Return the messages of a case, loop by loop, in order of arrival.

    Parameters
    ----------
    case : Case
        Which inputs there are and what is wrong with them.
    seconds : float
        Length of one loop.
    seed : int
        Of jitter, latency and losses.

    Returns
    -------
    loops : list of list of Message

    """
    rng = np.random.default_rng(seed)
    names = [PIVOT, *case.inputs]
    num = int(seconds * 1e9 / PERIOD_NS)
    messages = []
    for index, name in enumerate(names[:-1] if case.dead else names):
        messages += _stream(name, index, case.rate if name == names[-1] else 1, num, rng)
    messages.sort(key=lambda one: one.arrival_ns)
    return [messages] * case.loops


def _stream(name, index, rate, num_sweeps, rng):
    """Return the messages of one input, in order."""
    num, period_ns = int(num_sweeps * rate), int(PERIOD_NS / rate)
    phase_ms = 10.0 + 5.0 * index if index else 0.0
    jitter_ms = rng.normal(0, JITTER_MS, num)
    since_ns = np.arange(num) * period_ns + ((phase_ms + jitter_ms) * MS).astype(np.int64)
    late_ns = (rng.exponential(LATENCY_MS, num) * MS).astype(np.int64)
    # A topic keeps the order of its one publisher, however late one message is.
    arrival_ns = np.maximum.accumulate(since_ns + late_ns)
    return [
        Message(
            name=name,
            stamp_ns=BEGIN_NS + int(since_ns[number]),
            arrival_ns=int(arrival_ns[number]),
        )
        for number in np.flatnonzero(rng.random(num) >= LOST)
    ]


def best_matches(case, messages):
    """Return {pivot_ns: {input: stamp_ns}}: the nearest in tolerance, the earlier on a tie."""
    stamps = {name: [] for name in (PIVOT, *case.inputs)}
    for one in messages:
        stamps[one.name].append(one.stamp_ns)
    stamps = {name: np.sort(np.array(values, np.int64)) for name, values in stamps.items()}
    best = {int(pivot_ns): {} for pivot_ns in stamps[PIVOT]}
    for name in case.inputs:
        if not len(stamps[name]):
            continue
        for pivot_ns, members in best.items():
            distance_ns = np.abs(stamps[name] - pivot_ns)
            nearest = int(distance_ns.argmin())  # the first, so the earlier
            if distance_ns[nearest] <= case.tolerance_ms * MS:
                members[name] = int(stamps[name][nearest])
    return best


def measure(case, contestant, loops):
    """
    Feed the messages to one contestant and judge its sets.

    Parameters
    ----------
    case : Case
        What the messages are.
    contestant : OurContestant or alike
        New, with nothing in it.
    loops : list of list of Message
        From `make_messages`.

    Returns
    -------
    dict
        `us_mean` CPU microseconds per message, `us_p99` and `us_max` by the clock on the wall;
        `sets`, the `pivots` that have a complete optimum and how many of these were `matched`;
        `wrong` sets; `skew_ms` and `worst_skew_ms` of what was matched, `optimal_skew_ms`;
        `resumed_ms`: of looped streams, from the jump to the first set after it (None: never).

    """
    best = best_matches(case, loops[0])
    took_ns, sets, resumed_ns, start_ns = [], [], None, 0
    cpu_ns = thread_time_ns()
    for number, messages in enumerate(loops):
        for one in messages:
            now_ns = start_ns + one.arrival_ns
            began = perf_counter_ns()
            made = contestant.add(one.name, one.stamp_ns, now_ns)
            took_ns.append(perf_counter_ns() - began)
            sets += made
            if number and made and resumed_ns is None:
                resumed_ns = one.arrival_ns - messages[0].arrival_ns
        start_ns += messages[-1].arrival_ns + PERIOD_NS
    cpu_ns = thread_time_ns() - cpu_ns
    result = {
        'us_mean': cpu_ns / len(took_ns) / 1e3,
        'us_p99': float(np.percentile(took_ns, 99)) / 1e3,
        'us_max': max(took_ns) / 1e3,
    }
    result |= _judged(case, best, sets, len(loops))
    if len(loops) > 1:
        result['resumed_ms'] = None if resumed_ns is None else resumed_ns / MS
    return result


def _judged(case, best, sets, num_loops):
    """Compare sets with the optimum; a set that lacks what the optimum has is wrong too."""
    complete = {pivot_ns for pivot_ns, one in best.items() if len(one) == len(case.inputs)}
    wrong = [pivot_ns for pivot_ns, members in sets if best.get(pivot_ns) != members]
    skews = [abs(ns - pivot_ns) for pivot_ns, members in sets for ns in members.values()]
    optimal = [abs(ns - pivot_ns) for pivot_ns, one in best.items() for ns in one.values()]
    return {
        'sets': len(sets),
        'pivots': len(complete) * num_loops,
        'matched': sum(p in complete and best[p] == members for p, members in sets),
        'wrong': len(wrong),
        'skew_ms': float(np.mean(skews)) / MS if skews else None,
        'worst_skew_ms': max(skews) / MS if skews else None,
        'optimal_skew_ms': float(np.mean(optimal)) / MS if optimal else None,
    }
