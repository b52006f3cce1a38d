# SPDX-License-Identifier: Apache-2.0
"""
What the path cost node remembers of traffic signs that close the way.

Signs come in `base_link` at their stamp and are kept in odom, with the way that the robot faced
when it first saw them. A sweep sees what was known before its stamp, also when signs of its own
stamp or later ones are here already, so that it never depends on which of two topics came first.
Source: vision_msgs/Detection3DArray.
"""

from collections import deque
from dataclasses import replace
import threading

from mmperception.cost_paint import SeenSign
from mmperception.geometry import apply, yaw_of
from mmperception.ros import qos
from mmperception.ros.headers import ns_from_time
from mmperception.ros.sign_messages import facing_from_msg
from mmperception.ros.working_node import LOG_PERIOD_S
from mmperception.sign_facing import is_meant
import numpy as np
from vision_msgs.msg import Detection3DArray

# Signs of one name this near to each other are one sign.
SAME_M = 2.5
MOST_SIGNS = 64
# Messages with signs that may be ahead of the sweep that is worked on.
KEPT = 32


class SignInbox:
    """Subscribes to `signs` and answers `before(stamp)`."""

    def __init__(self, node):
        self.node = node
        # Stamp of each message, and what was known after it.
        self._known = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        self._subscription = node.create_subscription(
            Detection3DArray, 'signs', self._receive, qos.result(),
            qos_overriding_options=qos.overridable(),
        )  # fmt: skip

    def destroy(self):
        """Give the subscription back."""
        self.node.destroy_subscription(self._subscription)

    def clear(self):
        """Forget everything: time has jumped."""
        with self._lock:
            self._known.clear()

    def before(self, stamp_ns):
        """Return the tuple of SeenSign that were seen before a stamp and still count."""
        oldest_ns = stamp_ns - int(self.node.config.path_cost.sign_memory_s * 1e9)
        with self._lock:
            known = next((signs for at_ns, signs in reversed(self._known) if at_ns < stamp_ns), ())
        return tuple(sign for sign in known if sign.stamp_ns >= oldest_ns)

    def _receive(self, message):
        if not message.detections:
            return
        stamp_ns = ns_from_time(message.header.stamp)
        try:
            self._keep(message, self.node.assembler.ego.odom_from_base(stamp_ns), stamp_ns)
        except (LookupError, ValueError) as error:
            self.node.get_logger().warning(
                f'signs left out: {error}', throttle_duration_sec=LOG_PERIOD_S
            )

    def _keep(self, message, odom_from_base, stamp_ns):
        if message.header.frame_id != self.node.config.base_frame:
            raise ValueError(
                f'signs in {message.header.frame_id}, expected {self.node.config.base_frame}'
            )
        seen = [
            self._sign(detection, odom_from_base, stamp_ns) for detection in message.detections
        ]
        with self._lock:
            signs = self._known[-1][1] if self._known else ()
            for sign in seen:
                if sign is not None:
                    signs = remembered(signs, sign)[-MOST_SIGNS:]
            self._known.append((stamp_ns, signs))

    def _sign(self, detection, odom_from_base, stamp_ns):
        """Return a detection as a SeenSign, or None where it says nothing of our way."""
        at = detection.bbox.center.position
        place = np.array((at.x, at.y, at.z))
        if not detection.results or not np.isfinite(place).all():
            return None
        # In `base_link` the way is the x axis; a sign of another road closes nothing here.
        max_turned_rad = np.deg2rad(self.node.config.signs.max_turned_deg)
        if not is_meant(facing_from_msg(detection), 0.0, max_turned_rad):
            return None
        return SeenSign(
            name=detection.results[0].hypothesis.class_id,
            place_xy=tuple(apply(odom_from_base, place)[:2].tolist()),
            yaw=yaw_of(odom_from_base),
            stamp_ns=stamp_ns,
        )


def remembered(signs, sign):
    """Return the tuple of SeenSign with one more; of one seen before, its first heading stays."""
    for old in signs:
        apart_m = np.hypot(*np.subtract(old.place_xy, sign.place_xy))
        if old.name == sign.name and apart_m < SAME_M:
            others = tuple(other for other in signs if other is not old)
            return (*others, replace(sign, yaw=old.yaw))
    return (*signs, sign)
