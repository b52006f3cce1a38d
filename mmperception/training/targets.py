# SPDX-License-Identifier: Apache-2.0
"""
Targets: what the heads should answer for a scene.

Centre heat as in Objects as Points (Zhou et al., 2019); boxes are also learned on the cells next
to a centre, which triples the signal of few objects. A cell counts only inside the labelled view
and outside of what labels leave open.
"""

from dataclasses import dataclass

from mmperception.geometry import box_corners
from mmperception.network.heads import (
    BOX_CHANNELS,
    CAMERA_CHANNELS,
    FOCAL_PX,
    vertical_focal_px,
)
from mmperception.training.scenes import IGNORED
import numpy as np
import torch

# Fewer LiDAR points than this do not make an object visible: neither hit nor background.
MIN_POINTS = 3
# Spread of the heat, metres: a cell's neighbours may answer for small objects, too.
HEAT_SIGMA_M = (0.55, 0.35, 0.4)
# Height above ground at which cells are tested against the labelled view.
VIEW_HEIGHT_M = 0.8
# In the image: lower ones (pixels of the network's image), and such of which less than this share
# is seen past nearer boxes, are neither hit nor background.
MIN_IMAGE_HEIGHT, MIN_VISIBLE = 7, 0.35


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Targets:
    """
    Targets of one batch.

    `heat` (B, C, Y, X), `mask` (B, C, Y, X) and for each positive cell its sample, row, column
    and box values: `where` (T, 3) int64, `box` (T, 10). The camera's alike, in feature cells.
    """

    heat: torch.Tensor
    mask: torch.Tensor
    where: torch.Tensor
    box: torch.Tensor
    camera_heat: torch.Tensor
    camera_mask: torch.Tensor
    camera_where: torch.Tensor
    camera_box: torch.Tensor

    def to(self, device):
        """Return the same targets on another device."""
        return Targets(**{name: getattr(self, name).to(device) for name in self.__slots__})


def bev_targets(scene, grid, num_classes):
    """
    Return heat (C, Y, X), mask (C, Y, X), cells (T, 2) and values (T, 10) of one scene.

    `grid` is the heads' grid. Box values hold offset, z, log size, doubled heading and direction;
    the last channel (IoU) has no target here: it depends on the prediction.
    """
    heat = np.zeros((num_classes, grid.num_y, grid.num_x), np.float32)
    x = grid.x_min_m + (np.arange(grid.num_x) + 0.5) * grid.cell_m
    y = grid.y_min_m + (np.arange(grid.num_y) + 0.5) * grid.cell_m
    mask = np.broadcast_to(_labelled(scene, x, y), heat.shape).copy()
    cells, values = [np.zeros((0, 2), np.int64)], [np.zeros((0, BOX_CHANNELS), np.float32)]
    for m in range(len(scene.center)):
        cx, cy = scene.center[m, :2]
        rows, columns = _window(scene, m, grid)
        near_x, near_y = x[columns], y[rows]
        inside = np.zeros((grid.num_y, grid.num_x), bool)
        inside[rows, columns] = _footprint(scene, m, near_x, near_y)
        if scene.label[m] == IGNORED or scene.num_points[m] < MIN_POINTS:
            mask[:, inside] = False
            continue
        column, row = (
            np.floor((cx - grid.x_min_m) / grid.cell_m),
            np.floor((cy - grid.y_min_m) / grid.cell_m),
        )
        if not (0 <= column < grid.num_x and 0 <= row < grid.num_y):
            continue
        label = scene.label[m]
        spread = 2 * HEAT_SIGMA_M[label] ** 2
        blob = np.exp(-((near_x[None] - cx) ** 2 + (near_y[:, None] - cy) ** 2) / spread)
        around = heat[label, rows, columns]
        np.maximum(around, blob, out=around)
        heat[label, int(row), int(column)] = 1.0
        near = _neighbours(int(row), int(column), inside)
        cells.append(near)
        values.append(_box_values(scene, m, near, grid))
    return heat, mask, np.concatenate(cells), np.concatenate(values)


def _window(scene, m, grid):
    """Return slices of rows and columns that hold box m and its heat."""
    reach = 0.5 * np.hypot(*scene.size[m, :2]) + 2.0
    low = (scene.center[m, :2] - reach - (grid.x_min_m, grid.y_min_m)) / grid.cell_m
    high = (scene.center[m, :2] + reach - (grid.x_min_m, grid.y_min_m)) / grid.cell_m
    low, high = np.clip(np.floor(low), 0, None).astype(int), np.ceil(high).astype(int) + 1
    return slice(low[1], max(high[1], 0)), slice(low[0], max(high[0], 0))


def _labelled(scene, x, y):
    """Return (Y, X) bool: cells in the labelled view and in no DontCare box."""
    h, w = scene.view_size
    if not h:
        return np.ones((len(y), len(x)), bool)
    ground = np.stack(np.broadcast_arrays(x[None], y[:, None], VIEW_HEIGHT_M, 1.0), axis=-1)
    projected = ground @ scene.pixel_from_base.T
    depth = projected[..., 2]
    u = projected[..., 0] / np.maximum(depth, 0.1)
    v = projected[..., 1] / np.maximum(depth, 0.1)
    mask = (depth > 1.0) & (u > 0) & (u < w)
    for x1, y1, x2, y2 in scene.ignore_2d:
        mask &= ~((u > x1 - 4) & (u < x2 + 4) & (v > y1 - 8) & (v < y2 + 8))
    return mask


def _footprint(scene, m, x, y):
    """Return (Y, X) bool: cells whose centre lies in box m, grown by half a cell."""
    dx, dy = x[None] - scene.center[m, 0], y[:, None] - scene.center[m, 1]
    cos, sin = np.cos(scene.yaw[m]), np.sin(scene.yaw[m])
    half = scene.size[m, :2] / 2 + 0.2
    return (np.abs(cos * dx + sin * dy) < half[0]) & (np.abs(cos * dy - sin * dx) < half[1])


def _neighbours(row, column, inside):
    """Return (T, 2): the centre cell and those of the eight around it inside the box."""
    around = slice(row - 1, row + 2), slice(column - 1, column + 2)
    rows, columns = np.mgrid[around].reshape(2, -1)
    kept = (rows >= 0) & (rows < inside.shape[0]) & (columns >= 0) & (columns < inside.shape[1])
    rows, columns = rows[kept], columns[kept]
    is_near = inside[rows, columns] | ((rows == row) & (columns == column))
    return np.stack((rows[is_near], columns[is_near]), axis=1).astype(np.int64)


def _box_values(scene, m, cells, grid):
    values = np.zeros((len(cells), BOX_CHANNELS), np.float32)
    yaw = scene.yaw[m]
    values[:, 0] = (scene.center[m, 0] - grid.x_min_m) / grid.cell_m - cells[:, 1] - 0.5
    values[:, 1] = (scene.center[m, 1] - grid.y_min_m) / grid.cell_m - cells[:, 0] - 0.5
    values[:, 2] = scene.center[m, 2]
    values[:, 3:6] = np.log(scene.size[m])
    values[:, 6], values[:, 7] = np.sin(2 * yaw), np.cos(2 * yaw)
    values[:, 8] = np.cos(yaw) > 0
    return values


def camera_targets(scene, shape, num_classes):
    """
    Return heat (C, h, w), mask (h, w), cells (T, 2), values (T, 10) in the camera's feature map.

    `shape` is (h, w) of the feature map, a quarter of the image. What is hidden, too small or
    ignored masks what can be seen of it; objects that are not in the image leave no trace.
    """
    h, w = shape
    heat, mask = np.zeros((num_classes, h, w), np.float32), np.ones((h, w), bool)
    cells, values = [np.zeros((0, 2), np.int64)], [np.zeros((0, CAMERA_CHANNELS), np.float32)]
    rows, columns = np.mgrid[:h, :w]
    for x1, y1, x2, y2 in scene.ignore_2d / 4:
        mask &= ~((columns >= x1) & (columns <= x2) & (rows >= y1) & (rows <= y2))
    boxes = list(_image_boxes(scene, 4 * h, 4 * w))
    owner = _owners(boxes, 4 * h, 4 * w)
    for m, (x1, y1, x2, y2, depth) in boxes:
        mine = owner[_pixels(y1, y2), _pixels(x1, x2)] == m
        center = scene.pixel_from_base @ np.append(scene.center[m], 1.0)
        u, v = (center[:2] / center[2] - 1.5) / 4
        column, row = int(round(u)), int(round(v))
        is_out = not (0 <= column < w and 0 <= row < h)
        is_faint = y2 - y1 < MIN_IMAGE_HEIGHT or mine.mean() < MIN_VISIBLE
        if scene.label[m] == IGNORED or scene.num_points[m] < MIN_POINTS or is_out or is_faint:
            mask[owner[2::4, 2::4] == m] = False
            continue
        sigma = np.clip(np.array([x2 - x1, y2 - y1]) / 4 / 6, 0.5, 6.0)
        away = ((columns - u) / sigma[0]) ** 2 + ((rows - v) / sigma[1]) ** 2
        blob = np.exp(-away / 2).astype(np.float32)
        blob[row, column] = 1.0
        np.maximum(heat[scene.label[m]], blob, out=heat[scene.label[m]])
        inside = np.zeros((h, w), bool)
        inside[slice(int(y1) // 4, int(y2) // 4 + 1), slice(int(x1) // 4, int(x2) // 4 + 1)] = True
        near = _neighbours(row, column, inside)
        cells.append(near)
        values.append(_camera_values(scene, m, near, (u, v), (x2 - x1, y2 - y1, depth)))
    return heat, mask, np.concatenate(cells), np.concatenate(values)


def _owners(boxes, h, w):
    """Return (h, w) int: the nearest box at each pixel, -1 for none; `boxes` far ones first."""
    owner = np.full((h, w), -1, np.int64)
    for m, (x1, y1, x2, y2, _) in boxes:
        owner[_pixels(y1, y2), _pixels(x1, x2)] = m
    return owner


def _pixels(low, high):
    return slice(round(low), round(high))


def _camera_values(scene, m, cells, place, extent):
    """
    Return (T, 10) of box m at cells around its `place` (u, v); `extent` w, h, depth.

    What the image shows is told, whatever the scene was turned to: its size before it was scaled,
    and the angle of view as mirrored as the image is beside the scene.
    """
    scale, is_mirrored = _image_beside_scene(scene.pixel_from_base)
    values = np.zeros((len(cells), CAMERA_CHANNELS), np.float32)
    values[:, 0], values[:, 1] = place[0] - cells[:, 1], place[1] - cells[:, 0]
    values[:, 2], values[:, 3] = np.log(extent[0] / 4), np.log(extent[1] / 4)
    focal_px = vertical_focal_px(torch.from_numpy(scene.pixel_from_base)).item()
    values[:, 4] = np.log(extent[2] * FOCAL_PX / focal_px)
    values[:, 5:8] = np.log(scene.size[m] / scale)
    turn = scene.yaw[m] - np.arctan2(scene.center[m, 1], scene.center[m, 0])
    turn = -turn if is_mirrored else turn
    values[:, 8], values[:, 9] = np.sin(2 * turn), np.cos(2 * turn)
    return values


def _image_beside_scene(pixel_from_base):
    """Return the scene's scale beside the image, and whether one of both is mirrored."""
    linear = pixel_from_base[:, :3]
    return 1 / np.linalg.norm(linear[2]), np.linalg.det(linear) < 0


def _image_boxes(scene, h, w):
    """Yield (m, (x1, y1, x2, y2, depth)) for the boxes that the image shows, far ones first."""
    corners = box_corners(scene.center, scene.size, scene.yaw)
    projected = corners @ scene.pixel_from_base[:, :3].T + scene.pixel_from_base[:, 3]
    depth = projected[..., 2]
    for m in np.argsort(-depth.mean(1)):
        if depth[m].min() < 0.5:
            continue
        u, v = (projected[m, :, :2] / depth[m, :, None]).T
        x1, x2 = np.clip((u.min(), u.max()), 0, w - 1)
        y1, y2 = np.clip((v.min(), v.max()), 0, h - 1)
        if x2 - x1 > 2 and y2 - y1 > 2:
            yield m, (x1, y1, x2, y2, float(depth[m].mean()))


def stack_targets(scenes, grid, image_shape, config):
    """
    Make the targets of a batch.

    Parameters
    ----------
    scenes : sequence of Scene
        Augmented; a scene without pixels gives no camera target.
    grid : BevGrid
        The pillar window; heads answer on `grid.coarser(2)`.
    image_shape : (h, w)
        Of the batch's images; (0, 0) without any.
    config : NetworkConfig
        Its classes are the channels of the heat.

    Returns
    -------
    Targets

    """
    C, (h, w) = len(config.classes), (image_shape[0] // 4, image_shape[1] // 4)
    bev = [bev_targets(scene, grid.coarser(2), C) for scene in scenes]
    nothing = (
        np.zeros((C, h, w), np.float32),
        np.zeros((h, w), bool),
        np.zeros((0, 2), np.int64),
        np.zeros((0, CAMERA_CHANNELS), np.float32),
    )
    camera = [camera_targets(s, (h, w), C) if s.pixels.size else nothing for s in scenes]
    return Targets(
        heat=torch.from_numpy(np.stack([b[0] for b in bev])),
        mask=torch.from_numpy(np.stack([b[1] for b in bev])),
        where=_where(bev),
        box=torch.from_numpy(np.concatenate([b[3] for b in bev])),
        camera_heat=torch.from_numpy(np.stack([c[0] for c in camera])),
        camera_mask=torch.from_numpy(np.stack([c[1] for c in camera])),
        camera_where=_where(camera),
        camera_box=torch.from_numpy(np.concatenate([c[3] for c in camera])),
    )


def _where(parts):
    """Return (T, 3) int64: sample, row, column of every positive cell."""
    rows = [
        np.concatenate((np.full((len(p[2]), 1), b, np.int64), p[2]), axis=1)
        for b, p in enumerate(parts)
    ]
    return torch.from_numpy(np.concatenate(rows).astype(np.int64))
