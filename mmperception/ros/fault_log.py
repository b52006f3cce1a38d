# SPDX-License-Identifier: Apache-2.0
"""
Puts the faults that stand in `/diagnostics` into words: which topic, how far, what to change.

One warning for a kind of fault of a topic when its count has grown, at most every few seconds.
"""

from time import monotonic

from mmperception.ros.diagnostics import values_of

PERIOD_S = 5.0
# A kind that is not here is not worth a line of its own.
WORDS = {
    'zero_stamp': 'without a stamp, left out ({count} so far): mend its driver',
    'future': 'stamped {last_ms:.0f} ms in the future ({count} so far): set the clocks of sensor '
    'and robot (PTP, NTP, /clock)',
    'duplicate': 'came twice, left out ({count} so far): is it published, or relayed, twice?',
    'regressing': 'older than the one before by {last_ms:.0f} ms ({count} so far)',
    'gap': 'nothing for {last_ms:.0f} ms of stamps ({count} gaps so far): messages are lost, or '
    'the driver stalls',
    'jump': 'jumped by {last_ms:.0f} ms ({count} so far): a clock was set',
    'loop': 'started over {last_ms:.0f} ms back ({count} so far): a recording that loops',
    'late': 'came {last_ms:.0f} ms too late ({count} so far): shorten its way, or raise '
    'sync.max_wait_ms',
    'missing': 'nothing has come in {last_ms:.0f} ms: see its driver, its topic name (remapping) '
    'and QoS',
    'silent': 'silent for {last_ms:.0f} ms: see its driver, cable and QoS',
    'back': 'back after {last_ms:.0f} ms',
    'constant_skew': 'always {constant_skew_ms:+.1f} ms from the sweep: where one trigger fires '
    'both, its stamps are wrong, and {suggested} mends it',
    'empty': 'holds no points ({count} so far)',
}


class FaultLog:
    """
    Compares each report with the one before.

    Parameters
    ----------
    warn : callable
        Takes one line.

    """

    def __init__(self, warn):
        self._warn = warn
        self._counts, self._said = {}, {}

    def say(self, statuses):
        """Log what is new in the DiagnosticStatus messages of one report."""
        for status in statuses:
            values = values_of(status)
            for kind, words in WORDS.items():
                count = values.get(f'fault.{kind}.count', 0)
                if count > self._counts.get((status.name, kind), 0) and self._is_due(status, kind):
                    self._counts[status.name, kind] = count
                    facts = {**values, 'count': count, 'last_ms': values[f'fault.{kind}.last_ms']}
                    self._warn(f'{status.name.partition(": ")[2]}: {words.format(**facts)}')

    def _is_due(self, status, kind):
        now = monotonic()
        is_due = now - self._said.get((status.name, kind), -PERIOD_S) >= PERIOD_S
        if is_due:
            self._said[status.name, kind] = now
        return is_due
