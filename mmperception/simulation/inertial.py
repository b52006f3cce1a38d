# SPDX-License-Identifier: Apache-2.0
"""
What the satellite receiver, the inertial unit and the odometry of the simulated car say.

All three are derived from the ego car's smooth motion; receiver and inertial unit add their
noise. World x points in a fixed direction of the compass; latitude and longitude by the radii
of curvature of WGS84, right to millimetres over the length of a street.
"""

from mmperception.datatypes import GpsFix, ImuSample, Pose
from mmperception.geometry import invert, quaternion_from_rotation, rotation_about
import numpy as np

LATITUDE_DEG, LONGITUDE_DEG, ALTITUDE_M = 49.0112, 8.4165, 115.0
# Compass: the world's x axis, counter-clockwise from east.
_EAST_FROM_WORLD = rotation_about((0, 0, 1), 0.6)
_AXIS_M, _FLATTENING = 6378137.0, 1 / 298.257223563
_GRAVITY_MPS2 = 9.81
# Receiver: slowly wandering error and white noise (m), horizontally and vertically.
_WANDER_M, _WHITE_M, _WANDER_S = np.array((0.6, 0.6, 1.1)), np.array((0.04, 0.04, 0.08)), 25.0
_GYRO_RADPS, _ACCELERATION_MPS2 = 0.002, 0.05


def _stamp(start_ns, time_s):
    return start_ns + int(round(time_s * 1e9))


def poses(ego, times_s, start_ns):
    """Return Pose at each time; odom is `base_link` at time 0."""
    odom_from_world = invert(ego.pose(0.0))
    return [
        Pose(stamp_ns=_stamp(start_ns, time), odom_from_base=odom_from_world @ ego.pose(time))
        for time in times_s
    ]


def gps_fixes(ego, mounting, times_s, start_ns, rng):
    """Return GpsFix at each time, with an error that wanders (Gauss-Markov) and its covariance."""
    fixes, error = [], rng.normal(0, _WANDER_M)
    for k, time in enumerate(times_s):
        if k:
            keep = np.exp(-(time - times_s[k - 1]) / _WANDER_S)
            error = keep * error + rng.normal(0, _WANDER_M * np.sqrt(1 - keep**2))
        antenna = (ego.pose(time) @ mounting.base_from_gps)[:3, 3]
        enu = _EAST_FROM_WORLD @ antenna + error + rng.normal(0, _WHITE_M)
        fixes.append(_fix(enu, _stamp(start_ns, time)))
    return fixes


def _fix(enu, stamp_ns):
    latitude, longitude = _geodetic(enu)
    return GpsFix(
        stamp_ns=stamp_ns,
        frame_id='gps_link',
        latitude_deg=latitude,
        longitude_deg=longitude,
        altitude_m=float(ALTITUDE_M + enu[2]),
        status=0,
        covariance=np.diag(_WANDER_M**2 + _WHITE_M**2),
    )


def _geodetic(enu):
    """Return latitude and longitude of a place east and north of the datum."""
    eccentricity2 = _FLATTENING * (2 - _FLATTENING)
    sine = np.sin(np.radians(LATITUDE_DEG))
    prime = _AXIS_M / np.sqrt(1 - eccentricity2 * sine**2)
    meridian = prime * (1 - eccentricity2) / (1 - eccentricity2 * sine**2)
    north = np.degrees(enu[1] / (meridian + ALTITUDE_M))
    around = (prime + ALTITUDE_M) * np.cos(np.radians(LATITUDE_DEG))
    return float(LATITUDE_DEG + north), float(LONGITUDE_DEG + np.degrees(enu[0] / around))


def imu_samples(ego, mounting, times_s, start_ns, rng):
    """Return ImuSample at each time: turn rate, specific force, orientation in east-north-up."""
    step, samples = 0.02, []
    for time in times_s:
        before, now, after = (ego.pose(time + k * step) @ mounting.base_from_imu
                              for k in (-1, 0, 1))  # fmt: skip
        force = (after[:3, 3] - 2 * now[:3, 3] + before[:3, 3]) / step**2
        force[2] += _GRAVITY_MPS2
        turn = before[:3, :3].T @ after[:3, :3]
        axis = np.array(
            (turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1])
        )
        rotation = now[:3, :3]
        samples.append(
            ImuSample(
                stamp_ns=_stamp(start_ns, time),
                frame_id='imu_link',
                angular_velocity=axis / (4 * step) + rng.normal(0, _GYRO_RADPS, 3),
                linear_acceleration=rotation.T @ force + rng.normal(0, _ACCELERATION_MPS2, 3),
                orientation=quaternion_from_rotation(_EAST_FROM_WORLD @ rotation),
            )
        )
    return samples
