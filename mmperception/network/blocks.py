# SPDX-License-Identifier: Apache-2.0
"""
Building blocks that the camera branch, the LiDAR branch and the heads share.

The order conv, norm, ReLU is what `model.fold_batch_norm` looks for.
"""

from torch import nn
import torch.nn.functional as F


def conv_block(channels_in, channels_out, stride=1):
    """3x3 convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
        nn.BatchNorm2d(channels_out, eps=1e-3, momentum=0.05),
        nn.ReLU(inplace=True),
    )


def upsample(features):
    """Double rows and columns, bilinear."""
    return F.interpolate(features, scale_factor=2, mode='bilinear', align_corners=False)
