# SPDX-License-Identifier: Apache-2.0
"""
The Python ApproximateTimeSynchronizer of message_filters, for `mmperception bench sync`.

It takes messages without a node; only their header is looked at. Source: ros2/message_filters.
"""

from message_filters import ApproximateTimeSynchronizer, SimpleFilter
from mmperception.ros.headers import header_from, ns_from_time


class _Stamped:
    """A message of which only the header matters."""

    __slots__ = ('header',)

    def __init__(self, stamp_ns):
        self.header = header_from(stamp_ns, '')


class MessageFiltersContestant:
    """
    ApproximateTimeSynchronizer behind the method of `sync_benchmark.OurContestant`.

    Its messages are made beforehand: a header takes longer to make than to match.
    """

    def __init__(self, pivot, inputs, queue, tolerance_s, loops):
        self._messages = {one.stamp_ns: _Stamped(one.stamp_ns) for part in loops for one in part}
        self._names = [pivot, *inputs]
        self._filters = {name: SimpleFilter() for name in self._names}
        self._sets = []
        peer = ApproximateTimeSynchronizer(list(self._filters.values()), queue, tolerance_s)
        peer.registerCallback(self._take)

    def add(self, name, stamp_ns, now_ns):
        """Return [(pivot_ns, {input: stamp_ns})] of the sets that this message completed."""
        self._filters[name].signalMessage(self._messages[stamp_ns])
        sets, self._sets = self._sets, []
        return sets

    def _take(self, *messages):
        pivot_ns, *stamps = (ns_from_time(message.header.stamp) for message in messages)
        self._sets.append((pivot_ns, dict(zip(self._names[1:], stamps, strict=True))))
