# SPDX-License-Identifier: Apache-2.0
"""
Augmentation of scenes: turn, mirror, scale, thin out, dim; see paste.py for objects.

Points, boxes and projection move together: the image stays as taken, and `pixel_from_base` is
multiplied by the inverse, so that LiDAR-side turns and mirrors are free (Wang et al., MoCa,
2020). The labelled view cone turns along, so that it visits every direction.
"""

from dataclasses import dataclass, replace

from mmperception.geometry import invert, rotation_about, transform_from, transform_from_yaw
from mmperception.training.scenes import SENSOR_M
import numpy as np

# Pixels from metres about the sensor of a camera beside it, 640 pixels and 82 degrees across.
FORWARD_VIEW = np.array([[320.0, -370.0, 0, 0], [96, 0, -370, 0], [1, 0, 0, 0]])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Turn:
    """One draw of angle, mirror, scale and height; `moved` (4, 4) maps points by all of them."""

    angle: float
    mirror: float
    scale: float
    moved: np.ndarray


def draw_turn(rng, quadrant):
    """
    Draw how a scene, and the sweeps before it, are turned.

    Parameters
    ----------
    rng : numpy Generator
        Of angle, mirror, scale and height.
    quadrant : int
        Shared by a batch, whose window lies in that direction: near `quadrant` * 90 degrees.

    Returns
    -------
    Turn

    """
    angle = quadrant * np.pi / 2 + rng.uniform(-0.5, 0.5)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    scale = rng.uniform(0.95, 1.05)
    cos, sin = np.cos(angle), np.sin(angle)
    moved = np.eye(4)
    # Mirror first (y -> -y), then turn, then scale; shift of z stands for other mountings.
    moved[:2, :2] = scale * np.array([[cos, -sin * mirror], [sin, cos * mirror]])
    moved[2, 2] = scale
    moved[2, 3] = rng.normal(0, 0.05)
    return Turn(angle=angle, mirror=mirror, scale=scale, moved=moved)


def turn_scene(scene, turn):
    """Return the scene turned; the picture stays: `pixel_from_base` takes up the change."""
    linear, shift = turn.moved[:3, :3].astype(np.float32), turn.moved[:3, 3].astype(np.float32)
    back = np.linalg.inv(turn.moved)
    yaw = scene.yaw * turn.mirror + turn.angle
    return replace(
        scene,
        points=scene.points @ linear.T + shift,
        pixel_from_base=scene.pixel_from_base @ back,
        center=scene.center @ linear.T + shift,
        size=(scene.size * turn.scale).astype(np.float32),
        yaw=yaw.astype(np.float32),
        odom_from_base=scene.odom_from_base @ back,
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


def look_aside(scene, rng):
    """
    Turn a scene that is labelled all around, so that any part of it lies ahead, and crop it.

    What lies ahead is then the labelled view, as in a real scene; the camera looks elsewhere.
    """
    angle = rng.uniform(-np.pi, np.pi)
    turn = rotation_about(np.array([0.0, 0.0, 1.0]), angle)[:3, :3].astype(np.float32)
    moved = transform_from_yaw(SENSOR_M - turn @ SENSOR_M, angle)
    turned = replace(
        scene,
        points=(scene.points - SENSOR_M) @ turn.T + SENSOR_M,
        center=(scene.center - SENSOR_M) @ turn.T + SENSOR_M,
        yaw=(scene.yaw + angle).astype(np.float32),
        pixels=np.zeros((0, 0, 3), np.uint8),
        pixel_from_base=FORWARD_VIEW @ transform_from(-SENSOR_M),
        view_size=np.array([192, 640], np.int64),
        odom_from_base=scene.odom_from_base @ invert(moved),
    )
    return crop_to_view(turned)


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
