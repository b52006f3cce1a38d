# SPDX-License-Identifier: Apache-2.0
"""
Motion token: how the robot moves, from GPS and ego-motion, as one feature vector.

Speed and yaw rate only, never position: a network that saw positions would learn places.
"""

import torch
from torch import nn


class MotionEncoder(nn.Module):
    """Motion (B, 3) -> token (B, C); a learned token stands for unknown motion."""

    def __init__(self, channels):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, channels), nn.ReLU(), nn.Linear(channels, channels)
        )
        self.unknown = nn.Parameter(torch.zeros(channels))

    def forward(self, motion):
        is_known = motion[:, 2:3] > 0
        return torch.where(is_known, self.layers(motion[:, :2]), self.unknown)
