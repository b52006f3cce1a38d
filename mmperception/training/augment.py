# SPDX-License-Identifier: Apache-2.0
"""
Augmentation of scenes: turn, mirror, scale, thin out, paste, dim.

Points, boxes and projection move together: the image stays as taken, and `pixel_from_base` is
multiplied by the inverse, so that LiDAR-side turns and mirrors are free (Wang et al., MoCa,
2020). The labelled view cone turns along, so that it visits every direction. Object paste after
Yan et al., SECOND, 2018, with what the pasted object hides removed.
"""

from dataclasses import replace

from mmperception.geometry import points_in_boxes
from mmperception.training.scenes import IGNORED
import numpy as np

# Angular cell in which a pasted object hides what is behind it: about the LiDAR's resolution.
SHADOW_CELL_RAD = np.radians(0.4)


def turn_scene(scene, rng, quadrant):
    """
    Rotate (near `quadrant` * 90 degrees), mirror, scale and shift a scene.

    Parameters
    ----------
    scene : Scene
        Its picture stays; `pixel_from_base` takes up the change.
    rng : numpy Generator
        Of angle, mirror, scale and height.
    quadrant : int
        Shared by a batch, whose window lies in that direction.

    Returns
    -------
    Scene

    """
    angle = quadrant * np.pi / 2 + rng.uniform(-0.35, 0.35)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    scale = rng.uniform(0.95, 1.05)
    cos, sin = np.cos(angle), np.sin(angle)
    moved = np.eye(4)
    # Mirror first (y -> -y), then turn, then scale; shift of z stands for other mountings.
    moved[:2, :2] = scale * np.array([[cos, -sin * mirror], [sin, cos * mirror]])
    moved[2, 2] = scale
    moved[2, 3] = rng.normal(0, 0.05)
    linear, shift = moved[:3, :3].astype(np.float32), moved[:3, 3].astype(np.float32)
    yaw = scene.yaw * mirror + angle
    return replace(
        scene,
        points=scene.points @ linear.T + shift,
        pixel_from_base=scene.pixel_from_base @ np.linalg.inv(moved),
        center=scene.center @ linear.T + shift,
        size=(scene.size * scale).astype(np.float32),
        yaw=yaw.astype(np.float32),
    )


def thin_points(scene, rng):
    """Now and then drop rings or points, as a sensor with fewer beams or a wet one would."""
    kept = np.ones(len(scene.points), bool)
    chance = rng.random()
    if chance < 0.15:
        kept = scene.ring % 2 == rng.integers(2)
    elif chance < 0.2:
        kept = scene.ring % 4 == rng.integers(4)
    elif chance < 0.35:
        kept = rng.random(len(kept)) > rng.uniform(0.1, 0.7)
    return replace(
        scene,
        points=scene.points[kept],
        intensity=scene.intensity[kept],
        ring=scene.ring[kept],
    )


def change_light(scene, rng):
    """Change brightness, contrast, gamma and colour balance of the image."""
    if not scene.pixels.size:
        return scene
    gain = np.exp(rng.normal(0, 0.3)) * np.exp(rng.normal(0, 0.06, 3))
    offset = rng.normal(0, 15)
    gamma = np.exp(rng.normal(0, 0.15))
    level = np.arange(256)[:, None] / 255.0
    table = np.clip(255 * level**gamma * gain + offset, 0, 255).astype(np.uint8)  # (256, 3)
    pixels = np.stack([table[scene.pixels[..., c], c] for c in range(3)], axis=-1)
    return replace(scene, pixels=pixels)


def cut_objects(scene, min_points=10):
    """
    Take labelled objects out of a scene, for pasting into others.

    Returns
    -------
    list of dict
        `points`, `intensity`, `ring`, `center`, `size`, `yaw`, `label` of one object each.

    """
    inside = points_in_boxes(scene.points, scene.center, scene.size, scene.yaw, 0.05)
    objects = []
    for m in np.flatnonzero((scene.label != IGNORED) & (inside.sum(1) >= min_points)):
        objects.append(
            {
                'points': scene.points[inside[m]],
                'intensity': scene.intensity[inside[m]],
                'ring': scene.ring[inside[m]],
                'center': scene.center[m],
                'size': scene.size[m],
                'yaw': scene.yaw[m],
                'label': scene.label[m],
            }
        )
    return objects


def paste_objects(scene, objects, rng):
    """
    Put objects into a scene at their own range, turned about the sensor.

    The range is kept because the density of the points belongs to it; the height follows the
    scene's ground. What lies behind a pasted object is removed, and an object that would touch
    another or stand behind one is left out. The caller masks the camera: it saw nothing of this.
    """
    for found in objects:
        scene = _paste(scene, found, rng)
    inside = points_in_boxes(scene.points, scene.center, scene.size, scene.yaw)
    return replace(scene, num_points=inside.sum(1).astype(np.int64))


def _paste(scene, found, rng):
    angle = _free_direction(scene, found, rng)
    if angle is None:
        return scene
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], np.float32)
    points, center = found['points'] @ turn.T, turn @ found['center']
    ground = _ground_below(scene, center)
    if ground is None:
        return scene
    lift = np.float32(ground - (center[2] - found['size'][2] / 2))
    if abs(lift) > 0.6:  # a slope: the sensor would see the object from another height
        return scene
    points, center = points + (0, 0, lift), center + (0, 0, lift)
    kept = ~_hidden(scene.points, points)
    kept &= ~points_in_boxes(
        scene.points, center[None], found['size'][None], np.array([found['yaw'] + angle]), 0.1
    )[0]
    merged = np.concatenate((scene.points[kept], points.astype(np.float32)))
    return replace(
        scene,
        points=merged,
        intensity=np.concatenate((scene.intensity[kept], found['intensity'])),
        ring=np.concatenate((scene.ring[kept], found['ring'])),
        center=np.concatenate((scene.center, center[None].astype(np.float32))),
        size=np.concatenate((scene.size, found['size'][None])),
        yaw=np.append(scene.yaw, np.float32(found['yaw'] + angle)),
        label=np.append(scene.label, found['label']),
        num_points=np.append(scene.num_points, len(points)),
    )


def _free_direction(scene, found, rng):
    """Return a turn that puts the object into the labelled view, clear of other boxes."""
    x, y = found['center'][:2]
    radius = 0.5 * np.hypot(*found['size'][:2]) + 0.5
    others = 0.5 * np.hypot(scene.size[:, 0], scene.size[:, 1])
    for _ in range(8):
        if scene.view_size.any():
            angle = rng.uniform(-0.6, 0.6) - np.arctan2(y, x)
        else:
            angle = rng.uniform(-np.pi, np.pi)
        cos, sin = np.cos(angle), np.sin(angle)
        where = np.array([cos * x - sin * y, sin * x + cos * y])
        if (np.hypot(*(scene.center[:, :2] - where).T) > others + radius).all():
            return angle
    return None


def _ground_below(scene, center):
    """Height of the ground around a place, or None where it is not seen."""
    near = np.abs(scene.points[:, :2] - center[:2]).max(1) < 1.5
    if near.sum() < 3:
        return None
    return np.percentile(scene.points[near, 2], 10)


def _hidden(points, pasted):
    """Return (N,) bool: points in the pasted object's angular cells, behind it."""
    sensor = np.array([0.0, 0.0, 1.7], np.float32)
    column, row, distance = _angles(points - sensor)
    column_p, row_p, distance_p = _angles(pasted - sensor)
    columns = int(round(2 * np.pi / SHADOW_CELL_RAD)) + 1
    nearest = np.full(columns * 400, np.inf, np.float32)
    np.minimum.at(nearest, row_p * columns + column_p, distance_p)
    return nearest[row * columns + column] < distance - 0.3


def _angles(rays):
    distance = np.linalg.norm(rays, axis=1)
    azimuth = np.arctan2(rays[:, 1], rays[:, 0]) + np.pi
    elevation = np.arcsin(np.clip(rays[:, 2] / np.maximum(distance, 1e-3), -1, 1)) + np.pi / 4
    row = np.clip(elevation / SHADOW_CELL_RAD, 0, 399).astype(np.int64)
    return (azimuth / SHADOW_CELL_RAD).astype(np.int64), row, distance


def crop_to_view(scene, margin_rad=0.2):
    """Drop the points far outside the labelled view: they carry no loss and cost time."""
    if not scene.view_size.any():
        return scene
    homogeneous = scene.points @ scene.pixel_from_base[:, :3].T + scene.pixel_from_base[:, 3]
    depth = homogeneous[:, 2]
    w = scene.view_size[1]
    margin_px = margin_rad * w
    u = homogeneous[:, 0] / np.maximum(depth, 0.1)
    kept = (depth > 0.5) & (u > -margin_px) & (u < w + margin_px)
    return replace(
        scene,
        points=scene.points[kept],
        intensity=scene.intensity[kept],
        ring=scene.ring[kept],
    )
