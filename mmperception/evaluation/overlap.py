# SPDX-License-Identifier: Apache-2.0
"""
Overlap of turned boxes, from above and in space: exact, vectorised over all pairs.

The area common to two rectangles is a line integral along its rim (Green's theorem): the parts of
the edges of A that lie in B, and of B that lie in A. Clipping a segment to a rectangle in that
rectangle's own axes is Liang and Barsky's (1984).
"""

import numpy as np

# Edges that coincide must be counted once: A's are clipped to a B this much larger, B's to an A
# this much smaller. The area is wrong by at most this times the perimeter.
_RIM_M = 1e-9


def bev_iou(boxes_a, boxes_b):
    """
    Intersection over union seen from above.

    Parameters
    ----------
    boxes_a, boxes_b : (center (N, 3), size (N, 3), yaw (N,))
        As in `Detections` and `Truth`.

    Returns
    -------
    iou : (A, B) float64

    """
    common = intersection_area(boxes_a, boxes_b)
    area_a, area_b = (np.prod(boxes[1][:, :2], axis=1) for boxes in _doubles(boxes_a, boxes_b))
    return _ratio(common, area_a, area_b)


def iou_3d(boxes_a, boxes_b):
    """Intersection over union of volumes, (A, B) float64; arguments as in `bev_iou`."""
    common = intersection_area(boxes_a, boxes_b)
    a, b = _doubles(boxes_a, boxes_b)
    top = np.minimum.outer(a[0][:, 2] + a[1][:, 2] / 2, b[0][:, 2] + b[1][:, 2] / 2)
    bottom = np.maximum.outer(a[0][:, 2] - a[1][:, 2] / 2, b[0][:, 2] - b[1][:, 2] / 2)
    volume_a, volume_b = np.prod(a[1], axis=1), np.prod(b[1], axis=1)
    return _ratio(common * np.maximum(top - bottom, 0), volume_a, volume_b)


def intersection_area(boxes_a, boxes_b):
    """Area (m^2) common to the footprints of each pair, (A, B) float64."""
    a, b = _doubles(boxes_a, boxes_b)
    common = np.zeros((len(a[0]), len(b[0])))
    reach = np.add.outer(_half_diagonal(a[1]), _half_diagonal(b[1]))
    offset = a[0][:, None, :2] - b[0][None, :, :2]
    index_a, index_b = np.nonzero(np.hypot(offset[..., 0], offset[..., 1]) < reach)
    if len(index_a):
        pair_a = (offset[index_a, index_b], a[1][index_a, :2], a[2][index_a])
        pair_b = (np.zeros((len(index_b), 2)), b[1][index_b, :2], b[2][index_b])
        rim = _rim_integral(pair_a, pair_b, _RIM_M) + _rim_integral(pair_b, pair_a, -_RIM_M)
        common[index_a, index_b] = np.maximum(rim, 0)
    return common


def _doubles(*boxes):
    return [tuple(np.asarray(part, np.float64) for part in box) for box in boxes]


def _half_diagonal(size):
    return np.hypot(size[:, 0], size[:, 1]) / 2


def _ratio(common, whole_a, whole_b):
    union = np.add.outer(whole_a, whole_b) - common
    return common / np.maximum(union, 1e-12)


def _rim_integral(inner, outer, margin):
    """Integrate (x dy - y dx) / 2 along the edges of `inner` that lie in `outer`: (P,)."""
    start = _corners(*inner)  # (P, 4, 2), counter-clockwise
    end = np.roll(start, -1, axis=1)
    center, size, yaw = outer
    half = size[:, None] / 2 + margin
    low, high = _clip(_turn(start - center[:, None], -yaw), _turn(end - center[:, None], -yaw),
                      half)  # fmt: skip
    edge = end - start
    first, last = start + low[..., None] * edge, start + high[..., None] * edge
    cross = first[..., 0] * last[..., 1] - first[..., 1] * last[..., 0]
    return np.where(high > low, cross / 2, 0).sum(axis=1)


def _clip(start, end, half):
    """Return the fractions between which each segment (P, 4, 2) is within +-half (P, 1, 2)."""
    step = end - start
    is_parallel = np.abs(step) < 1e-15
    safe = np.where(is_parallel, 1.0, step)
    enter, leave = (-half - start) / safe, (half - start) / safe
    enter, leave = np.minimum(enter, leave), np.maximum(enter, leave)
    is_within = np.abs(start) <= half
    enter = np.where(is_parallel, np.where(is_within, 0.0, 2.0), enter)
    leave = np.where(is_parallel, np.where(is_within, 1.0, -1.0), leave)
    return np.maximum(enter.max(axis=-1), 0), np.minimum(leave.min(axis=-1), 1)


def _corners(center, size, yaw):
    signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / 2
    return _turn(signs * size[:, None], yaw) + center[:, None]


def _turn(points, yaw):
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    x, y = points[..., 0], points[..., 1]
    return np.stack((cos * x - sin * y, sin * x + cos * y), axis=-1)
