# SPDX-License-Identifier: Apache-2.0
"""
What one input of a node does: how often, how old, how long silent, and what was wrong with it.

Its report is one DiagnosticStatus. Inputs that the synchroniser matches are watched there; the
others bring a StampWatch of their own.
"""

from collections import deque
from typing import NamedTuple

from mmperception.ros.diagnostics import Counts, fault_values, OK, STALE, status, WARN
from mmperception.stamp_watch import Faults, Silence

WINDOW = 200
# Clocks on one robot agree far better than this.
FUTURE_NS = 1_000_000_000
# An input whose messages are older than this although they arrive has a clock that is behind.
OLD_NS = 1_000_000_000


class Moment(NamedTuple):
    """
    A time by every clock there is.

    Attributes
    ----------
    clock_ns : int
        The node's clock; 0 while played time has not begun.
    steady_ns : int
        Steady time.
    since_ns : int
        The node's clock when it was first seen running.

    """

    clock_ns: int
    steady_ns: int
    since_ns: int


class Meter:
    """
    The meter of one input.

    Parameters
    ----------
    config : Config
    watch : StampWatch or None
        Judges the stamps of an input that nobody else judges.
    may_rest : bool
        The input may be sent once and then no more, as calibration is.
    may_lack : bool
        The robot may have no such input at all.

    """

    def __init__(self, config, watch=None, may_rest=False, may_lack=False):
        # A player in mode replay sends some inputs ahead of their time.
        self._is_live = config.mode == 'live'
        self._watch, self._may_rest, self._may_lack = watch, may_rest, may_lack
        self.received, self.newest_ns = 0, None
        self.extra = {}  # further values
        self.faults, self._dropped = Faults(), Counts()
        self._arrivals_ns = deque(maxlen=WINDOW)
        self._silence = Silence(int(config.sync.silent_after_ms * 1e6))

    def add(self, stamp_ns, moment):
        """
        Note a message that came now.

        Parameters
        ----------
        stamp_ns : int
            As in its header.
        moment : Moment
            Now.

        Returns
        -------
        verdict : str
            `keep`, `jump` (its time line begins anew) or why it must be left out, which is
            counted; without a watch always `keep`.

        """
        self.received += 1
        self.newest_ns = stamp_ns
        self._arrivals_ns.append(moment.clock_ns)
        if self._is_live and stamp_ns - moment.clock_ns >= FUTURE_NS:
            self.faults.note('future', stamp_ns - moment.clock_ns)
        self._note_return(stamp_ns, moment)
        return 'keep' if self._watch is None else self._judge_stamp(stamp_ns, moment.steady_ns)

    def _note_return(self, stamp_ns, moment):
        was_noticed, times = self._silence.is_silent, self._times(moment)
        if not self._is_live:  # what is sent ahead of its time lasts until then
            times = (max(moment.clock_ns, stamp_ns),) * 2
        length_ns = self._silence.heard(*times)
        if not length_ns or self._may_rest:
            return
        if not was_noticed:
            self.faults.note('silent', length_ns)
        self.faults.stretch('silent', length_ns)
        self.faults.note('back', length_ns)

    def _judge_stamp(self, stamp_ns, now_ns):
        verdict = self._watch.inspect(stamp_ns, now_ns)
        if verdict == 'jump':
            self._watch.start_over()
        if verdict in ('keep', 'jump'):
            self._watch.note(stamp_ns, now_ns)
        else:
            self.refuse(verdict)
        return verdict

    def is_out_of_order(self, stamp_ns):
        """Tell whether a newer message than this one has been kept."""
        return stamp_ns < self._watch.newest_ns

    def _times(self, moment):
        """Return the two clocks that silence is judged by: in mode replay both are the bag's."""
        return moment.clock_ns, moment.steady_ns if self._is_live else moment.clock_ns

    def look(self, moment):
        """Notice that nothing comes, or nothing any more; call it about every second."""
        if self.newest_ns is None:
            self._await(moment.clock_ns - moment.since_ns)
            return
        length_ns = self._silence.begins(*self._times(moment))
        if length_ns and not self._may_rest:
            self.faults.note('silent', length_ns)

    def _await(self, waited_ns):
        """Name once what should have come and never did."""
        if waited_ns > self._silence.limit_ns and not self._may_lack:
            if 'missing' not in self.faults:
                self.faults.note('missing', waited_ns)
            self.faults.stretch('missing', waited_ns)

    def start_over(self):
        """Forget the time line: time has jumped. Counts stay."""
        self._silence.start_over()
        self._arrivals_ns.clear()
        if self._watch is not None:
            self._watch.start_over()

    def refuse(self, reason):
        """Note that the last message could not be used."""
        self._dropped.add(reason)

    def rate_hz(self):
        """Return messages per second over the last ones; 0 when there are too few."""
        arrivals_ns = list(self._arrivals_ns)
        span_ns = arrivals_ns[-1] - arrivals_ns[0] if len(arrivals_ns) > 1 else 0
        return 1e9 * (len(arrivals_ns) - 1) / span_ns if span_ns > 0 else 0.0

    def report(self, name, moment, statistics=None, faults=None):
        """
        Return the DiagnosticStatus of this input.

        Parameters
        ----------
        name : str
            `NODE: TOPIC`.
        moment : Moment
            Now.
        statistics, faults : dict
            What the synchroniser says about it; None for inputs that are not matched.

        """
        self.look(moment)
        silent_ns = 0
        if self._silence.is_silent:
            silent_ns = self._silence.length_ns(*self._times(moment))
        values = {'received': self.received, 'rate_hz': 0.0 if silent_ns else self.rate_hz()}
        if self.newest_ns is not None:
            values['age_ms'] = (moment.clock_ns - self.newest_ns) / 1e6
        if silent_ns and not self._may_rest:
            values['silent_ms'] = silent_ns / 1e6
        values.update(matching_values(statistics or {}))
        values.update(self._dropped.values('dropped'))
        watched = {} if self._watch is None else self._watch.faults
        values.update(fault_values({**self.faults, **watched, **(faults or {})}))
        values.update(self.extra)
        level, message = self._judge(values)
        return status(name, level, message, values)

    def _judge(self, values):
        if 'age_ms' not in values:
            return STALE, 'nothing received'
        if 'silent_ms' in values:
            return WARN, f'silent for {values["silent_ms"]:.0f} ms: see its driver, cable and QoS'
        if self._is_live and values['age_ms'] <= -FUTURE_NS / 1e6:
            return WARN, (
                f'stamped {-values["age_ms"]:.0f} ms in the future: set the clocks of sensor and '
                f'robot (PTP, NTP, /clock)'
            )
        if values['age_ms'] > OLD_NS / 1e6 and not self._may_rest:
            return WARN, f'the newest is {values["age_ms"]:.0f} ms old'
        if 'suggested' in values:
            return OK, f'receiving, always {values["constant_skew_ms"]:+.1f} ms from the sweep'
        return OK, 'receiving'


def matching_values(statistics):
    """Return what `/diagnostics` says of the synchroniser's statistics of one input."""
    values = {
        key.replace('_ns', '_ms'): statistics[key] / 1e6
        for key in ('skew_p50_ns', 'skew_max_ns', 'constant_skew_ns')
        if statistics.get(key) is not None
    }
    if 'matched' in statistics:
        values['matched'] = statistics['matched']
    drops = statistics.get('dropped', {})
    values.update({f'dropped.{reason}': count for reason, count in drops.items()})
    return values
