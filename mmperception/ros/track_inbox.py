# SPDX-License-Identifier: Apache-2.0
"""
Where the path cost node waits for the tracks of a sweep.

Tracks arrive in the order of their stamps, so a later stamp means that an earlier one will not
come any more. Perception also says of each frame that it dropped that nothing will come
(`debug/latency`), so that mode replay never waits in vain.
"""

from collections import OrderedDict
import threading
from time import monotonic_ns

from autoware_perception_msgs.msg import TrackedObjects
from diagnostic_msgs.msg import DiagnosticArray
from mmperception.ros import qos
from mmperception.ros.headers import ns_from_time
from mmperception.ros.messages import tracks_from_msg
from mmperception.ros.working_node import LOG_PERIOD_S

KEPT = 32
POLL_S = 0.005


class TrackInbox:
    """Subscribes to `tracks` and answers `take(stamp)`."""

    def __init__(self, node):
        self.node, self.num_missing = node, 0
        self._is_open = True
        self._answers = OrderedDict()
        self._condition = threading.Condition()
        self._subscriptions = [
            node.create_subscription(
                TrackedObjects, 'tracks', self._receive, qos.result(),
                qos_overriding_options=qos.overridable(),
            ),
            node.create_subscription(
                DiagnosticArray, 'debug/latency', self._receive_latency, qos.result()
            ),
        ]  # fmt: skip

    def destroy(self):
        """Give the subscriptions back and end every wait."""
        with self._condition:
            self._is_open = False
            self._condition.notify_all()
        for subscription in self._subscriptions:
            self.node.destroy_subscription(subscription)

    def clear(self):
        """Forget everything: time has jumped."""
        with self._condition:
            self._answers.clear()

    def is_fed(self):
        """Return whether anybody publishes tracks."""
        return self.node.count_publishers('tracks') > 0

    def take(self, stamp_ns, deadline_ns, must_be_fed=False):
        """
        Wait for the tracks of one stamp.

        Parameters
        ----------
        stamp_ns : int
            Of the sweep that the tracks were made from.
        deadline_ns : int
            Steady time.
        must_be_fed : bool
            Do not even begin to wait when nobody publishes tracks.

        Returns
        -------
        Tracks or None
            None when they did not come, or are broken.

        """
        with self._condition:
            while not self._is_over(stamp_ns, deadline_ns):
                if must_be_fed and not self.is_fed():
                    break
                self._condition.wait(POLL_S)
            message = self._answers.get(stamp_ns)
        tracks = None if message is None else self._read(message)
        self.num_missing += tracks is None
        return tracks

    def _read(self, message):
        """Return the Tracks of a message; of a broken one None, for the grid must go on."""
        try:
            return tracks_from_msg(message)
        except ValueError as error:
            self.node.get_logger().error(
                f'tracks left out: {error}; mend their publisher',
                throttle_duration_sec=LOG_PERIOD_S,
            )
            return None

    def _is_over(self, stamp_ns, deadline_ns):
        """Tell whether the tracks are here, will not come, or are waited for no longer."""
        is_told = any(key >= stamp_ns for key in self._answers)
        return is_told or not self._is_open or monotonic_ns() >= deadline_ns

    def _receive(self, message):
        self._store(ns_from_time(message.header.stamp), message)

    def _receive_latency(self, message):
        for status in message.status:
            if status.name == 'perception: frame' and status.message:
                self._store(ns_from_time(message.header.stamp), None)

    def _store(self, stamp_ns, message):
        with self._condition:
            self._answers[stamp_ns] = message
            while len(self._answers) > KEPT:
                self._answers.popitem(last=False)
            self._condition.notify_all()
