# SPDX-License-Identifier: Apache-2.0
"""
Signs in one image: find them, cut them out, read them.

    pixels -> detector (heat and boxes) -> crops of 48x48 -> classifier -> SignDetections

Both networks are those of network/signs.py; sign_calibration.py puts right what they are known
to be wrong about. What becomes of the signs of successive images is
the business of sign_tracking.py.
"""

from dataclasses import dataclass
import math

import cv2
from mmperception.devices import has_bfloat16
from mmperception.network.model import fold_conv_norms
from mmperception.network.signs import (
    COARSEST,
    CROP_PX,
    fold_pixels,
    REJECT,
    scale_pixels,
    STRIDE,
)
from mmperception.network.swift_signs import SwiftClassifier, SwiftDetector
from mmperception.sign_calibration import fitted_boxes, SHIPPED_CALIBRATION, trust_of
from mmperception.sign_classes import UNREAD
import numpy as np
import torch

# A crop shows the sign and this share of its size on every side, like those of GTSRB.
CROP_MARGIN = 0.1
# Below this a peak is noise; what is published has a threshold of its own.
MIN_SCORE = 0.01
MAX_SIGNS = 128
SAME_SIGN_IOU = 0.4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SignDetections:
    """
    Signs of one image, best first.

    Attributes
    ----------
    boxes : (N, 4) float32
        x1, y1, x2, y2, pixels.
    score : (N,) float32
        That it is a sign of the table: P(sign) (1 - P(reject)), the reject calibrated.
    class_id : (N,) int64
        The best class of the table; `UNREAD` where the reader is not sure enough.
    probability : (N, 44) float32
        Of each class and of the reject.

    """

    boxes: np.ndarray
    score: np.ndarray
    class_id: np.ndarray
    probability: np.ndarray

    def select(self, mask):
        """Return the signs of a mask or of indices."""
        return SignDetections(**{name: getattr(self, name)[mask] for name in self.__slots__})


class SignReader:
    """Finds and reads the signs of an image; without a classifier it only finds them."""

    def __init__(self, detector, classifier=None, *, device='cpu', bfloat16=None, min_read=0.5):
        self.device = torch.device(device)
        is_half = has_bfloat16(self.device) if bfloat16 is None else bfloat16
        self.dtype = torch.bfloat16 if is_half else torch.float32
        self.min_read, self.calibration = min_read, SHIPPED_CALIBRATION
        self.detector, self.classifier = (
            None if network is None else self._prepared(network, swift)
            for network, swift in ((detector, SwiftDetector), (classifier, SwiftClassifier))
        )

    def _prepared(self, network, swift):
        network = fold_conv_norms(network).to(self.device, self.dtype)
        network = network.to(memory_format=torch.channels_last)
        return swift(network) if self.device.type == 'cpu' else network

    def _answer(self, pixels):
        """Return heat and boxes of the detector, which takes whole images on a CPU."""
        if self.device.type == 'cpu':
            return self.detector(pixels)
        image = torch.from_numpy(padded(pixels))[None].to(self.device)
        return self.detector(fold_pixels(image, self.dtype))

    def find(self, pixels, min_score=MIN_SCORE, limit=MAX_SIGNS):
        """
        Find and read the signs of one image.

        Parameters
        ----------
        pixels : (H, W, 3) uint8
            RGB at the camera's own resolution.
        min_score : float
            Peaks below are not read.
        limit : int
            At most this many peaks are read, best first.

        Returns
        -------
        SignDetections

        """
        size_px = pixels.shape[1], pixels.shape[0]
        return self.weighed(*self.peaks(pixels, min_score, limit), size_px)

    def peaks(self, pixels, min_score=MIN_SCORE, limit=MAX_SIGNS):
        """Return boxes (N, 4) and scores (N,) of the detector and what the reader says (N, 44)."""
        boxes, score = self.detect(pixels, min_score)
        boxes, score = boxes[:limit], score[:limit]
        return boxes, score, self.read(crops_of(pixels, boxes))

    def weighed(self, boxes, score, probability, size_px):
        """
        Turn what both networks say of an image into SignDetections.

        Parameters
        ----------
        boxes, score, probability : arrays
            Of `peaks`.
        size_px : (int, int)
            Width and height of the image.

        Returns
        -------
        SignDetections

        """
        score = score * trust_of(probability, self.calibration)
        boxes = fitted_boxes(boxes, probability, self.calibration)
        boxes = np.clip(boxes, 0, np.array([*size_px, *size_px], np.float32))
        best = probability[:, :REJECT].argmax(1)
        share = probability[np.arange(len(best)), best]
        order = np.argsort(-score, kind='stable')
        return SignDetections(
            boxes=boxes[order],
            score=score[order],
            class_id=np.where(share >= self.min_read, best, UNREAD)[order],
            probability=probability[order],
        )

    @torch.inference_mode()
    def detect(self, pixels, min_score=MIN_SCORE):
        """
        Find signs without reading them.

        Returns
        -------
        boxes : (N, 4) float32
            Pixels, inside the image, best first.
        score : (N,) float32

        """
        heat, box = self._answer(pixels)
        boxes, score = decode_signs(heat, box, min_score)
        limit = np.array([pixels.shape[1], pixels.shape[0]] * 2, np.float32)
        return np.clip(boxes, 0, limit), score

    @torch.inference_mode()
    def read(self, crops):
        """Return probabilities (N, 44) of crops (48, 48, 3) uint8; the last is the reject."""
        if not len(crops):
            return np.zeros((0, REJECT + 1), np.float32)
        return self._logits(np.stack(crops)).float().softmax(1).cpu().numpy()

    def _logits(self, crops):
        """Return the answer of the classifier, which takes crops as they are on a CPU."""
        if self.device.type == 'cpu':
            return self.classifier(crops)
        scaled = scale_pixels(torch.from_numpy(crops).to(self.device), self.dtype)
        return self.classifier(scaled.permute(0, 3, 1, 2))


def padded(pixels):
    """Return the image with grey added on the right and below, to multiples of 16."""
    h, w = pixels.shape[:2]
    more = -h % COARSEST, -w % COARSEST
    if not any(more):
        return np.ascontiguousarray(pixels)
    return cv2.copyMakeBorder(
        pixels, 0, more[0], 0, more[1], cv2.BORDER_CONSTANT, value=(128, 128, 128)
    )


def decode_signs(heat, box, min_score=MIN_SCORE):
    """
    Turn the answer for one image into boxes without doubles.

    Parameters
    ----------
    heat : (1, 1, h, w)
        Logits.
    box : (1, 4, h, w)
        As `SignDetector` gives them.
    min_score : float
        Lower peaks are left out.

    Returns
    -------
    boxes : (N, 4) float32
        x1, y1, x2, y2 in pixels, best first.
    score : (N,) float32

    """
    heat = heat[0, 0].float().cpu().numpy()
    rows, columns = _peaks(heat, math.log(min_score / (1 - min_score)))
    score = 1 / (1 + np.exp(-heat[rows, columns]))
    order = np.argsort(-score, kind='stable')[: 2 * MAX_SIGNS]
    rows, columns, score = rows[order], columns[order], score[order]
    edges = edges_from_values(box[0, :, rows, columns].T.float()).cpu().numpy()
    boxes = (edges + np.stack((columns, rows, columns, rows), axis=1) + 0.5) * STRIDE
    first = without_doubles(boxes)
    return boxes[first].astype(np.float32), score[first]


def _peaks(heat, limit):
    """Return rows and columns of the cells of (h, w) from `limit` on that no neighbour exceeds."""
    is_peak = (heat >= limit) & (heat >= cv2.dilate(heat, np.ones((3, 3), np.uint8)))
    return np.divmod(np.flatnonzero(is_peak), heat.shape[1])  # a tenth of the time of nonzero


def edges_from_values(values):
    """Return x1, y1, x2, y2 in cells from the cell's middle, of head values (T, 4)."""
    half = values[:, 2:].clamp(-2.0, 6.0).exp() / 2
    return torch.cat((values[:, :2] - half, values[:, :2] + half), dim=1)


def without_doubles(boxes):
    """Return the indices of the boxes, best first, that overlap no better one."""
    is_same = np.tril(box_ious(boxes[:, None], boxes) >= SAME_SIGN_IOU, -1)
    is_kept = np.ones(len(boxes), bool)
    for i in np.flatnonzero(is_same.any(axis=1)):
        is_kept[i] = not (is_same[i] & is_kept).any()
    return np.flatnonzero(is_kept)


def box_ious(box, boxes):
    """
    Return the overlaps of image boxes with others: intersection over union.

    Parameters
    ----------
    box : (4,) or (M, 1, 4) float32
        One box, or several.
    boxes : (N, 4) float32
        The others.

    Returns
    -------
    overlaps : (N,) or (M, N) float32

    """
    x1, y1, x2, y2 = np.moveaxis(boxes, -1, 0)
    left, top, right, bottom = np.moveaxis(box, -1, 0)
    width = np.minimum(right, x2) - np.maximum(left, x1)
    height = np.minimum(bottom, y2) - np.maximum(top, y1)
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    areas = (x2 - x1) * (y2 - y1) + (right - left) * (bottom - top)
    return shared / np.maximum(areas - shared, 1e-9)


def crop_of(pixels, box):
    """Return what the classifier reads, (48, 48, 3) uint8: the box with its margin."""
    return crops_of(pixels, box[None])[0]


def crops_of(pixels, boxes):
    """Return the crops (48, 48, 3) uint8 of boxes (N, 4), a list."""
    h, w = pixels.shape[:2]
    margin = CROP_MARGIN * (boxes[:, 2:] - boxes[:, :2])
    low = np.floor(boxes[:, :2] - margin + 0.5).astype(int)
    low = np.clip(low, 0, (w - 2, h - 2))
    high = np.floor(boxes[:, 2:] + margin + 0.5).astype(int)
    high = np.maximum(np.minimum(high, (w, h)), low + 2)
    edges = np.concatenate((low, high), axis=1).tolist()
    return [resized_crop(pixels[y1:y2, x1:x2]) for x1, y1, x2, y2 in edges]


def resized_crop(pixels):
    """Return a crop of any size as (48, 48, 3), its aspect ignored."""
    is_larger = max(pixels.shape[:2]) > CROP_PX
    way = cv2.INTER_AREA if is_larger else cv2.INTER_LINEAR
    return cv2.resize(pixels, (CROP_PX, CROP_PX), interpolation=way)
