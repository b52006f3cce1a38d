# SPDX-License-Identifier: Apache-2.0
"""
Calibration files of KITTI, for raw drives and for object folders.

Both become one `Calibration`: where LiDAR, IMU and the left colour camera sit in `base_link`.
Source: the format descriptions that come with the data set (Geiger et al., IJRR 2013).
"""

from dataclasses import dataclass
from pathlib import Path

from mmperception.datatypes import CameraModel
from mmperception.geometry import invert
from mmperception.recording import Mounting
import numpy as np

# The car's sensor sketch: the IMU sits 0.93 m above the road.
IMU_HEIGHT_M = 0.93
CAMERA = 'camera'
IMAGE_SIZE = (1242, 375)
# Object folders may come without an IMU; this one is the KITTI car of all days, rounded.
DEFAULT_VELO_FROM_IMU = ((1, 0, 0, -0.81), (0, 1, 0, 0.32), (0, 0, 1, -0.80), (0, 0, 0, 1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """
    How one KITTI set-up is mounted.

    Attributes
    ----------
    velo_from_imu : (4, 4) float64
    rect_from_velo : (4, 4) float64
        LiDAR to the rectified frame of camera 0, in which labels are written.
    projection : (3, 4) float64
        `P_rect_02`: rectified camera 0 to the pixels of image_02.
    image_size : (int, int)
        Width, height.

    """

    velo_from_imu: np.ndarray
    rect_from_velo: np.ndarray
    projection: np.ndarray
    image_size: tuple[int, int] = IMAGE_SIZE

    @property
    def base_from_imu(self):
        """Axes of the IMU, on the ground below it."""
        transform = np.eye(4)
        transform[2, 3] = IMU_HEIGHT_M
        return transform

    @property
    def base_from_lidar(self):
        return self.base_from_imu @ invert(self.velo_from_imu)

    @property
    def rect_from_base(self):
        return self.rect_from_velo @ invert(self.base_from_lidar)

    @property
    def camera_from_base(self):
        """Optical frame of camera 2: the shift inside `projection` is part of the transform."""
        camera_from_rect = np.eye(4)
        camera_from_rect[:3, 3] = np.linalg.solve(self.projection[:, :3], self.projection[:, 3])
        return camera_from_rect @ self.rect_from_base

    def camera_model(self, image_size=None):
        """Return the pinhole model of image_02 for an image of (width, height)."""
        width, height = image_size or self.image_size
        return CameraModel(
            width=width,
            height=height,
            intrinsics=self.projection[:, :3].copy(),
            frame_id='camera_optical',
        )

    def mounting(self):
        """Return where every sensor sits; OXTS gives the position of its IMU as the GPS fix."""
        return Mounting(
            base_from_lidar=self.base_from_lidar,
            base_from_imu=self.base_from_imu,
            base_from_gps=self.base_from_imu,
            base_from_camera={CAMERA: invert(self.camera_from_base)},
            camera_models={CAMERA: self.camera_model()},
        )


def read_drive_calibration(folder):
    """Read the three calib_*.txt files of a recording day."""
    folder = Path(folder)
    cameras = _read_rows(folder / 'calib_cam_to_cam.txt')
    cam_from_velo = _rigid(_read_rows(folder / 'calib_velo_to_cam.txt'))
    width, height = (int(value) for value in cameras['S_rect_02'])
    return Calibration(
        velo_from_imu=_rigid(_read_rows(folder / 'calib_imu_to_velo.txt')),
        rect_from_velo=_rotation(cameras['R_rect_00']) @ cam_from_velo,
        projection=cameras['P_rect_02'].reshape(3, 4),
        image_size=(width, height),
    )


def read_object_calibration(path):
    """Read the calib file of one frame of the object benchmark."""
    rows = _read_rows(path)
    missing = {'P2', 'R0_rect', 'Tr_velo_to_cam'} - rows.keys()
    if missing:
        raise ValueError(f'{path}: has no {", ".join(sorted(missing))}')
    velo_from_imu = np.array(DEFAULT_VELO_FROM_IMU, np.float64)
    if 'Tr_imu_to_velo' in rows:
        velo_from_imu = _square(rows['Tr_imu_to_velo'])
    return Calibration(
        velo_from_imu=velo_from_imu,
        rect_from_velo=_rotation(rows['R0_rect']) @ _square(rows['Tr_velo_to_cam']),
        projection=rows['P2'].reshape(3, 4),
    )


def _read_rows(path):
    rows = {}
    for line in Path(path).read_text(encoding='ascii').splitlines():
        name, _, values = line.partition(':')
        try:
            rows[name] = np.array([float(value) for value in values.split()])
        except ValueError:  # the date of the calibration
            continue
    return rows


def _rigid(rows):
    return _square(np.column_stack((rows['R'].reshape(3, 3), rows['T'])))


def _square(values):
    return np.vstack((np.reshape(values, (3, 4)), (0, 0, 0, 1)))


def _rotation(values):
    transform = np.eye(4)
    transform[:3, :3] = values.reshape(3, 3)
    return transform
