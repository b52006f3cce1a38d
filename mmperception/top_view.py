# SPDX-License-Identifier: Apache-2.0
"""
The world from above in `base_link`: forward is up, left is left.

Underneath the path cost, then LiDAR points by height, obstacle points, the way that was driven,
truth, boxes and tracks.
What lives in the odometry frame is brought to `base_link` by the frame's own pose.
"""

from dataclasses import dataclass

import cv2
from mmperception import canvas as paint
from mmperception.datatypes import OCCUPANCY_LETHAL, OCCUPANCY_NEVER, OCCUPANCY_UNKNOWN
from mmperception.geometry import apply, box_corners, invert, transform_boxes
import numpy as np

# Path cost: free is a dark teal, graded cost goes to violet, 99 and 100 are a signal of their own.
_FREE, _GRADED, _NEVER, _LETHAL = (20, 58, 60), (172, 72, 178), (225, 60, 130), (255, 60, 70)
# Height above the ground from which points have the brightest colour.
TOP_M = 2.5
EGO_M = (4.4, 1.8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The part of the ground that is shown: `x_max_m` is the upper edge, y is centred."""

    height: int
    width: int
    x_min_m: float = -7.0
    x_max_m: float = 50.0

    @property
    def scale(self):
        """Pixels of a metre."""
        return self.height / (self.x_max_m - self.x_min_m)

    def pixels_of(self, points):
        """Map base points (..., 2 or 3) to column and row (..., 2); 0 is a pixel's middle."""
        points = np.asarray(points, np.float64)
        column = self.width / 2 - points[..., 1] * self.scale
        row = (self.x_max_m - points[..., 0]) * self.scale
        return np.stack((column, row), axis=-1) - 0.5

    def ground_points(self):
        """Return the base x and y (H, W) of the middle of every pixel."""
        row, column = np.mgrid[: self.height, : self.width] + 0.5
        return self.x_max_m - row / self.scale, (self.width / 2 - column) / self.scale


def cost_colours():
    """Return the colours (256, 3) uint8 of the int8 cost values, at their value as uint8."""
    colours = np.tile(np.array(paint.PANEL, np.uint8), (256, 1))
    share = np.linspace(0, 1, OCCUPANCY_NEVER)[:, None] ** 0.8
    colours[:OCCUPANCY_NEVER] = np.rint((1 - share) * _FREE + share * np.array(_GRADED))
    colours[OCCUPANCY_NEVER], colours[OCCUPANCY_LETHAL] = _NEVER, _LETHAL
    return colours


def height_colours():
    """Return the colours (256, 3) uint8 of points from the ground to `TOP_M`."""
    stops = np.array([(70, 84, 98), (96, 150, 168), (150, 214, 200), (236, 248, 214)])
    at = np.linspace(0, 1, len(stops))
    share = np.linspace(0, 1, 256)
    return np.stack([np.interp(share, at, c) for c in stops.T], axis=1).astype(np.uint8)


def draw_top_view(moment, window):
    """
    Draw one moment from above.

    Parameters
    ----------
    moment : Moment
        Anything of it but the frame may be None: it is left out, and said where it matters.
    window : Window
        Which ground, in how many pixels.

    Returns
    -------
    pixels : (H, W, 3) uint8 RGB

    """
    canvas = paint.blank(window.height, window.width)
    frame = moment.frame
    has_odometry = frame.odom_from_base is not None
    if moment.grid is not None and has_odometry:
        canvas = _cost_picture(moment.grid, frame.odom_from_base, window)
    _draw_rulers(canvas, window)
    _draw_view_cones(canvas, frame.cameras, window)
    if frame.cloud is not None:
        points = apply(frame.base_from_lidar, frame.cloud.points)
        _draw_points(canvas, window, points, _colours_by_height(points))
    if moment.obstacle_points_odom is not None and has_odometry:
        points = apply(invert(frame.odom_from_base), moment.obstacle_points_odom)
        _draw_points(canvas, window, points, paint.OBSTACLE)
    if moment.driven_odom is not None and has_odometry:
        driven = apply(invert(frame.odom_from_base), moment.driven_odom)
        paint.draw_path(canvas, window.pixels_of(driven), paint.EGO, 1)
    _draw_ego(canvas, window)
    if moment.detections is not None:
        _draw_detections(canvas, window, moment.detections)
    if moment.truth is not None:
        _draw_outlines(canvas, window, moment.truth, paint.TRUTH)
    if moment.tracks is not None and has_odometry:
        _draw_tracks(canvas, window, moment.tracks, invert(frame.odom_from_base))
    _draw_scale_bar(canvas, window)
    _say_what_is_missing(canvas, moment)
    return canvas


def _cost_picture(grid, odom_from_base, window):
    """Look up the cell of every pixel: the grid lies in odom, the picture in base."""
    x, y = window.ground_points()
    rotation, shift = odom_from_base[:2, :2], odom_from_base[:2, 3]
    place = np.stack((x, y), axis=-1) @ rotation.T + shift - np.array(grid.origin_xy_m)
    cell = np.floor(place / grid.resolution_m).astype(np.int64)
    Y, X = grid.data.shape
    is_inside = (cell >= 0).all(axis=-1) & (cell[..., 0] < X) & (cell[..., 1] < Y)
    cell[~is_inside] = 0
    cost = grid.data[cell[..., 1], cell[..., 0]] if grid.data.size else cell[..., 0]
    return cost_colours()[np.where(is_inside, cost, OCCUPANCY_UNKNOWN).astype(np.uint8)]


def _draw_rulers(canvas, window):
    """Draw range rings every ten metres with their numbers."""
    column, row = np.rint(window.pixels_of((0.0, 0.0))).astype(int)
    for range_m in range(10, 100, 10):
        radius = round(range_m * window.scale)
        cv2.circle(canvas, (column, row), radius, paint.LINE, 1, cv2.LINE_AA)
        at = window.pixels_of((range_m, 0.0)) + (4, 12)
        if at[1] > 30:
            paint.draw_text(canvas, f'{range_m}', at, paint.FAINT_TEXT, 8)


def _draw_scale_bar(canvas, window):
    right, low = window.width - 16, window.height - 14
    _draw_plate(canvas, right - 10 * window.scale - 8, low - 26, right + 8, low + 8)
    bar = np.array([(right - 10 * window.scale, low), (right, low)])
    paint.draw_path(canvas, bar, paint.TEXT, 2)
    for end in bar:
        paint.draw_path(canvas, end + np.array([(0, -4), (0, 4)]), paint.TEXT, 2)
    paint.draw_text(canvas, '10 m', bar[0] + (0, -9), paint.TEXT, 9)


def _draw_plate(canvas, left, top, right, low):
    corners = np.array([(left, top), (right, top), (right, low), (left, low)])
    paint.fill_polygon(canvas, corners, paint.PANEL, 0.8)


def _draw_view_cones(canvas, cameras, window):
    """Draw the edges of what each camera sees (by its pinhole matrix)."""
    for view in cameras:
        base_from_camera = invert(view.camera_from_base)
        focal, middle = view.model.intrinsics[0, 0], view.model.intrinsics[0, 2]
        for column in (0, view.model.width):
            ray = np.array([(column - middle) / focal, 0.0, 1.0])
            ends = np.stack((ray * 0.0, ray * 100.0))
            points = window.pixels_of(apply(base_from_camera, ends))
            paint.draw_path(canvas, points, (84, 98, 114), 1)


def _colours_by_height(points):
    share = np.clip(points[:, 2] / TOP_M, 0, 1)
    return height_colours()[np.rint(255 * share).astype(np.int64)]


def _draw_points(canvas, window, points, colours):
    """Draw base points (N, 3) as single pixels, the highest last."""
    cells = np.rint(window.pixels_of(points)).astype(np.int64)
    is_inside = ((cells >= 0) & (cells < (window.width, window.height))).all(axis=1)
    order = np.flatnonzero(is_inside)
    order = order[np.argsort(points[order, 2], kind='stable')]
    colours = np.broadcast_to(np.asarray(colours, np.uint8), (len(points), 3))
    canvas[cells[order, 1], cells[order, 0]] = colours[order]


def _draw_ego(canvas, window):
    length, width = EGO_M
    outline = np.array([(0.5, 0.32), (0.38, 0.5), (-0.5, 0.5), (-0.5, -0.5), (0.38, -0.5)])
    outline = np.concatenate((outline, [(0.5, -0.32)])) * (length, width)
    nose = np.array([(0.34, 0.3), (0.46, 0.0), (0.34, -0.3)]) * (length, width)
    paint.fill_polygon(canvas, window.pixels_of(outline), paint.PANEL, 0.85)
    paint.draw_path(canvas, window.pixels_of(outline), paint.EGO, 2, is_closed=True)
    paint.draw_path(canvas, window.pixels_of(nose), paint.EGO, 2)


def _corners_above(window, boxes):
    """Return the ground corners of boxes as pixels (N, 4, 2), front left first."""
    return window.pixels_of(box_corners(boxes.center, boxes.size, boxes.yaw)[:, :4])


def _draw_outlines(canvas, window, boxes, colour):
    for corners in _corners_above(window, boxes):
        paint.draw_path(canvas, corners, colour, 1, is_closed=True)
        paint.draw_path(canvas, _heading(corners), colour, 1)


def _heading(corners):
    return np.stack((corners.mean(axis=0), corners[[0, 3]].mean(axis=0)))


def _draw_detections(canvas, window, detections):
    for corners, label in zip(_corners_above(window, detections), detections.label, strict=True):
        colour = paint.CLASS_COLOURS[label]
        paint.fill_polygon(canvas, corners, colour, 0.3)
        paint.draw_path(canvas, corners, colour, 2, is_closed=True)
        paint.draw_path(canvas, _heading(corners), colour, 2)


def _draw_tracks(canvas, window, tracks, base_from_odom):
    """Draw where each track goes in a second, and its number beside it."""
    center, _ = transform_boxes(base_from_odom, tracks.center, tracks.yaw)
    step = tracks.velocity @ base_from_odom[:2, :2].T.astype(np.float32)
    for index in range(len(tracks)):
        colour = paint.CLASS_COLOURS[tracks.label[index]]
        tail, tip = window.pixels_of(
            np.stack((center[index, :2], center[index, :2] + step[index]))
        )
        if not tracks.is_stationary[index]:
            _draw_arrow(canvas, tail, tip)
        if 0 <= tail[0] < window.width and 0 <= tail[1] < window.height:
            side = tail + (window.scale * tracks.size[index, 1] / 2 + 5, 4)
            paint.draw_text(canvas, f'{tracks.track_id[index]}', side, colour, 9)


def _draw_arrow(canvas, tail, tip, colour=(255, 255, 255)):
    length = np.hypot(*(tip - tail))
    if length < 2:
        return
    along = (tip - tail) / length
    across = np.array([-along[1], along[0]])
    wings = [tip - along * 7 + across * 4, tip, tip - along * 7 - across * 4]
    paint.draw_path(canvas, np.stack((tail, tip)), colour, 2)
    paint.draw_path(canvas, np.stack(wings), colour, 2)


def _say_what_is_missing(canvas, moment):
    frame = moment.frame
    lines = []
    if frame.cloud is None:
        lines.append(('no LiDAR sweep', paint.WARNING))
    if frame.odom_from_base is None:
        lines.append(('no odometry: tracks and path cost not shown', paint.WARNING))
    elif moment.grid is None:
        lines.append(('no path cost', paint.FAINT_TEXT))
    for number, (line, colour) in enumerate(lines):
        row = 24 + 22 * number
        _draw_plate(canvas, 6, row - 17, 18 + paint.text_width(line, 10), row + 6)
        paint.draw_text(canvas, line, (12, row), colour, 10)
