# SPDX-License-Identifier: Apache-2.0
"""
Where the robot is and how it moves, at any stamp: poses, motion, satellite fixes.

Histories are filled by messages as they come and asked at a frame's stamp: the assembly of a
frame fills `odom_from_base`, `motion` and `gps` from them. Not thread-safe. The local
east-north-up frame that satellite fixes are compared in is in geodesy.py.
"""

from bisect import bisect_right, insort
from dataclasses import dataclass, replace
import math
from operator import attrgetter

from mmperception.datatypes import Motion
from mmperception.geodesy import LocalEnu
from mmperception.geometry import interpolate, invert, yaw_of
import numpy as np

# A course or speed from satellite fixes is believed above this speed only: below, it is noise.
SPEED_GATE_MPS = 0.5
# How far a fix that is carried forward may drift, one sigma: the error of its velocity, the
# acceleration of a road vehicle, and, when no velocity is known, any usual driving.
VELOCITY_SIGMA_MPS, ACCELERATION_SIGMA_MPS2, UNKNOWN_VELOCITY_SIGMA_MPS = 0.5, 1.5, 5.0
_stamp = attrgetter('stamp_ns')


class _History:
    """Values with a `stamp_ns`, sorted, at most `capacity`; the first of equal stamps stays."""

    def __init__(self, capacity):
        self._capacity = capacity
        self._values = []

    def __len__(self):
        return len(self._values)

    def clear(self):
        """Forget everything (a time jump)."""
        self._values.clear()

    def add(self, value):
        """Insert a value where its stamp belongs."""
        after = bisect_right(self._values, value.stamp_ns, key=_stamp)
        if after and self._values[after - 1].stamp_ns == value.stamp_ns:
            return
        insort(self._values, value, key=_stamp)
        del self._values[: -self._capacity]

    def around(self, stamp_ns):
        """Return the last value at or before the stamp and the first after it, or None each."""
        after = bisect_right(self._values, stamp_ns, key=_stamp)
        before = self._values[after - 1] if after else None
        return before, self._values[after] if after < len(self._values) else None

    def nearest(self, stamp_ns, limit_ns):
        """Return the value nearest to the stamp, or None when none is within the limit."""
        near = [v for v in self.around(stamp_ns) if v and abs(v.stamp_ns - stamp_ns) <= limit_ns]
        return min(near, key=lambda value: abs(value.stamp_ns - stamp_ns), default=None)

    def last_two(self, stamp_ns):
        """Return the last two values at or before the stamp, older first; None where absent."""
        after = bisect_right(self._values, stamp_ns, key=_stamp)
        older = self._values[after - 2] if after > 1 else None
        return older, self._values[after - 1] if after else None


class PoseHistory(_History):
    """
    The robot's recent poses in the odometry frame.

    Parameters
    ----------
    max_extrapolation_ns : int
        How far beyond the newest (or before the oldest) pose the motion is continued.
    max_gap_ns : int
        Poses farther apart than this are not interpolated between.
    capacity : int

    """

    def __init__(self, max_extrapolation_ns=100_000_000, max_gap_ns=1_000_000_000, capacity=2000):
        super().__init__(capacity)
        self._max_extrapolation_ns, self._max_gap_ns = max_extrapolation_ns, max_gap_ns

    def at(self, stamp_ns):
        """Return `odom_from_base` (4, 4) float64 at a stamp, or None when it is not known."""
        before, after = self.around(stamp_ns)
        if before and before.stamp_ns == stamp_ns:
            return before.odom_from_base
        if before and after:
            return self._between(before, after, stamp_ns)
        if not self._values:
            return None
        edge = before or after
        if abs(stamp_ns - edge.stamp_ns) > self._max_extrapolation_ns:
            return None
        if len(self._values) == 1:
            return edge.odom_from_base
        pair = self._values[-2:] if before else self._values[:2]
        return self._between(*pair, stamp_ns)

    def _between(self, first, second, stamp_ns):
        span_ns = second.stamp_ns - first.stamp_ns
        if span_ns > self._max_gap_ns:
            return None
        fraction = (stamp_ns - first.stamp_ns) / span_ns
        return interpolate(first.odom_from_base, second.odom_from_base, fraction)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Twist:
    stamp_ns: int
    speed_mps: float
    yaw_rate_radps: float


class MotionEstimator:
    """
    How the robot moves: from poses, else an odometer's twist, else IMU and GPS.

    Parameters
    ----------
    max_age_ns : int
        Evidence farther than this from the asked stamp says nothing.

    """

    def __init__(self, max_age_ns=500_000_000):
        self._max_age_ns = max_age_ns
        self._poses = PoseHistory(capacity=200)
        self._twists, self._turns = _History(200), _History(400)
        self._fixes = GpsHistory(capacity=50)

    def add_pose(self, pose):
        """Take a `Pose` (from TF)."""
        self._poses.add(pose)

    def add_twist(self, stamp_ns, speed_mps, yaw_rate_radps):
        """Take the forward speed and yaw rate of an odometry message."""
        self._twists.add(_twist(stamp_ns, speed_mps, yaw_rate_radps))

    def add_imu(self, sample, base_from_imu=None):
        """Take an `ImuSample`; without `base_from_imu` (4, 4) its z axis is taken as up."""
        rate = sample.angular_velocity
        if base_from_imu is not None:
            rate = base_from_imu[:3, :3] @ rate
        self._turns.add(_twist(sample.stamp_ns, math.nan, rate[2]))

    def add_gps(self, fix):
        """Take a `GpsFix`."""
        self._fixes.add(fix)

    def clear(self):
        """Forget everything (a time jump)."""
        for history in (self._poses, self._twists, self._turns, self._fixes):
            history.clear()

    def at(self, stamp_ns):
        """Return the `Motion` at a stamp by the best source that knows it, or None."""
        return self._from_poses(stamp_ns) or self._from_twist(stamp_ns) or self._from_gps(stamp_ns)

    def _from_poses(self, stamp_ns, baseline_ns=100_000_000):
        before, after = self._poses.around(stamp_ns)
        if before is None or len(self._poses) < 2:
            return None
        end_ns = stamp_ns if after else before.stamp_ns
        start, end = self._poses.at(end_ns - baseline_ns), self._poses.at(end_ns)
        if start is None or end is None or stamp_ns - end_ns > self._max_age_ns:
            return None
        start_from_end = invert(start) @ end
        x_m, y_m = start_from_end[:2, 3]
        return Motion(
            speed_mps=math.copysign(math.hypot(x_m, y_m), x_m) / (baseline_ns * 1e-9),
            yaw_rate_radps=yaw_of(start_from_end) / (baseline_ns * 1e-9),
            age_ns=stamp_ns - end_ns,
            source='tf',
        )

    def _from_twist(self, stamp_ns):
        twist = self._twists.nearest(stamp_ns, self._max_age_ns)
        if twist is None:
            return None
        return Motion(
            speed_mps=twist.speed_mps,
            yaw_rate_radps=twist.yaw_rate_radps,
            age_ns=max(0, stamp_ns - twist.stamp_ns),
            source='odom',
        )

    def _from_gps(self, stamp_ns):
        turn = self._turns.nearest(stamp_ns, self._max_age_ns)
        fix, velocity_mps = self._fixes.velocity(stamp_ns)
        if turn is None or velocity_mps is None or stamp_ns - fix.stamp_ns > self._max_age_ns:
            return None
        return Motion(
            speed_mps=float(np.hypot(*velocity_mps[:2])),
            yaw_rate_radps=turn.yaw_rate_radps,
            age_ns=stamp_ns - fix.stamp_ns,
            source='imu_gps',
        )


def _twist(stamp_ns, speed_mps, yaw_rate_radps):
    return _Twist(
        stamp_ns=stamp_ns, speed_mps=float(speed_mps), yaw_rate_radps=float(yaw_rate_radps)
    )


class GpsHistory(_History):
    """
    Recent fixes, between which is interpolated and beyond which is carried forward.

    Parameters
    ----------
    max_age_ns : int
        A fix older than this is not carried forward; a gap twice as wide is not bridged.
    capacity : int

    """

    def __init__(self, max_age_ns=500_000_000, capacity=200):
        super().__init__(capacity)
        self._max_age_ns = max_age_ns
        self._enu = None

    def add(self, fix):
        """Take a `GpsFix`; one without a fix says nothing about the place and is left out."""
        if not fix.has_fix:
            return
        if self._enu is None:
            self._enu = LocalEnu(fix.latitude_deg, fix.longitude_deg, fix.altitude_m)
        super().add(fix)

    def clear(self):
        """Forget everything (a time jump)."""
        super().clear()
        self._enu = None

    def at(self, stamp_ns):
        """
        Return the `GpsFix` at a stamp, or None when none is near enough.

        Between two fixes (replay) it is interpolated, with the worse covariance; after the last
        (live) it is carried forward by the velocity, if that is known, with a covariance that
        grows with the age. An unknown covariance stays unknown.
        """
        before, after = self.around(stamp_ns)
        if before is None or before.stamp_ns == stamp_ns:
            return before
        if after and after.stamp_ns - before.stamp_ns <= 2 * self._max_age_ns:
            return self._between(before, after, stamp_ns)
        if stamp_ns - before.stamp_ns > self._max_age_ns:
            return None
        return self._carry(before, stamp_ns)

    def velocity(self, stamp_ns):
        """
        Return the last fix at or before a stamp and the velocity there.

        Returns
        -------
        fix : GpsFix or None
        velocity_mps : (3,) float64 or None
            East, north, up. None below the speed gate or with too few fixes: unknown.

        """
        older, fix = self.last_two(stamp_ns)
        if older is None or fix.stamp_ns - older.stamp_ns > 4 * self._max_age_ns:
            return fix, None
        step_m = self._place(fix) - self._place(older)
        velocity_mps = step_m / ((fix.stamp_ns - older.stamp_ns) * 1e-9)
        is_moving = np.hypot(*velocity_mps[:2]) > SPEED_GATE_MPS
        return fix, velocity_mps if is_moving else None

    def _place(self, fix):
        return self._enu.enu_from_geodetic(fix.latitude_deg, fix.longitude_deg, fix.altitude_m)[0]

    def _between(self, before, after, stamp_ns):
        fraction = (stamp_ns - before.stamp_ns) / (after.stamp_ns - before.stamp_ns)
        place = (1 - fraction) * self._place(before) + fraction * self._place(after)
        known = [f.covariance for f in (before, after) if f.covariance is not None]
        covariance = max(known, key=np.trace) if len(known) == 2 else None
        status = min(before.status, after.status)
        return self._fix_at(replace(before, status=status), stamp_ns, place, covariance)

    def _carry(self, fix, stamp_ns):
        _, velocity_mps = self.velocity(stamp_ns)
        age_s = (stamp_ns - fix.stamp_ns) * 1e-9
        place, sigma_mps = self._place(fix), UNKNOWN_VELOCITY_SIGMA_MPS
        if velocity_mps is not None:
            place, sigma_mps = place + velocity_mps * age_s, VELOCITY_SIGMA_MPS
        growth_m2 = (sigma_mps * age_s) ** 2 + (ACCELERATION_SIGMA_MPS2 * age_s**2 / 2) ** 2
        covariance = None if fix.covariance is None else fix.covariance + growth_m2 * np.eye(3)
        return self._fix_at(fix, stamp_ns, place, covariance)

    def _fix_at(self, fix, stamp_ns, place, covariance):
        latitude, longitude, altitude = self._enu.geodetic_from_enu(place[None])
        return replace(
            fix,
            stamp_ns=stamp_ns,
            latitude_deg=float(latitude[0]),
            longitude_deg=float(longitude[0]),
            altitude_m=float(altitude[0]) if math.isfinite(fix.altitude_m) else math.nan,
            covariance=covariance,
        )
