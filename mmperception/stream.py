# SPDX-License-Identifier: Apache-2.0
"""
One stamped input: its sorted buffer, its rhythm and what was wrong with it.

The synchroniser holds one `Stream` for the pivot and one for each input. Times are the
message's stamp plus the input's offset, integer nanoseconds; steady time is used only to tell
a clock that was set from a sensor that was silent. Not thread-safe: the synchroniser's lock is.
"""

from bisect import bisect_left, insort
from collections import Counter, deque
from dataclasses import dataclass
from operator import attrgetter

# A step backwards of at least this is a new time line (a loop, a clock that was set), a smaller
# one a message out of order. Sensors' own queues hold far less than a second.
JUMP_NS = 1_000_000_000
# Intervals remembered for the rhythm, and how many are needed before it is believed.
WINDOW, ENOUGH = 50, 10
time_of = attrgetter('time_ns')
# Beyond this many usual periods an interval is called a gap.
GAP_PERIODS = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """
    How one input is matched.

    Attributes
    ----------
    name : str
    offset_ns : int
        Added to each stamp before it is compared.
    tolerance_ns : int
        Largest distance to the pivot.
    required : bool
        Without it no set is given out.
    min_period_ns : int
        Two messages are never nearer to each other than this; 0: measured in live mode.

    """

    name: str
    offset_ns: int = 0
    tolerance_ns: int = 50_000_000
    required: bool = False
    min_period_ns: int = 0

    def __post_init__(self):
        if self.tolerance_ns < 0 or self.min_period_ns < 0:
            raise ValueError(f'{self.name}: tolerance and period must not be negative')


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """How often something was wrong, and how far at the worst (0 where there is no size)."""

    count: int
    max_ns: int


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """A buffered message: `time_ns` is its stamp plus the offset, `arrived_ns` steady time."""

    time_ns: int
    stamp_ns: int
    payload: object
    arrived_ns: int
    is_matched: bool = False
    is_late: bool = False


class Rhythm:
    """The last intervals of an input, sorted beside their order: asked with every message."""

    def __init__(self):
        self._intervals, self._sorted = deque(), []

    def __len__(self):
        return len(self._sorted)

    def add(self, interval_ns):
        """Take one interval and forget the oldest beyond the window."""
        self._intervals.append(interval_ns)
        insort(self._sorted, interval_ns)
        if len(self._intervals) > WINDOW:
            del self._sorted[bisect_left(self._sorted, self._intervals.popleft())]

    def clear(self):
        """Forget all intervals."""
        self._intervals.clear()
        self._sorted.clear()

    def usual_ns(self):
        """Return the median interval."""
        return self._sorted[len(self._sorted) // 2]

    def shortest_ns(self):
        """Return the shortest interval."""
        return self._sorted[0]

    def span_ns(self):
        """Return the time that the intervals cover together."""
        return sum(self._sorted)


class Stream:
    """The messages of one input that may still be matched, oldest first."""

    def __init__(self, spec, capacity):
        self.spec = spec
        self.received = self.matched = 0
        self.newest_ns = None  # time of the newest message on this time line
        self.arrived_ns = None  # steady time of the last one that was kept
        self.is_silent = False  # replay: the player stalled while waiting for this input
        self.faults = {}
        self.dropped = Counter()
        self.skews_ns = deque(maxlen=4 * WINDOW)
        self._capacity = capacity
        self._entries = []
        self._stamps = deque(maxlen=4 * capacity)  # to know a duplicate after it was used
        self._rhythm = Rhythm()

    def __len__(self):
        return len(self._entries)

    def count(self, kind, size_ns=0):
        """Note one fault of this kind and its size."""
        known = self.faults.get(kind, Fault(count=0, max_ns=0))
        self.faults[kind] = Fault(count=known.count + 1, max_ns=max(known.max_ns, abs(size_ns)))

    def inspect(self, stamp_ns, now_ns):
        """
        Judge the next message before it is kept; faults are counted here.

        Returns
        -------
        verdict : str
            `keep`, `drop` (no stamp, or a duplicate) or `jump`: a new time line begins.

        """
        self.received += 1
        time_ns = stamp_ns + self.spec.offset_ns
        if stamp_ns <= 0:
            return self._reject('zero_stamp', 0)
        if self.newest_ns is None:
            return 'keep'
        step_ns = time_ns - self.newest_ns
        if step_ns <= -JUMP_NS:
            self.count('jump', step_ns)
            return 'jump'
        if step_ns <= 0 and stamp_ns in self._stamps:
            return self._reject('duplicate', step_ns)
        if step_ns < 0:
            self.count('regressing', step_ns)
        else:
            self._judge_step(step_ns, now_ns - self.arrived_ns)
        return 'keep'

    def _reject(self, kind, size_ns):
        self.count(kind, size_ns)
        self.dropped[kind] += 1
        return 'drop'

    def _judge_step(self, step_ns, elapsed_ns):
        if step_ns - elapsed_ns > JUMP_NS and step_ns > JUMP_NS:
            self.count('jump', step_ns)
        elif len(self._rhythm) >= ENOUGH and step_ns > GAP_PERIODS * self._rhythm.usual_ns():
            self.count('gap', step_ns)

    def note(self, stamp_ns, payload, now_ns):
        """Make an entry of a message that passed `inspect`, without buffering it."""
        time_ns = stamp_ns + self.spec.offset_ns
        if self.newest_ns is None or time_ns > self.newest_ns:
            if self.newest_ns is not None:
                self._rhythm.add(time_ns - self.newest_ns)
            self.newest_ns = time_ns
        self._stamps.append(stamp_ns)
        self.arrived_ns, self.is_silent = now_ns, False
        return Entry(time_ns=time_ns, stamp_ns=stamp_ns, payload=payload, arrived_ns=now_ns)

    def keep(self, entry):
        """Put an entry into the buffer, where `nearest` finds it."""
        if not self._entries or entry.time_ns >= self._entries[-1].time_ns:
            self._entries.append(entry)  # nearly always
        else:
            insort(self._entries, entry, key=time_of)
        if len(self._entries) > self._capacity:
            self._discard(1, 'overflow')

    def nearest(self, time_ns):
        """Return the entry nearest to `time_ns`, the earlier on a tie; None when empty."""
        after = self._index(time_ns)
        around = slice(max(0, after - 1), after + 1)
        return min(
            self._entries[around],
            key=lambda entry: abs(entry.time_ns - time_ns),
            default=None,
        )

    def _index(self, time_ns):
        return bisect_left(self._entries, time_ns, key=time_of)

    def forget_before(self, time_ns):
        """Drop what no pivot after `time_ns` can choose: all but the last at or before it."""
        self._discard(self._index(time_ns + 1) - 1, 'unmatched')

    def _discard(self, number, reason):
        for entry in self._entries[: max(0, number)]:
            if not entry.is_matched:
                self.dropped['late' if entry.is_late else reason] += 1
        del self._entries[: max(0, number)]

    def clear(self, reason):
        """Forget every message and the time line; counts stay."""
        self._discard(len(self._entries), reason)
        self._stamps.clear()
        self._rhythm.clear()
        self.newest_ns = self.arrived_ns = None
        self.is_silent = False

    def period_ns(self):
        """
        Return a time within which no further message follows another; 0 when unknown.

        A measured rhythm is believed only when it is regular, and then by half: a wrong guess
        would cost the best match, a cautious one only a short wait.
        """
        if self.spec.min_period_ns:
            return self.spec.min_period_ns
        if len(self._rhythm) < ENOUGH:
            return 0
        shortest_ns = self._rhythm.shortest_ns()
        return shortest_ns // 2 if shortest_ns > 0.7 * self._rhythm.usual_ns() else 0

    def statistics(self):
        """Return what /diagnostics says about this input."""
        skews = sorted(self.skews_ns)
        span_ns = self._rhythm.span_ns()
        return {
            'received': self.received,
            'matched': self.matched,
            'rate_hz': 1e9 * len(self._rhythm) / span_ns if span_ns else 0.0,
            'newest_stamp_ns': self._stamps[-1] if self._stamps else None,
            'skew_p50_ns': skews[len(skews) // 2] if skews else None,
            'skew_max_ns': skews[-1] if skews else None,
            'dropped': dict(self.dropped),
        }
