# SPDX-License-Identifier: Apache-2.0
"""
What can be wrong with the stamps of one input, named and counted; nothing of ROS.

The synchroniser's streams are built on it, and every input that is not matched is watched by it
too, so that a fault has one name wherever it happens. Stamps are integer nanoseconds; steady
time is used only to tell a clock that was set from a sensor that was silent.
"""

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass

# A step backwards of at least this is a new time line (a loop, a clock that was set), a smaller
# one a message out of order. Sensors' own queues hold far less than a second.
JUMP_NS = 1_000_000_000
# Intervals remembered for the rhythm; how many are needed to call another one long, and how many
# before a set is given out because the next message cannot be nearer.
WINDOW, SOME, ENOUGH = 50, 5, 10
# So many messages in order until disorder is forgotten.
DISORDER_KEPT = 200
# Beyond this many usual periods an interval is called a gap.
GAP_PERIODS = 2.5
# Until its rhythm is known an input may be as slow as this.
SLOWEST_NS = 1_000_000_000
# A skew is called constant from this many pivots on; below 20 ms a shutter explains it.
SKEW_ENOUGH, SKEW_NS, SKEW_SPREAD = 30, 20_000_000, 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """How often something was wrong, how far at the worst and last (0 where it has no size)."""

    count: int
    max_ns: int
    last_ns: int


NONE = Fault(count=0, max_ns=0, last_ns=0)


class Faults(dict):
    """Fault by kind."""

    def note(self, kind, size_ns=0):
        """Count one fault of this kind and its size."""
        known, size_ns = self.get(kind, NONE), abs(size_ns)
        self[kind] = Fault(
            count=known.count + 1, max_ns=max(known.max_ns, size_ns), last_ns=size_ns
        )

    def stretch(self, kind, size_ns):
        """Note that the last fault of this kind has become larger."""
        known = self[kind]
        self[kind] = Fault(count=known.count, max_ns=max(known.max_ns, size_ns), last_ns=size_ns)


class Rhythm:
    """
    The last intervals of an input, sorted beside their order: asked with every message.

    Attributes
    ----------
    usual_ns : int
        The median interval; 0 while there are too few.
    shortest_ns : int
        The shortest interval; 0 while there are too few to believe.

    """

    def __init__(self):
        self._intervals, self._sorted = deque(), []
        self.usual_ns = self.shortest_ns = 0

    def __len__(self):
        return len(self._sorted)

    def add(self, interval_ns):
        """Take one interval and forget the oldest beyond the window."""
        intervals, ordered = self._intervals, self._sorted
        intervals.append(interval_ns)
        insort(ordered, interval_ns)
        if len(ordered) > WINDOW:
            del ordered[bisect_left(ordered, intervals.popleft())]
        if len(ordered) >= SOME:
            self.usual_ns = ordered[len(ordered) // 2]
        if len(ordered) >= ENOUGH:
            self.shortest_ns = ordered[0]

    def clear(self):
        """Forget all intervals."""
        self._intervals.clear()
        self._sorted.clear()
        self.usual_ns = self.shortest_ns = 0

    def span_ns(self):
        """Return the time that the intervals cover together."""
        return sum(self._sorted)


class StampWatch:
    """
    The time line of one input.

    Parameters
    ----------
    remembered : int
        Stamps kept to know a duplicate by.
    offset_ns : int
        Added to each stamp.

    Attributes
    ----------
    received : int
    newest_ns : int or None
        Stamp plus offset of the newest message on this time line.
    arrived_ns : int or None
        Steady time of the last message that was kept.
    disorder_ns : int
        How far messages have lately been older than one before them.
    faults : Faults

    """

    def __init__(self, remembered=256, offset_ns=0):
        self.received, self.offset_ns = 0, offset_ns
        self.first_ns = self.newest_ns = self.arrived_ns = None
        self.disorder_ns, self._ordered_again = 0, 0
        self.faults, self.rhythm = Faults(), Rhythm()
        self._stamps = deque(maxlen=remembered)

    def inspect(self, stamp_ns, now_ns):
        """
        Judge the next message before it is kept; faults are counted here.

        Parameters
        ----------
        stamp_ns : int
            As in its header.
        now_ns : int
            Steady time.

        Returns
        -------
        verdict : str
            `keep`; `zero_stamp` or `duplicate`: leave it out; `jump`: a new time line begins.

        """
        self.received += 1
        if self.disorder_ns and self.received > self._ordered_again:
            self.disorder_ns = 0
        if stamp_ns <= 0:
            self.faults.note('zero_stamp')
            return 'zero_stamp'
        if self.newest_ns is None:
            return 'keep'
        step_ns = stamp_ns + self.offset_ns - self.newest_ns
        if step_ns > 0:
            if step_ns > JUMP_NS or step_ns > GAP_PERIODS * self.rhythm.usual_ns:
                self._judge_step(step_ns, now_ns)
        elif step_ns <= -JUMP_NS:
            # What starts over comes back to where it began, a clock that was set to anywhere.
            is_loop = abs(self.newest_ns + step_ns - self.first_ns) < JUMP_NS
            self.faults.note('loop' if is_loop else 'jump', step_ns)
            return 'jump'
        elif stamp_ns in self._stamps:
            self.faults.note('duplicate', step_ns)
            return 'duplicate'
        elif step_ns < 0:
            self.faults.note('regressing', step_ns)
            self.disorder_ns = max(self.disorder_ns, -step_ns)
            self._ordered_again = self.received + DISORDER_KEPT
        return 'keep'

    def _judge_step(self, step_ns, now_ns):
        """Name a step forward that is too long: a clock that was set, or messages that lack."""
        if step_ns > JUMP_NS and step_ns - (now_ns - self.arrived_ns) > JUMP_NS:
            self.faults.note('jump', step_ns)
            return
        usual_ns = self.rhythm.usual_ns
        if usual_ns and step_ns > GAP_PERIODS * usual_ns:
            self.faults.note('gap', step_ns)

    def note(self, stamp_ns, now_ns):
        """Take a message that passed `inspect`; return its time, the stamp plus the offset."""
        time_ns = stamp_ns + self.offset_ns
        if self.newest_ns is None:
            self.first_ns = self.newest_ns = time_ns
        elif time_ns > self.newest_ns:
            self.rhythm.add(time_ns - self.newest_ns)
            self.newest_ns = time_ns
        self._stamps.append(stamp_ns)
        self.arrived_ns = now_ns
        return time_ns

    def start_over(self):
        """Forget the time line; counts stay."""
        self._stamps.clear()
        self.rhythm.clear()
        self.first_ns = self.newest_ns = self.arrived_ns = None
        self.disorder_ns = 0

    def newest_stamp_ns(self):
        """Return the stamp of the last message that was kept; None when there is none."""
        return self._stamps[-1] if self._stamps else None


class Silence:
    """
    Notices that an input has fallen silent, and when it is back how long that was.

    Both clocks must agree: the node's clock leaps while a player catches up, and steady time runs
    on while a player waits.

    Parameters
    ----------
    limit_ns : int
        Shortest silence worth a word; a slow input gets more by its own rhythm.
    is_exact : bool
        The limit is a promise that others count on: no rhythm stretches it.

    """

    def __init__(self, limit_ns, is_exact=False):
        self.limit_ns, self._is_exact = limit_ns, is_exact
        self.is_silent = False
        self._rhythm, self._heard = Rhythm(), None

    def heard(self, clock_ns, now_ns):
        """
        Note a message; return the length (ns) of the silence that it ended, else 0.

        Parameters
        ----------
        clock_ns : int
            The node's clock.
        now_ns : int
            Steady time.

        """
        length_ns = self.length_ns(clock_ns, now_ns)
        was_silent = self.is_silent or length_ns > self._limit_ns()
        if self._heard is not None:
            self._rhythm.add(length_ns)
        self._heard, self.is_silent = (clock_ns, now_ns), False
        return length_ns if was_silent else 0

    @property
    def is_unheard(self):
        """Whether nothing has come yet."""
        return self._heard is None

    def begins(self, clock_ns, now_ns):
        """Return the length (ns) of a silence that is long enough to be one just now, else 0."""
        length_ns = self.length_ns(clock_ns, now_ns)
        if self.is_silent or length_ns <= self._limit_ns():
            return 0
        self.is_silent = True
        return length_ns

    def length_ns(self, clock_ns, now_ns):
        """Return how long nothing has come; 0 before the first message."""
        if self._heard is None:
            return 0
        return max(0, min(clock_ns - self._heard[0], now_ns - self._heard[1]))

    def start_over(self):
        """Forget: time has jumped."""
        self._heard, self.is_silent = None, False
        self._rhythm.clear()

    def _limit_ns(self):
        if self._is_exact:
            return self.limit_ns
        return max(self.limit_ns, int(GAP_PERIODS * (self._rhythm.usual_ns or SLOWEST_NS)))


def constant_skew(skews_ns):
    """
    Return the skew that an input always has, when there is one.

    Parameters
    ----------
    skews_ns : sequence of int
        Signed distances of the nearest messages to their pivots.

    Returns
    -------
    skew_ns : int or None
        Median of the distances when it is far from zero and they hardly differ.
    spread_ns : int
        Between the tenth and the ninetieth percentile.

    """
    ordered = sorted(skews_ns)
    count = len(ordered)
    if count < SKEW_ENOUGH:
        return None, 0
    median_ns = ordered[count // 2]
    spread_ns = ordered[9 * count // 10] - ordered[count // 10]
    is_constant = abs(median_ns) >= SKEW_NS and spread_ns <= SKEW_SPREAD * abs(median_ns)
    return (median_ns if is_constant else None), spread_ns
