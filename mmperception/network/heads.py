# SPDX-License-Identifier: Apache-2.0
"""
Heads: features -> heat maps and boxes, as raw maps; `decode.py` turns them into detections.

Centre heat maps: Zhou et al., Objects as Points, 2019, in bird's-eye view as in CenterPoint
(Yin et al., CVPR 2021). Boxes come from LiDAR features alone, the class from the fused ones as a
residual on the heat that starts at zero: images move classes, never box edges (DAL, ECCV 2024).
"""

from dataclasses import dataclass

from mmperception.network.blocks import conv_block, upsample
import torch
from torch import nn

# Channels of the box map: offset x y (cells), z (m), log length width height, sine and cosine of
# twice the heading, logit of "heading within +-90 degrees", logit of the box's own IoU.
BOX_CHANNELS = 10
# Channels of the camera box map: centre offset column row (cells), log width height (cells) of the
# image box, log depth (m), log length width height, sine and cosine of twice the angle of view.
CAMERA_CHANNELS = 10
# Heat starts at this probability, so that the first steps are not spent on empty cells.
HEAT_PRIOR_LOGIT = -4.6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Heads:
    """
    Raw network output.

    `heat_lidar`, `heat_fused` (B, classes, Y, X) logits and `box` (B, 10, Y, X) on the coarse
    grid; `camera_heat` (B, K, classes, h, w) and `camera_box` (B, K, 10, h, w) at a quarter of
    the network's image.
    """

    heat_lidar: torch.Tensor
    heat_fused: torch.Tensor
    box: torch.Tensor
    camera_heat: torch.Tensor
    camera_box: torch.Tensor


def _output(channels_in, channels_out):
    return nn.Sequential(
        conv_block(channels_in, channels_in), nn.Conv2d(channels_in, channels_out, 1)
    )


class BevHead(nn.Module):
    """
    LiDAR features and camera evidence on the coarse grid -> heat and boxes.

    Evidence sits where points are, on the hull of an object, but the heat belongs to its middle:
    the join works at half the resolution, so that it reaches two metres.
    """

    def __init__(self, channels, evidence_channels, num_classes):
        super().__init__()
        self.heat = _output(channels, num_classes)
        self.box = _output(channels, BOX_CHANNELS)
        self.join = nn.Sequential(
            conv_block(channels + evidence_channels, channels, 2), conv_block(channels, channels)
        )
        self.residual = nn.Conv2d(channels, num_classes, 1)
        nn.init.constant_(self.heat[-1].bias, HEAT_PRIOR_LOGIT)
        nn.init.zeros_(self.residual.weight)
        nn.init.zeros_(self.residual.bias)

    def forward(self, bev, evidence, has_evidence):
        """`has_evidence` (B,) bool: without any camera the fused heat is the LiDAR's, exactly."""
        heat = self.heat(bev)
        joined = self.join(torch.cat((bev, evidence), dim=1))
        residual = upsample(self.residual(joined))
        fused = heat + residual * has_evidence[:, None, None, None]
        return heat, fused, self.box(bev)


class CameraHead(nn.Module):
    """Image features -> objects in the image, with depth: what is left without LiDAR."""

    def __init__(self, channels, num_classes):
        super().__init__()
        self.heat = _output(channels, num_classes)
        self.box = _output(channels, CAMERA_CHANNELS)
        nn.init.constant_(self.heat[-1].bias, HEAT_PRIOR_LOGIT)

    def forward(self, features):
        return self.heat(features), self.box(features)
