# SPDX-License-Identifier: Apache-2.0
"""
The methods of `TransformBuffer` over tf2's buffer, where a ROS distribution brings it.

The same listener fills both. tf2 answers the lookups; what it does otherwise than our buffer is
evened out here: it refuses to extrapolate, it ignores whatever is older than its history (a bag
that starts over), and it lets a moving frame replace a static one. Source: tf2_ros_py, tf2.
"""

from functools import partial
import logging
from time import monotonic, sleep

from geometry_msgs.msg import TransformStamped
from mmperception.ros.headers import header_from, ns_from_time, transform_array, transform_message
from mmperception.ros.transforms import (
    continue_motion,
    HISTORY_NS,
    JUMP_NS,
    NotYetKnown,
    TransformBuffer,
    TransformListener,
    WENT_BACK,
)
import numpy as np
from rclpy.duration import Duration
from rclpy.time import Time

try:
    import tf2_ros
except ImportError:  # wheels without a distribution
    tf2_ros = None

logger = logging.getLogger(__name__)

POLL_S = 0.005


class Tf2Buffer:
    """A tf2_ros.Buffer behind the methods of TransformBuffer."""

    def __init__(self, history_ns=HISTORY_NS):
        self._buffer = tf2_ros.Buffer(cache_time=Duration(nanoseconds=history_ns))
        self._static, self._newest_ns = set(), {}

    def put(self, parent, child, stamp_ns, transform, is_static=False):
        """Take one transform parent_from_child; see TransformBuffer.put."""
        message = TransformStamped(
            header=header_from(stamp_ns, parent),
            child_frame_id=child,
            transform=transform_message(transform),
        )
        if is_static:
            self._static.add(child)
            self._buffer.set_transform_static(message, 'mmperception')
        elif child in self._static:
            logger.debug('transforms: %s is static: what /tf says of it is left out', child)
        else:
            back_ns = self._newest_ns.get(child, stamp_ns) - stamp_ns
            if back_ns > JUMP_NS:
                logger.warning(WENT_BACK, child, back_ns / 1e9)
                self.clear()
            self._newest_ns[child] = max(stamp_ns, self._newest_ns.get(child, stamp_ns))
            self._buffer.set_transform(message, 'mmperception')

    def lookup(self, target, source, stamp_ns, extrapolate_ns=0, wait_s=0.0):
        """Return target_from_source at a stamp; see TransformBuffer.lookup."""
        deadline = monotonic() + wait_s
        while True:
            try:
                return self._at(target, source, stamp_ns)
            except LookupError as error:
                newest_ns = self._newest_ns_of(target, source)
                if newest_ns is None:
                    raise
                if newest_ns >= stamp_ns:  # too old, or it came since it was asked for
                    return self._at(target, source, stamp_ns)
                if monotonic() >= deadline:
                    ahead_ns = stamp_ns - newest_ns
                    if ahead_ns > extrapolate_ns:
                        raise NotYetKnown(
                            f'{error}: {ahead_ns / 1e6:.1f} ms after the newest transform',
                            newest_ns,
                        ) from error
                    return continue_motion(partial(self._at, target, source), newest_ns, stamp_ns)
            sleep(POLL_S)

    def clear(self):
        """Forget everything that moves: time has jumped. Static transforms stay."""
        self._newest_ns.clear()
        self._buffer.clear()

    def _at(self, target, source, stamp_ns):
        if target.lstrip('/') == source.lstrip('/'):
            return np.eye(4)
        message = self._ask(target, source, Time(nanoseconds=stamp_ns))
        return transform_array(message.transform.translation, message.transform.rotation)

    def _ask(self, target, source, time):
        try:
            return self._buffer.lookup_transform_core(target.lstrip('/'), source.lstrip('/'), time)
        except tf2_ros.TransformException as error:
            raise LookupError(f'no transform from {source} to {target}: {error}') from error

    def _newest_ns_of(self, target, source):
        """Return the newest stamp that all frames between two have; None when not connected."""
        try:
            return ns_from_time(self._ask(target, source, Time()).header.stamp)
        except LookupError:
            return None


def make_transforms(node):
    """Return (buffer, listener) for a node: over tf2 where it is installed, else our own."""
    buffer = TransformBuffer() if tf2_ros is None else Tf2Buffer()
    return buffer, TransformListener(node, buffer)
