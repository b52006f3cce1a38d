# SPDX-License-Identifier: Apache-2.0
"""
Which way the face of a sign looks, and whether it is meant for who drives here.

Through LiDAR points on the face a line is laid, seen from above (their principal axis). Where they
are too few the angle comes from how narrow the plate appears, which leaves two answers: the one
that looks more at the robot is taken, so that a doubt never makes a sign count less. Yaw angles
are those of the face's normal, counter-clockwise from x; without a measurement sigma is infinite.
"""

from dataclasses import dataclass

from mmperception.geometry import wrap_angle
from mmperception.sign_classes import sign_height_m, sign_width_m, UNREAD
import numpy as np

# Fewest points, and their spread along the plate, that tell an angle.
FEWEST_POINTS, LEAST_SPREAD_M = 8, 0.08
RANGE_NOISE_M, LEAST_SIGMA_RAD = 0.02, 0.09
# Of the width over the height of a box, beside that of its pixels: plates are not all alike.
RATIO_SIGMA, BOX_SIGMA_PX = 0.05, 1.5
EDGE_PX = 2.0


@dataclass(frozen=True, slots=True)
class Facing:
    """Normal of a face: `yaw_rad` and one standard deviation `sigma_rad`, infinite: unknown."""

    yaw_rad: float = 0.0
    sigma_rad: float = np.inf

    @property
    def is_known(self):
        """Tell whether it was measured."""
        return bool(np.isfinite(self.sigma_rad))

    def turned(self, by_rad):
        """Return it in a frame that sees this one turned by an angle."""
        return Facing(float(wrap_angle(self.yaw_rad + by_rad)), self.sigma_rad)

    def joined(self, other):
        """Return the mean of two measurements, each weighted by its certainty."""
        if not (self.is_known and other.is_known):
            return self if self.is_known else other
        share = self.sigma_rad**2 / (self.sigma_rad**2 + other.sigma_rad**2)
        yaw = self.yaw_rad + share * float(wrap_angle(other.yaw_rad - self.yaw_rad))
        sigma = max(self.sigma_rad * np.sqrt(1 - share), LEAST_SIGMA_RAD)
        return Facing(float(wrap_angle(yaw)), float(sigma))


def facing_of_points(points, bearing_rad):
    """
    Measure it on LiDAR points of a face.

    Parameters
    ----------
    points : (N, 3) float
        On the face, `base_link`, metres.
    bearing_rad : float
        Direction from the camera to the sign, in the same frame.

    Returns
    -------
    Facing

    """
    if len(points) < FEWEST_POINTS:
        return Facing()
    flat = points[:, :2] - points[:, :2].mean(0)
    variances, axes = np.linalg.eigh(flat.T @ flat / len(flat))
    noise, spread = np.sqrt(np.maximum(variances, 0))
    if spread < LEAST_SPREAD_M:
        return Facing()
    sigma = max(noise, RANGE_NOISE_M) / (np.sqrt(len(points)) * spread)
    normal = axes[:, 0]
    if normal @ (np.cos(bearing_rad), np.sin(bearing_rad)) > 0:
        normal = -normal  # the side that the camera sees
    yaw = np.arctan2(normal[1], normal[0])
    return Facing(float(yaw), float(np.hypot(sigma, LEAST_SIGMA_RAD)))


def facing_of_box(box, class_id, bearing_rad, size_px):
    """
    Tell it from the width of a box over its height.

    Parameters
    ----------
    box : (4,) float
        x1, y1, x2, y2, pixels.
    class_id : int
        Says the shape; of an unread sign nothing is told.
    bearing_rad : float
        Direction from the camera to the sign in `base_link`.
    size_px : (width, height)
        Of the image: a plate that its edge cuts tells nothing.

    Returns
    -------
    Facing
        Of the two answers the one that looks more against the robot's x axis.

    """
    width, height = float(box[2] - box[0]), float(box[3] - box[1])
    is_cut = min(box[0], box[1]) < EDGE_PX or (np.subtract(size_px, box[2:]) < EDGE_PX).any()
    if class_id == UNREAD or is_cut or min(width, height) <= 0:
        return Facing()
    nominal = sign_width_m(class_id) / sign_height_m(class_id)
    ratio_sigma = np.hypot(RATIO_SIGMA, np.sqrt(2) * BOX_SIGMA_PX / height)
    angle = float(np.arccos(np.clip(width / height / nominal, 0.0, 1.0)))
    # Near zero the cosine hardly changes: there the root of the doubt is the doubt.
    sigma = ratio_sigma / max(np.sin(angle), np.sqrt(2 * ratio_sigma))
    answers = [float(wrap_angle(bearing_rad + np.pi + sign * angle)) for sign in (-1, 1)]
    return Facing(min(answers, key=lambda yaw: turned_away(yaw, 0.0)), float(sigma))


def turned_away(yaw_rad, way_rad):
    """Return by how much (rad) a face is turned from looking straight against a way."""
    return abs(float(wrap_angle(yaw_rad - way_rad - np.pi)))


def is_meant(facing, way_rad, max_turned_rad):
    """
    Tell whether a sign is meant for who drives along `way_rad`.

    One whose facing is unknown is; one counts as turned away only beyond its doubt.
    """
    if not facing.is_known:
        return True
    return turned_away(facing.yaw_rad, way_rad) - facing.sigma_rad <= max_turned_rad
