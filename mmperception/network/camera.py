# SPDX-License-Identifier: Apache-2.0
"""
Camera branch: a small trunk with a top-down path, features at a quarter of the image.

Runs at reduced resolution (`NetworkConfig.image_width`); what pillars and the camera-only head
read is one map of `feature_channels`. Top-down merging: Lin et al., FPN, CVPR 2017.
"""

from mmperception.network.blocks import conv_block, upsample
from torch import nn


class ImageTrunk(nn.Module):
    """Images (M, 3, h, w) -> features (M, C, h / 4, w / 4); h and w divisible by 16."""

    stride = 4

    def __init__(self, channels, feature_channels):
        super().__init__()
        c1, c2, c3, c4 = channels
        self.stem = conv_block(3, c1, 2)
        self.quarter = nn.Sequential(conv_block(c1, c2, 2), conv_block(c2, c2))
        self.eighth = nn.Sequential(conv_block(c2, c3, 2), conv_block(c3, c3), conv_block(c3, c3))
        self.sixteenth = nn.Sequential(
            conv_block(c3, c4, 2), conv_block(c4, c4), conv_block(c4, c4)
        )
        self.from_sixteenth = nn.Conv2d(c4, c3, 1, bias=False)
        self.from_eighth = nn.Conv2d(c3, c2, 1, bias=False)
        self.merge_eighth = conv_block(c3, c3)
        self.merge_quarter = conv_block(c2, feature_channels)

    def forward(self, images):
        quarter = self.quarter(self.stem(images))
        eighth = self.eighth(quarter)
        sixteenth = self.sixteenth(eighth)
        eighth = self.merge_eighth(eighth + upsample(self.from_sixteenth(sixteenth)))
        return self.merge_quarter(quarter + upsample(self.from_eighth(eighth)))
