# SPDX-License-Identifier: Apache-2.0
"""
Second stage: a box is looked at again, point by point, in its own axes.

The maps of the first stage see pillars of 0.2 m; where a side of a car is, and how it is turned,
stands in the points themselves. For each proposed box the points in and around it go through a
small PointNet (Qi et al., CVPR 2017) that moves the box and says how well it then fits. Points
carry their distances to the faces of the box, so that its size is seen as well (Li et al., LiDAR
R-CNN, CVPR 2021). It costs nothing on empty ground and trains on crops, thousands a second.
"""

import torch
from torch import nn

# Boxes with fewer points are left as they are: there is nothing to be seen.
MIN_POINTS = 3
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
        return self.judge(self.see(points, size), count, center, size, yaw, label)

    def see(self, points, size):
        """Return what is seen in each crop (M, C), before the last ReLU."""
        return self.points(point_features(points, size)).max(1).values

    def judge(self, seen, count, center, size, yaw, label):
        """Return what `forward` does, of what `see` gave."""
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
        kind = nn.functional.one_hot(label, self.num_classes).to(seen.dtype)
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
