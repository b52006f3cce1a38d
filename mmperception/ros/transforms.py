# SPDX-License-Identifier: Apache-2.0
"""
Transforms between frames at a stamp: what /tf and /tf_static said, interpolated.

`TransformBuffer` keeps ten seconds of every moving frame and answers lookups through the common
ancestor of two frames; a frame that is not there is a LookupError that names frames and reason,
never the identity. Thread-safe. tf2_transforms.py has the same methods over tf2's buffer; one
test suite holds for both. Source: REP 105, tf2_msgs/TFMessage.
"""

from bisect import bisect_left
from functools import partial
import logging
import threading
from time import monotonic

from mmperception.geometry import interpolate, invert
from mmperception.ros.messages import transform_from_msg
import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from tf2_msgs.msg import TFMessage

logger = logging.getLogger(__name__)

HISTORY_NS = 10_000_000_000
# A frame whose stamps go back by more than this has started over, also when the clock said so
# before its last transforms of the old time were here.
JUMP_NS = 2_000_000_000
TF_DEPTH = 100
WENT_BACK = 'transforms: the stamps of %s went back by %.1f s: what moves is forgotten'
# A chain longer than this is a loop.
MAX_DEPTH = 100


# Beyond the newest stamp the motion is continued from what it was over this time.
BASELINE_NS = 50_000_000


class NotYetKnown(LookupError):
    """The frames are connected, but the stamp is after the newest that they have in common."""

    def __init__(self, sentence, newest_ns):
        super().__init__(sentence)
        self.newest_ns = newest_ns


def continue_motion(at, newest_ns, stamp_ns):
    """
    Return a transform beyond the newest one, as if the motion went on.

    Parameters
    ----------
    at : callable
        Takes a stamp (ns), returns (4, 4) float64 or raises LookupError.
    newest_ns : int
        The newest stamp that `at` knows.
    stamp_ns : int
        The stamp asked for, later than that.

    """
    newest = at(newest_ns)
    try:
        before = at(newest_ns - BASELINE_NS)
    except LookupError:
        return newest
    return interpolate(before, newest, 1 + (stamp_ns - newest_ns) / BASELINE_NS)


class _Edge:
    """The transforms of one child frame to its parent, oldest first."""

    def __init__(self, parent, is_static, history_ns):
        self.parent, self.is_static, self.history_ns = parent, is_static, history_ns
        self.stamps, self.transforms = [], []

    def add(self, stamp_ns, transform):
        """Insert a transform; a later one of equal stamp replaces it."""
        index = bisect_left(self.stamps, stamp_ns)
        if index < len(self.stamps) and self.stamps[index] == stamp_ns:
            self.transforms[index] = transform
            return
        self.stamps.insert(index, stamp_ns)
        self.transforms.insert(index, transform)
        old = bisect_left(self.stamps, self.stamps[-1] - self.history_ns)
        del self.stamps[:old], self.transforms[:old]

    def at(self, stamp_ns):
        """Return parent_from_child at a stamp between the oldest and the newest."""
        if self.is_static:
            return self.transforms[0]
        index = bisect_left(self.stamps, stamp_ns)
        if self.stamps[index] == stamp_ns:
            return self.transforms[index]
        begin_ns, end_ns = self.stamps[index - 1], self.stamps[index]
        fraction = (stamp_ns - begin_ns) / (end_ns - begin_ns)
        return interpolate(self.transforms[index - 1], self.transforms[index], fraction)


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
        self._contested = set()
        self._changed = threading.Condition()

    def put(self, parent, child, stamp_ns, transform, is_static=False):
        """
        Take one transform.

        Parameters
        ----------
        parent, child : str
            Names of frames, without a leading slash.
        stamp_ns : int
            Not used of a static one, which holds at every stamp.
        transform : (4, 4) float64
            parent_from_child, metres.
        is_static : bool
            Came from /tf_static; a frame that was static once never moves again.

        """
        with self._changed:
            edge = self._edges.get(child)
            if edge is not None and edge.is_static and not is_static:
                self._refuse_motion(parent, child)
                return
            if edge is None or edge.parent != parent or is_static:
                edge = self._begin(parent, child, is_static)
            elif stamp_ns < edge.stamps[-1] - JUMP_NS:
                logger.warning(WENT_BACK, child, (edge.stamps[-1] - stamp_ns) / 1e9)
                self._clear()
                edge = self._begin(parent, child, is_static)
            edge.add(stamp_ns, transform)
            self._changed.notify_all()

    def lookup(self, target, source, stamp_ns, extrapolate_ns=0, wait_s=0.0):
        """
        Return target_from_source (4, 4) float64 at a stamp.

        Parameters
        ----------
        target, source : str
            Names of frames, with or without a leading slash.
        stamp_ns : int
            When both are looked at.
        extrapolate_ns : int
            How far after the newest stamp the motion may be continued; never before the oldest.
        wait_s : float
            How long to wait for a transform at the stamp or after it, steady time.

        Raises
        ------
        LookupError
            If it is not known; names both frames and the reason.

        """
        deadline = monotonic() + wait_s
        with self._changed:
            while True:
                try:
                    return self._lookup(target, source, stamp_ns)
                except NotYetKnown as late:
                    left_s = deadline - monotonic()
                    if left_s > 0 and self._changed.wait(left_s):
                        continue
                    if stamp_ns - late.newest_ns > extrapolate_ns:
                        raise
                    known = partial(self._lookup, target, source)
                    return continue_motion(known, late.newest_ns, stamp_ns)

    def frames(self):
        """Return {child: (parent, is_static)} of everything known."""
        with self._changed:
            return {child: (e.parent, e.is_static) for child, e in self._edges.items()}

    def stamps(self, child):
        """Return what is known of a moving frame: its stamps in ns, oldest first."""
        with self._changed:
            edge = self._edges.get(child)
            return [] if edge is None or edge.is_static else list(edge.stamps)

    def clear(self):
        """Forget everything that moves: time has jumped. Static transforms stay."""
        with self._changed:
            self._clear()

    def _refuse_motion(self, parent, child):
        """Say once that a frame is published on both topics."""
        if child not in self._contested:
            self._contested.add(child)
            logger.warning(
                'transforms: %s is in /tf_static and in /tf (below %s): it stays static; '
                'publish it once',
                child,
                parent,
            )

    def _begin(self, parent, child, is_static):
        edge = self._edges[child] = _Edge(parent, is_static, self._history_ns)
        return edge

    def _clear(self):
        self._edges = {child: edge for child, edge in self._edges.items() if edge.is_static}

    def _lookup(self, target, source, stamp_ns):
        # tf2 takes names with a leading slash, as ROS 1 had them, too.
        target, source = target.lstrip('/'), source.lstrip('/')
        if target == source:
            return np.eye(4)
        above_target, above_source = self._ancestors(target), self._ancestors(source)
        common = next((frame for frame in above_source if frame in above_target), None)
        if common is None:
            raise LookupError(self._why_apart(target, source, above_target, above_source))
        hops = [above[: above.index(common)] for above in (above_target, above_source)]
        self._check_known(hops, stamp_ns, f'no transform from {source} to {target}')
        common_from_target, common_from_source = (self._climb(hop, stamp_ns) for hop in hops)
        return invert(common_from_target) @ common_from_source

    def _ancestors(self, frame):
        """Return the frame and all above it, nearest first."""
        frames = [frame]
        while frame in self._edges and len(frames) < MAX_DEPTH:
            frame = self._edges[frame].parent
            frames.append(frame)
        return frames

    def _check_known(self, hops, stamp_ns, complaint):
        """Raise, with the frame that is to blame, when a moving one is not known at the stamp."""
        moving = [frame for hop in hops for frame in hop if not self._edges[frame].is_static]
        for frame in sorted(moving, key=lambda frame: self._edges[frame].stamps[-1]):
            edge = self._edges[frame]
            if edge.stamps[0] <= stamp_ns <= edge.stamps[-1]:
                continue
            is_late = stamp_ns > edge.stamps[-1]
            beyond_ms = (
                stamp_ns - edge.stamps[-1] if is_late else edge.stamps[0] - stamp_ns
            ) / 1e6
            side = 'after the newest' if is_late else 'before the oldest'
            sentence = (
                f'{complaint}: the stamp {stamp_ns} ns lies {beyond_ms:.1f} ms {side} transform '
                f'from {frame} to {edge.parent}'
            )
            raise NotYetKnown(sentence, edge.stamps[-1]) if is_late else LookupError(sentence)

    def _climb(self, frames, stamp_ns):
        """Return the transform from the first of these frames to the parent of the last."""
        above_from_start = np.eye(4)
        for frame in frames:
            above_from_start = self._edges[frame].at(stamp_ns) @ above_from_start
        return above_from_start

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


def take_message(buffer, msg, is_static):
    """Put every transform of a TFMessage into a buffer; a broken one is left out, and named."""
    for one in msg.transforms:
        try:
            parent, child, stamp_ns, transform = transform_from_msg(one)
        except ValueError as error:
            logger.warning('%s', error)
            continue
        buffer.put(parent, child, stamp_ns, transform, is_static)


class TransformListener:
    """
    Fills a buffer from /tf and /tf_static.

    Parameters
    ----------
    node : rclpy.node.Node
        Its executor calls back.
    buffer : TransformBuffer or Tf2Buffer
        What is filled.

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
                TFMessage, '/tf', lambda msg: take_message(buffer, msg, False), TF_DEPTH
            ),
            node.create_subscription(
                TFMessage, '/tf_static', lambda msg: take_message(buffer, msg, True), latched
            ),
        ]

    def destroy(self):
        """Give the subscriptions back."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
