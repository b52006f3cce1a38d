# SPDX-License-Identifier: Apache-2.0
"""
Group stamped streams around the LiDAR sweep, integer nanoseconds, nothing of ROS.

For each pivot and input independently the message nearest in time is taken, the earlier on a
tie, inside the input's tolerance; a message may serve two pivots. A set is given out when every
input is settled: it has passed the pivot, or no later message could be nearer, or the wait is
over. Missing inputs are named, never waited for without end. With the LiDAR silent, a camera
becomes the pivot. Callers act on the returned sets outside the lock.
"""

from bisect import insort
from collections import Counter, deque
from dataclasses import dataclass
import logging
from operator import attrgetter
from threading import Lock

from mmperception.stream import Entry, Fault, InputSpec, JUMP_NS, Stream

__all__ = ['Fault', 'InputSpec', 'MatchedSet', 'Stamped', 'Synchronizer']

logger = logging.getLogger(__name__)

# Replay with back-pressure: the player waits for an answer while a set waits for an input that
# the bag does not hold. After this steady time without any message, seen at this many polls (one
# poll after a frozen moment proves nothing), the input is called silent until it is heard again.
STALL_NS, STALL_POLLS = 1_000_000_000, 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stamped:
    """A message as it was added."""

    stamp_ns: int
    payload: object


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatchedSet:
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pending:
    stream: Stream
    entry: Entry

    @property
    def time_ns(self):
        return self.entry.time_ns


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Closed:
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
                sets = self._change_time_line(stream, stamp_ns + stream.spec.offset_ns, now_ns)
            if verdict != 'drop':
                self._keep(stream, stamp_ns, payload, now_ns)
            return sets + self._settle(now_ns)

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
        time_ns = stamp_ns + stream.spec.offset_ns
        if self._first_ns is None:
            self._first_ns = (now_ns, time_ns)
        is_pivot = stream is self._pivot or self._takes_over(stream, time_ns, now_ns)
        entry = stream.note(stamp_ns, payload, now_ns)
        if stream is self._pivot:
            self._take_back(time_ns)
        else:
            stream.keep(entry)
            self._note_late(stream, entry, now_ns)
        if is_pivot:
            self._await(_Pending(stream=stream, entry=entry))

    def _await(self, pending):
        if self._last_time_ns is not None and pending.time_ns <= self._last_time_ns:
            pending.stream.count('late', self._last_time_ns - pending.time_ns)
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
                stream.count('late', now_ns - closed.closed_ns)
                entry.is_late = True
                return

    def _takes_over(self, stream, time_ns, now_ns):
        """Tell whether this camera message is a pivot because the LiDAR is silent."""
        if stream is not self._fallback:
            return False
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
        is_pivot = stream is self._pivot or self._takes_over(stream, stream.newest_ns, now_ns)
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
        self._closed.clear()
        self._last_time_ns = self._first_ns = None

    def _notice_stall(self, now_ns):
        self._quiet_polls += 1
        is_quiet = self._last_add_ns is not None and now_ns - self._last_add_ns > STALL_NS
        if not (is_quiet and self._quiet_polls >= STALL_POLLS and self._pending):
            return
        self._has_stalled = True
        for stream in self._inputs:
            if not self._has_passed(stream, self._pending[0].time_ns):
                stream.is_silent = True

    def _settle(self, now_ns):
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
        return all(
            self._is_input_settled(stream, pending.time_ns)
            for stream in self._inputs
            if stream is not pending.stream
        )

    def _is_kept_for_lidar(self, pending):
        """In replay an image waits for the next: a LiDAR that is back may have its moment."""
        is_sweep = pending.stream is self._pivot
        if is_sweep or self._is_live or self._has_stalled:
            return False
        return self._fallback.newest_ns <= pending.time_ns

    def _is_input_settled(self, stream, time_ns):
        if self._has_passed(stream, time_ns):
            return True
        if self._is_live:
            return self._is_next_too_far(stream, time_ns)
        limit_ns = time_ns + stream.spec.tolerance_ns
        return stream.is_silent and (self._has_stalled or self._world_is_beyond(limit_ns))

    @staticmethod
    def _has_passed(stream, time_ns):
        return stream.newest_ns is not None and stream.newest_ns >= time_ns

    @staticmethod
    def _is_next_too_far(stream, time_ns):
        """Tell whether the next message cannot be nearer than the newest, or not near enough."""
        period_ns = stream.period_ns()
        if not period_ns or stream.newest_ns is None:
            return False
        ahead_ns = stream.newest_ns + period_ns - time_ns
        behind_ns = time_ns - stream.newest_ns
        return ahead_ns >= min(behind_ns, stream.spec.tolerance_ns + 1)

    def _world_is_beyond(self, time_ns):
        return any(self._has_passed(stream, time_ns) for stream in self._streams.values())

    def _close(self, pending, now_ns):
        """Choose the members of a pivot; an empty list when a required one is missing."""
        members, missing, skew_ns = {}, {}, {}
        if pending.stream is not self._pivot:
            missing[self._pivot.spec.name] = 'silent'
        for stream in self._inputs:
            name, entry = stream.spec.name, stream.nearest(pending.time_ns)
            members[name] = None
            distance_ns = None if entry is None else entry.time_ns - pending.time_ns
            if entry is None:
                missing[name] = 'nothing received'
            elif abs(distance_ns) > stream.spec.tolerance_ns:
                missing[name] = f'nearest is {distance_ns / 1e6:+.1f} ms away'
            else:
                members[name], skew_ns[name] = entry, distance_ns
        self._last_time_ns = pending.time_ns
        self._closed.append(_Closed(time_ns=pending.time_ns, closed_ns=now_ns, skew_ns=skew_ns))
        sets = self._give_out(pending, members, missing, skew_ns, now_ns)
        for stream in self._inputs:
            stream.forget_before(pending.time_ns)
        return sets

    def _give_out(self, pending, members, missing, skew_ns, now_ns):
        lacking = [s.spec.name for s in self._inputs if s.spec.required and s.spec.name in missing]
        if lacking:
            pending.stream.dropped[f'without {lacking[0]}'] += 1
            return []
        for name, distance_ns in skew_ns.items():
            members[name].is_matched = True
            self._streams[name].matched += 1
            self._streams[name].skews_ns.append(abs(distance_ns))
        is_sweep = pending.stream is self._pivot
        if is_sweep:
            self._pivot.matched += 1
        return [
            MatchedSet(
                stamp_ns=pending.entry.stamp_ns,
                pivot=pending.stream.spec.name,
                payload=pending.entry.payload if is_sweep else None,
                members={name: _stamped(entry) for name, entry in members.items()},
                missing=missing,
                skew_ns=skew_ns,
                waited_ns=now_ns - pending.entry.arrived_ns,
            )
        ]


def _stamped(entry):
    return entry and Stamped(stamp_ns=entry.stamp_ns, payload=entry.payload)
