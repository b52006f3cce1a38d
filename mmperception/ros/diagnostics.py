# SPDX-License-Identifier: Apache-2.0
"""
What `/diagnostics` and `debug/latency` say: which input is late, what was dropped and why.

Values are plain numbers under fixed keys, so that `mmperception replay` can sum them up:
`dropped.REASON`, `fault.KIND.count`, `fault.KIND.max_ms`, `fault.KIND.last_ms`, `STAGE_ms`.
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


def fault_values(faults):
    """Return what `/diagnostics` says of {kind: Fault}."""
    values = {}
    for kind, fault in faults.items():
        values[f'fault.{kind}.count'] = fault.count
        values[f'fault.{kind}.max_ms'] = fault.max_ns / 1e6
        values[f'fault.{kind}.last_ms'] = fault.last_ns / 1e6
    return values


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
