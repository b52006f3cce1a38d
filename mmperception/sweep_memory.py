# SPDX-License-Identifier: Apache-2.0
"""
What the recurrent network remembers from sweep to sweep, and when it has to forget.

The memory itself is the network's (network/memory.py). Here stand the stamp and the pose that it
belongs to: after a gap, a step back in time, without odometry or after an impossible leap of it,
nothing is remembered.
"""

from mmperception.geometry import invert
import numpy as np

MAX_GAP_NS = 500_000_000
# Faster than any robot: such a leap is the odometry's.
MAX_SPEED_MPS = 70.0


class SweepMemory:
    """Holds the network's memory between the frames of one stream."""

    def __init__(self):
        self.clear()

    def clear(self):
        """Forget everything: time has jumped, or another stream begins."""
        self.state, self._stamp_ns, self._odom_from_base = None, None, None

    def previous_from_base(self, frame):
        """
        Return (4, 4) to `base_link` of the frame before, or None when that may not be remembered.

        Then it is forgotten.
        """
        if self.state is None or not self._continues(frame):
            self.clear()
            return None
        return invert(self._odom_from_base) @ frame.odom_from_base

    def keep(self, state, frame):
        """Remember `state` (a tensor, or None: nothing) as that of a frame."""
        self.state = None if frame.odom_from_base is None else state
        self._stamp_ns, self._odom_from_base = frame.stamp_ns, frame.odom_from_base

    def _continues(self, frame):
        if frame.odom_from_base is None:
            return False
        gap_ns = frame.stamp_ns - self._stamp_ns
        if not 0 < gap_ns <= MAX_GAP_NS:
            return False
        moved = frame.odom_from_base[:3, 3] - self._odom_from_base[:3, 3]
        return bool(np.linalg.norm(moved) <= MAX_SPEED_MPS * gap_ns * 1e-9 + 1.0)
