# SPDX-License-Identifier: Apache-2.0
"""
Where the robot is and how it moves, from whatever says so: TF, else `odom`, else IMU and GPS.

Filled by callbacks, asked by the worker at the stamps of frames; thread-safe. A GPS fix is
interpolated between its neighbours, or carried forward with a covariance that grows.
"""

import logging
import threading

from mmperception.datatypes import Pose
from mmperception.odometry import GpsHistory, MotionEstimator, PoseHistory
from mmperception.ros.messages import fix_from_msg, imu_from_msg, pose_from_msg, twist_from_msg

logger = logging.getLogger(__name__)

# Mode replay: the transform may be on its way while the sweep is worked on already.
REPLAY_WAIT_S = 0.2
# The pose this long before a frame gives its speed.
BASELINE_NS = 100_000_000


class EgoMotion:
    """
    The robot's motion, by stamp.

    Parameters
    ----------
    config : Config
    transforms : TransformBuffer

    """

    def __init__(self, config, transforms):
        self.config, self.transforms = config, transforms
        sync = config.sync
        self._extrapolate_ns = int(sync.odom_tolerance_ms * 1e6)
        self._wait_s = REPLAY_WAIT_S if config.mode == 'replay' else 0.0
        self._lock = threading.Lock()
        self._poses = PoseHistory(max_extrapolation_ns=self._extrapolate_ns)
        self._motion = MotionEstimator()
        self._fixes = GpsHistory(max_age_ns=int(sync.gps_tolerance_ms * 1e6))

    def add_fix(self, msg):
        """Take a NavSatFix; one without a place says nothing."""
        if msg.status.status < 0:
            return
        fix = fix_from_msg(msg)
        with self._lock:
            self._fixes.add(fix)
            self._motion.add_gps(fix)

    def add_imu(self, msg):
        """Take an Imu."""
        sample = imu_from_msg(msg)
        try:
            base = self.config.base_frame
            base_from_imu = self.transforms.lookup(base, sample.frame_id, sample.stamp_ns)
        except LookupError as error:
            logger.debug('imu: %s', error)
            base_from_imu = None
        with self._lock:
            self._motion.add_imu(sample, base_from_imu)

    def add_odometry(self, msg):
        """Take an Odometry; its child frame may sit anywhere on the robot."""
        pose, base, child = pose_from_msg(msg), self.config.base_frame, msg.child_frame_id
        if child not in ('', base):
            child_from_base = self.transforms.lookup(child, base, pose.stamp_ns)
            pose = Pose(
                stamp_ns=pose.stamp_ns, odom_from_base=pose.odom_from_base @ child_from_base
            )
        with self._lock:
            self._poses.add(pose)
            self._motion.add_twist(pose.stamp_ns, *twist_from_msg(msg))

    def clear(self):
        """Forget everything: time has jumped."""
        with self._lock:
            for history in (self._poses, self._motion, self._fixes):
                history.clear()

    def odom_from_base(self, stamp_ns):
        """
        Return the robot's pose (4, 4) at a stamp, from TF, else from `odom`.

        Raises
        ------
        LookupError
            If neither knows it; the reason is TF's.

        """
        odom, base = self.config.odom_frame, self.config.base_frame
        try:
            return self.transforms.lookup(odom, base, stamp_ns, self._extrapolate_ns, self._wait_s)
        except LookupError:
            with self._lock:
                pose = self._poses.at(stamp_ns)
            if pose is None:
                raise
            return pose

    def motion(self, stamp_ns):
        """Return the Motion at a stamp, or None."""
        for then_ns in (stamp_ns - BASELINE_NS, stamp_ns):
            self._note_pose(then_ns)
        with self._lock:
            return self._motion.at(stamp_ns)

    def _note_pose(self, stamp_ns):
        odom, base = self.config.odom_frame, self.config.base_frame
        try:
            pose = self.transforms.lookup(odom, base, stamp_ns, self._extrapolate_ns)
        except LookupError:
            return
        with self._lock:
            self._motion.add_pose(Pose(stamp_ns=stamp_ns, odom_from_base=pose))

    def fix(self, stamp_ns):
        """Return the GpsFix at a stamp, or None."""
        with self._lock:
            return self._fixes.at(stamp_ns)
