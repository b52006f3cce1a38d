# SPDX-License-Identifier: Apache-2.0
"""
Fits the calibration of sign networks on images that they have not learnt.

    Peaks of many images -> fit_calibration -> Calibration (sign_calibration.py)

Trust by logistic regression; edges by a straight line over the size of the box, each shape for
itself, with weights that fall where a box is far off.
"""

from dataclasses import dataclass

from mmperception.sign_calibration import (
    Calibration,
    SHAPES,
    shapes_read,
    sizes_of,
    trust_of,
    trust_terms,
)
from mmperception.signs import box_ious
import numpy as np

# Peaks from here on tell of trust; a sign is one that overlaps a label so far, none one below.
PEAK_SCORE, SIGN_IOU, NOTHING_IOU = 0.25, 0.5, 0.1
# Boxes that tell of edges overlap a label so far and have such a score.
EDGE_IOU, EDGE_SCORE = 0.3, 0.1
# Of the size: a box that is off by more counts little.
FAR_SHARE = 0.06
STEPS, SMALL, PRIOR = 40, 0.1, 3.0
# The line is held back at a middle size, so that what it says of few boxes is that of all sizes.
UNIT_PX, MIDDLE_PX = 24.0, 40.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Peaks:
    """
    What the networks say of one image, and what it shows.

    `boxes` (N, 4) px and `score` (N,) of the detector, `probability` (N, 44) of the reader,
    `truth` (M, 4) px.
    """

    boxes: np.ndarray
    score: np.ndarray
    probability: np.ndarray
    truth: np.ndarray

    def overlaps(self):
        """Return (N,) the largest overlap of each box with a label."""
        return np.array(
            [box_ious(b, self.truth).max() if len(self.truth) else 0.0 for b in self.boxes]
        )


def fit_calibration(images):
    """
    Return the Calibration that fits Peaks of many images.

    Raises
    ------
    ValueError
        If no image shows a sign.

    """
    trust = _fit_trust(images)
    rough = Calibration(trust=trust, edges=())
    rows = [
        row for peaks in images for row in _edges_of(peaks, trust_of(peaks.probability, rough))
    ]
    shape, size, *edges = np.array(rows).reshape(-1, 5).T
    fitted = []
    for number in range(len(SHAPES)):
        own = shape == number
        fitted.append(tuple(_fit_line(size[own], edge[own]) for edge in edges))
    return Calibration(trust=trust, edges=tuple(fitted))


def _fit_trust(images):
    terms, is_sign = [], []
    for peaks in images:
        overlap = peaks.overlaps()
        clear = (overlap > SIGN_IOU) | (overlap < NOTHING_IOU)
        kept = (peaks.score > PEAK_SCORE) & clear
        terms.append(trust_terms(peaks.probability[kept]))
        is_sign.append(overlap[kept] > SIGN_IOU)
    terms, is_sign = np.concatenate(terms), np.concatenate(is_sign)
    if not is_sign.any():
        raise ValueError('calibration: no image shows a sign that was found')
    factors = np.zeros(3)
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(-terms @ factors))
        slope = terms.T @ (chance - is_sign) + SMALL * factors
        bend = (terms * (chance * (1 - chance))[:, None]).T @ terms + SMALL * np.eye(3)
        factors = factors - np.linalg.solve(bend, slope)
    return tuple(factors.tolist())


def _edges_of(peaks, score):
    """Yield, of each label that was found: shape, size, and how far the edges are off by size."""
    if not len(peaks.boxes):
        return
    shapes, sizes = shapes_read(peaks.probability), sizes_of(peaks.boxes)
    for label in peaks.truth:
        near = box_ious(label, peaks.boxes) > EDGE_IOU
        best = int(np.where(near, score, -1).argmax())
        if near[best] and score[best] > EDGE_SCORE:
            x1, y1, x2, y2 = (label - peaks.boxes[best]) / sizes[best]
            yield shapes[best], sizes[best], (x1 - x2) / 2, y1, y2


def _fit_line(size, off):
    """Return share of the size and pixels that an edge is off by: (N,) each, `off` by size."""
    terms = np.stack((np.ones(len(size)), UNIT_PX / size - UNIT_PX / MIDDLE_PX), axis=1)
    weight = np.ones(len(size))
    for _ in range(4):
        weighed = terms * weight[:, None]
        line = np.linalg.solve(weighed.T @ terms + PRIOR * np.eye(2), weighed.T @ off)
        weight = 1 / (1 + ((off - terms @ line) / FAR_SHARE) ** 2)
    pixels = float(line[1] * UNIT_PX)
    return float(line[0]) - pixels / MIDDLE_PX, pixels
