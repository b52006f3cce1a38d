# SPDX-License-Identifier: Apache-2.0
"""
From `signs` to `speed_limit`: the part of the path cost node that obeys speed limits.

Messages are only stored when they come; the worker reads them, so that one thread works on the
limits. Rules are those of mmperception/speed_limit.py. Source: nav2_msgs/SpeedLimit.
"""

from collections import deque
import math

from mmperception.ros import qos
from mmperception.ros.sign_messages import sightings_from_msg
from mmperception.ros.working_node import LOG_PERIOD_S
from mmperception.speed_limit import SpeedLimits
from nav2_msgs.msg import SpeedLimit
from vision_msgs.msg import Detection3DArray

KEPT = 32


class SpeedLimitLink:
    """Subscribes to `signs`, publishes through the node's `speed_limit` publisher."""

    def __init__(self, node, publisher):
        self.node, self.publisher = node, publisher
        max_turned_rad = math.radians(node.config.signs.max_turned_deg)
        self.limits = SpeedLimits(node.config.speed_limit, max_turned_rad)
        self._messages = deque(maxlen=KEPT)
        self._subscription = node.create_subscription(
            Detection3DArray, 'signs', self._receive, qos.result(),
            qos_overriding_options=qos.overridable(),
        )  # fmt: skip

    def destroy(self):
        """Give the subscription back."""
        self.node.destroy_subscription(self._subscription)

    def _receive(self, message):
        self._messages.append(message)

    def clear(self):
        """Time has jumped: forget all signs, take a limit back."""
        self._messages.clear()
        self._publish(self.limits.last_words())

    def move(self, odom_from_base, stamp_ns, pose_at):
        """
        Take in where the robot is at a sweep, and the signs that were seen until then.

        Parameters
        ----------
        odom_from_base : (4, 4) float64
            At the sweep.
        stamp_ns : int
            Of the sweep.
        pose_at : callable
            From a stamp to (4, 4); LookupError where it is unknown.

        """
        while self._messages:
            try:
                message = self._messages.popleft()
                seen_ns, sightings = sightings_from_msg(message, self.node.config.base_frame)
                self.limits.see(sightings, pose_at(seen_ns))
            except (LookupError, ValueError) as error:
                self.node.get_logger().warning(
                    f'signs left out: {error}', throttle_duration_sec=LOG_PERIOD_S
                )
        self.limits.move(odom_from_base, stamp_ns)
        self.send()

    def send(self):
        """Publish what is due by the node's clock."""
        self._publish(self.limits.to_send(self.node.get_clock().now().nanoseconds))

    def _publish(self, values):
        for limit_mps in values:
            msg = SpeedLimit(percentage=False, speed_limit=float(limit_mps))
            msg.header.stamp = self.node.get_clock().now().to_msg()
            msg.header.frame_id = self.node.config.base_frame
            self.publisher.publish(msg)
