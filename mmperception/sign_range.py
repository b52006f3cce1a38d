# SPDX-License-Identifier: Apache-2.0
"""
Where a sign stands: from LiDAR points on its face, else from its known size.

    image box -> ray of its middle -> depth -> position in base_link with covariance

Points on the face are told from those behind and before it by depth (near what the size of the
plate says) and by reflection: signs shine. Positions are of the middle of the plate.
"""

from dataclasses import dataclass

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
# Points are kept so far around a view: camera and LiDAR look from different places, and half of
# the angle that the nearest sign covers.
PARALLAX_RAD, LARGEST_SIGN_RAD = 0.12, 0.25
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
    """The points of a sweep, ready to be asked for those around a ray."""

    def __init__(self, frame):
        self.cloud, self.base_from_lidar = frame.cloud, frame.base_from_lidar
        self.by_view, self.bright = {}, None

    def _in_view(self, view, camera_from_lidar):
        """Return points (N, 3), distances (N,) and which shine, of those that a view sees."""
        if view.name not in self.by_view:
            points, intensity = self.cloud.points, self.cloud.intensity
            axis = camera_from_lidar[2, :3].astype(np.float32)
            widest = np.cos(_half_view_rad(view.model) + PARALLAX_RAD + LARGEST_SIGN_RAD)
            # By columns, which are fast, and without the matrix library's threads.
            x, y, z = np.ascontiguousarray(points.T)
            depth_m = x * axis[0]
            depth_m += y * axis[1]
            depth_m += z * axis[2]
            distance = np.multiply(x, x, out=x)
            distance += np.multiply(y, y, out=y)
            distance += np.multiply(z, z, out=z)
            np.sqrt(distance, out=distance)
            chosen = np.flatnonzero(depth_m > np.float32(widest) * distance)
            is_bright = np.zeros(len(chosen), bool)
            if intensity is not None:
                if self.bright is None:
                    self.bright = np.percentile(intensity[::64], BRIGHT_PERCENTILE)
                is_bright = intensity[chosen] > self.bright
            points = np.take(points, chosen, axis=0)
            self.by_view[view.name] = points, distance[chosen], is_bright
        return self.by_view[view.name]

    def around(self, view, ray, half_angle_rad, nearest_m):
        """
        Return points near a ray in the camera's frame, and which of them shine.

        Parameters
        ----------
        view : CameraView
            Whose frame the ray is in.
        ray : (3,) float64
            Direction in the optical frame.
        half_angle_rad : float
            Of the cone around the ray, as the camera sees it.
        nearest_m : float
            Nearer points need not be among them.

        Returns
        -------
        points : (N, 3) float32
        is_bright : (N,) bool

        """
        if self.cloud is None or not len(self.cloud.points):
            return np.zeros((0, 3), np.float32), np.zeros(0, bool)
        camera_from_lidar = view.camera_from_base @ self.base_from_lidar
        seen, distance, is_bright = self._in_view(view, camera_from_lidar)
        direction = camera_from_lidar[:3, :3].T @ (ray / np.linalg.norm(ray))
        along = seen @ direction.astype(np.float32)
        apart_m = np.linalg.norm(camera_from_lidar[:3, 3])
        parallax_rad = np.arcsin(min(1.0, apart_m / nearest_m))
        limit = np.float32(np.cos(half_angle_rad + parallax_rad))
        near = np.flatnonzero(along > limit * distance)
        points = apply(camera_from_lidar, seen[near]).astype(np.float32)
        return points, is_bright[near]


def _half_view_rad(model):
    """Return the largest angle between the optical axis and a ray of the image."""
    w, h = model.width - 1.0, model.height - 1.0
    edges = np.array([[0, 0], [w, 0], [0, h], [w, h], [w / 2, 0], [0, h / 2]])
    rays = rays_from_pixels(edges, model)
    return float(np.arctan(np.hypot(rays[:, 0], rays[:, 1]).max()))


def place_sign(box, class_id, view, sweep, min_points=3):
    """
    Find where the sign of an image box stands.

    Parameters
    ----------
    box : (4,) float
        x1, y1, x2, y2, pixels, measured from the outer edge of the first pixel.
    class_id : int
        Says the usual width of the plate.
    view : CameraView
        Of the image.
    sweep : SweepPoints
        Of the same frame.
    min_points : int
        Fewest points on the face that give its range.

    Returns
    -------
    Placed

    """
    box = plate_of(box)
    corners = np.array([box[:2], box[2:], (box[:2] + box[2:]) / 2], np.float64) - 0.5
    rays = rays_from_pixels(corners, view.model)
    extent = _upright_width(rays, class_id)
    by_size_m = sign_width_m(class_id) / max(extent, 1e-4)
    half_angle_rad = float(np.arctan(np.hypot(*(rays[1, :2] - rays[0, :2])) / 2))
    nearest_m = SMALLEST * by_size_m
    points, is_bright = sweep.around(view, rays[2], half_angle_rad, nearest_m)
    face = points_on_face(points, is_bright, box, view.model, by_size_m)
    is_measured = len(face) >= min_points
    source = LIDAR if is_measured else SIZE
    depth_m = float(np.median(face[:, 2])) if is_measured else by_size_m
    base_from_camera = invert(view.camera_from_base)
    position = apply(base_from_camera, (rays[2] * depth_m)[None])[0]
    covariance = _covariance(rays[2], depth_m, source, view.model)
    turn = base_from_camera[:3, :3]
    ahead = turn @ rays[2]
    bearing_rad = float(np.arctan2(ahead[1], ahead[0]))
    facing = facing_of_points(apply(base_from_camera, face), bearing_rad)
    if not facing.is_known:
        size_px = view.model.width, view.model.height
        facing = facing_of_box(box, class_id, bearing_rad, size_px)
    return Placed(
        position=position.astype(np.float64),
        covariance=turn @ covariance @ turn.T,
        source=source,
        width_m=extent * depth_m,
        facing=facing,
    )


def plate_of(box):
    """Return the box (4,) of the plate itself, that of a sign being drawn around it."""
    inwards = min(LABEL_MARGIN_PX, 0.1 * float((box[2:] - box[:2]).min()))
    return box + inwards * np.array([1.0, 1.0, -1.0, -1.0])


def _upright_width(rays, class_id):
    """
    Return how wide a plate would appear at depth 1 if it looked at the camera.

    Seen under an angle it gets narrow and stays as tall: then its height counts. Else the mean
    of both does, whose pixels err half as far as the larger of the two.
    """
    width, height = (rays[1, :2] - rays[0, :2]).tolist()
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
