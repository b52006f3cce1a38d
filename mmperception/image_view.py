# SPDX-License-Identifier: Apache-2.0
"""
Boxes and LiDAR points drawn on a camera image, through the camera's own model.

Edges are cut at a near plane before they are projected, and drawn in short pieces, so that a
box that reaches behind the camera or a bent lens gives no smear. The input image is never
changed.
"""

from dataclasses import replace

import cv2
from mmperception.canvas import CLASS_COLOURS, draw_path, draw_tag, fill_polygon, TRUTH
from mmperception.datatypes import CLASSES
from mmperception.geometry import apply, box_corners, is_inside_image, project, widest_tangent
from mmperception.sign_classes import sign_name
import numpy as np

NEAR_M = 0.3
# Corners of `box_corners`: bottom, top, uprights; the front face (+x) is 0, 3, 7, 4.
EDGES = np.array(
    [[0, 1], [1, 2], [2, 3], [3, 0], [4, 5], [5, 6], [6, 7], [7, 4]]
    + [[0, 4], [1, 5], [2, 6], [3, 7]]
)
FRONT = [0, 3, 7, 4]
PIECES = 12
SIGN_COLOUR = (255, 214, 64)
SMALL_PX = 36  # lower boxes are drawn with thin lines


def draw_boxes_on_image(view, boxes, pixels=None):
    """
    Draw boxes as wire frames with their heading, class, track and score.

    Parameters
    ----------
    view : CameraView
        Edges are bent as by its lens where the image is not rectified.
    boxes : Detections or Truth
        In `base_link` at the frame's stamp. Truth is drawn thinly and without words.
    pixels : (H, W, 3) uint8 or None
        What is drawn on, left as it is; None: the view's own image.

    Returns
    -------
    pixels : (H, W, 3) uint8 RGB

    """
    canvas = (view.image.pixels if pixels is None else pixels).copy()
    corners = apply(view.camera_from_base, box_corners(boxes.center, boxes.size, boxes.yaw))
    tags = []
    for index in np.argsort(-corners[:, :, 2].mean(axis=1), kind='stable'):
        if not hasattr(boxes, 'score'):
            _draw_wires(canvas, corners[index], view.model, TRUTH, 1)
            continue
        colour = CLASS_COLOURS[boxes.label[index]]
        _shade_front(canvas, corners[index], view.model, colour)
        visible = _draw_wires(canvas, corners[index], view.model, colour, 2)
        if len(visible):
            tags.append((visible.min(axis=0), box_title(boxes, index), colour))
    _draw_tags(canvas, tags)
    return canvas


def overlay_image(view, detections, signs=None):
    """Return the picture of the `overlay` topic: the image with detections and signs on it."""
    canvas = draw_boxes_on_image(view, detections)
    return canvas if signs is None else draw_signs_on_image(canvas, signs)


def draw_signs_on_image(pixels, signs):
    """
    Draw the boxes of signs with their names and ranges.

    Parameters
    ----------
    pixels : (H, W, 3) uint8 RGB
        Left as it is.
    signs : ImageSigns
        In pixels of this image.

    Returns
    -------
    pixels : (H, W, 3) uint8 RGB

    """
    canvas, tags = pixels.copy(), []
    for i in np.argsort(-signs.distance_m, kind='stable'):
        x1, y1, x2, y2 = (int(round(float(edge))) for edge in signs.boxes[i])
        cv2.rectangle(canvas, (x1 - 1, y1 - 1), (x2, y2), SIGN_COLOUR, 2)
        title = f'{sign_name(signs.class_id[i])} {signs.distance_m[i]:.1f} m'
        tags.append((np.array([x1, y1 - 1]), title, SIGN_COLOUR))
    _draw_tags(canvas, tags)
    return canvas


def scaled_view(view, scale):
    """Return the view with its image, and the model with it, scaled by a factor."""
    W, H = max(1, round(view.model.width * scale)), max(1, round(view.model.height * scale))
    across, down = W / view.model.width, H / view.model.height
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    pixels = cv2.resize(view.image.pixels, (W, H), interpolation=method)
    # Pixel (0, 0) is the middle of the first pixel, before and after.
    shift = np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1]])
    model = replace(view.model, width=W, height=H, intrinsics=shift @ view.model.intrinsics)
    return replace(view, image=replace(view.image, pixels=pixels), model=model)


def box_title(detections, index):
    """Return the words at a box: class, track where there is one, score."""
    track = detections.track_id[index]
    number = f' {track}' if track >= 0 else ''
    return f'{CLASSES[detections.label[index]]}{number} {detections.score[index]:.2f}'


def cut_at_near_plane(start, end):
    """Return the part of a segment (two (3,) points) before the near plane, or None."""
    if start[2] < NEAR_M and end[2] < NEAR_M:
        return None
    if start[2] < NEAR_M or end[2] < NEAR_M:
        crossing = start + (end - start) * ((NEAR_M - start[2]) / (end[2] - start[2]))
        start, end = (crossing, end) if start[2] < NEAR_M else (start, crossing)
    return start, end


def _draw_wires(canvas, corners, model, colour, thickness):
    """Draw one box's edges and heading; return the drawn pixels within the image (M, 2)."""
    paths = _paths_of((*corners[EDGES], _heading(corners)), model)
    if not paths:
        return np.zeros((0, 2))
    points = np.concatenate(paths)
    is_small = np.ptp(points[:, 1]) < SMALL_PX
    for path in paths:
        draw_path(canvas, path, colour, 1 if is_small else thickness)
    is_inside = (points >= 0) & (points < (model.width, model.height))
    return points[is_inside.all(axis=1)]


def _heading(corners):
    """Return the segment on the ground from the box's middle to its front."""
    return np.stack((corners[:4].mean(axis=0), corners[[0, 3]].mean(axis=0)))


def _paths_of(segments, model):
    """Project segments in pieces; a list of (M, 2), those behind the camera or lens left out."""
    cuts = [cut for cut in (cut_at_near_plane(*segment) for segment in segments) if cut]
    if not cuts:
        return []
    start, end = np.array(cuts)[:, :, None].swapaxes(0, 1)
    share = np.linspace(0, 1, PIECES + 1)[:, None]
    points = start * (1 - share) + end * share  # (segments, pieces, 3)
    tangent = np.hypot(points[..., 0], points[..., 1]) / points[..., 2]
    is_seen = tangent < widest_tangent(model)
    pixels = project(points.reshape(-1, 3), model)[0].reshape(*points.shape[:2], 2)
    return [path[seen] for path, seen in zip(pixels, is_seen, strict=True) if seen.sum() > 1]


def _shade_front(canvas, corners, model, colour):
    face = corners[FRONT]
    if (face[:, 2] > NEAR_M).all():
        outline = _paths_of([face[[i, (i + 1) % 4]] for i in range(4)], model)
        if outline:
            fill_polygon(canvas, np.concatenate(outline), colour, 0.25)


def _draw_tags(canvas, tags):
    """Write the tags, nearest box last, each moved up until it hides no other."""
    taken = []
    cap_px = max(8, round(canvas.shape[0] / 42))
    for (column, row), title, colour in reversed(tags):
        for _ in range(20):
            overlap = [t for t in taken if abs(t[1] - row) < t[3] and _meets(t, column, title)]
            if not overlap:
                break
            row = min(t[1] - t[3] for t in overlap)
        left, top, width, height = draw_tag(canvas, title, (column, row), colour, cap_px)
        taken.append((left, row, width, height + 1))


def _meets(tag, column, title):
    return tag[0] - 8 * len(title) < column < tag[0] + tag[2]


def draw_lidar_on_image(view, cloud, base_from_lidar, max_range_m=60.0):
    """
    Draw the sweep's points on the image, near ones bright: what shows a wrong calibration.

    Parameters
    ----------
    view : CameraView
        A darkened copy of its image is drawn on.
    cloud : PointCloud
        In the LiDAR frame.
    base_from_lidar : (4, 4) float64
        Judged together with the view's `camera_from_base`.
    max_range_m : float
        Range of the colours.

    Returns
    -------
    pixels : (H, W, 3) uint8 RGB

    """
    canvas = cv2.convertScaleAbs(view.image.pixels, alpha=0.7)
    points = apply(view.camera_from_base @ base_from_lidar, cloud.points)
    pixels, depth_m = project(points, view.model)
    order = np.flatnonzero(is_inside_image(pixels, depth_m, view.model))
    order = order[np.argsort(-depth_m[order])]
    near = np.clip(255 * (1 - np.sqrt(depth_m[order] / max_range_m)), 0, 255).astype(np.int64)
    scale = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_PLASMA)[:, 0, ::-1]
    radius = max(1, round(view.model.width / 1000))
    for (column, row), colour in zip(np.rint(pixels[order]).astype(int), scale[near], strict=True):
        cv2.circle(canvas, (column, row), radius, colour.tolist(), -1, cv2.LINE_AA)
    return canvas
