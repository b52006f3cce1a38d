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

from mmperception.stamp_watch import constant_skew, StampWatch, WINDOW

time_of = attrgetter('time_ns')


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


@dataclass(slots=True, eq=False)
class Entry:
    """A buffered message: `time_ns` is its stamp plus the offset, `arrived_ns` steady time."""

    time_ns: int
    stamp_ns: int
    payload: object
    arrived_ns: int
    is_matched: bool = False
    is_late: bool = False


class Stream(StampWatch):
    """The messages of one input that may still be matched, oldest first."""

    def __init__(self, spec, capacity):
        super().__init__(4 * capacity, spec.offset_ns)  # a duplicate is known after it was used
        self.spec = spec
        self.matched = 0
        self.is_silent = False  # replay: the player stalled while waiting for this input
        self.dropped = Counter()
        self.distances_ns = deque(maxlen=WINDOW)  # of the nearest to each pivot, signed
        self.late_before_ns = 0  # nothing later would have been nearer to any pivot that is out
        self._capacity = capacity
        self._entries = []

    def __len__(self):
        return len(self._entries)

    def has_passed(self, time_ns):
        """Tell whether a message of this time or later has come."""
        return self.newest_ns is not None and self.newest_ns >= time_ns

    def is_final(self, time_ns):
        """Tell whether no message as far out of order as the last ones could be nearer."""
        entry, reach_ns = self.nearest(time_ns), self.spec.tolerance_ns + 1
        if entry is not None:
            reach_ns = min(reach_ns, abs(entry.time_ns - time_ns))
        return self.newest_ns - self.disorder_ns - reach_ns >= time_ns

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
        entries, after = self._entries, self._index(time_ns)
        if after == len(entries):
            return entries[-1] if entries else None
        if not after or entries[after].time_ns - time_ns < time_ns - entries[after - 1].time_ns:
            return entries[after]
        return entries[after - 1]

    def _index(self, time_ns):
        return bisect_left(self._entries, time_ns, key=time_of)

    def forget_before(self, time_ns):
        """Drop what no pivot after `time_ns` can choose: all but the last at or before it."""
        number = self._index(time_ns + 1) - 1
        if number > 0:
            self._discard(number, 'unmatched')

    def _discard(self, number, reason):
        for entry in self._entries[:number]:
            if not entry.is_matched:
                self.dropped['late' if entry.is_late else reason] += 1
        del self._entries[:number]

    def clear(self, reason):
        """Forget every message and the time line; counts stay."""
        self._discard(len(self._entries), reason)
        self.start_over()
        self.distances_ns.clear()
        self.is_silent = False

    def period_ns(self):
        """
        Return a time within which no further message follows another; 0 when unknown.

        A measured rhythm is believed only when it is regular, and then by half: a wrong guess
        would cost the best match, a cautious one only a short wait.
        """
        if self.spec.min_period_ns:
            return self.spec.min_period_ns
        shortest_ns = self.rhythm.shortest_ns
        return shortest_ns // 2 if shortest_ns > 0.7 * self.rhythm.usual_ns else 0

    def statistics(self):
        """Return what /diagnostics says about this input."""
        skews = sorted(s for s in map(abs, self.distances_ns) if s <= self.spec.tolerance_ns)
        skew_ns, spread_ns = constant_skew(self.distances_ns)
        span_ns = self.rhythm.span_ns()
        return {
            'received': self.received,
            'matched': self.matched,
            'rate_hz': 1e9 * len(self.rhythm) / span_ns if span_ns else 0.0,
            'newest_stamp_ns': self.newest_stamp_ns(),
            'skew_p50_ns': skews[len(skews) // 2] if skews else None,
            'skew_max_ns': skews[-1] if skews else None,
            'constant_skew_ns': skew_ns,
            'skew_spread_ns': spread_ns,
            'dropped': dict(self.dropped),
        }
