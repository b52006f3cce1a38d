# SPDX-License-Identifier: Apache-2.0
"""
The two networks of traffic signs: one finds them in the whole image, one reads a crop.

The detector folds 4x4 pixels into channels, so that nothing runs at full resolution, and answers
at a quarter of the image with centre heat and a box (Zhou et al., Objects as Points, 2019); its
top-down path is that of Lin et al., FPN, CVPR 2017. Both have weights of their own.
"""

from dataclasses import asdict, dataclass, fields

from mmperception.network.blocks import conv_block
from mmperception.sign_classes import NUM_SIGN_CLASSES
import torch
from torch import nn
import torch.nn.functional as F

STRIDE, COARSEST = 4, 16
CROP_PX = 48
DETECTOR, CLASSIFIER = 'sign_detector', 'sign_classifier'
# The class after the last one: a sign outside of the table, or none at all.
REJECT = NUM_SIGN_CLASSES
NUM_OUTPUTS = NUM_SIGN_CLASSES + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SignNetworkConfig:
    """
    Shape of one sign network, stored in its weights file.

    Attributes
    ----------
    kind : str
        `sign_detector` or `sign_classifier`.
    channels : tuple of int
        At a quarter, an eighth and a sixteenth of the detector's image; of the classifier's crop
        at 48, 24, 12 and 6 px.

    """

    kind: str = DETECTOR
    channels: tuple[int, ...] = (48, 64, 96)

    def __post_init__(self):
        wanted = {DETECTOR: 3, CLASSIFIER: 4}
        if self.kind not in wanted:
            raise ValueError(f'kind: {self.kind!r} is none of {", ".join(wanted)}')
        if len(self.channels) != wanted[self.kind]:
            raise ValueError(f'channels: a {self.kind} has {wanted[self.kind]} widths')

    def to_mapping(self):
        """Return plain values, as stored in a weights file."""
        return {**asdict(self), 'channels': list(self.channels)}

    @classmethod
    def from_mapping(cls, values):
        """Rebuild from `to_mapping`; ValueError names a key this version does not know."""
        if unknown := sorted(set(values) - {f.name for f in fields(cls)}):
            raise ValueError(f'weights: unknown sign network setting {unknown[0]}')
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def default_config(kind):
    """Return the shipped shape of a kind."""
    return SignNetworkConfig(
        kind=kind, channels=(48, 64, 96) if kind == DETECTOR else (32, 48, 96, 128)
    )


def build_sign_network(config):
    """Return an untrained network of this shape."""
    return SignDetector(config) if config.kind == DETECTOR else SignClassifier(config)


class SignDetector(nn.Module):
    """
    Folded images (B, 48, h, w) -> heat (B, 1, h, w) as logits and boxes (B, 4, h, w).

    `fold_pixels` makes the input; h and w are divisible by 4. Boxes: centre minus that of the
    cell, in cells, and logarithm of width and height in cells.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        c1, c2, c3 = config.channels
        self.quarter = nn.Sequential(conv_block(3 * STRIDE**2, c1), conv_block(c1, c1))
        self.eighth = nn.Sequential(conv_block(c1, c2, 2), conv_block(c2, c2), conv_block(c2, c2))
        self.sixteenth = nn.Sequential(
            conv_block(c2, c3, 2), *[conv_block(c3, c3) for _ in range(3)]
        )
        self.from_sixteenth = nn.Conv2d(c3, c2, 1)
        self.from_eighth = nn.Conv2d(c2, c1, 1)
        self.merge_eighth = conv_block(c2, c2)
        self.merge_quarter = conv_block(c1, c1)
        self.head = nn.Conv2d(c1, 5, 1)
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            self.head.bias.copy_(torch.tensor([-4.5, 0.0, 0.0, 2.0, 2.0]))

    def forward(self, folded):
        quarter = self.quarter(folded)
        eighth = self.eighth(quarter)
        sixteenth = self.sixteenth(eighth)
        eighth = self.merge_eighth(_double(self.from_sixteenth(sixteenth)).add_(eighth))
        out = self.head(self.merge_quarter(_double(self.from_eighth(eighth)).add_(quarter)))
        return out[:, :1], out[:, 1:]


def _double(features):
    return F.interpolate(features, scale_factor=2, mode='nearest')


class SignClassifier(nn.Module):
    """Crops (B, 3, 48, 48), scaled by `scale_pixels`, -> logits of 43 classes and the reject."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        c1, c2, c3, c4 = config.channels
        self.features = nn.Sequential(
            conv_block(3, c1),
            conv_block(c1, c1, 2),
            conv_block(c1, c2),
            conv_block(c2, c3, 2),
            conv_block(c3, c3),
            conv_block(c3, c4, 2),
            conv_block(c4, c4),
        )
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(9 * c4, NUM_OUTPUTS)

    def forward(self, crops):
        features = F.avg_pool2d(self.features(crops), 2)  # (B, C, 3, 3)
        return self.head(self.dropout(features.flatten(1)))


def scale_pixels(pixels, dtype=torch.float32):
    """Map 0..255 to about -2..2; exact in bfloat16 too."""
    return pixels.to(dtype).mul_(1 / 64).sub_(2)


def fold_pixels(images, dtype=torch.float32):
    """
    Fold 4x4 pixels into channels.

    Parameters
    ----------
    images : (B, H, W, 3) uint8
        H and W divisible by 16.
    dtype : torch.dtype
        Of the result.

    Returns
    -------
    folded : (B, 48, H / 4, W / 4) of `dtype`
        Scaled; channels last in memory.

    """
    B, H, W, _ = images.shape
    # The 12 bytes of 4 pixels of a row stay together: as 3 words they are moved thrice as fast.
    words = images.reshape(B, H, 3 * W).view(torch.int32)
    words = words.view(B, H // STRIDE, STRIDE, W // STRIDE, 3).permute(0, 1, 3, 2, 4)
    cells = words.contiguous().view(torch.uint8).view(B, H // STRIDE, W // STRIDE, 3 * STRIDE**2)
    return scale_pixels(cells, dtype).permute(0, 3, 1, 2)
