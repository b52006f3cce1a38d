# SPDX-License-Identifier: Apache-2.0
"""
Transforms between frames at a stamp: what /tf and /tf_static said, interpolated.

`TransformBuffer` keeps ten seconds of every moving frame and answers lookups through the common
ancestor of two frames; a frame that is not there is a LookupError that names frames and reason,
never the identity. Thread-safe. Source: REP 105, tf2_msgs/TFMessage.
"""

from bisect import bisect_left
import logging
import threading
from time import monotonic

from mmperception.geometry import interpolate, invert
from mmperception.ros.messages import transforms_from_msg
import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from tf2_msgs.msg import TFMessage

logger = logging.getLogger(__name__)

HISTORY_NS = 10_000_000_000
TF_DEPTH = 100
# A chain longer than this is a loop.
MAX_DEPTH = 100


class NotYetKnown(LookupError):
    """The frames are connected, but the stamp is after the newest transform."""


class _Edge:
    """The transforms of one child frame to its parent, oldest first."""

    def __init__(self, parent, is_static, history_ns):
        self.parent, self.is_static, self.history_ns = parent, is_static, history_ns
        self.stamps, self.transforms = [], []

    def add(self, stamp_ns, transform):
        """Insert a transform; a later one of equal stamp replaces it."""
        if self.is_static:
            self.stamps, self.transforms = [stamp_ns], [transform]
            return
        index = bisect_left(self.stamps, stamp_ns)
        if index < len(self.stamps) and self.stamps[index] == stamp_ns:
            self.transforms[index] = transform
            return
        self.stamps.insert(index, stamp_ns)
        self.transforms.insert(index, transform)
        old = bisect_left(self.stamps, self.stamps[-1] - self.history_ns)
        del self.stamps[:old], self.transforms[:old]

    def at(self, stamp_ns, extrapolate_ns):
        """Return parent_from_child, or None when the stamp is outside of what is known."""
        if self.is_static:
            return self.transforms[0]
        index = bisect_left(self.stamps, stamp_ns)
        if index < len(self.stamps) and self.stamps[index] == stamp_ns:
            return self.transforms[index]
        if self.beyond_ns(stamp_ns) > extrapolate_ns:
            return None
        if len(self.stamps) == 1:
            return self.transforms[0]
        after = min(max(index, 1), len(self.stamps) - 1)
        begin_ns, end_ns = self.stamps[after - 1], self.stamps[after]
        fraction = (stamp_ns - begin_ns) / (end_ns - begin_ns)
        return interpolate(self.transforms[after - 1], self.transforms[after], fraction)

    def beyond_ns(self, stamp_ns):
        """Return how far a stamp lies before the oldest or after the newest transform."""
        return max(self.stamps[0] - stamp_ns, stamp_ns - self.stamps[-1], 0)


class TransformBuffer:
    """
    All that is known of the frames; filled by a listener or from a bag.

    Parameters
    ----------
    history_ns : int
        How long moving frames are remembered.

    """

    def __init__(self, history_ns=HISTORY_NS):
        self._history_ns, self._edges = history_ns, {}
        self._changed = threading.Condition()

    def set(self, parent, child, stamp_ns, transform, is_static=False):
        """
        Take one transform.

        Parameters
        ----------
        parent, child : str
        stamp_ns : int
            Not used of a static one, which holds at every stamp.
        transform : (4, 4) float64
            parent_from_child.
        is_static : bool

        """
        with self._changed:
            edge = self._edges.get(child)
            if edge is None or edge.parent != parent or (is_static and not edge.is_static):
                edge = self._begin(parent, child, is_static)
            elif not edge.is_static and stamp_ns < edge.stamps[-1] - self._history_ns:
                logger.warning('transforms: time went back by more than the history: cleared')
                self._clear()
                edge = self._begin(parent, child, is_static)
            edge.add(stamp_ns, transform)
            self._changed.notify_all()

    def set_message(self, msg, is_static):
        """Take every transform of a TFMessage; a broken one is left out with a warning."""
        try:
            for parent, child, stamp_ns, transform in transforms_from_msg(msg):
                self.set(parent, child, stamp_ns, transform, is_static)
        except ValueError as error:
            logger.warning('%s', error)

    def lookup(self, target, source, stamp_ns, extrapolate_ns=0, wait_s=0.0):
        """
        Return target_from_source (4, 4) float64 at a stamp.

        Parameters
        ----------
        target, source : str
        stamp_ns : int
        extrapolate_ns : int
            How far beyond the known stamps the motion may be continued.
        wait_s : float
            How long to wait for a transform at the stamp or after it, steady time.

        Raises
        ------
        LookupError
            If it is not known; names both frames and the reason.

        """
        deadline = monotonic() + wait_s
        with self._changed:
            while wait_s > 0:
                try:
                    return self._lookup(target, source, stamp_ns, 0)
                except NotYetKnown:
                    left_s = deadline - monotonic()
                    if left_s <= 0 or not self._changed.wait(left_s):
                        break
            return self._lookup(target, source, stamp_ns, extrapolate_ns)

    def lookup_through(
        self, target, target_ns, source, source_ns, fixed, extrapolate_ns=0
    ):  # the parameters of tf2's lookup_transform_full
        """Return target (at its stamp) from source (at its own), the world being `fixed`."""
        target_from_fixed = self.lookup(target, fixed, target_ns, extrapolate_ns)
        return target_from_fixed @ self.lookup(fixed, source, source_ns, extrapolate_ns)

    def frames(self):
        """Return {child: (parent, is_static)} of everything known."""
        with self._changed:
            return {child: (e.parent, e.is_static) for child, e in self._edges.items()}

    def stamps(self, child):
        """Return the stamps (ns) known of a moving frame, oldest first."""
        with self._changed:
            edge = self._edges.get(child)
            return [] if edge is None or edge.is_static else list(edge.stamps)

    def clear(self):
        """Forget everything that moves: time has jumped. Static transforms stay."""
        with self._changed:
            self._clear()

    def _begin(self, parent, child, is_static):
        edge = self._edges[child] = _Edge(parent, is_static, self._history_ns)
        return edge

    def _clear(self):
        self._edges = {child: edge for child, edge in self._edges.items() if edge.is_static}

    def _lookup(self, target, source, stamp_ns, extrapolate_ns):
        # tf2 takes names with a leading slash, as ROS 1 had them, too.
        target, source = target.lstrip('/'), source.lstrip('/')
        if target == source:
            return np.eye(4)
        above_target, above_source = self._ancestors(target), self._ancestors(source)
        common = next((frame for frame in above_source if frame in above_target), None)
        if common is None:
            raise LookupError(self._why_apart(target, source, above_target, above_source))
        climb = self._climb
        common_from_target = climb(target, common, stamp_ns, extrapolate_ns, (target, source))
        common_from_source = climb(source, common, stamp_ns, extrapolate_ns, (target, source))
        return invert(common_from_target) @ common_from_source

    def _ancestors(self, frame):
        """Return the frame and all above it, nearest first."""
        frames = [frame]
        while frame in self._edges and len(frames) < MAX_DEPTH:
            frame = self._edges[frame].parent
            frames.append(frame)
        return frames

    def _climb(self, frame, ancestor, stamp_ns, extrapolate_ns, asked):
        ancestor_from_start = np.eye(4)
        while frame != ancestor:
            edge = self._edges[frame]
            transform = edge.at(stamp_ns, extrapolate_ns)
            if transform is None:
                kind = NotYetKnown if stamp_ns > edge.stamps[-1] else LookupError
                raise kind(self._why_not_then(frame, edge, stamp_ns, asked))
            ancestor_from_start = transform @ ancestor_from_start
            frame = edge.parent
        return ancestor_from_start

    @staticmethod
    def _why_not_then(frame, edge, stamp_ns, asked):
        side = 'before the oldest' if stamp_ns < edge.stamps[0] else 'after the newest'
        return (
            f'no transform from {asked[1]} to {asked[0]}: the stamp {stamp_ns} ns lies '
            f'{edge.beyond_ns(stamp_ns) / 1e6:.1f} ms {side} transform from {frame} to '
            f'{edge.parent}'
        )

    def _why_apart(self, target, source, above_target, above_source):
        known = {edge.parent for edge in self._edges.values()} | set(self._edges)
        unknown = [frame for frame in (source, target) if frame not in known]
        if unknown:
            names = ' and '.join(repr(frame) for frame in unknown)
            have = ', '.join(sorted(known)) or 'none at all'
            reason = f'nobody has published {names} (known frames: {have})'
        else:
            reason = f'they hang below {above_source[-1]} and {above_target[-1]}, not connected'
        return f'no transform from {source} to {target}: {reason}; check /tf and /tf_static'


class TransformListener:
    """
    Fills a buffer from /tf and /tf_static.

    Parameters
    ----------
    node : rclpy.node.Node
    buffer : TransformBuffer

    """

    def __init__(self, node, buffer):
        self._node = node
        latched = QoSProfile(
            depth=TF_DEPTH,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
        )
        self._subscriptions = [
            node.create_subscription(
                TFMessage, '/tf', lambda msg: buffer.set_message(msg, False), TF_DEPTH
            ),
            node.create_subscription(
                TFMessage, '/tf_static', lambda msg: buffer.set_message(msg, True), latched
            ),
        ]

    def destroy(self):
        """Give the subscriptions back."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
