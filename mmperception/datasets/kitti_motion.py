# SPDX-License-Identifier: Apache-2.0
"""
OXTS records of a KITTI drive: satellite fixes, poses, motion.

Poses are those of `base_link` in `odom`, which is `base_link` at the first sweep. Orientation is
yaw (0 = east, counter-clockwise), then pitch (positive: front down), then roll (positive: left
side up), as dataformat.txt of the data set says. Position is the integral of the velocities:
`odom` must not jump (REP 105), and the satellite positions slide against them by up to 3 m in a
drive while the scans register by the velocities (docs/data.md).
"""

from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from mmperception.datatypes import GpsFix, Motion, Pose
from mmperception.geometry import interpolate, invert, rotation_about
import numpy as np

# OXTS position modes 3..9 (no fix below) as sensor_msgs/NavSatStatus: alone, differential and
# real-time kinematic (ground-based), WAAS and OmniSTAR (by satellite).
STATUS_OF_POSITION_MODE = {3: 0, 4: 2, 5: 2, 6: 2, 7: 1, 8: 1, 9: 1}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OxtsRecord:
    """One line of oxts/data: degrees, metres, radians, m/s, rad/s."""

    stamp_ns: int
    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    roll_pitch_yaw: np.ndarray
    velocity_enu: np.ndarray
    forward_mps: float
    angular_velocity: np.ndarray
    yaw_rate_radps: float
    accuracy_m: float
    position_mode: int

    def fix(self):
        """Return the satellite fix; OXTS states the accuracy of north and east alone."""
        variance = self.accuracy_m**2
        return GpsFix(
            stamp_ns=self.stamp_ns,
            frame_id='gps_link',
            latitude_deg=self.latitude_deg,
            longitude_deg=self.longitude_deg,
            altitude_m=self.altitude_m,
            status=STATUS_OF_POSITION_MODE.get(self.position_mode, -1),
            # Height is about half as exact as the plane for any constellation.
            covariance=np.diag((variance, variance, 4 * variance)),
        )

    def motion(self, stamp_ns):
        """Return speed and yaw rate, for use at `stamp_ns`."""
        return Motion(
            speed_mps=self.forward_mps,
            yaw_rate_radps=self.yaw_rate_radps,
            age_ns=abs(stamp_ns - self.stamp_ns),
            source='tf',
        )


def read_oxts(path, stamp_ns):
    """Read one file of oxts/data (columns as in dataformat.txt)."""
    values = [float(value) for value in Path(path).read_text(encoding='ascii').split()]
    if len(values) < 28:
        raise ValueError(f'{path}: expected at least 28 columns, got {len(values)}')
    north, east, up = values[6], values[7], values[10]
    return OxtsRecord(
        stamp_ns=stamp_ns,
        latitude_deg=values[0],
        longitude_deg=values[1],
        altitude_m=values[2],
        roll_pitch_yaw=np.array(values[3:6]),
        velocity_enu=np.array((east, north, up)),
        forward_mps=values[8],
        angular_velocity=np.array(values[17:20]),
        yaw_rate_radps=values[22],
        accuracy_m=values[23],
        position_mode=int(values[27]),
    )


class OxtsTrajectory:
    """The path of `base_link` through a drive, in `odom` (`base_link` at `origin_ns`)."""

    def __init__(self, records, base_from_imu, origin_ns):
        self._records = sorted(records, key=lambda record: record.stamp_ns)
        self._stamps = [record.stamp_ns for record in self._records]
        self._imu_from_base = invert(base_from_imu)
        self._world_from_imu = [
            _pose(position, record.roll_pitch_yaw)
            for position, record in zip(_integrate(self._records), self._records, strict=True)
        ]
        self._odom_from_world = invert(self._world_from_base(origin_ns))

    def at(self, stamp_ns):
        """Return `odom_from_base` (4, 4): between records interpolated, outside by velocity."""
        return self._odom_from_world @ self._world_from_base(stamp_ns)

    def poses(self, stamps_ns):
        """Return the Pose at each record and at each of `stamps_ns`, in order of time."""
        stamps = sorted({*self._stamps, *stamps_ns})
        return [Pose(stamp_ns=stamp, odom_from_base=self.at(stamp)) for stamp in stamps]

    def _world_from_base(self, stamp_ns):
        if stamp_ns <= self._stamps[0]:
            world_from_imu = self._extrapolate(0, stamp_ns)
        elif stamp_ns >= self._stamps[-1]:
            world_from_imu = self._extrapolate(-1, stamp_ns)
        else:
            after = bisect_right(self._stamps, stamp_ns)
            start, end = self._stamps[after - 1], self._stamps[after]
            world_from_imu = interpolate(
                self._world_from_imu[after - 1],
                self._world_from_imu[after],
                (stamp_ns - start) / (end - start),
            )
        return world_from_imu @ self._imu_from_base

    def _extrapolate(self, index, stamp_ns):
        record, pose = self._records[index], self._world_from_imu[index].copy()
        seconds = (stamp_ns - record.stamp_ns) * 1e-9
        pose[:3, 3] += record.velocity_enu * seconds
        rate = np.linalg.norm(record.angular_velocity)
        if rate > 1e-9:
            turn = rotation_about(record.angular_velocity, rate * seconds)
            pose[:3, :3] = pose[:3, :3] @ turn
        return pose


def _pose(position, roll_pitch_yaw):
    roll, pitch, yaw = roll_pitch_yaw
    pose = np.eye(4)
    pose[:3, :3] = (
        rotation_about((0, 0, 1), yaw)
        @ rotation_about((0, 1, 0), pitch)
        @ rotation_about((1, 0, 0), roll)
    )
    pose[:3, 3] = position
    return pose


def _integrate(records):
    """Return (N, 3) east, north, up of the IMU since the first record, by trapezoids."""
    velocity = np.array([record.velocity_enu for record in records])
    seconds = np.diff([record.stamp_ns for record in records]) * 1e-9
    steps = (velocity[1:] + velocity[:-1]) / 2 * seconds[:, None]
    return np.concatenate((np.zeros((1, 3)), np.cumsum(steps, axis=0)))
