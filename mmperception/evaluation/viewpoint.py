# SPDX-License-Identifier: Apache-2.0
"""
How the image shows boxes: projected, cut before the camera, clipped to the picture.

Truth is counted, detections are kept and result files are written by these image boxes.
"""

from dataclasses import dataclass

from mmperception.geometry import apply, box_corners, project
import numpy as np

_NEAR_M = 0.1
_EDGES = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6),
          (3, 7))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Viewpoint:
    """
    From where labels were made: a camera and the LiDAR.

    `camera_from_base` (4, 4) and `model` (CameraModel) are None when a recording has no camera
    at all: then nothing is said about image size. `lidar_xy` (2,) is in `base_link`.
    """

    lidar_xy: np.ndarray
    camera_from_base: np.ndarray | None = None
    model: object = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageBoxes:
    """
    Boxes as the image shows them.

    `whole` and `clipped` (N, 4) float64 x1 y1 x2 y2; `is_visible` (N,) bool: a part is in front
    of the camera and within the image.
    """

    whole: np.ndarray
    clipped: np.ndarray
    is_visible: np.ndarray

    @property
    def height_px(self):
        return np.where(self.is_visible, self.clipped[:, 3] - self.clipped[:, 1], 0.0)

    @property
    def truncation(self):
        """Share of the box outside the image, 0..1."""
        share = box_area(self.clipped) / np.maximum(box_area(self.whole), 1e-9)
        return np.where(self.is_visible, 1 - share, 1.0)


def viewpoint_of(frame, fallback=None):
    """Return the Viewpoint of a frame; what it lacks is taken from `fallback`."""
    lidar_xy = np.zeros(2) if fallback is None else fallback.lidar_xy
    if frame.base_from_lidar is not None:
        lidar_xy = frame.base_from_lidar[:2, 3]
    camera_from_base, model = (None, None)
    if frame.cameras:
        camera_from_base, model = frame.cameras[0].camera_from_base, frame.cameras[0].model
    elif fallback is not None:
        camera_from_base, model = fallback.camera_from_base, fallback.model
    return Viewpoint(lidar_xy=lidar_xy, camera_from_base=camera_from_base, model=model)


def image_boxes(boxes, viewpoint):
    """
    Project boxes into the image; edges that pass the camera are cut 0.1 m before it.

    Parameters
    ----------
    boxes : (center (N, 3), size (N, 3), yaw (N,))
        In `base_link`, metres and radians.
    viewpoint : Viewpoint
        With a camera.

    Returns
    -------
    ImageBoxes

    """
    corners = box_corners(*(np.asarray(part, np.float64) for part in boxes))
    whole = np.zeros((len(corners), 4))
    for n, corner in enumerate(corners):
        points = _cut_at_near_plane(apply(viewpoint.camera_from_base, corner))
        if len(points):
            pixels, _ = project(points, viewpoint.model)
            whole[n] = (*pixels.min(axis=0), *pixels.max(axis=0))
    limit = np.array((viewpoint.model.width - 1, viewpoint.model.height - 1) * 2, np.float64)
    clipped = np.clip(whole, 0, limit)
    is_visible = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    return ImageBoxes(whole=whole, clipped=clipped, is_visible=is_visible)


def box_area(boxes):
    """Return the area (N,) of image boxes (N, 4) x1 y1 x2 y2."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _cut_at_near_plane(corners):
    """Return the corners in front, and where edges to those behind cross the near plane."""
    depth = corners[:, 2]
    points = [corners[depth > _NEAR_M]]
    for i, j in _EDGES:
        if (depth[i] > _NEAR_M) != (depth[j] > _NEAR_M):
            share = (_NEAR_M - depth[i]) / (depth[j] - depth[i])
            points.append((corners[i] + share * (corners[j] - corners[i]))[None])
    return np.concatenate(points)
