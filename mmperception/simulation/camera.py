# SPDX-License-Identifier: Apache-2.0
"""
Pictures of the simulated street, as a camera in a car takes them.

Flow: mesh -> seen samples (`view_samples`) -> light (`shading`) -> exposure -> lens and sensor.
"""

import cv2
from mmperception.simulation.shading import shade
from mmperception.simulation.sky import Appearance, random_appearance
from mmperception.simulation.view_samples import Samples, Scene
import numpy as np

__all__ = ['Appearance', 'random_appearance', 'render']


def render(mesh, world_from_camera, model, appearance, rng):
    """
    Take a picture.

    Parameters
    ----------
    mesh : Mesh
        World frame, z up.
    world_from_camera : (4, 4) float64
        Optical frame: x right, y down, z forward.
    model : CameraModel
        Rectified.
    appearance : Appearance
        Sun, clouds, haze and exposure.
    rng : numpy.random.Generator
        Of the sensor noise.

    Returns
    -------
    pixels : (H, W, 3) uint8
        RGB.

    Raises
    ------
    ValueError
        If the camera model has a lens distortion.

    """
    if model.distortion_model != 'none' and model.distortion.any():
        raise ValueError('render: the camera must be rectified (distortion_model none)')
    scene = Scene(mesh, world_from_camera[:3, 3])
    samples = Samples(scene, world_from_camera, model)
    light = shade(scene, samples, world_from_camera, appearance)
    picture = samples.averaged(_developed(light, samples.is_sky, appearance.exposure))
    return _as_sensed(picture, rng)


def _developed(light, is_sky, exposure):
    """Turn light into sRGB 0..1: metering on what is not sky, then a soft shoulder."""
    metered = light[~is_sky] if not is_sky.all() else light.reshape(-1, 3)
    key = np.exp(np.log(metered[::7, 1] + 0.02).mean())
    # A camera's automatic exposure evens out most of the difference, not all.
    gain = exposure * 0.32 * (0.22 / key) ** 0.75 / 0.22
    scaled = light * np.float32(gain)
    shoulder = scaled * (1 + scaled / 12.0) / (1 + scaled)
    picture = cv2.pow(np.ascontiguousarray(np.clip(shoulder, 0, 1)), 1 / 2.2)
    grey = picture.mean(axis=-1, keepdims=True)
    picture = np.clip(grey + np.float32(1.12) * (picture - grey), 0, 1)
    # A third of an S-curve: cameras deepen shadows and lift highlights.
    return picture + np.float32(0.42) * (picture * picture * (3 - 2 * picture) - picture)


def _as_sensed(picture, rng):
    """Add what lens and sensor do: vignette, softness, noise, compression."""
    H, W, _ = picture.shape
    y, x = np.mgrid[0:H, 0:W].astype(np.float32)
    radius2 = ((x - W / 2) ** 2 + (y - H / 2) ** 2) / (W * W / 4)
    picture = picture * (1 - 0.10 * radius2)[..., None]
    picture = cv2.GaussianBlur(picture, (0, 0), 0.45)
    grain = rng.standard_normal((H, W, 3), np.float32)
    picture = picture + 0.010 * grain * np.sqrt(np.clip(picture, 0.05, 1))
    pixels = np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)
    _, packed = cv2.imencode('.jpg', pixels[:, :, ::-1], (cv2.IMWRITE_JPEG_QUALITY, 92))
    return np.ascontiguousarray(cv2.imdecode(packed, cv2.IMREAD_COLOR)[:, :, ::-1])
