# SPDX-License-Identifier: Apache-2.0
"""
What the sign networks are known to be wrong about, put right once a crop is read.

    boxes, probability -> trust_of, fitted_boxes -> SignDetections (signs.py)

A wheel is no class, and yet the reader seldom rejects it: how sure it is of its best class tells
more. And the detector draws every plate as a square: the labels of triangles and diamonds lie
elsewhere, by a share of the size and by some pixels. The numbers were fitted on what networks
found on images that they had not learnt: `mmperception evaluate GTSDB --calibrate`.
"""

from dataclasses import dataclass

from mmperception.network.signs import REJECT
from mmperception.sign_classes import NUM_SIGN_CLASSES, SIGN_CLASSES, WIDTH_M
import numpy as np

SHAPES = tuple(WIDTH_M)
SHAPE_OF_CLASS = np.array([SHAPES.index(sign.shape) for sign in SIGN_CLASSES])
# A box below counts as so large, px: what pixels are missed by is that of the smallest learnt.
SMALLEST_BOX_PX = 12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """
    Numbers of one detector with its reader.

    Attributes
    ----------
    trust : tuple of 3 float
        Of the log-odds that a crop shows a sign of the table: constant, factors of the log-odds
        of the reject and of the best class.
    edges : tuple of 5 tuples
        By shape, in the order of `SHAPES`: how far the sides move inwards, the top down and the
        bottom down; each a share of the box's size and a number of pixels.

    """

    trust: tuple
    edges: tuple


SHIPPED_CALIBRATION = Calibration(
    trust=(-3.23, -0.9, 0.77),
    edges=(
        ((0.019, -1.01), (0.022, -1.1), (-0.014, 0.79)),
        ((-0.006, -1.24), (0.035, -1.72), (-0.038, 0.34)),
        ((-0.031, -1.01), (0.025, -0.5), (-0.017, 1.46)),
        ((-0.029, -1.21), (-0.032, -0.92), (0.031, 1.0)),
        ((0.008, -0.51), (0.006, -0.52), (-0.006, 0.51)),
    ),
)


def log_odds(share):
    """Return the logarithm of share over one minus share, kept finite."""
    share = np.clip(np.asarray(share, np.float64), 1e-6, 1 - 1e-6)
    return np.log(share / (1 - share))


def trust_of(probability, calibration=SHIPPED_CALIBRATION):
    """
    Return how sure it is that crops show a sign of the table: 1 - P(reject), calibrated.

    Parameters
    ----------
    probability : (N, 44) float32
        Of the classes and the reject, as the reader says.
    calibration : Calibration
        Of the networks.

    Returns
    -------
    trust : (N,) float32

    """
    odds = trust_terms(probability) @ np.array(calibration.trust)
    return (1 / (1 + np.exp(-odds))).astype(np.float32)


def trust_terms(probability):
    """Return (N, 3): one, and the log-odds of the reject and of the best class."""
    reject, best = probability[:, REJECT], probability[:, :REJECT].max(1)
    return np.stack((np.ones(len(probability)), log_odds(reject), log_odds(best)), axis=1)


def shapes_read(probability):
    """Return (N,) the shape, an index of `SHAPES`, that the classes together say."""
    of_shape = np.zeros((NUM_SIGN_CLASSES, len(SHAPES)))
    of_shape[np.arange(NUM_SIGN_CLASSES), SHAPE_OF_CLASS] = 1
    return (probability[:, :REJECT] @ of_shape).argmax(1)


def sizes_of(boxes):
    """Return (N,) the geometric means of width and height, px."""
    return np.sqrt(np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(1), SMALLEST_BOX_PX**2))


def fitted_boxes(boxes, probability, calibration=SHIPPED_CALIBRATION):
    """
    Return the boxes with their edges where plates of the shape that was read have them.

    Parameters
    ----------
    boxes : (N, 4) float32
        Of the detector, px.
    probability : (N, 44) float32
        Of the same signs.
    calibration : Calibration
        Of the networks.

    Returns
    -------
    fitted : (N, 4) float32

    """
    if not len(boxes):
        return boxes
    share, pixels = np.array(calibration.edges)[shapes_read(probability)].transpose(2, 0, 1)
    inwards, top, bottom = (share * sizes_of(boxes)[:, None] + pixels).T
    return (boxes + np.stack((inwards, top, -inwards, bottom), axis=1)).astype(np.float32)
