# SPDX-License-Identifier: Apache-2.0
"""
Rigid transforms, camera projection and boxes, in NumPy.

Used by every stage; nothing here knows of messages or networks. Conventions: REP 103 axes, 4x4
float64 transforms `a_from_b`, quaternions x y z w as in geometry_msgs. Distortion models are
those of sensor_msgs/CameraInfo, by OpenCV's published equations.
"""

import numpy as np

# Lens models are polynomials fitted to what a lens sees; beyond that they are anything. Points
# farther off the axis than this are outside any image of such a lens, whatever the polynomial.
WIDEST_RAD = {'plumb_bob': 1.19, 'rational_polynomial': 1.19, 'equidistant': 1.48}


def apply(a_from_b, points_b):
    """
    Map points from frame b to frame a.

    Parameters
    ----------
    a_from_b : (4, 4) float64
        Rounded to the dtype of the points before use.
    points_b : (..., 3) float32 or float64
        One point or any array of them, metres.

    Returns
    -------
    points_a : (..., 3), dtype of the input

    """
    rotation = a_from_b[:3, :3].astype(points_b.dtype)
    return points_b @ rotation.T + a_from_b[:3, 3].astype(points_b.dtype)


def apply_to_cloud(rows, points_b):
    """
    Map many points like `apply`, column by column on this thread alone.

    The matrix library would wake its threads for so flat a product, which costs more than the
    product where the other cores are busy or asleep.

    Parameters
    ----------
    rows : (K, 4) float64
        Upper rows of `a_from_b`: three of them, or two where only x and y are asked for.
    points_b : (N, 3) float32
        Metres.

    Returns
    -------
    points_a : (N, K) float32
        Stored by columns: its transpose is contiguous.

    """
    x, y, z = np.ascontiguousarray(points_b.T)
    moved = np.empty((len(rows), len(x)), np.float32)
    for out, (a, b, c, shift) in zip(moved, rows.astype(np.float32), strict=True):
        np.multiply(x, a, out=out)
        out += y * b
        out += z * c
        out += shift
    return moved.T


def invert(a_from_b):
    """Return `b_from_a` (4, 4) float64 of a rigid transform."""
    rotation = a_from_b[:3, :3]
    inverse = np.eye(4)
    inverse[:3, :3] = rotation.T
    inverse[:3, 3] = -rotation.T @ a_from_b[:3, 3]
    return inverse


def rotation_from_quaternion(quaternion):
    """
    Turn a quaternion into a rotation matrix.

    Parameters
    ----------
    quaternion : (4,) sequence
        x, y, z, w; need not be normalised.

    Returns
    -------
    rotation : (3, 3) float64

    Raises
    ------
    ValueError
        If the quaternion is not finite or has no length.

    """
    q = np.asarray(quaternion, np.float64)
    length = np.linalg.norm(q)
    if not np.isfinite(length) or length < 1e-6:
        raise ValueError(f'quaternion: {q.tolist()} has no direction')
    x, y, z, w = q / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_from_rotation(rotation):
    """Return x, y, z, w (4,) float64 with w >= 0 of a (3, 3) rotation matrix."""
    r = np.asarray(rotation, np.float64)
    # The symmetric 4x4 whose eigenvector of the largest eigenvalue is the quaternion
    # (Bar-Itzhack 2000): no case distinction, exact to rounding for any rotation.
    k = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], 0, 0, 0],
            [r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], 0, 0],
            [r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1], 0],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], np.trace(r)],
        ]
    )
    q = np.linalg.eigh(k / 3.0)[1][:, -1]
    return q if q[3] >= 0 else -q


def transform_from(translation, quaternion=(0.0, 0.0, 0.0, 1.0)):
    """Build a (4, 4) float64 transform from metres and a quaternion x y z w."""
    transform = np.eye(4)
    transform[:3, :3] = rotation_from_quaternion(quaternion)
    transform[:3, 3] = translation
    return transform


def rotation_about(axis, angle_rad):
    """Return the (3, 3) float64 rotation by `angle_rad` about a 3-vector (Rodrigues)."""
    x, y, z = np.asarray(axis, np.float64) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle_rad) * cross + (1 - np.cos(angle_rad)) * cross @ cross


def transform_from_yaw(translation, yaw_rad):
    """Build a (4, 4) float64 transform from metres and a heading about z."""
    transform = np.eye(4)
    transform[:3, :3] = rotation_about((0, 0, 1), yaw_rad)
    transform[:3, 3] = translation
    return transform


def yaw_of(a_from_b):
    """Return the heading (rad) of b's x axis in a's xy plane."""
    return float(np.arctan2(a_from_b[1, 0], a_from_b[0, 0]))


def wrap_angle(angle_rad):
    """Bring angles into [-pi, pi)."""
    return (angle_rad + np.pi) % (2 * np.pi) - np.pi


def interpolate(a_from_b0, a_from_b1, fraction):
    """
    Interpolate two poses: translation linearly, rotation along the shortest arc (slerp).

    `fraction` 0 gives the first, 1 the second; outside [0, 1] it extrapolates.
    """
    delta = quaternion_from_rotation(a_from_b0[:3, :3].T @ a_from_b1[:3, :3])
    angle = 2 * np.arctan2(np.linalg.norm(delta[:3]), delta[3])
    pose = np.eye(4)
    pose[:3, :3] = a_from_b0[:3, :3]
    if angle > 1e-12:
        pose[:3, :3] = pose[:3, :3] @ rotation_about(delta[:3], angle * fraction)
    pose[:3, 3] = (1 - fraction) * a_from_b0[:3, 3] + fraction * a_from_b1[:3, 3]
    return pose


def _distort(x, y, camera):
    """Apply the lens to normalised coordinates (x/z, y/z); arrays of one shape."""
    if camera.distortion_model == 'equidistant':
        k = np.zeros(4)
        k[: camera.distortion.size] = camera.distortion[:4]
        r = np.sqrt(x * x + y * y)
        angle = np.arctan(r)
        a2 = angle * angle
        bent = angle * (1 + a2 * (k[0] + a2 * (k[1] + a2 * (k[2] + a2 * k[3]))))
        scale = np.where(r > 1e-8, bent / np.maximum(r, 1e-8), 1.0)
        return x * scale, y * scale
    d = np.zeros(8)
    d[: min(8, camera.distortion.size)] = camera.distortion[:8]
    k1, k2, p1, p2, k3, k4, k5, k6 = d
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
    )


def widest_tangent(camera):
    """
    Return the tangent of the view angle up to which the lens model can be trusted.

    Where a polynomial with negative terms turns back, points outside the view would land inside
    the image again: a typical plumb_bob lens does so 55 degrees off the axis.
    """
    if camera.distortion_model == 'none' or not camera.distortion.size:
        return np.inf
    tangent = np.tan(np.linspace(0, WIDEST_RAD[camera.distortion_model], 500))
    across, _ = _distort(tangent, np.zeros_like(tangent), camera)
    back, _ = _distort(-tangent, np.zeros_like(tangent), camera)
    # The mean of both sides is free of the tangential terms, which are no matter of the radius.
    turns = np.flatnonzero(np.diff(across - back) <= 0)
    return float(tangent[turns[0]] if turns.size else tangent[-1])


def project(points_camera, camera):
    """
    Project points of the optical frame onto the image as published.

    Parameters
    ----------
    points_camera : (N, 3) float32 or float64
        Metres, optical frame (x right, y down, z forward; REP 103).
    camera : CameraModel
        Its distortion is applied.

    Returns
    -------
    pixels : (N, 2)
        Column, row; (0, 0) is the centre of the first pixel. Not clipped to the image. Far
        outside the image for points behind the camera or beyond the lens model's validity.
    depth_m : (N,)
        z; test `depth_m > 0` before use.

    """
    depth_m = points_camera[:, 2]
    safe = np.maximum(depth_m, 1e-3)
    x, y = points_camera[:, 0] / safe, points_camera[:, 1] / safe
    limit = widest_tangent(camera)
    if np.isfinite(limit):
        is_valid = x * x + y * y < limit**2
        bent_x, bent_y = _distort(np.where(is_valid, x, 0), np.where(is_valid, y, 0), camera)
        x, y = np.where(is_valid, bent_x, x * 1e3), np.where(is_valid, bent_y, y * 1e3)
    K = camera.intrinsics.astype(points_camera.dtype)
    pixels = np.stack((K[0, 0] * x + K[0, 1] * y + K[0, 2], K[1, 1] * y + K[1, 2]), axis=1)
    pixels[depth_m <= 0] = -1e6
    return pixels.astype(points_camera.dtype), depth_m


def is_inside_image(pixels, depth_m, camera, margin_px=0.0):
    """Return (N,) bool: in front of the camera and within the image, `margin_px` inside."""
    u, v = pixels[:, 0], pixels[:, 1]
    inside_u = (u >= margin_px) & (u <= camera.width - 1 - margin_px)
    inside_v = (v >= margin_px) & (v <= camera.height - 1 - margin_px)
    return (depth_m > 0.1) & inside_u & inside_v


def box_corners(center, size, yaw):
    """
    Return the corners of upright boxes.

    Parameters
    ----------
    center : (N, 3)
        Middle of each box.
    size : (N, 3)
        Length (x), width (y), height (z).
    yaw : (N,)
        Counter-clockwise about z.

    Returns
    -------
    corners : (N, 8, 3)
        0-3 the bottom counter-clockwise from front left, 4-7 the top in the same order.

    """
    signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]], np.float64) / 2
    local = np.zeros((len(center), 8, 3))
    local[:, :, :2] = np.concatenate((signs, signs))[None] * np.asarray(size)[:, None, :2]
    local[:, :4, 2], local[:, 4:, 2] = -size[:, None, 2] / 2, size[:, None, 2] / 2
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    corners = local.copy()
    corners[:, :, 0] = cos * local[:, :, 0] - sin * local[:, :, 1]
    corners[:, :, 1] = sin * local[:, :, 0] + cos * local[:, :, 1]
    return corners + np.asarray(center, np.float64)[:, None]


def points_in_boxes(points, center, size, yaw, margin_m=0.0):
    """
    Tell which points lie in which upright boxes.

    `points` (N, 3), boxes (M, ...) as in `box_corners`, grown by `margin_m` on every side.

    Returns
    -------
    is_inside : (M, N) bool

    """
    is_inside = np.zeros((len(center), len(points)), bool)
    for m in range(len(center)):
        x, y, z = (points - center[m]).T
        cos, sin = np.cos(yaw[m]), np.sin(yaw[m])
        half = np.asarray(size[m]) / 2 + margin_m
        along = np.abs(cos * x + sin * y) <= half[0]
        across = np.abs(cos * y - sin * x) <= half[1]
        is_inside[m] = along & across & (np.abs(z) <= half[2])
    return is_inside


def transform_boxes(a_from_b, center, yaw):
    """
    Move upright boxes to another frame; sizes do not change.

    Heading follows the x axis of the box; roll and pitch of the transform tilt no box.

    Returns
    -------
    center : (N, 3) float32
    yaw : (N,) float32

    """
    heading = np.stack((np.cos(yaw), np.sin(yaw), np.zeros_like(yaw)), axis=1)
    turned = heading @ a_from_b[:3, :3].T
    moved = np.asarray(center, np.float64) @ a_from_b[:3, :3].T + a_from_b[:3, 3]
    turned_yaw = np.arctan2(turned[:, 1], turned[:, 0]).astype(np.float32)
    return moved.astype(np.float32), turned_yaw
