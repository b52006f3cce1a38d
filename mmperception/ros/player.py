# SPDX-License-Identifier: Apache-2.0
"""
Publishes a bag's serialised messages through DDS, with `/clock`.

In mode replay the next sweep leaves only when few enough are unanswered, and slow or small
inputs leave a little before their time, so that a sweep is never held up by a fix that comes a
second later. In mode live time passes at `rate`.
"""

from dataclasses import dataclass
import heapq
from importlib import import_module
from time import monotonic, sleep

from builtin_interfaces.msg import Time
from mmperception.ros import qos
from mmperception.ros.stamps import stamp_of
from rosgraph_msgs.msg import Clock

CLOCK_STEP_NS = 5_000_000
# How long before its log time a message may leave in mode replay, by type.
AHEAD_NS = {
    'sensor_msgs/msg/NavSatFix': 2_500_000_000,
    'sensor_msgs/msg/Imu': 250_000_000,
    'nav_msgs/msg/Odometry': 250_000_000,
    'tf2_msgs/msg/TFMessage': 250_000_000,
}
SWEEP_TOPIC = '/lidar/points'


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Topics that are withheld between two times, seconds since the bag's begin."""

    topics: tuple[str, ...]
    from_s: float = 0.0
    to_s: float = float('inf')

    def hides(self, topic, since_s):
        """Tell whether a message is withheld."""
        return topic in self.topics and self.from_s <= since_s <= self.to_s


def message_class(type_name):
    """
    Return the class of `package/msg/Name`.

    Raises
    ------
    LookupError
        If the package is not installed.

    """
    package, _, name = type_name.partition('/msg/')
    try:
        return getattr(import_module(f'{package}.msg'), name)
    except (ImportError, AttributeError) as error:
        raise LookupError(f'message type {type_name} is not installed') from error


def in_play_order(messages, ahead_ns):
    """
    Reorder messages so that some types leave before their log time.

    Parameters
    ----------
    messages : iterable of (topic, type, data, log_ns)
        In log order.
    ahead_ns : dict of str to int
        By type; absent is 0.

    Yields
    ------
    (topic, type, data, log_ns)

    """
    waiting, longest_ns = [], max(ahead_ns.values(), default=0)
    for number, (topic, type_name, data, log_ns) in enumerate(messages):
        due_ns = log_ns - ahead_ns.get(type_name, 0)
        heapq.heappush(waiting, (due_ns, number, topic, type_name, data, log_ns))
        while waiting and waiting[0][0] <= log_ns - longest_ns:
            yield heapq.heappop(waiting)[2:]
    while waiting:
        yield heapq.heappop(waiting)[2:]


class Player:
    """
    The publishers of one bag.

    Parameters
    ----------
    node : rclpy.node.Node
    topics : dict of str to str
        Topic to type; those of absent types are left out and named in `skipped`.
    mode : str
    rate : float
        Seconds of the bag per second, in mode live.

    """

    def __init__(self, node, topics, mode, rate):
        self.node, self.mode, self.rate = node, mode, rate
        self.publishers, self.skipped = {}, {}
        for topic, type_name in topics.items():
            try:
                self.publishers[topic] = self._publisher(topic, type_name)
            except LookupError as error:
                self.skipped[topic] = str(error)
        self._clock = node.create_publisher(Clock, '/clock', 10)
        self.now_ns = 0

    def _publisher(self, topic, type_name):
        is_static = topic == '/tf_static'
        profile = qos.static_transforms() if is_static else qos.player()
        return self.node.create_publisher(message_class(type_name), topic, profile)

    def tell_time(self, now_ns):
        """Publish `/clock`."""
        self.now_ns = now_ns
        seconds, nanoseconds = divmod(now_ns, 1_000_000_000)
        self._clock.publish(Clock(clock=Time(sec=seconds, nanosec=nanoseconds)))

    def play(self, messages, begin_ns, drops, holds):
        """
        Publish messages; the clock never runs backwards within one play.

        Parameters
        ----------
        messages : iterable of (topic, type, data, log_ns)
            In log order.
        begin_ns : int
            Log time of the bag's first message.
        drops : sequence of Drop
            What is withheld.
        holds : dict of str to callable
            Topic to what takes the stamp of a message that is about to leave, and may wait.

        """
        started_s, latest_ns, end_ns = monotonic(), begin_ns, begin_ns
        ahead_ns = AHEAD_NS if self.mode == 'replay' else {}
        for topic, type_name, data, log_ns in in_play_order(messages, ahead_ns):
            since_s, end_ns = (log_ns - begin_ns) / 1e9, max(end_ns, log_ns)
            if topic not in self.publishers or any(drop.hides(topic, since_s) for drop in drops):
                continue
            if self.mode == 'live':
                self._pace(since_s, started_s)
            if topic in holds:
                holds[topic](stamp_of(data))
            if type_name not in ahead_ns:
                latest_ns = max(latest_ns, log_ns)
            if latest_ns - self.now_ns >= CLOCK_STEP_NS:
                self.tell_time(latest_ns)
            self.publishers[topic].publish(data)
        if end_ns > self.now_ns:  # time passes, whatever was withheld
            self.tell_time(end_ns)

    def _pace(self, since_s, started_s):
        """Wait for the moment at which a message of the bag is due."""
        wait_s = started_s + since_s / self.rate - monotonic()
        if wait_s > 0:
            sleep(wait_s)
