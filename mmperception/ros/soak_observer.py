# SPDX-License-Identifier: Apache-2.0
"""
Hears what the nodes say during a soak and keeps what is needed to judge one fault, no more.

`begin` starts a new record: reports since then by status, results since then by stamp. Times are
steady seconds at the arrival of a message.
"""

from collections import Counter, defaultdict
import threading
from time import monotonic

from diagnostic_msgs.msg import DiagnosticArray
from mmperception.ros import qos
from mmperception.ros.diagnostics import values_of
from mmperception.ros.headers import ns_from_time
from mmperception.ros.observer import LATCHED, OUTPUTS, SENSOR_DATA
from mmperception.ros.player import message_class
from mmperception.ros.stamps import stamp_of
from rclpy.serialization import deserialize_message

IMAGE = 'sensor_msgs/msg/Image'
RESULTS = ('detections', 'path_cost')
# STALE says that nothing has come at all: no less than a warning.
LEVELS = {b'\0': 0, b'\1': 1, b'\2': 2, b'\3': 1}


class SoakObserver:
    """
    The subscriptions of a soak.

    Parameters
    ----------
    node : rclpy.node.Node
    renamed : dict of str to str
        Status names that are kept under another name.
    now_ns : callable
        Returns the time of the sensors.

    """

    def __init__(self, node, renamed, now_ns):
        self.renamed, self.now_ns, self.messages = renamed, now_ns, Counter()
        self.statuses = {}  # newest values by name
        self.totals = Counter()  # of counts, over all restarts of a node
        self._lock = threading.Lock()
        self.begin()
        for topic, type_name in {**OUTPUTS, 'overlay': IMAGE}.items():
            node.create_subscription(
                message_class(type_name),
                topic,
                self._callback(topic),
                qos.recorder(topic in LATCHED, topic not in SENSOR_DATA),
                raw=True,
            )

    def begin(self):
        """Forget levels, reports and results."""
        with self._lock:
            self.levels, self.said, self.reports = {}, {}, Counter()
            self.results = defaultdict(list)  # (arrival_s, stamp_ns, delay_s)
            self.frames = []  # stamps of what perception has worked on

    def values(self):
        """Return the newest values by status."""
        with self._lock:
            return {name: dict(values) for name, values in self.statuses.items()}

    def usual_s(self, since_s):
        """Return the longest time from stamp to arrival of each result that came since then."""
        with self._lock:
            delays = {
                topic: [delay_s for at_s, _, delay_s in results if at_s >= since_s]
                for topic, results in self.results.items()
            }
        return {topic: max(values) for topic, values in delays.items() if values}

    def heard(self, since_s, until_s):
        """Return how many of each result came in a time."""
        with self._lock:
            return {
                topic: sum(since_s <= at_s <= until_s for at_s, _, _ in results)
                for topic, results in self.results.items()
            }

    def first_since(self, topic, since_s, from_ns, ahead_ns):
        """
        Return arrival (s) and stamp (ns) of the first result about the time after a fault.

        None when there is none yet.

        Parameters
        ----------
        topic : str
            One of `RESULTS`.
        since_s : float
            End of the fault.
        from_ns : int
            Time of the sensors then; older stamps do not count.
        ahead_ns : int
            Stamps farther ahead of their arrival do not count: another time line.

        """
        with self._lock:
            for at_s, stamp_ns, _ in self.results[topic]:
                newest_ns = from_ns + int((at_s - since_s) * 1e9) + ahead_ns
                if at_s >= since_s and from_ns <= stamp_ns <= newest_ns:
                    return at_s, stamp_ns
        return None

    def _callback(self, topic):
        def receive(data):
            at_s = monotonic()
            with self._lock:
                self.messages[topic] += 1
                if topic in RESULTS:
                    stamp_ns = stamp_of(data)
                    delay_s = (self.now_ns() - stamp_ns) / 1e9
                    self.results[topic].append((at_s, stamp_ns, delay_s))
            if topic == 'debug/latency':
                self._note_frame(deserialize_message(data, DiagnosticArray))
            elif topic == '/diagnostics':
                self._note(deserialize_message(data, DiagnosticArray))

        return receive

    def _note_frame(self, message):
        if any(status.name == 'perception: frame' for status in message.status):
            with self._lock:
                self.frames.append(ns_from_time(message.header.stamp))

    def _note(self, message):
        with self._lock:
            for status in message.status:
                name = self.renamed.get(status.name, status.name)
                values, known = values_of(status), self.statuses.get(name, {})
                self._count(name, known, values)
                self.statuses[name] = values
                self.reports[name] += 1
                level = LEVELS[status.level]
                if level >= self.levels.get(name, 0):
                    self.levels[name], self.said[name] = level, status.message

    def _count(self, name, known, values):
        """Add what rose to the totals; counts begin at 0 again when a node is activated."""
        for key, value in values.items():
            if is_count(key):
                before = known.get(key, 0)
                self.totals[f'{name}: {key}'] += value - before if value >= before else value


def is_count(key):
    """Tell whether a value of a status only rises."""
    is_fault = key.startswith('fault.') and key.endswith('.count')
    return is_fault or key.startswith('dropped.') or key in ('received', 'superseded')
