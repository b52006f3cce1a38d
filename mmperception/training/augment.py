# SPDX-License-Identifier: Apache-2.0
"""
Augmentation of scenes: turn, mirror, scale, thin out, dim; see paste.py for objects.

Points, boxes and projection move together: the image stays as taken, and `pixel_from_base` is
multiplied by the inverse, so that LiDAR-side turns and mirrors are free (Wang et al., MoCa,
2020). The labelled view cone turns along, so that it visits every direction.
"""

from dataclasses import dataclass, replace

import cv2
from mmperception.geometry import invert, rotation_about, transform_from, transform_from_yaw
from mmperception.training.scenes import SENSOR_M
import numpy as np

# Pixels from metres about the sensor of a camera beside it, 640 pixels and 82 degrees across.
FORWARD_VIEW = np.array([[320.0, -370.0, 0, 0], [96, 0, -370, 0], [1, 0, 0, 0]])

# A picture is enlarged by at most this.
MAX_ZOOM = 1.35


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
    """
    Now and then drop rings or points, as a sensor with fewer beams or a wet one would.

    More often beside an image: that is when a network can learn what the image is good for.
    """
    kept = np.ones(len(scene.points), bool)
    chance = rng.random()
    few, fewer, wet = (0.15, 0.45, 0.6) if scene.pixels.size else (0.15, 0.2, 0.35)
    if chance < few:
        kept = scene.ring % 2 == rng.integers(2)
    elif chance < fewer:
        kept = scene.ring % 4 == rng.integers(4)
    elif chance < wet:
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


def move_picture(scene, rng):
    """Mirror, enlarge and shift the image; `pixel_from_base` and DontCare boxes follow."""
    if not scene.pixels.size:
        return scene
    h, w = scene.pixels.shape[:2]
    zoom = rng.uniform(1.0, MAX_ZOOM) if rng.random() < 0.5 else 1.0
    left, top = rng.uniform(0, 1, 2) * (1 - 1 / zoom) * (w, h)
    # Pixel centres: column u becomes (u + 0.5 - left) * zoom - 0.5.
    moved = np.array(
        [[zoom, 0, (0.5 - left) * zoom - 0.5], [0, zoom, (0.5 - top) * zoom - 0.5], [0, 0, 1]]
    )
    if rng.random() < 0.5:
        moved = np.array([[-1.0, 0, w - 1], [0, 1, 0], [0, 0, 1]]) @ moved
    x1, y1, x2, y2 = scene.ignore_2d.T
    x = np.sort(np.stack((x1, x2)) * moved[0, 0] + moved[0, 2], axis=0)
    y = np.stack((y1, y2)) * moved[1, 1] + moved[1, 2]
    return replace(
        scene,
        pixels=cv2.warpAffine(scene.pixels, moved[:2], (w, h)),
        pixel_from_base=moved @ scene.pixel_from_base,
        ignore_2d=np.stack((x[0], y[0], x[1], y[1]), axis=1).astype(np.float32),
    )


def spoil_picture(scene, rng):
    """Now and then darken, dazzle, blur or cover a picture, and add noise, as weather does."""
    if not scene.pixels.size:
        return scene
    h, w = scene.pixels.shape[:2]
    pixels = scene.pixels.astype(np.float32)
    if rng.random() < 0.15:
        pixels *= rng.uniform(0.05, 0.5)
    if rng.random() < 0.1:
        rows, columns = np.mgrid[:h, :w].astype(np.float32)
        away = (columns - rng.uniform(0, w)) ** 2 + (rows - rng.uniform(0, 0.6 * h)) ** 2
        share = np.exp(-away / (2 * (rng.uniform(0.05, 0.3) * w) ** 2))[..., None]
        pixels = pixels * (1 - share) + 255 * share
    if rng.random() < 0.2:
        width = int(rng.integers(1, 9)) * 2 + 1
        pixels = cv2.blur(pixels, (width, 1) if rng.random() < 0.5 else (3, 3))
    if rng.random() < 0.3:
        for _ in range(rng.integers(1, 4)):
            y, x = rng.integers(h), rng.integers(w)
            pixels[slice(y, y + rng.integers(8, 50)), slice(x, x + rng.integers(8, 90))] = (
                rng.uniform(0, 255, 3)
            )
    if rng.random() < 0.5:
        noise = rng.standard_normal((h // 2, w // 2, 3), np.float32) * rng.uniform(0, 12)
        kind = cv2.INTER_NEAREST if rng.random() < 0.5 else cv2.INTER_LINEAR
        pixels += cv2.resize(noise, (w, h), interpolation=kind)
    return replace(scene, pixels=np.clip(pixels, 0, 255).astype(np.uint8))


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
