# SPDX-License-Identifier: Apache-2.0
"""
Frame -> Batch: the only preprocessing, for training, evaluation and the nodes alike.

Points become pillars, images are resized and normalised, projection becomes one 3x4 matrix per
camera. `inputs_from_frame` stops at arrays in `base_link`, where training augments them;
`make_batch` does the rest; pillars are made in pillars.py.
"""

from dataclasses import dataclass, replace

import cv2
from mmperception.geometry import apply_to_cloud
from mmperception.grid import BevGrid
from mmperception.pillars import make_pillars, no_pillars
import numpy as np
import torch

IMAGE_MEAN, IMAGE_SCALE = 0.45, 0.25


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CameraInput:
    """
    One image as the network sees it.

    `pixels` (h, w, 3) uint8 RGB, undistorted and resized; `pixel_from_base` (3, 4) float64 maps
    homogeneous `base_link` metres to homogeneous pixels of it.
    """

    pixels: np.ndarray
    pixel_from_base: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inputs:
    """
    One frame in network terms, before batching.

    `points` (N, 3) float32 in `base_link` and `intensity` (N,) float32 or None, both None
    without LiDAR; `motion` is (speed m/s, yaw rate rad/s) or None; `previous_from_base` (4, 4)
    maps to `base_link` of the sweep before, None when nothing of it may be remembered.
    """

    points: np.ndarray | None
    intensity: np.ndarray | None
    cameras: tuple[CameraInput, ...]
    motion: tuple[float, float] | None
    previous_from_base: np.ndarray | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """
    B frames as tensors, all on one device.

    Attributes
    ----------
    num_samples, grid : int, BevGrid
        Passed, never inferred from the data: a sample may have no points.
    points : (N, 5) float32
        Of all samples together, sorted by pillar: x y z, intensity and range (pillars.py).
    point_pillar : (N,) int64
        Row of the pillar each point belongs to, ascending.
    point_index : (N,) int64
        Where each point stood before sorting.
    pillar_cell : (P,) int64
        Flat cell (sample, y, x) of each occupied pillar, ascending.
    pillar_mean : (P, 3) float32
        Mean point, base_link metres.
    images : (B, K, 3, h, w) float32
    image_mask : (B, K) bool
        False where the camera is missing; its pixels are then zero and never read.
    pixel_from_base : (B, K, 3, 4) float32
    motion : (B, 3) float32
        Speed / 10, yaw rate, 1 if known; all 0 if not.
    lidar_mask : (B,) bool
    has_intensity : (B,) bool
    previous_from_base : (B, 4, 4) float32
        As in `Inputs`; all zero where it is None.

    """

    num_samples: int
    grid: BevGrid
    points: torch.Tensor
    point_pillar: torch.Tensor
    point_index: torch.Tensor
    pillar_cell: torch.Tensor
    pillar_mean: torch.Tensor
    images: torch.Tensor
    image_mask: torch.Tensor
    pixel_from_base: torch.Tensor
    motion: torch.Tensor
    lidar_mask: torch.Tensor
    has_intensity: torch.Tensor
    previous_from_base: torch.Tensor

    def to(self, device):
        """Return the same batch on another device."""
        tensors = {
            name: value.to(device)
            for name in self.__slots__
            if isinstance(value := getattr(self, name), torch.Tensor)
        }
        return replace(self, **tensors)


def image_size(camera, width):
    """Return (h, w) of a camera's image in the network: aspect kept, h a multiple of 16."""
    return max(16, round(camera.height * width / camera.width / 16) * 16), width


def prepare_camera(view, width):
    """
    Undistort and resize one image.

    Parameters
    ----------
    view : CameraView
        Of any lens model; its own image is not changed.
    width : int
        Pixels of the network's image.

    Returns
    -------
    CameraInput

    """
    h, w = image_size(view.model, width)
    scale_x, scale_y = w / view.model.width, h / view.model.height
    # Pixel centres: column u of the source becomes (u + 0.5) * scale - 0.5.
    resized = np.array(
        [[scale_x, 0, 0.5 * scale_x - 0.5], [0, scale_y, 0.5 * scale_y - 0.5], [0, 0, 1]]
    )
    intrinsics = resized @ view.model.intrinsics
    pixels = view.image.pixels
    if view.model.distortion_model == 'none' or not view.model.distortion.any():
        pixels = cv2.resize(pixels, (w, h), interpolation=cv2.INTER_AREA)
    else:
        pixels = _undistort(pixels, view.model, intrinsics, (w, h))
    return CameraInput(pixels=pixels, pixel_from_base=intrinsics @ view.camera_from_base[:3])


def _undistort(pixels, model, intrinsics, size):
    identity = np.eye(3)
    arguments = (model.intrinsics, model.distortion, identity, intrinsics, size, cv2.CV_32FC1)
    is_fisheye = model.distortion_model == 'equidistant'
    build = cv2.fisheye.initUndistortRectifyMap if is_fisheye else cv2.initUndistortRectifyMap
    map_x, map_y = build(*arguments)
    return cv2.remap(pixels, map_x, map_y, cv2.INTER_LINEAR)


def inputs_from_frame(frame, config, with_cameras=True):
    """
    Gather a frame's arrays in `base_link`.

    Parameters
    ----------
    frame : Frame
        May lack cloud, cameras or motion.
    config : NetworkConfig
        Its `image_width` is that of the images.
    with_cameras : bool
        Without them the images are left to `images_from_frame`.

    Returns
    -------
    Inputs

    """
    points = intensity = None
    if frame.cloud is not None:
        points = apply_to_cloud(frame.base_from_lidar[:3], frame.cloud.points)
        intensity = frame.cloud.intensity
    views = frame.cameras if with_cameras else ()
    cameras = tuple(prepare_camera(view, config.image_width) for view in views)
    known = frame.motion is not None
    motion = (frame.motion.speed_mps, frame.motion.yaw_rate_radps) if known else None
    return Inputs(points=points, intensity=intensity, cameras=cameras, motion=motion)


def images_from_frame(frame, config):
    """Return `images`, `image_mask` and `pixel_from_base` of the batch of one frame, by name."""
    cameras = tuple(prepare_camera(view, config.image_width) for view in frame.cameras)
    return _gather_images(
        [Inputs(points=None, intensity=None, cameras=cameras, motion=None)], config
    )


def make_batch(samples, grid, config):
    """
    Turn frames into one batch on the CPU.

    Parameters
    ----------
    samples : sequence of Inputs
        May differ in what they lack; masks tell.
    grid : BevGrid
        Window of the pillars.
    config : NetworkConfig
        Points outside of its band of heights are left out.

    Returns
    -------
    Batch

    """
    motion = [(s.motion[0] / 10.0, s.motion[1], 1.0) if s.motion else (0, 0, 0) for s in samples]
    return Batch(
        num_samples=len(samples),
        grid=grid,
        motion=torch.tensor(motion, dtype=torch.float32).reshape(-1, 3),
        lidar_mask=torch.tensor([s.points is not None for s in samples]),
        has_intensity=torch.tensor([s.intensity is not None for s in samples]),
        previous_from_base=torch.from_numpy(np.stack([_previous(s) for s in samples])),
        **_gather_images(samples, config),
        **_gather_pillars(samples, grid, config),
    )


def _previous(inputs):
    known = inputs.previous_from_base is not None
    return np.asarray(inputs.previous_from_base if known else np.zeros((4, 4)), np.float32)


def _gather_pillars(samples, grid, config):
    """Make the pillars of all samples and put them one after another, as fields of `Batch`."""
    heights = config.z_min_m, config.z_max_m
    parts = [
        no_pillars() if s.points is None else make_pillars(s.points, s.intensity, grid, heights)
        for s in samples
    ]
    first_pillar = np.cumsum([0] + [len(part.cell) for part in parts])
    first_point = np.cumsum([0] + [len(part.points) for part in parts])
    stacked = {
        'points': [part.points for part in parts],
        'point_pillar': [p.point_pillar + n for p, n in zip(parts, first_pillar, strict=False)],
        'point_index': [p.point_index + n for p, n in zip(parts, first_point, strict=False)],
        'pillar_cell': [p.cell + b * grid.num_y * grid.num_x for b, p in enumerate(parts)],
        'pillar_mean': [part.mean for part in parts],
    }
    return {name: torch.from_numpy(_one_after_another(rows)) for name, rows in stacked.items()}


def _one_after_another(rows):
    return rows[0] if len(rows) == 1 else np.concatenate(rows)


def _gather_images(samples, config):
    """Stack images padded to one size, as fields of `Batch`; some samples may have fewer."""
    K = max((len(s.cameras) for s in samples), default=0)
    heights = [c.pixels.shape[0] for s in samples for c in s.cameras]
    h, w = max(heights, default=16), config.image_width
    # Colours last in memory, as they come and as convolutions want them.
    images = torch.zeros(len(samples), K, h, w, 3)
    mask = torch.zeros(len(samples), K, dtype=torch.bool)
    matrices = torch.zeros(len(samples), K, 3, 4)
    for b, inputs in enumerate(samples):
        for k, camera in enumerate(inputs.cameras):
            pixels = torch.from_numpy(camera.pixels)  # (h, w, 3)
            normal = pixels.float().div_(255.0).sub_(IMAGE_MEAN).div_(IMAGE_SCALE)
            images[b, k, : len(normal)] = normal
            mask[b, k] = True
            matrices[b, k] = torch.from_numpy(camera.pixel_from_base)
    images = images.permute(0, 1, 4, 2, 3)
    return {'images': images, 'image_mask': mask, 'pixel_from_base': matrices}
