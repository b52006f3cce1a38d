# SPDX-License-Identifier: Apache-2.0
"""
The interface of `TransformBuffer` over tf2_ros, where a ROS distribution brings it.

tf2 answers the lookups; it refuses to extrapolate, so a short one is made here from two poses
that it knows. Used by `make_transforms` when tf2_ros is importable. Source: tf2_ros_py.
"""

from time import monotonic, sleep

from geometry_msgs.msg import TransformStamped
from mmperception.geometry import interpolate
from mmperception.ros.headers import header_from, ns_from_time, transform_array, transform_message
from mmperception.ros.transforms import TransformBuffer, TransformListener
from rclpy.time import Time

try:
    import tf2_ros
except ImportError:  # wheels without a distribution
    tf2_ros = None

POLL_S = 0.005
# The motion is continued from what it was over this time.
BASELINE_NS = 50_000_000


class Tf2Buffer:
    """A tf2_ros.Buffer behind the methods of TransformBuffer."""

    def __init__(self, buffer):
        self.buffer = buffer

    def set(self, parent, child, stamp_ns, transform, is_static=False):
        """Take one transform parent_from_child."""
        message = TransformStamped(
            header=header_from(stamp_ns, parent),
            child_frame_id=child,
            transform=transform_message(transform),
        )
        store = self.buffer.set_transform_static if is_static else self.buffer.set_transform
        store(message, 'mmperception')

    def lookup(self, target, source, stamp_ns, extrapolate_ns=0, wait_s=0.0):
        """Return target_from_source at a stamp; see TransformBuffer.lookup."""
        deadline = monotonic() + wait_s
        while True:
            try:
                return self._lookup(target, source, stamp_ns)
            except LookupError:
                if monotonic() >= deadline:
                    break
            sleep(POLL_S)
        return self._lookup_near(target, source, stamp_ns, extrapolate_ns)

    def lookup_through(
        self, target, target_ns, source, source_ns, fixed, extrapolate_ns=0
    ):  # the parameters of tf2's lookup_transform_full
        """Return target (at its stamp) from source (at its own), the world being `fixed`."""
        target_from_fixed = self.lookup(target, fixed, target_ns, extrapolate_ns)
        return target_from_fixed @ self.lookup(fixed, source, source_ns, extrapolate_ns)

    def clear(self):
        """Forget everything that moves."""
        self.buffer.clear()

    def _lookup(self, target, source, stamp_ns):
        message = self._ask(target, source, Time(nanoseconds=stamp_ns))
        return transform_array(message.transform.translation, message.transform.rotation)

    def _ask(self, target, source, time):
        try:
            return self.buffer.lookup_transform_core(target, source, time)
        except tf2_ros.TransformException as error:
            raise LookupError(f'no transform from {source} to {target}: {error}') from error

    def _lookup_near(self, target, source, stamp_ns, extrapolate_ns):
        """Continue the motion from the newest common stamp when that is near enough."""
        try:
            return self._lookup(target, source, stamp_ns)
        except LookupError:
            newest_ns = ns_from_time(self._ask(target, source, Time()).header.stamp)
            if not 0 < stamp_ns - newest_ns <= extrapolate_ns:
                raise
        newest = self._lookup(target, source, newest_ns)
        try:
            before = self._lookup(target, source, newest_ns - BASELINE_NS)
        except LookupError:
            return newest
        return interpolate(before, newest, 1 + (stamp_ns - newest_ns) / BASELINE_NS)


def make_transforms(node):
    """Return (buffer, listener) for a node: tf2's where it is installed, else our own."""
    if tf2_ros is None:
        buffer = TransformBuffer()
        return buffer, TransformListener(node, buffer)
    buffer = tf2_ros.Buffer()
    return Tf2Buffer(buffer), _Tf2Listener(node, buffer)


class _Tf2Listener:
    def __init__(self, node, buffer):
        self._listener = tf2_ros.TransformListener(buffer, node, spin_thread=False)

    def destroy(self):
        self._listener.unregister()
