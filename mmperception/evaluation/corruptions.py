# SPDX-License-Identifier: Apache-2.0
"""
Ten ways in which sensors degrade, at three severities each: what the robustness suite applies.

They act on raw points (x, y, z, r in the sensor's frame) and raw 8-bit RGB, before all
preprocessing; truth stays that of the clean data. Definitions in docs/accuracy.md. Every draw
comes from a generator seeded by name, severity and frame, so that two people corrupt alike.
"""

from dataclasses import replace
import zlib

from mmperception.datatypes import Image
from mmperception.geometry import rotation_about
import numpy as np

# Value of each severity 1, 2, 3.
LIDAR_CORRUPTIONS = {
    'beams': (2, 4, 8),  # every n-th ring is kept
    'ray_drop': (0.3, 0.6, 0.9),  # share of the points that is lost
    'fov': (30.0, 20.0, 10.0),  # half of the angle that is kept, degrees
    'sector': (10.0, 20.0, 40.0),  # angle of the wedge that is lost, degrees
    'fog': (0.01, 0.02, 0.04),  # extinction, per metre
}
CAMERA_CORRUPTIONS = {
    'dark': ((0.3, 5.0), (0.15, 10.0), (0.05, 15.0)),  # gain; noise, levels
    'glare': (0.1, 0.2, 0.3),  # spread, image widths
    'blur': (9, 17, 33),  # width of the kernel, pixels
    'stale': (1, 3, 5),  # how many frames old the image is
    'extrinsic': ((0.5, 0.02), (1.0, 0.05), (2.0, 0.10)),  # turn, degrees; shift, m
}
# Rows that depend on chance: the mean of three repetitions.
RANDOM = ('ray_drop', 'sector', 'fog', 'dark')
NUM_REPETITIONS = 3
SECTOR_REACH_DEG = 40.0
FOG_RETURN_SHARE, FOG_RETURN_MEAN_M, FOG_RETURN_R = 0.3, 5.0, 0.05
GLARE_CENTRE = (0.7, 0.3)


def generator(name, severity, frame):
    """Return the generator of one frame; `name` carries the repetition, like `fog/2`."""
    return np.random.default_rng(zlib.crc32(f'{name}/{severity}/{frame}'.encode()))


def without_lidar(frame):
    """Return the frame as a robot with a dead LiDAR sees it."""
    return replace(frame, cloud=None, base_from_lidar=None)


def corrupt_points(points, name, severity, rng):
    """
    Corrupt one sweep.

    Parameters
    ----------
    points : (N, 4) float32
        x, y, z, r in the frame of the sensor, in file order.
    name : str
        Of `LIDAR_CORRUPTIONS`.
    severity : int
        1, 2 or 3.
    rng : numpy Generator
        Of `generator`.

    Returns
    -------
    points : (M, 4) float32
    index : (M,) int64
        The row of each in the input.

    """
    value = LIDAR_CORRUPTIONS[name][severity - 1]
    azimuth = np.arctan2(points[:, 1].astype(np.float64), points[:, 0])
    changed = points
    if name == 'beams':
        kept = rings_in_file_order(azimuth) % value == 0
    elif name == 'ray_drop':
        kept = rng.random(len(points)) >= value
    elif name == 'fov':
        kept = np.abs(azimuth) <= np.radians(value)
    elif name == 'sector':
        centre = rng.uniform(-SECTOR_REACH_DEG, SECTOR_REACH_DEG)
        kept = np.abs(azimuth - np.radians(centre)) > np.radians(value) / 2
    else:
        changed, kept = _fog(points, value, rng)
    index = np.flatnonzero(kept)
    return changed[index], index


def rings_in_file_order(azimuth_rad):
    """Return each point's ring: one starts where the azimuth (0..2 pi) falls by more than pi."""
    turned = np.mod(azimuth_rad, 2 * np.pi)
    return np.concatenate(([0], np.cumsum(np.diff(turned) < -np.pi)))[: len(turned)]


def _fog(points, extinction, rng):
    distance = np.linalg.norm(points[:, :3].astype(np.float64), axis=1)
    is_lost = rng.random(len(points)) < 1 - np.exp(-2 * extinction * distance)
    is_back = rng.random(len(points)) < FOG_RETURN_SHARE
    near = np.minimum(distance, 1 + rng.exponential(FOG_RETURN_MEAN_M, len(points)))
    share = np.where(is_lost, near / np.maximum(distance, 1e-9), 1.0)
    changed = points.copy()
    changed[:, :3] = points[:, :3] * share[:, None]
    changed[is_lost, 3] = FOG_RETURN_R
    return changed, ~is_lost | is_back


def corrupt_pixels(pixels, name, severity, rng):
    """
    Corrupt one image.

    Parameters
    ----------
    pixels : (H, W, 3) uint8
        RGB.
    name : str
        `dark`, `glare` or `blur`.
    severity : int
        1, 2 or 3.
    rng : numpy Generator
        Of `generator`.

    Returns
    -------
    (H, W, 3) uint8

    """
    value = CAMERA_CORRUPTIONS[name][severity - 1]
    H, W, _ = pixels.shape
    light = pixels.astype(np.float64)
    if name == 'dark':
        light = light * value[0] + rng.normal(0, value[1], pixels.shape)
    elif name == 'glare':
        row, column = np.mgrid[:H, :W]
        square = (column - GLARE_CENTRE[0] * W) ** 2 + (row - GLARE_CENTRE[1] * H) ** 2
        share = np.exp(-square / (2 * (value * W) ** 2))[..., None]
        light = light + share * (255 - light)
    else:
        half = value // 2
        wide = np.pad(light, ((0, 0), (half + 1, half), (0, 0)), mode='edge')
        # Edges are replicated; one column more on the left is where the running sum starts.
        total = np.cumsum(wide, axis=1)
        light = (total[:, value:] - total[:, :-value]) / value
    return np.clip(np.round(light), 0, 255).astype(np.uint8)


def extrinsic_error(severity):
    """Return the (4, 4) by which LiDAR-to-camera is multiplied from the left."""
    degrees, shift = CAMERA_CORRUPTIONS['extrinsic'][severity - 1]
    axis = np.ones(3) / np.sqrt(3)
    error = np.eye(4)
    error[:3, :3] = rotation_about(axis, np.radians(degrees))[:3, :3]
    error[:3, 3] = shift * axis
    return error


def corrupt_frame(frame, name, severity, frame_number, repetition=None, earlier=()):
    """
    Return a frame as degraded sensors give it.

    Parameters
    ----------
    frame : Frame
        Clean; not changed.
    name : str
        Of either table.
    severity : int
        1, 2 or 3.
    frame_number : int
        Of the recording, from 0: seeds the draws.
    repetition : int or None
        0, 1, 2 for the rows of `RANDOM`.
    earlier : sequence of Frame
        All clean frames up to this one, for `stale`.

    Returns
    -------
    Frame

    """
    full_name = name if repetition is None else f'{name}/{repetition}'
    rng = generator(full_name, severity, frame_number)
    if name in LIDAR_CORRUPTIONS:
        return frame if frame.cloud is None else _with_points(frame, name, severity, rng)
    if name == 'stale':
        old = earlier[max(0, frame_number - CAMERA_CORRUPTIONS['stale'][severity - 1])]
        views = [
            replace(view, image=replace(before.image, stamp_ns=view.image.stamp_ns))
            for view, before in zip(frame.cameras, old.cameras, strict=True)
        ]
    elif name == 'extrinsic':
        error = extrinsic_error(severity)
        views = [replace(v, camera_from_base=error @ v.camera_from_base) for v in frame.cameras]
    else:
        views = [
            replace(v, image=_with_pixels(v.image, corrupt_pixels(v.image.pixels, name, severity,
                                                                  rng)))
            for v in frame.cameras
        ]  # fmt: skip
    return replace(frame, cameras=tuple(views))


def _with_points(frame, name, severity, rng):
    cloud = frame.cloud
    r = np.zeros(len(cloud.points), np.float32) if cloud.intensity is None else cloud.intensity
    points, index = corrupt_points(np.column_stack((cloud.points, r)), name, severity, rng)
    taken = {
        field: getattr(cloud, field)[index]
        for field in ('ring', 'time_ns')
        if getattr(cloud, field) is not None
    }
    corrupted = replace(
        cloud,
        points=np.ascontiguousarray(points[:, :3]),
        intensity=None if cloud.intensity is None else np.ascontiguousarray(points[:, 3]),
        **taken,
    )
    return replace(frame, cloud=corrupted)


def _with_pixels(image, pixels):
    return Image(stamp_ns=image.stamp_ns, frame_id=image.frame_id, pixels=pixels)
