# SPDX-License-Identifier: Apache-2.0
"""
What `/diagnostics` and `debug/latency` say: which input is late, what was dropped and why.

Values are plain numbers under fixed keys, so that `mmperception replay` can sum them up:
`dropped.REASON`, `fault.KIND.count`, `fault.KIND.max_ms`, `STAGE_ms`.
Source: diagnostic_msgs/DiagnosticStatus; levels as in REP 107.
"""

from collections import defaultdict, deque

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import numpy as np

OK, WARN, ERROR, STALE = (
    DiagnosticStatus.OK,
    DiagnosticStatus.WARN,
    DiagnosticStatus.ERROR,
    DiagnosticStatus.STALE,
)
WINDOW = 200
# Clocks on one robot agree far better than this.
FUTURE_MS = 1000.0
FUTURE = 'stamped {:.0f} ms in the future: set the clocks of sensor and robot (PTP, NTP, /clock)'
# An input whose newest message is older is called late.
LATE_MS = 1000.0


class StageTimes:
    """The last milliseconds of every stage."""

    def __init__(self):
        self._values = defaultdict(lambda: deque(maxlen=WINDOW))

    def add(self, timings_ms):
        """Remember the timings of one frame."""
        for stage, value in timings_ms.items():
            self._values[stage].append(value)

    def values(self):
        """Return {`STAGE_ms.p50` and `STAGE_ms.p99`: milliseconds} over the last frames."""
        result = {}
        for stage, values in list(self._values.items()):
            p50, p99 = np.percentile(values, (50, 99))
            result[f'{stage}_ms.p50'], result[f'{stage}_ms.p99'] = float(p50), float(p99)
        return result


class Counts:
    """How often each thing happened, by reason."""

    def __init__(self):
        self._counts = defaultdict(int)

    def add(self, reason):
        """Count one more."""
        self._counts[reason] += 1

    def items(self):
        """Return (reason, number) pairs."""
        return list(self._counts.items())

    def values(self, prefix):
        """Return {`prefix.REASON`: number}."""
        return {f'{prefix}.{reason}': count for reason, count in self.items()}


class Meter:
    """
    What one input does: how many messages, how often, how old the newest is.

    Parameters
    ----------
    is_live : bool
        Whether stamps should lie in the past; a player sends some inputs ahead of their time.

    """

    def __init__(self, is_live):
        self._is_live = is_live
        self.received = 0
        self.newest_ns, self._arrivals_ns = None, deque(maxlen=WINDOW)
        self.extra = {}  # further values
        self._dropped, self._faults = Counts(), Counts()
        self._farthest_ms = 0.0  # into the future

    def add(self, stamp_ns, now_ns):
        """
        Note a message of this stamp that came now, both on the node's clock.

        Returns
        -------
        float
            Milliseconds by which it is stamped in the future; 0 when it is not.

        """
        self.received += 1
        self.newest_ns = stamp_ns
        self._arrivals_ns.append(now_ns)
        ahead_ms = (stamp_ns - now_ns) / 1e6
        if not self._is_live or ahead_ms < FUTURE_MS:
            return 0.0
        self.fault('future')
        self._farthest_ms = max(self._farthest_ms, ahead_ms)
        return ahead_ms

    def refuse(self, reason):
        """Note that the last message could not be used."""
        self._dropped.add(reason)

    def fault(self, kind):
        """Note that something was wrong with a message that was used all the same."""
        self._faults.add(kind)

    def rate_hz(self):
        """Return messages per second over the last ones; 0 when there are too few."""
        arrivals_ns = list(self._arrivals_ns)
        span_ns = arrivals_ns[-1] - arrivals_ns[0] if len(arrivals_ns) > 1 else 0
        return 1e9 * (len(arrivals_ns) - 1) / span_ns if span_ns > 0 else 0.0

    def report(self, name, now_ns, statistics, faults):
        """
        Return the DiagnosticStatus of this input.

        Parameters
        ----------
        name : str
            `NODE: TOPIC`.
        now_ns : int
            The node's clock.
        statistics, faults : dict
            What the synchroniser says about it; empty for inputs that are not matched.

        """
        values = {'received': self.received, 'rate_hz': self.rate_hz()}
        if self.newest_ns is not None:
            values['age_ms'] = (now_ns - self.newest_ns) / 1e6
        for key in ('skew_p50_ns', 'skew_max_ns'):
            if statistics.get(key) is not None:
                values[key.replace('_ns', '_ms')] = statistics[key] / 1e6
        if 'matched' in statistics:
            values['matched'] = statistics['matched']
        drops = statistics.get('dropped', {})
        values.update({f'dropped.{reason}': count for reason, count in drops.items()})
        values.update(self._dropped.values('dropped'))
        for kind, count in self._faults.items():
            values[f'fault.{kind}.count'] = count
        if self._farthest_ms:
            values['fault.future.max_ms'] = self._farthest_ms
        for kind, fault in faults.items():
            values[f'fault.{kind}.count'] = fault.count
            values[f'fault.{kind}.max_ms'] = fault.max_ns / 1e6
        values.update(self.extra)
        level, message = self._judge(values)
        return status(name, level, message, values)

    def _judge(self, values):
        if 'age_ms' not in values:
            return STALE, 'nothing received'
        if self._is_live and values['age_ms'] < -FUTURE_MS:
            return WARN, FUTURE.format(-values['age_ms'])
        if values['age_ms'] > LATE_MS:
            return WARN, f'the newest is {values["age_ms"]:.0f} ms old'
        return OK, 'receiving'


def status(name, level, message, values):
    """
    Return one DiagnosticStatus.

    Parameters
    ----------
    name : str
        `NODE: subject`.
    level : bytes
        One of OK, WARN, ERROR, STALE.
    message : str
        One sentence for the operator; empty when there is nothing to say.
    values : dict
        Numbers and words; floats are written with three digits.

    """
    pairs = [KeyValue(key=key, value=_text(value)) for key, value in values.items()]
    return DiagnosticStatus(name=name, level=level, message=message, values=pairs)


def array(stamp, statuses):
    """Return a DiagnosticArray; `stamp` is a builtin_interfaces/Time."""
    message = DiagnosticArray(status=list(statuses))
    message.header.stamp = stamp
    return message


def _text(value):
    if isinstance(value, float):
        return f'{value:.3f}'
    return str(value)


def values_of(diagnostic_status):
    """Return the values of a DiagnosticStatus as a dict, numbers as numbers."""
    return {pair.key: _number(pair.value) for pair in diagnostic_status.values}


def _number(text):
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
