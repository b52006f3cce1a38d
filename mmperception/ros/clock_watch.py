# SPDX-License-Identifier: Apache-2.0
"""
Notices that the node's clock jumps: a recording that loops, a /clock or system time that was set.

Played time says so by itself; a step of the system's clock shows only beside steady time. Its
status is `NODE: clock`. Source: REP 107 for levels, rclpy.clock for jumps.
"""

from time import monotonic_ns

from mmperception.ros import diagnostics
from mmperception.stamp_watch import Faults, JUMP_NS
from rclpy.clock import ClockChange, JumpThreshold
from rclpy.duration import Duration

# A smaller step of the system's clock is NTP's business.
STEP_NS = 500_000_000


class ClockWatch:
    """
    Watches the clock of one node from its making to `destroy`.

    Parameters
    ----------
    node : WorkingNode
    went_back : callable
        Called without arguments when time has gone back: what was received is of the past.

    Attributes
    ----------
    faults : Faults
    since_ns : int
        When the clock was first seen running; 0 while played time has not begun.

    """

    def __init__(self, node, went_back):
        self._node, self._went_back = node, went_back
        self.faults = Faults()
        self.since_ns = node.get_clock().now().nanoseconds
        self._ahead_ns = None  # of the system's clock before steady time
        threshold = JumpThreshold(
            min_forward=Duration(nanoseconds=JUMP_NS), min_backward=Duration(nanoseconds=-1)
        )
        self._handle = node.get_clock().create_jump_callback(threshold, post_callback=self._jump)

    def destroy(self):
        """Stop watching."""
        self._handle.unregister()

    def _jump(self, jump):
        now_ns, step_ns = self._node.get_clock().now().nanoseconds, jump.delta.nanoseconds
        is_same_clock = int(jump.clock_change) == int(ClockChange.ROS_TIME_NO_CHANGE)
        was_running = is_same_clock and now_ns != step_ns  # else it has just begun, at zero
        # A player in mode replay leaps forward over times of which it plays nothing.
        if was_running and (step_ns < 0 or not self._node.is_replay):
            is_loop = step_ns < 0 and abs(now_ns - self.since_ns) < JUMP_NS
            self.faults.note('loop' if is_loop else 'jump', step_ns)
        if not was_running:
            self.since_ns = now_ns
        if step_ns < 0:
            self._went_back()

    def look(self):
        """Notice that the system's clock was set; call it about every second."""
        clock = self._node.get_clock()
        if clock.ros_time_is_active:
            self.since_ns = self.since_ns or clock.now().nanoseconds
            return
        ahead_ns = clock.now().nanoseconds - monotonic_ns()
        if self._ahead_ns is not None and abs(ahead_ns - self._ahead_ns) > STEP_NS:
            self.faults.note('jump', ahead_ns - self._ahead_ns)
        self._ahead_ns = ahead_ns

    def report(self):
        """Return the DiagnosticStatus of the clock."""
        is_played = self._node.get_clock().ros_time_is_active
        values = {
            'source': '/clock' if is_played else 'system',
            **diagnostics.fault_values(self.faults),
        }
        return diagnostics.status(
            f'{self._node.get_name()}: clock', diagnostics.OK, 'running', values
        )
