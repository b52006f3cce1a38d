# SPDX-License-Identifier: Apache-2.0
"""
Where a sign stands: from LiDAR points on its face, else from its known size.

    image box -> ray of its middle -> depth -> position in base_link with covariance

Points on the face are told from those behind and before it by depth (near what the size of the
plate says) and by reflection: signs shine. Positions are of the middle of the plate.
"""

from dataclasses import dataclass
from functools import cached_property

import cv2
from mmperception.geometry import apply, invert, project
from mmperception.sign_classes import sign_height_m, sign_width_m
from mmperception.sign_facing import Facing, facing_of_box, facing_of_points
import numpy as np

LIDAR, SIZE, TRACK = 'lidar', 'size', 'track'
# A plate may be so much smaller or larger than usual: the small and the motorway size.
SMALLEST, LARGEST = 0.55, 1.8
# Of the box, so that the edge of the image box is not taken for the face.
INNER_SHARE = 0.9
# Points of one face lie this close in depth: a plate may be turned, ranges have noise.
FACE_DEPTH_M = 0.35
# A plate whose box is narrower than this share of its proper width is turned.
TURNED_RATIO = 0.85
# The labels that detectors learn from run so far outside of the plate, px; found in simulation.
LABEL_MARGIN_PX = 1.25
# Points are looked at so far beyond the outermost corners, of all together: lenses bend edges.
SLACK = 0.1
BRIGHT_PERCENTILE, BRIGHT_WEIGHT = 95, 3.0
# Of OpenCV's search for the ray of a pixel: kind of criteria, steps, accuracy.
LENS_ITERATIONS = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-7)
SIZE_SIGMA, LIDAR_SIGMA_M, PIXEL_SIGMA = 0.2, 0.12, 1.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placed:
    """
    One sign of one image in space.

    Attributes
    ----------
    position : (3,) float64
        Of the middle of the plate in `base_link` at the frame's stamp, metres.
    covariance : (3, 3) float64
    source : str
        `lidar` or `size`.
    width_m : float
        Of the plate at this range.
    facing : Facing
        In `base_link`.

    """

    position: np.ndarray
    covariance: np.ndarray
    source: str
    width_m: float
    facing: Facing = Facing()


class SweepPoints:
    """The points of a sweep, ready to be asked for those in a part of a view."""

    def __init__(self, frame):
        self.cloud, self.base_from_lidar = frame.cloud, frame.base_from_lidar

    @cached_property
    def bright(self):
        """From this intensity on a point shines."""
        return np.percentile(self.cloud.intensity[::64], BRIGHT_PERCENTILE)

    def between(self, view, rays):
        """
        Return the points that a view shows between the outermost of some rays.

        Parameters
        ----------
        view : CameraView
            Whose optical frame the rays are in.
        rays : (M, 3) float64
            Of `rays_from_pixels`.

        Returns
        -------
        points : (N, 3) float32
            In the optical frame; some lie a little outside of the rays.
        is_bright : (N,) bool

        """
        if self.cloud is None or not len(self.cloud.points):
            return np.zeros((0, 3), np.float32), np.zeros(0, bool)
        camera_from_lidar = view.camera_from_base @ self.base_from_lidar
        chosen = _inside(self.cloud.points, _sides(rays) @ camera_from_lidar)
        points = apply(camera_from_lidar, self.cloud.points[chosen])
        if self.cloud.intensity is None:
            return points, np.zeros(len(points), bool)
        return points, self.cloud.intensity[chosen] > self.bright


def _sides(rays):
    """Return the four planes (4, 4), positive inside, of the pyramid around rays (M, 3)."""
    low, high = rays[:, :2].min(axis=0), rays[:, :2].max(axis=0)
    (x1, y1), (x2, y2) = low - SLACK * (high - low), high + SLACK * (high - low)
    return np.array([[1, 0, -x1, 0], [-1, 0, x2, 0], [0, 1, -y1, 0], [0, -1, y2, 0]], np.float64)


def _inside(points, planes):
    """Return the indices of the points (N, 3) for which all planes (K, 4) are positive."""
    # OpenCV does a row in one pass over the points, on this thread alone.
    first, *others = (cv2.transform(points[None], row[None]) for row in np.float32(planes))
    for other in others:
        np.minimum(first, other, out=first)
    return np.flatnonzero(first > 0)


def place_sign(box, class_id, view, sweep, min_points=3):
    """Return the Placed of the only sign that is asked for, as `place_signs` does."""
    return place_signs(box[None], [class_id], view, sweep, min_points)[0]


def place_signs(boxes, class_ids, view, sweep, min_points=3):
    """
    Find where the signs of image boxes stand.

    Parameters
    ----------
    boxes : (M, 4) float
        x1, y1, x2, y2, pixels, measured from the outer edge of the first pixel.
    class_ids : sequence of M int
        Say the usual width of the plates.
    view : CameraView
        Of the image.
    sweep : SweepPoints
        Of the same frame.
    min_points : int
        Fewest points on the face that give its range.

    Returns
    -------
    list of M Placed

    """
    if not len(boxes):
        return []
    plates = _plates(boxes)
    corners = plates[:, [[0, 1], [2, 3], [0, 3], [2, 1]]].astype(np.float64) - 0.5
    marks = np.concatenate((corners, corners[:, :2].mean(axis=1, keepdims=True)), axis=1)
    rays = rays_from_pixels(marks.reshape(-1, 2), view.model)
    seen = sweep.between(view, rays)
    rays = rays.reshape(-1, 5, 3)
    return [
        _placed(plate, class_id, own, view, seen, min_points)
        for plate, class_id, own in zip(plates, class_ids, rays, strict=True)
    ]


def _placed(box, class_id, rays, view, seen, min_points):
    """Place one plate; `rays` (5, 3) of its corners, two opposite ones first, and its middle."""
    first, second, *_, middle = rays
    extent = _upright_width(first, second, class_id)
    by_size_m = sign_width_m(class_id) / max(extent, 1e-4)
    face = points_on_face(*seen, box, view.model, by_size_m)
    is_measured = len(face) >= min_points
    source = LIDAR if is_measured else SIZE
    depth_m = float(np.median(face[:, 2])) if is_measured else by_size_m
    base_from_camera = invert(view.camera_from_base)
    covariance = _covariance(middle, depth_m, source, view.model)
    turn = base_from_camera[:3, :3]
    ahead = turn @ middle
    bearing_rad = float(np.arctan2(ahead[1], ahead[0]))
    facing = facing_of_points(apply(base_from_camera, face), bearing_rad)
    if not facing.is_known:
        size_px = view.model.width, view.model.height
        facing = facing_of_box(box, class_id, bearing_rad, size_px)
    return Placed(
        position=apply(base_from_camera, middle * depth_m),
        covariance=turn @ covariance @ turn.T,
        source=source,
        width_m=extent * depth_m,
        facing=facing,
    )


def _plates(boxes):
    """Return the boxes (M, 4) of the plates themselves, those of signs being drawn around them."""
    sizes = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, keepdims=True)
    inwards = np.minimum(LABEL_MARGIN_PX, 0.1 * sizes.astype(np.float64))
    return boxes + inwards * np.array([1.0, 1.0, -1.0, -1.0])


def _upright_width(first, second, class_id):
    """
    Return how wide a plate between two rays would appear at depth 1 if it looked at the camera.

    Seen under an angle it gets narrow and stays as tall: then its height counts. Else the mean
    of both does, whose pixels err half as far as the larger of the two.
    """
    width, height = (second - first)[:2].tolist()
    by_height = height * sign_width_m(class_id) / sign_height_m(class_id)
    return by_height if width < TURNED_RATIO * by_height else (width + by_height) / 2


def points_on_face(points, is_bright, box, model, by_size_m):
    """Return those of the points (N, 3), in the optical frame, that lie on a sign's face."""
    if not len(points):
        return points
    depth_m = points[:, 2]
    in_reach = (depth_m > SMALLEST * by_size_m) & (depth_m < LARGEST * by_size_m)
    chosen = np.flatnonzero(in_reach)  # the lens is computed for these alone
    pixels, _ = project(points[chosen], model)
    middle, half = (box[:2] + box[2:]) / 2 - 0.5, (box[2:] - box[:2]) / 2 * INNER_SHARE
    chosen = chosen[(np.abs(pixels - middle) <= half).all(axis=1)]
    chosen = chosen[np.argsort(depth_m[chosen])]
    if not len(chosen):
        return points[:0]
    depth_m, weight = depth_m[chosen], 1.0 + BRIGHT_WEIGHT * is_bright[chosen]
    reach_m = FACE_DEPTH_M + 0.01 * depth_m
    end = np.searchsorted(depth_m, depth_m + reach_m, side='right')
    total = np.append(0.0, np.cumsum(weight))
    first = int(np.argmax(total[end] - total[:-1]))
    last = end[first]
    return points[chosen[first:last]]


def rays_from_pixels(pixels, model):
    """
    Return directions (N, 3) with z = 1 in the optical frame of pixels (N, 2): (0, 0) the first.

    The lens is undone by OpenCV's iteration.
    """
    K = model.intrinsics
    if model.distortion_model == 'none' or not model.distortion.size:
        x = (pixels[:, 0] - K[0, 2]) / K[0, 0]
        flat = np.stack((x, (pixels[:, 1] - K[1, 2]) / K[1, 1]), axis=1)
    elif model.distortion_model == 'equidistant':
        k = np.zeros(4)
        k[: model.distortion.size] = model.distortion[:4]
        flat = cv2.fisheye.undistortPoints(pixels[:, None].astype(np.float64), K, k)[:, 0]
    else:
        d = np.zeros(8)
        d[: min(8, model.distortion.size)] = model.distortion[:8]
        points = pixels[:, None].astype(np.float64)
        same = np.eye(3)
        flat = cv2.undistortPointsIter(points, K, d, same, same, LENS_ITERATIONS)[:, 0]
    return np.concatenate((flat, np.ones((len(flat), 1))), axis=1)


def _covariance(ray, depth_m, source, model):
    """Return (3, 3) in the optical frame: long along the ray, thin across it."""
    along_m = LIDAR_SIGMA_M if source == LIDAR else SIZE_SIGMA * depth_m
    across_m = PIXEL_SIGMA * depth_m / model.intrinsics[0, 0] + 0.02
    unit = ray / np.linalg.norm(ray)
    along = np.outer(unit, unit)
    return along * along_m**2 + (np.eye(3) - along) * across_m**2
