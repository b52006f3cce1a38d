# SPDX-License-Identifier: Apache-2.0
"""
Listens to all that the nodes say during a replay: records it, counts it, knows who is busy.

A sweep is answered when `detections` and, where there is odometry, `path_cost` of its stamp are
here, or when a node has said that it dropped it.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
import threading
from time import monotonic

from diagnostic_msgs.msg import DiagnosticArray
from mmperception.ros import qos
from mmperception.ros.diagnostics import values_of
from mmperception.ros.headers import ns_from_time
from mmperception.ros.player import message_class
from mmperception.ros.stamps import stamp_of
from rclpy.serialization import deserialize_message
from vision_msgs.msg import Detection3DArray

POLL_S = 0.1
# The message that shows that a node has done its part for the sweep of its stamp.
RESULTS = {'detections': 'perception', 'path_cost': 'path_cost'}
LATCHED = ('label_info', 'path_cost', 'costmap_filter_info')
SENSOR_DATA = ('obstacle_points', 'ground_points')
OUTPUTS = {
    'detections': 'vision_msgs/msg/Detection3DArray',
    'tracks': 'autoware_perception_msgs/msg/TrackedObjects',
    'signs': 'vision_msgs/msg/Detection3DArray',
    'signs_2d': 'vision_msgs/msg/Detection2DArray',
    'label_info': 'vision_msgs/msg/LabelInfo',
    'obstacle_points': 'sensor_msgs/msg/PointCloud2',
    'ground_points': 'sensor_msgs/msg/PointCloud2',
    'path_cost': 'nav_msgs/msg/OccupancyGrid',
    'costmap_filter_info': 'nav2_msgs/msg/CostmapFilterInfo',
    'speed_limit': 'nav2_msgs/msg/SpeedLimit',
    'markers': 'visualization_msgs/msg/MarkerArray',
    '/diagnostics': 'diagnostic_msgs/msg/DiagnosticArray',
    'debug/latency': 'diagnostic_msgs/msg/DiagnosticArray',
}


@dataclass(slots=True, kw_only=True)
class SweepState:
    """Which of the two nodes has done its part for one sweep, and which has dropped it."""

    done: set = field(default_factory=set)
    dropped: set = field(default_factory=set)


class Observer:
    """
    The subscriptions of a replay.

    Parameters
    ----------
    node : rclpy.node.Node
    record : callable
        Takes topic, type and serialised data.
    has_odom : bool
        Whether a grid is expected for each sweep.
    is_replay : bool
        Mode replay: everything is reliable.

    """

    def __init__(self, node, record, has_odom, is_replay=True):
        self.record, self.is_open = record, True
        self._nodes = {'perception', 'path_cost'} if has_odom else {'perception'}
        self.sweeps, self.messages, self.totals = {}, Counter(), Counter()
        self.pivots = {}  # stamp of each frame: processed or dropped
        self.statuses, self.reports, self.stage_ms = {}, Counter(), defaultdict(list)
        self.classes = {'detections': Counter(), 'signs': Counter()}
        self._changed = threading.Condition()
        for topic, type_name in OUTPUTS.items():
            node.create_subscription(
                message_class(type_name),
                topic,
                self._callback(topic, type_name),
                qos.recorder(topic in LATCHED, is_replay or topic not in SENSOR_DATA),
                raw=True,
            )

    def begin_loop(self):
        """Put what was counted aside: the same stamps will come again."""
        with self._changed:
            self.totals.update(self._counts())
            self.sweeps, self.pivots = {}, {}

    def counts(self):
        """Return the numbers of sweeps and pivots, in and processed, over all loops."""
        with self._changed:
            return dict(self.totals + self._counts())

    def processed_stamps(self):
        """Return the stamps of the frames of the last loop that were processed."""
        return [stamp_ns for stamp_ns, word in self.pivots.items() if word == 'processed']

    def _counts(self):
        return Counter(
            sweeps_in=len(self.sweeps),
            sweeps_processed=sum(self._nodes <= state.done for state in self.sweeps.values()),
            pivots_in=len(set(self.pivots) | set(self.sweeps)),
            pivots_processed=sum(word == 'processed' for word in self.pivots.values()),
        )

    def expect(self, stamp_ns):
        """Note a sweep that is about to be published."""
        with self._changed:
            self.sweeps[stamp_ns] = SweepState()

    def num_in_flight(self):
        """Return how many sweeps are not answered yet."""
        return sum(not self._is_answered(state) for state in list(self.sweeps.values()))

    def unanswered(self):
        """Return a phrase that says which node owes an answer to which sweeps."""
        owed = defaultdict(list)
        for number, state in enumerate(list(self.sweeps.values())):
            for node in sorted(self._nodes - state.done - state.dropped):
                owed[node].append(str(number))
        return '; '.join(f'{node}: sweep {", ".join(which)}' for node, which in owed.items())

    def _is_answered(self, state):
        return self._nodes <= state.done | state.dropped

    def wait_until(self, condition, timeout_s, check):
        """
        Wait for a condition on this observer; return whether it came true.

        `check` is called now and then and raises when waiting makes no sense.
        """
        deadline = monotonic() + timeout_s
        with self._changed:
            while not condition():
                check()
                if monotonic() > deadline:
                    return False
                self._changed.wait(POLL_S)
        return True

    def _callback(self, topic, type_name):
        full_name = topic if topic.startswith('/') else f'/{topic}'

        def receive(data):
            if not self.is_open:
                return
            self.record(full_name, type_name, data)
            with self._changed:
                self.messages[topic] += 1
                self._note(topic, data)
                self._changed.notify_all()

        return receive

    def _note(self, topic, data):
        """Take what a message says about sweeps, stages and inputs."""
        if topic in self.classes:
            message = deserialize_message(data, Detection3DArray)
            self.classes[topic].update(classes_of(message))
        if topic in RESULTS:
            stamp_ns = stamp_of(data)
            self._state(stamp_ns).done.add(RESULTS[topic])
            if topic == 'detections':
                self.pivots[stamp_ns] = 'processed'
        elif topic == 'debug/latency':
            message = deserialize_message(data, DiagnosticArray)
            for status in message.status:
                self._note_frame(status, ns_from_time(message.header.stamp))
        elif topic == '/diagnostics':
            for status in deserialize_message(data, DiagnosticArray).status:
                self.statuses[status.name] = values_of(status)
                self.reports[status.name] += 1

    def _state(self, stamp_ns):
        """Return the state of a sweep; of a stamp that is none, a throw-away."""
        return self.sweeps.get(stamp_ns) or SweepState()

    def _note_frame(self, status, stamp_ns):
        """Take one node's report on one frame: a drop, or milliseconds by stage."""
        node = status.name.partition(':')[0]
        if status.message.startswith('dropped'):
            self._state(stamp_ns).dropped.add(node)
            if node == 'perception':
                self.pivots.setdefault(stamp_ns, 'dropped')
            return
        prefix = '' if node == 'perception' else f'{node}.'
        for key, value in values_of(status).items():
            if key.endswith('_ms'):
                self.stage_ms[prefix + key.removesuffix('_ms')].append(value)


def classes_of(message):
    """Yield the best class of every object of a Detection3DArray."""
    for detection in message.detections:
        if detection.results:
            yield detection.results[0].hypothesis.class_id
