# SPDX-License-Identifier: Apache-2.0
"""
Group stamped streams around the LiDAR sweep, integer nanoseconds, nothing of ROS.

For each pivot and input independently the message nearest in time is taken, the earlier on a
tie, inside the input's tolerance; a message may serve two pivots. A set is given out when every
input is settled: it has passed the pivot (where messages come out of order: so far that none can
be nearer), or its rhythm says that no later message could be nearer, or the wait is over. Missing
inputs are named, never waited for without end. With the LiDAR silent, a camera becomes the pivot.
Callers act on the returned sets outside the lock.
"""

from bisect import insort
from collections import Counter, deque
from dataclasses import dataclass
import logging
from operator import attrgetter
from threading import Lock
from typing import NamedTuple

from mmperception.stamp_watch import Fault, JUMP_NS
from mmperception.stream import Entry, InputSpec, Stream

__all__ = ['Fault', 'InputSpec', 'MatchedSet', 'Stamped', 'Synchronizer']

logger = logging.getLogger(__name__)

# Replay with back-pressure: the player waits for an answer while a set waits for an input that
# the bag does not hold. After this steady time without any message, seen at this many polls (one
# poll after a frozen moment proves nothing), the input is called silent until it is heard again.
STALL_NS, STALL_POLLS = 1_000_000_000, 3


# Named tuples and plain slots: a frozen dataclass takes microseconds to make, and these are made
# with every message or sweep.
class Stamped(NamedTuple):
    """A message as it was added."""

    stamp_ns: int
    payload: object


class MatchedSet(NamedTuple):
    """
    A pivot and what belongs to it.

    Attributes
    ----------
    stamp_ns : int
        The pivot's stamp, as it was added.
    pivot : str
        Name of the input that is the pivot: the LiDAR, or the fallback camera.
    payload : object or None
        The sweep; None exactly when a camera is the pivot (it is among the members).
    members : dict of str to Stamped or None
        Every other input by name.
    missing : dict of str to str
        Name to the reason why there is none.
    skew_ns : dict of str to int
        Stamp plus offset minus the pivot's, for the members that are there.
    waited_ns : int
        Steady time from the pivot's arrival to this set.

    """

    stamp_ns: int
    pivot: str
    payload: object
    members: dict
    missing: dict
    skew_ns: dict
    waited_ns: int


@dataclass(slots=True, eq=False)
class _Pending:
    time_ns: int
    stream: Stream
    entry: Entry


class _Closed(NamedTuple):
    time_ns: int
    closed_ns: int
    skew_ns: dict


class Synchronizer:
    """
    Match inputs to the pivot; thread-safe.

    Parameters
    ----------
    pivot : InputSpec
        The LiDAR.
    inputs : tuple of InputSpec
    mode : str
        `live`: waits end after `max_wait_ns` of steady time. `replay`: waits end when the input
        has passed the pivot, at `flush`, or when the player itself has stalled.
    max_wait_ns : int
    buffer : int
        Most messages kept per input; as many pivots may wait, then the oldest is settled.
    fallback_pivot : str or None
        Input that becomes the pivot when the LiDAR is silent.
    fallback_after_ns : int
        How long the LiDAR is silent then: steady time live, stamps in replay.

    """

    def __init__(
        self,
        pivot,
        inputs,
        mode='live',
        max_wait_ns=150_000_000,
        buffer=64,
        fallback_pivot=None,
        fallback_after_ns=500_000_000,
    ):
        names = [pivot.name, *(spec.name for spec in inputs)]
        if len(set(names)) != len(names):
            raise ValueError(f'inputs: doubled name in {names}')
        if mode not in ('live', 'replay'):
            raise ValueError(f'mode: {mode!r} is none of live, replay')
        if fallback_pivot is not None and fallback_pivot not in names[1:]:
            raise ValueError(f'fallback_pivot: {fallback_pivot!r} is none of {names[1:]}')
        self._streams = {spec.name: Stream(spec, buffer) for spec in (pivot, *inputs)}
        self._pivot = self._streams[pivot.name]
        self._inputs = [self._streams[name] for name in names[1:]]
        self._required = [spec.name for spec in inputs if spec.required]
        self._fallback = self._streams.get(fallback_pivot)
        self._is_live = mode == 'live'
        self._max_wait_ns, self._fallback_after_ns = max_wait_ns, fallback_after_ns
        self._buffer = buffer
        self._pending = []  # pivots that wait, oldest first
        self._closed = deque(maxlen=buffer)  # to recognise what came too late
        self._last_time_ns = None  # output is monotonic on one time line
        self._first_ns = None  # steady and stamp time of the first message
        self._last_add_ns, self._quiet_polls, self._has_stalled = None, 0, False
        self._resets = Counter()
        self._lock = Lock()

    def add(self, name, stamp_ns, payload, now_ns):
        """
        Take one message; `now_ns` is steady time and serves waits only.

        Returns
        -------
        sets : list of MatchedSet
            Those that this message (or the time) settled, in order of the pivot.

        Raises
        ------
        LookupError
            If no input has this name.

        """
        stream = self._streams.get(name)
        if stream is None:
            raise LookupError(f'input {name!r} is none of {", ".join(self._streams)}')
        with self._lock:
            self._last_add_ns, self._quiet_polls, self._has_stalled = now_ns, 0, False
            verdict = stream.inspect(stamp_ns, now_ns)
            sets = []
            if verdict == 'jump':
                sets = self._change_time_line(stream, stamp_ns + stream.offset_ns, now_ns)
            if verdict == 'keep' or verdict == 'jump':
                self._keep(stream, stamp_ns, payload, now_ns)
            else:
                stream.dropped[verdict] += 1
            return sets + self._settle(now_ns) if self._pending else sets

    def poll(self, now_ns):
        """Return the sets whose wait is over; call it every few milliseconds."""
        with self._lock:
            if not self._is_live:
                self._notice_stall(now_ns)
            return self._settle(now_ns)

    def flush(self, now_ns):
        """Return every pivot that still waits with what is there: the streams have ended."""
        with self._lock:
            return self._close_all(now_ns)

    def reset(self, reason):
        """Forget every message and the time line (a loop, a deactivation); counts stay."""
        with self._lock:
            self._resets[reason] += 1
            self._pivot.dropped['reset'] += len(self._pending)
            self._pending.clear()
            self._start_time_line(None)
        logger.info('synchroniser reset: %s', reason)

    def faults(self):
        """Return per input the faults by kind, each with its count and largest size."""
        with self._lock:
            return {name: dict(stream.faults) for name, stream in self._streams.items()}

    def statistics(self):
        """Return per input what was received, matched and dropped, its rate and skew."""
        with self._lock:
            return {name: stream.statistics() for name, stream in self._streams.items()}

    @property
    def resets(self):
        """How often the time line was left, by reason."""
        with self._lock:
            return dict(self._resets)

    def _keep(self, stream, stamp_ns, payload, now_ns):
        time_ns = stamp_ns + stream.offset_ns
        if self._first_ns is None:
            self._first_ns = (now_ns, time_ns)
        is_sweep = stream is self._pivot
        is_pivot = is_sweep or (
            stream is self._fallback and self._takes_over(stream, time_ns, now_ns)
        )
        stream.note(stamp_ns, now_ns)
        stream.is_silent = False
        entry = Entry(time_ns, stamp_ns, payload, now_ns)
        if is_sweep:
            self._take_back(time_ns)
        else:
            stream.keep(entry)
            if time_ns < stream.late_before_ns:
                self._note_late(stream, entry, now_ns)
        if is_pivot:
            self._await(_Pending(time_ns, stream, entry))

    def _await(self, pending):
        if self._last_time_ns is not None and pending.time_ns <= self._last_time_ns:
            pending.stream.faults.note('late', self._last_time_ns - pending.time_ns)
            pending.stream.dropped['late'] += 1
            return
        insort(self._pending, pending, key=attrgetter('time_ns'))

    def _note_late(self, stream, entry, now_ns):
        """Count a message that would have served a pivot that was given out without it."""
        tolerance_ns, name = stream.spec.tolerance_ns, stream.spec.name
        for closed in reversed(self._closed):
            skew_ns = entry.time_ns - closed.time_ns
            if skew_ns > tolerance_ns:
                return
            used_ns = closed.skew_ns.get(name, tolerance_ns + 1)
            if (abs(skew_ns), skew_ns) < (abs(used_ns), used_ns):
                stream.faults.note('late', now_ns - closed.closed_ns)
                entry.is_late = True
                return

    def _takes_over(self, stream, time_ns, now_ns):
        """Tell whether a message of the fallback is a pivot because the LiDAR is silent."""
        if self._is_live:
            heard_ns = self._pivot.arrived_ns
            since_ns = now_ns - (self._first_ns[0] if heard_ns is None else heard_ns)
        else:
            heard_ns = self._pivot.newest_ns
            since_ns = time_ns - (self._first_ns[1] if heard_ns is None else heard_ns)
        return since_ns > self._fallback_after_ns

    def _take_back(self, time_ns):
        """Let a LiDAR that is back go before images that wait as pivots near it."""
        if self._fallback is not None:
            limit_ns = time_ns - self._fallback.spec.tolerance_ns
            self._pending = [
                pending
                for pending in self._pending
                if pending.stream is self._pivot or pending.time_ns < limit_ns
            ]

    def _change_time_line(self, stream, time_ns, now_ns):
        """Settle what waits on the old time line; a pivot's jump begins the new one."""
        sets = self._close_all(now_ns)
        is_pivot = stream is self._pivot or (
            stream is self._fallback and self._takes_over(stream, stream.newest_ns, now_ns)
        )
        stream.clear('jump')
        if is_pivot:
            self._resets['jump'] += 1
            self._start_time_line(time_ns)
        return sets

    def _start_time_line(self, time_ns):
        """Clear the inputs but those that are on the new time line already."""
        for stream in self._streams.values():
            is_old = time_ns is None or (stream.newest_ns or 0) > time_ns + JUMP_NS
            if is_old:
                stream.clear('reset')
            stream.late_before_ns = 0
        self._closed.clear()
        self._last_time_ns = self._first_ns = None

    def _notice_stall(self, now_ns):
        self._quiet_polls += 1
        is_quiet = self._last_add_ns is not None and now_ns - self._last_add_ns > STALL_NS
        if not (is_quiet and self._quiet_polls >= STALL_POLLS and self._pending):
            return
        self._has_stalled = True
        for stream in self._inputs:
            if not stream.has_passed(self._pending[0].time_ns):
                stream.is_silent = True

    def _settle(self, now_ns):
        """Close the oldest pivots as far as they are settled."""
        sets = []
        while self._pending and self._is_settled(self._pending[0], now_ns):
            sets += self._close(self._pending.pop(0), now_ns)
        return sets

    def _close_all(self, now_ns):
        pending, self._pending = self._pending, []
        return [matched for one in pending for matched in self._close(one, now_ns)]

    def _is_settled(self, pending, now_ns):
        if len(self._pending) > self._buffer:
            return True
        if self._is_live and now_ns - pending.entry.arrived_ns >= self._max_wait_ns:
            return True
        if self._is_kept_for_lidar(pending):
            return False
        time_ns = pending.time_ns
        for stream in self._inputs:
            # The commonest answer first: this is asked with every message.
            newest_ns = stream.newest_ns
            has_passed = newest_ns is not None and newest_ns >= time_ns
            if has_passed and (not stream.disorder_ns or stream.is_final(time_ns)):
                continue
            if stream is pending.stream:
                continue
            if not self._is_input_settled(stream, time_ns):
                return False
        return True

    def _is_kept_for_lidar(self, pending):
        """In replay an image waits for the next: a LiDAR that is back may have its moment."""
        is_sweep = pending.stream is self._pivot
        if is_sweep or self._is_live or self._has_stalled:
            return False
        return self._fallback.newest_ns <= pending.time_ns

    def _is_input_settled(self, stream, time_ns):
        if self._is_live:
            return self._is_next_too_far(stream, time_ns)
        limit_ns = time_ns + stream.spec.tolerance_ns
        return stream.is_silent and (self._has_stalled or self._world_is_beyond(limit_ns))

    @staticmethod
    def _is_next_too_far(stream, time_ns):
        """Tell whether the next message cannot be nearer than the newest, or not near enough."""
        period_ns = stream.period_ns()
        if not period_ns or stream.newest_ns is None or stream.disorder_ns:
            return False
        behind_ns = time_ns - stream.newest_ns
        ahead_ns = period_ns - behind_ns
        return ahead_ns >= behind_ns or ahead_ns > stream.spec.tolerance_ns

    def _world_is_beyond(self, time_ns):
        return any(stream.has_passed(time_ns) for stream in self._streams.values())

    def _close(self, pending, now_ns):
        """Choose the members of a pivot; an empty list when a required one is missing."""
        time_ns, used, members, missing, skew_ns = pending.time_ns, [], {}, {}, {}
        if pending.stream is not self._pivot:
            missing[self._pivot.spec.name] = 'silent'
        for stream in self._inputs:
            name, entry = stream.spec.name, stream.nearest(time_ns)
            if entry is None:
                members[name], missing[name] = None, 'nothing received'
            elif abs(entry.time_ns - time_ns) > stream.spec.tolerance_ns:
                distance_ns = entry.time_ns - time_ns
                stream.distances_ns.append(distance_ns)
                members[name], missing[name] = None, f'nearest is {distance_ns / 1e6:+.1f} ms away'
            else:
                skew_ns[name] = entry.time_ns - time_ns
                stream.distances_ns.append(skew_ns[name])
                members[name] = Stamped(entry.stamp_ns, entry.payload)
                used.append((stream, entry))
            reach_ns = abs(skew_ns.get(name, stream.spec.tolerance_ns + 1))
            stream.late_before_ns = max(stream.late_before_ns, time_ns + reach_ns)
        self._last_time_ns = time_ns
        self._closed.append(_Closed(time_ns, now_ns, skew_ns))
        lacking = [name for name in self._required if name in missing]
        if lacking:
            pending.stream.dropped[f'without {lacking[0]}'] += 1
        else:
            self._count_matched(pending, used)
        for stream in self._inputs:
            stream.forget_before(time_ns)
        return [] if lacking else [self._matched_set(pending, members, missing, skew_ns, now_ns)]

    def _count_matched(self, pending, used):
        for stream, entry in used:
            entry.is_matched = True
            stream.matched += 1
        if pending.stream is self._pivot:
            self._pivot.matched += 1

    def _matched_set(self, pending, members, missing, skew_ns, now_ns):
        entry, is_sweep = pending.entry, pending.stream is self._pivot
        return MatchedSet(
            stamp_ns=entry.stamp_ns,
            pivot=pending.stream.spec.name,
            payload=entry.payload if is_sweep else None,
            members=members,
            missing=missing,
            skew_ns=skew_ns,
            waited_ns=now_ns - entry.arrived_ns,
        )
