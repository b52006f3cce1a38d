# SPDX-License-Identifier: Apache-2.0
"""
Sensor files of KITTI as the package's nouns: sweeps, pictures, timestamps.

Used by raw drives and object folders alike. Source: the format descriptions that come with the
data set (Geiger et al., IJRR 2013).
"""

from calendar import timegm
import time

import cv2
from mmperception.datatypes import Image, PointCloud
import numpy as np


def read_cloud(path, stamp_ns):
    """Read a velodyne .bin file (x, y, z, reflectance 0..1 as float32) with its rings."""
    try:
        points = np.fromfile(path, np.float32).reshape(-1, 4)
    except ValueError as error:
        raise ValueError(f'{path}: not a whole number of points of 16 bytes') from error
    return PointCloud(
        stamp_ns=stamp_ns,
        frame_id='lidar',
        points=np.ascontiguousarray(points[:, :3]),
        intensity=np.ascontiguousarray(points[:, 3]),
        ring=rings_in_file_order(points),
    )


def rings_in_file_order(points):
    """
    Return the ring of each point of a sweep that lies ring by ring.

    A new ring starts where the azimuth modulo 2 pi falls by more than pi. `points` (N, 3 or
    more); the result is (N,) uint16, 0 the first ring of the file (the uppermost).
    """
    azimuth = np.arctan2(points[:, 1], points[:, 0]) % (2 * np.pi)
    is_start = np.zeros(len(points), bool)
    is_start[1:] = np.diff(azimuth) < -np.pi
    return np.cumsum(is_start).astype(np.uint16)


def read_image(path, stamp_ns):
    """Read a picture file as an RGB image of the left colour camera."""
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError(f'{path}: cannot be read as a picture')
    pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return Image(stamp_ns=stamp_ns, frame_id='camera_optical', pixels=pixels)


def read_stamps(sensor):
    """Read timestamps.txt of a sensor folder (`.../end`: timestamps_end.txt of its parent)."""
    is_end = sensor.name == 'end'
    path = sensor.parent / 'timestamps_end.txt' if is_end else sensor / 'timestamps.txt'
    if not path.is_file():
        return []
    lines = path.read_text(encoding='ascii').splitlines()
    return [_ns_from_text(line.strip()) for line in lines if line.strip()]


def _ns_from_text(text):
    seconds, _, fraction = text.partition('.')
    whole = timegm(time.strptime(seconds, '%Y-%m-%d %H:%M:%S'))
    return whole * 1_000_000_000 + int(fraction.ljust(9, '0')[:9] or 0)
