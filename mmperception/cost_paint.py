# SPDX-License-Identifier: Apache-2.0
"""
Graded cost that is drawn: around obstacles, where tracks will be, and beyond signs.

Used by `cost.py`. Nothing here is lethal and nothing here takes cost away. Tracks move straight
on; what is later or less certain costs less and is wider. A sign closes a bar across the way.
"""

from dataclasses import dataclass

import cv2
import numpy as np

HIGHEST_GRADE = 98  # 99 is "never" and 100 an obstacle
PREDICTION_STEP_S = 0.25
SOFT_EDGE_M = 0.6  # the painted cost of tracks falls to nothing over this length
WIDEST_SPREAD_M = 1.0  # uncertainty widens an outline by no more
# A bar across the way at a sign begins a little before it and is this deep.
SIGN_BEFORE_M, SIGN_BEYOND_M = 0.5, 2.0
# Growing by these in turn makes octagons.
KERNELS = [cv2.getStructuringElement(shape, (3, 3)) for shape in (cv2.MORPH_CROSS, cv2.MORPH_RECT)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSign:
    """
    A traffic sign that matters for the path, in odom.

    `name` as in messages (`no_entry`, `stop`); `place_xy` of its plate; `yaw` the way that the
    robot faced when it saw the sign: that way is closed; `stamp_ns` of that moment.
    """

    name: str
    place_xy: tuple[float, float]
    yaw: float
    stamp_ns: int


def grade_around(is_lethal, reach_cells):
    """
    Return the cost (Y, X) int8 that falls from `HIGHEST_GRADE` beside obstacles to 0.

    Growing by a cross and a square in turn makes octagons: within 6 percent of the distance,
    in a third of the time of a distance transform. Each step counts the cells that it has reached.

    Parameters
    ----------
    is_lethal : (Y, X) uint8
        1 where an obstacle stands.
    reach_cells : float
        Cost ends this far from it.

    """
    num_steps = max(int(round(reach_cells)), 1)
    front = cv2.dilate(is_lethal, KERNELS[0])
    count = front.copy()
    for step in range(1, num_steps):
        cv2.dilate(front, KERNELS[step % 2], dst=front)
        np.add(count, front, out=count)
    return cv2.convertScaleAbs(count, dst=count, alpha=HIGHEST_GRADE / num_steps).view(np.int8)


def predicted_outlines(tracks, stamp_ns, config):
    """
    Lay out where tracks are and will be.

    Parameters
    ----------
    tracks : Tracks
        In odom; moved to the stamp of the sweep, by one second at most.
    stamp_ns : int
        Of the sweep.
    config : PathCostConfig
        With the horizon and the margin of each class.

    Returns
    -------
    polygons : (M, 8, 2) float64
        Corners in odom of what each covers since the step before: widened by the margin of the
        class and by what is not known. Their hull is meant.
    values : (M,) int64
        Cost of each, less for what is later or less certain.

    """
    late_s = min(max((stamp_ns - tracks.stamp_ns) * 1e-9, -1.0), 1.0)
    ahead_s = np.arange(0.0, config.horizon_s + 1e-9, PREDICTION_STEP_S)
    track, step = np.nonzero((ahead_s == 0) | ~tracks.is_stationary[:, None])
    ahead_s = ahead_s[step]
    velocity = tracks.velocity[track].astype(np.float64)
    spread_m = np.sqrt(
        np.trace(tracks.velocity_covariance, axis1=1, axis2=2)[track] / 2 * ahead_s**2
    )
    margin_m = np.asarray(config.class_margin_m)[tracks.label[track]] - SOFT_EDGE_M / 2
    margin_m = np.maximum(margin_m, 0.0) + np.minimum(spread_m, WIDEST_SPREAD_M) / 2
    half = tracks.size[track, :2] / 2 + margin_m[:, None]
    before_s = np.maximum(ahead_s - PREDICTION_STEP_S, 0.0)
    corners = turned_boxes(half, tracks.yaw[track])
    polygons = np.concatenate([
        corners + (tracks.center[track, :2] + velocity * (then_s + late_s)[:, None])[:, None]
        for then_s in (before_s, ahead_s)
    ], axis=1)  # fmt: skip
    fade = (1 - ahead_s / (config.horizon_s + PREDICTION_STEP_S)) / (1 + spread_m)
    return polygons, np.round(HIGHEST_GRADE * fade).astype(np.int64)


def turned_boxes(half, yaw):
    """Return the corners (M, 4, 2), from the middle, of boxes of these half sizes and headings."""
    corners = half[:, None] * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    cos, sin = np.cos(yaw), np.sin(yaw)
    rotation = np.array([[cos, -sin], [sin, cos]]).transpose(2, 0, 1)
    return corners @ rotation.transpose(0, 2, 1)


def sign_bars(signs, config):
    """
    Lay out what signs close: a bar across the way, from a little before the sign on.

    Parameters
    ----------
    signs : sequence of SeenSign
        Others than `no_entry`, `no_vehicles`, `stop` and `yield` close nothing.
    config : PathCostConfig
        With the cost of each and the reach to either side.

    Returns
    -------
    polygons : (M, 8, 2) float64
        Each corner twice, as of what stands still.
    values : (M,) int64

    """
    costs = {
        'no_entry': config.no_entry_cost,
        'no_vehicles': config.no_entry_cost,
        'stop': config.stop_cost,
        'yield': config.yield_cost,
    }
    signs = [sign for sign in signs if costs.get(sign.name)]
    yaw = np.array([sign.yaw for sign in signs], np.float64)
    along = np.stack((np.cos(yaw), np.sin(yaw)), axis=1)
    place = np.array([sign.place_xy for sign in signs], np.float64).reshape(-1, 2)
    depth_m = SIGN_BEFORE_M + SIGN_BEYOND_M
    center = place + along * (SIGN_BEYOND_M - SIGN_BEFORE_M) / 2
    half = np.tile((depth_m / 2, config.sign_reach_m), (len(signs), 1))
    polygons = np.repeat(turned_boxes(half, yaw) + center[:, None], 2, axis=1)
    return polygons, np.array([costs[s.name] for s in signs], np.int64)


def paint(cost, corners, values, edge_cells):
    """
    Raise cost within the hulls of corners to their values; edges are softened.

    Parameters
    ----------
    cost : (Y, X) int8
        Is raised in place; what is more stays.
    corners : (M, 8, 2) int32
        Column and row.
    values : (M,) int64
        Up to `HIGHEST_GRADE`.
    edge_cells : int
        Over so many cells the cost falls to nothing.

    """
    if not len(corners):
        return
    edge, (Y, X) = edge_cells | 1, cost.shape
    left, top, width, height = cv2.boundingRect(corners.reshape(-1, 2))
    low = np.maximum((left - edge, top - edge), 0)
    high = np.minimum((left + width + edge, top + height + edge), (X, Y))
    if (low >= high).any():
        return
    canvas = np.zeros((high - low)[::-1], np.uint8)
    order = np.argsort(values, kind='stable')  # of two the higher is on top
    hulls = (corners - low).astype(np.int32)[order]
    for hull, value in zip(hulls, values[order].tolist(), strict=True):
        cv2.fillConvexPoly(canvas, cv2.convexHull(hull), value)
    soft = cv2.boxFilter(canvas, -1, (edge, edge), borderType=cv2.BORDER_CONSTANT)
    area = cost[tuple(slice(*ends) for ends in zip(low[::-1], high[::-1], strict=True))]
    np.maximum(area, soft.view(np.int8), out=area)
