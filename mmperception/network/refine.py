# SPDX-License-Identifier: Apache-2.0
"""
Second stage: a box is looked at again, point by point, in its own axes.

The maps of the first stage see pillars of 0.2 m; where a side of a car is, and how it is turned,
stands in the points themselves. For each proposed box the points in and around it go through a
small PointNet (Qi et al., CVPR 2017) that moves the box and says how well it then fits. Points
carry their distances to the faces of the box, so that its size is seen as well (Li et al., LiDAR
R-CNN, CVPR 2021). It costs nothing on empty ground and trains on crops, thousands a second.
"""

import numpy as np
import torch
from torch import nn

MAX_POINTS = 256
# Boxes go through the layers with others of about their number of points: few are repeated.
CROP_POINTS = (16, 64, 128, MAX_POINTS)
# So many points go through the layers together: their features fit into the cache of a core.
CACHED_POINTS = 2048
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
        # The maximum with its index has the cheaper gradient, the one without is cheaper itself.
        if torch.is_grad_enabled():
            seen = self.points(point_features(points, size)).max(1).values  # (M, C)
        else:
            seen = self._maximum(points, size)
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

    def _maximum(self, points, size):
        """
        Return what training takes from `self.points`, without making the point features.

        These are linear in the place and the size, so that the layer's columns for place and
        faces are added up first. A few boxes at a time, so that they stay in the cache.
        """
        first, second, third = self.points[0], self.points[2], self.points[4]
        place, to_front, to_back = first.weight.split(3, dim=1)
        of_place = place - to_front + to_back
        of_size = nn.functional.linear(size / 2, to_front + to_back, first.bias)  # (M, C)
        number = max(1, CACHED_POINTS // points.shape[1])
        found = []
        for part, bias in zip(points.split(number), of_size.split(number), strict=True):
            hidden = nn.functional.linear(part, of_place).add_(bias[:, None]).relu_()
            hidden = nn.functional.linear(hidden, second.weight, second.bias).relu_()
            found.append(nn.functional.linear(hidden, third.weight).amax(1))
        return torch.cat(found).add_(third.bias)


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
    fewest = MIN_POINTS
    for number in CROP_POINTS:
        rows = np.flatnonzero((count >= fewest) & ((count <= number) | (number == MAX_POINTS)))
        fewest = number + 1
        if not len(rows):
            continue
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
    point, owner = _points_around(batch, b, center, size, yaw)
    half = size / 2 + np.float32((MARGIN_M, MARGIN_M, MARGIN_Z_M))
    local = _in_axes_of_owners(batch, point, owner, center, yaw)
    is_inside = np.ones(len(owner), bool)
    for axis in range(3):
        is_inside &= np.abs(local[axis]) < np.take(half[:, axis], owner)
    inside = np.flatnonzero(is_inside)
    point, owner, local = point[inside], owner[inside], local[:, inside].T
    lot = lots(len(batch.point_index))[batch.point_index.numpy()[point]]
    count = np.bincount(owner, minlength=len(center))
    begin = np.cumsum(count) - count
    # Of few points some come again; rows of boxes without any are zeroed at the end.
    taken = begin[:, None] + np.arange(MAX_POINTS) % np.maximum(count, 1)[:, None]
    for m in np.flatnonzero(count > MAX_POINTS):
        taken[m] = begin[m] + chosen(lot[slice(begin[m], begin[m] + count[m])], MAX_POINTS)
    points = np.zeros((len(center), MAX_POINTS, 3), np.float32)
    points[count > 0] = local[taken[count > 0]]
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


def _in_axes_of_owners(batch, point, owner, center, yaw):
    """Return points (3, K) in the axes of the box that owns each."""
    described = np.take(batch.point_features.numpy(), point, axis=0)
    pillar = np.take(batch.point_pillar.numpy(), point)
    mean = batch.pillar_mean.numpy()
    x, y, z = (
        described[:, 3 + axis] + np.take(mean[:, axis], pillar) - np.take(center[:, axis], owner)
        for axis in range(3)
    )
    cos, sin = np.take(np.cos(yaw), owner), np.take(np.sin(yaw), owner)
    return np.stack((x * cos + y * sin, y * cos - x * sin, z))


def _points_around(batch, b, center, size, yaw):
    """
    Return the points (K,) in the pillars that each grown box touches, and the box (K,) of each.

    Pillars are sorted by row and column, and points by pillar: what a box touches in one row of
    the grid is one run of points.
    """
    grid = batch.grid
    half = size[:, :2] / 2 + np.float32(MARGIN_M)
    cos, sin = np.cos(yaw), np.sin(yaw)
    reach = np.abs(sin) * half[:, 0] + np.abs(cos) * half[:, 1]
    low, high = _cells(
        center[:, 1] - reach, center[:, 1] + reach, (grid.y_min_m, grid.cell_m, grid.num_y)
    )
    row, box = _runs(low, high)
    # From the middle of the box to both edges of the row.
    below = grid.y_min_m + row * grid.cell_m - center[box, 1]
    edges = _span(half[box].T, cos[box], sin[box], below, below + grid.cell_m)
    left, right = _cells(
        center[box, 0] + edges[0], center[box, 0] + edges[1],
        (grid.x_min_m, grid.cell_m, grid.num_x),
    )  # fmt: skip
    first = (b * grid.num_y + row) * grid.num_x
    pillar_cell, point_pillar = batch.pillar_cell.numpy(), batch.point_pillar.numpy()
    begin = np.searchsorted(pillar_cell, first + left)
    end = np.searchsorted(pillar_cell, first + right)
    point, run = _runs(np.searchsorted(point_pillar, begin), np.searchsorted(point_pillar, end))
    return point, box[run]


def _span(half, cos, sin, below, above):
    """Return least and greatest x of turned boxes (half length and width) between two y."""
    spans = []
    for extent, c, s in ((half[0], cos, sin), (half[1], -sin, cos)):
        # abs(c x + s y) <= extent, for the y of the band that leaves the most room.
        c = np.where(np.abs(c) < 1e-6, 1e-6, c)
        ends = np.stack([(sign * extent - s * y) / c for sign in (-1, 1) for y in (below, above)])
        spans.append((ends.min(0), ends.max(0)))
    return np.maximum(spans[0][0], spans[1][0]), np.minimum(spans[0][1], spans[1][1])


def _cells(low, high, axis):
    """Return the first cell and the one after the last of intervals, inside the grid."""
    low_m, cell_m, number = axis
    begin = np.clip(np.floor((low - low_m) / cell_m), 0, number).astype(np.int64)
    end = np.clip(np.ceil((high - low_m) / cell_m), 0, number).astype(np.int64)
    return begin, np.maximum(begin, end)


def _runs(begin, end):
    """Return the numbers of all runs begin..end - 1, one after another, and the run of each."""
    length = end - begin
    run = np.repeat(np.arange(len(length)), length)
    return np.arange(len(run)) - (np.cumsum(length) - length - begin)[run], run
