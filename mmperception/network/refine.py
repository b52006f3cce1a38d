# SPDX-License-Identifier: Apache-2.0
"""
Second stage: a box is looked at again, point by point, in its own axes.

The maps of the first stage see pillars of 0.2 m; where a side of a car is, and how it is turned,
stands in the points themselves. For each proposed box the points in and around it go through a
small PointNet (Qi et al., CVPR 2017) that moves the box and says how well it then fits. Points
carry their distances to the faces of the box, so that its size is seen as well (Li et al., LiDAR
R-CNN, CVPR 2021). It costs nothing on empty ground and trains on crops, thousands a second.
"""

import cv2
import numpy as np
import torch
from torch import nn

MAX_POINTS = 256
# Half of all boxes have no more points than this: those go through the layers without repetition.
FEW_POINTS = 64
# How far around the proposed box points are looked at: along and across, and up and down.
MARGIN_M, MARGIN_Z_M = 0.8, 0.5
# Boxes with fewer points are left as they are: there is nothing to be seen.
MIN_POINTS = 3
# Most boxes that are looked at again, strongest first: a full street has dozens of objects.
MAX_BOXES = 80
NUM_FEATURES, RANGE_SCALE_M = 9, 50.0


class BoxRefiner(nn.Module):
    """
    Points around boxes -> corrections of the boxes and their quality.

    Corrections (M, 7): centre x y z (m) in the axes of the box, log length width height, turn
    (rad); quality (M,): logit of how well the corrected box fits.
    """

    def __init__(self, num_classes, width=64):
        super().__init__()
        self.points = nn.Sequential(
            nn.Linear(NUM_FEATURES, width // 2),
            nn.ReLU(),
            nn.Linear(width // 2, width),
            nn.ReLU(),
            nn.Linear(width, 3 * width),
        )
        self.box = nn.Sequential(
            nn.Linear(3 * width + 7 + num_classes, 256),
            nn.LayerNorm(256),
            nn.ReLU(),
            nn.Linear(256, 128),
            nn.ReLU(),
        )
        self.change = nn.Linear(128, 7)
        self.quality = nn.Linear(128, 1)
        self.num_classes = num_classes
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)

    def forward(self, points, count, center, size, yaw, label):
        """
        Look at boxes again.

        Parameters
        ----------
        points : (M, MAX_POINTS, 3) float32
            In the axes of each box, from its centre; fewer points are repeated.
        count : (M,) float32
            How many there really are.
        center : (M, 3) float32
            Of the boxes, base_link metres.
        size : (M, 3) float32
            Length, width, height.
        yaw : (M,) float32
            Heading, radians.
        label : (M,) int64
            Class.

        Returns
        -------
        change : (M, 7), quality : (M,)

        """
        seen = self.points(point_features(points, size))  # (M, K, C)
        # The maximum with its index has the cheaper gradient, the one without is cheaper itself.
        seen = seen.max(1).values if torch.is_grad_enabled() else seen.amax(1)  # (M, C)
        # From where the sensor looks, in the axes of the box: tells which sides can be seen.
        bearing = torch.atan2(center[:, 1], center[:, 0]) - yaw
        about = torch.stack(
            (
                torch.cos(bearing),
                torch.sin(bearing),
                torch.hypot(center[:, 0], center[:, 1]) / RANGE_SCALE_M,
                torch.log1p(count) / 5.0,
            ),
            dim=1,
        )
        kind = nn.functional.one_hot(label, self.num_classes).to(points.dtype)
        found = self.box(torch.cat((torch.relu(seen), size.log(), about, kind), dim=1))
        return self.change(found), self.quality(found)[:, 0]


def point_features(points, size):
    """Return (M, K, 9): place in the axes of the box and distance to its six faces, metres."""
    half = size[:, None] / 2
    return torch.cat((points, half - points, half + points), dim=2)


def changed_boxes(change, center, size, yaw):
    """Return centre, size and yaw after the corrections (M, 7)."""
    cos, sin = torch.cos(yaw), torch.sin(yaw)
    dx, dy, dz = change[:, :3].T
    moved = center + torch.stack((cos * dx - sin * dy, sin * dx + cos * dy, dz), dim=1)
    return moved, size * change[:, 3:6].clamp(-1.0, 1.0).exp(), yaw + change[:, 6]


@torch.inference_mode()
def refine_boxes(refiner, batch, b, boxes, limit=MAX_BOXES):
    """
    Correct the decoded boxes of one sample.

    Parameters
    ----------
    refiner : BoxRefiner
        In evaluation mode, on the CPU.
    batch : Batch
        On the CPU; its points are looked at.
    b : int
        Sample.
    boxes : dict of ndarray
        As `decode.decode_boxes` gives them, best first.
    limit : int
        Look at so many of the best only, and never at more than `MAX_BOXES`.

    Returns
    -------
    boxes : dict of ndarray
        `center`, `size` and `yaw` replaced.
    quality : (N,) float32
        0..1, how well each fits; NaN where there was nothing to look at.

    """
    quality = np.full(len(boxes['score']), np.nan, np.float32)
    limit = min(limit, MAX_BOXES)
    best = {name: boxes[name][:limit] for name in ('center', 'size', 'yaw', 'label')}
    points, count = crop_points(batch, b, best['center'], best['size'], best['yaw'])
    refined = {name: boxes[name].copy() for name in ('center', 'size', 'yaw')}
    is_few = count <= FEW_POINTS
    for rows, number in ((is_few, FEW_POINTS), (~is_few, MAX_POINTS)):
        rows = np.flatnonzero(rows & (count >= MIN_POINTS))
        inputs = [torch.from_numpy(value[rows]) for value in best.values()]
        counts = torch.from_numpy(count[rows].astype(np.float32))
        change, logit = refiner(torch.from_numpy(points[rows, :number]), counts, *inputs)
        for name, value in zip(refined, changed_boxes(change, *inputs[:3]), strict=True):
            refined[name][rows] = value.numpy()
        quality[rows] = torch.sigmoid(logit).numpy()
    return {**boxes, **refined}, quality


def crop_points(batch, b, center, size, yaw):
    """
    Gather the points in and around boxes, in the axes of each.

    Returns
    -------
    points : (M, MAX_POINTS, 3) float32
        Fewer are repeated, of more the lot takes some; zero where there are none.
    count : (M,) int64
        Points that there are.

    """
    M = len(center)
    points, count = np.zeros((M, MAX_POINTS, 3), np.float32), np.zeros(M, np.int64)
    near, lot = _points_near(batch, b, center, size, yaw)
    # In order of x each box has to look at a slice only.
    order = np.argsort(near[:, 0])
    near, lot = near[order], lot[order]
    half = size / 2 + np.float32((MARGIN_M, MARGIN_M, MARGIN_Z_M))
    reach = np.hypot(half[:, 0], half[:, 1])
    begin = np.searchsorted(near[:, 0], center[:, 0] - reach)
    end = np.searchsorted(near[:, 0], center[:, 0] + reach)
    for m in range(M):
        beside = np.abs(near[slice(begin[m], end[m]), 1] - center[m, 1]) < reach[m]
        around = begin[m] + np.flatnonzero(beside)
        x, y, z = np.abs(local := in_box_axes(near[around], center[m], yaw[m])).T
        inside = np.flatnonzero((x < half[m, 0]) & (y < half[m, 1]) & (z < half[m, 2]))
        count[m] = len(inside)
        if len(inside):
            points[m] = local[inside[chosen(lot[around][inside], MAX_POINTS)]]
    return points, count


def in_box_axes(points, center, yaw):
    """Return points (N, 3) from the centre of a box, along its length, width and height."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], np.float32)
    return (points - center) @ turn


def lots(number):
    """
    Return a lot for each of `number` points: who is taken when there are too many.

    By lot and not every n-th: then a point more or less at the rim of a box changes one point of
    the crop, not all of them, and nearly equal boxes see nearly the same.
    """
    return np.arange(number, dtype=np.uint32) * np.uint32(2654435761)  # Knuth's hash


def chosen(lot, wanted):
    """Return `wanted` rows: those of the lowest lots, or all and some of them again."""
    number = len(lot)
    if number <= wanted:
        return np.arange(wanted) % number
    return np.argpartition(lot, wanted)[:wanted]


def _points_near(batch, b, center, size, yaw):
    """Return (N, 3) float32 points in the pillars that the grown boxes touch, and their lots."""
    grid = batch.grid
    outlines = np.zeros((grid.num_y, grid.num_x), np.uint8)
    corner = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) / 2
    for m in range(len(center)):
        cos, sin = np.cos(yaw[m]), np.sin(yaw[m])
        along = corner * (size[m, :2] + 2 * (MARGIN_M + grid.cell_m))
        xy = center[m, :2] + along @ np.array([[cos, sin], [-sin, cos]])
        cell = (xy - (grid.x_min_m, grid.y_min_m)) / grid.cell_m
        cv2.fillConvexPoly(outlines, np.floor(cell).astype(np.int32), 1)
    # Pillars are ordered by sample, so those of one sample are a run.
    per_sample = grid.num_y * grid.num_x
    begin, end = torch.searchsorted(
        batch.pillar_cell, torch.tensor([b * per_sample, (b + 1) * per_sample])
    ).tolist()
    is_near = torch.zeros(len(batch.pillar_cell), dtype=torch.bool)
    cells = batch.pillar_cell[begin:end] - b * per_sample
    is_near[begin:end] = torch.from_numpy(outlines).flatten()[cells] > 0
    row = torch.nonzero(is_near[batch.point_pillar])[:, 0]
    points = batch.point_features[row, 3:6] + batch.pillar_mean[batch.point_pillar[row]]
    return points.numpy(), lots(len(batch.point_pillar))[row.numpy()]
