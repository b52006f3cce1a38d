# SPDX-License-Identifier: Apache-2.0
"""
Where the sensors of the simulated car sit: as in the recordings of Geiger et al., IJRR 2013.

`base_link` lies on the ground below the inertial unit, near the rear axle. The LiDAR is 0.81 m
ahead of it and 1.73 m above the road, the camera a little ahead and below.
"""

from mmperception.datatypes import CameraModel
from mmperception.geometry import rotation_about
from mmperception.recording import Mounting
import numpy as np

CAMERA = 'camera'
WIDTH, HEIGHT = 1242, 375
_LIDAR_XYZ_M = (0.81, -0.31, 1.73)
_CAMERA_XYZ_M = (1.08, -0.25, 1.65)
_GPS_XYZ_M = (0.0, 0.0, 0.93)
# Optical axes (x right, y down, z forward) in the axes of the car.
_CAR_FROM_OPTICAL = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], np.float64)


def camera_model():
    """Return a rectified camera of 82 degrees across."""
    intrinsics = np.array([[721.54, 0, 609.56], [0, 721.54, 172.85], [0, 0, 1]])
    return CameraModel(
        width=WIDTH, height=HEIGHT, intrinsics=intrinsics, frame_id='camera_optical'
    )


def make_mounting(rng=None):
    """Return the mounting; with a generator, one that differs a little from car to car."""
    jitter = np.zeros(12) if rng is None else rng.normal(size=12)
    lidar = _placed(_LIDAR_XYZ_M, jitter[:6])
    optical = _placed(_CAMERA_XYZ_M, jitter[6:])
    optical[:3, :3] = optical[:3, :3] @ _CAR_FROM_OPTICAL
    imu = _placed(_GPS_XYZ_M, np.zeros(6))
    return Mounting(
        base_from_lidar=lidar,
        base_from_imu=imu,
        base_from_gps=imu,
        base_from_camera={CAMERA: optical},
        camera_models={CAMERA: camera_model()},
    )


def _placed(xyz, jitter):
    """Return (4, 4): at `xyz`, shifted by centimetres and turned by tenths of a degree."""
    transform = np.eye(4)
    transform[:3, 3] = np.array(xyz) + 0.03 * jitter[:3]
    for axis, angle in zip(np.eye(3), 0.004 * jitter[3:], strict=True):
        transform[:3, :3] = transform[:3, :3] @ rotation_about(axis, angle)
    return transform
