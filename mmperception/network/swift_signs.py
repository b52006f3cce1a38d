# SPDX-License-Identifier: Apache-2.0
"""
The sign networks on a CPU: the answers of network/signs.py with less between the layers.

Convolution and ReLU in one pass (swift_conv.py), no module calls, what is doubled is added where
it belongs instead of being written out first, and the image is padded and folded in memory that
is kept; weights are scaled in place of pixels. `test_swift_signs.py` holds both together.
"""

import cv2
from mmperception.network.signs import COARSEST, STRIDE
from mmperception.network.swift_conv import chain, run_chain, SwiftConv
import numpy as np
import torch
import torch.nn.functional as F

GREY = 128  # what a pixel is counted from, and what stands beyond the image
SCALE = 1 / 64  # of `signs.scale_pixels`; a power of two, so no weight loses a digit by it


class SwiftDetector:
    """`signs.SignDetector` on an image; the detector is folded, in its final type and layout."""

    def __init__(self, detector):
        dtype = detector.head.weight.dtype
        self.fold = _Fold(dtype)
        parts = ('quarter', 'eighth', 'sixteenth', 'merge_eighth', 'merge_quarter')
        self.layers = {name: chain(getattr(detector, name), dtype) for name in parts}
        self.layers['quarter'][0].weight = self.layers['quarter'][0].weight * SCALE
        self.from_sixteenth = _twice(detector.from_sixteenth, dtype)
        self.from_eighth = _twice(detector.from_eighth, dtype)
        self.head = SwiftConv(detector.head, dtype)

    def __call__(self, pixels):
        """Return heat and boxes, as the network does, of an image (H, W, 3) uint8."""
        layers = self.layers
        quarter = run_chain(layers['quarter'], self.fold(pixels))
        eighth = run_chain(layers['eighth'], quarter)
        sixteenth = run_chain(layers['sixteenth'], eighth)
        eighth = run_chain(layers['merge_eighth'], _grown(self.from_sixteenth(sixteenth), eighth))
        quarter = run_chain(layers['merge_quarter'], _grown(self.from_eighth(eighth), quarter))
        out = self.head(quarter)
        return out[:, :1], out[:, 1:]


class _Fold:
    """Pads an image with grey and folds it, as `signs.fold_pixels` does, but does not scale."""

    def __init__(self, dtype):
        self.dtype, self.shape = dtype, None

    def __call__(self, pixels):
        """Return (1, 48, h / 4, w / 4) of any image (H, W, 3) uint8; holds until the next call."""
        if pixels.shape != self.shape:
            self._make(pixels.shape)
        pixels = torch.from_numpy(np.require(pixels, requirements='CW'))
        # Its highest bit turned, a byte is the signed difference to grey.
        torch.bitwise_xor(pixels, GREY, out=self.inside)
        cv2.merge(self.image, self.words)
        self.folded.copy_(self.differences)
        return self.folded.permute(0, 3, 1, 2)

    def _make(self, shape):
        self.shape = shape
        H, W = (n + -n % COARSEST for n in shape[:2])
        rows, columns = H // STRIDE, W // STRIDE
        whole = np.zeros((H, 3 * W), np.uint8)
        self.inside = torch.from_numpy(whole.reshape(H, W, 3)[: shape[0], : shape[1]])
        # The 12 bytes of 4 pixels of a row stay together, as 3 words: OpenCV moves these fastest.
        words = whole.view(np.int32).reshape(rows, STRIDE, columns, 3)
        self.image = [words[:, row] for row in range(STRIDE)]
        self.words = np.empty((rows, columns, 3 * STRIDE), np.int32)
        self.differences = torch.from_numpy(self.words.view(np.int8))[None]
        self.folded = torch.empty(self.differences.shape, dtype=self.dtype)


class SwiftClassifier:
    """`signs.SignClassifier` on crops; the classifier is folded, in its final type and layout."""

    def __init__(self, classifier):
        self.dtype, self.head = classifier.head.weight.dtype, classifier.head
        self.features = chain(classifier.features, self.dtype)
        self.features[0].weight = self.features[0].weight * SCALE

    def __call__(self, crops):
        """Return logits of crops (N, 48, 48, 3) uint8."""
        differences = torch.from_numpy((crops ^ np.uint8(GREY)).view(np.int8))
        features = run_chain(self.features, differences.to(self.dtype).permute(0, 3, 1, 2))
        return self.head(F.avg_pool2d(features, 2).flatten(1))


def _twice(conv, dtype):
    """Return a convolution whose answer has all channels twice: what `_grown` adds to pairs."""
    swift = SwiftConv(conv, dtype)
    swift.weight = torch.cat((swift.weight, swift.weight))
    swift.bias = torch.cat((swift.bias, swift.bias))
    return swift


def _grown(coarse, fine):
    """
    Add what a coarse map says to the four places of a finer one below each of its own.

    Parameters
    ----------
    coarse : (B, 2 C, h, w)
        Its channels stand there twice, as `_twice` gives them.
    fine : (B, C, 2 h, 2 w)
        Is changed.

    Returns
    -------
    fine : the same tensor

    """
    B, both, h, w = coarse.shape
    # Pairs of columns lie behind each other in memory (channels last): (B, h, 2, w, 2 C).
    pairs = fine.permute(0, 2, 3, 1).view(B, h, 2, w, both)
    pairs.add_(coarse.permute(0, 2, 3, 1)[:, :, None])
    return fine
