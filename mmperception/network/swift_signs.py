# SPDX-License-Identifier: Apache-2.0
"""
The sign networks on a CPU: the answers of network/signs.py with less between the layers.

Convolution and ReLU in one pass (swift_conv.py), no module calls, what is doubled is added where
it belongs instead of being written out first, and the image is padded and folded in memory that
is kept; weights are scaled in place of pixels. `test_signs.py` holds both together.
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
        self.from_sixteenth = SwiftConv(detector.from_sixteenth, dtype)
        self.from_eighth = SwiftConv(detector.from_eighth, dtype)
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
        # Its highest bit turned, a byte is the signed difference to grey.
        np.bitwise_xor(pixels, np.uint8(GREY), out=self.inside)
        cv2.merge(self.image, self.words)
        self.folded.copy_(self.differences)
        return self.folded.permute(0, 3, 1, 2)

    def _make(self, shape):
        self.shape = shape
        H, W = (n + -n % COARSEST for n in shape[:2])
        rows, columns = H // STRIDE, W // STRIDE
        whole = np.zeros((H, 3 * W), np.uint8)
        self.inside = whole.reshape(H, W, 3)[: shape[0], : shape[1]]
        # The 12 bytes of 4 pixels of a row stay together, as 3 words: OpenCV moves these fastest.
        words = whole.view(np.int32).reshape(rows, STRIDE, columns, 3)
        self.image = [words[:, row] for row in range(STRIDE)]
        self.words = np.empty((rows, columns, 3 * STRIDE), np.int32)
        self.differences = torch.from_numpy(self.words.view(np.int8))[None]
        self.folded = torch.empty(self.differences.shape, dtype=self.dtype)


class SwiftClassifier:
    """Calls like `signs.SignClassifier`, folded and in its final type and layout."""

    def __init__(self, classifier):
        self.features = chain(classifier.features, classifier.head.weight.dtype)
        self.head = classifier.head

    def __call__(self, crops):
        return self.head(F.avg_pool2d(run_chain(self.features, crops), 2).flatten(1))


def _grown(coarse, fine):
    """Add each value of `coarse` (B, C, h, w) to the four of `fine` (B, C, 2 h, 2 w) below it."""
    B, C, h, w = coarse.shape
    # Pairs of columns lie behind each other in memory (channels last): (B, h, 2, w, 2 C).
    pairs = fine.permute(0, 2, 3, 1).view(B, h, 2, w, 2 * C)
    row = coarse.permute(0, 2, 3, 1).repeat(1, 1, 1, 2)  # (B, h, w, 2 C)
    pairs.add_(row[:, :, None])
    return fine
