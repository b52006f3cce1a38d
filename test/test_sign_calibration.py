# SPDX-License-Identifier: Apache-2.0
"""What is put right after reading: trust in a crop and edges by shape, and how both are fitted."""

from mmperception.evaluation.sign_fit import fit_calibration, Peaks
from mmperception.network.signs import NUM_OUTPUTS, REJECT
from mmperception.sign_calibration import (
    Calibration,
    fitted_boxes,
    SHAPES,
    shapes_read,
    SHIPPED_CALIBRATION,
    trust_of,
)
import numpy as np
import pytest

STOP, LIMIT_30, PRIORITY = 14, 1, 12
NOTHING = ((0.0, 0.0),) * 3


def says(*shares):
    """Return what a reader says: (class, share) pairs, the rest even over all outputs."""
    probability = np.full(NUM_OUTPUTS, (1 - sum(share for _, share in shares)) / NUM_OUTPUTS)
    for number, share in shares:
        probability[number] += share
    return probability.astype(np.float32)[None]


def test_a_crop_of_no_class_is_not_trusted_though_the_reader_does_not_reject_it():
    wheel, sign = says((LIMIT_30, 0.3), (STOP, 0.3), (PRIORITY, 0.3)), says((STOP, 0.95))
    assert wheel[0, REJECT] < 0.01
    assert trust_of(sign)[0] > 0.95 and trust_of(wheel)[0] < trust_of(sign)[0] - 0.1
    assert trust_of(says((STOP, 0.4), (REJECT, 0.5)))[0] < 0.1


def test_trust_stays_a_number_when_the_reader_is_certain():
    for certain in (says((STOP, 1.0)), says((REJECT, 1.0))):
        assert np.isfinite(trust_of(certain)).all()


def test_the_shape_is_that_of_all_classes_together():
    doubtful = says((PRIORITY, 0.3), (LIMIT_30, 0.25), (2, 0.25))
    assert SHAPES[shapes_read(doubtful)[0]] == 'circle'


def test_a_diamond_is_drawn_larger_on_every_side_and_stays_where_it_is():
    box = np.array([[100.0, 50.0, 124.0, 74.0]], np.float32)
    fitted = fitted_boxes(box, says((PRIORITY, 0.9)))[0]
    assert fitted[0] < 99 and fitted[1] < 49 and fitted[2] > 125 and fitted[3] > 75
    assert (fitted[:2] + fitted[2:]) / 2 == pytest.approx([112, 62], abs=0.2)


def test_nothing_found_stays_nothing():
    nothing = np.zeros((0, 4), np.float32), np.zeros((0, NUM_OUTPUTS), np.float32)
    assert fitted_boxes(*nothing).shape == (0, 4) and trust_of(nothing[1]).shape == (0,)


def made_up_images(rng, number):
    """Return Peaks of circles whose boxes are a tenth and a pixel too small, and of wheels."""
    images = []
    for _ in range(number):
        size = rng.uniform(16, 80)
        truth = np.array([[200, 100, 200 + size, 100 + size]])
        less = (0.1 * size + 1) * np.array([1, 1, -1, -1]) + rng.normal(0, 0.02 * size, 4)
        boxes = np.concatenate((truth + less, [[500, 100, 530, 130]])).astype(np.float32)
        sign = says((LIMIT_30, rng.uniform(0.6, 0.95)))
        wheel = says((LIMIT_30, rng.uniform(0.1, 0.5)), (REJECT, 0.05))
        read = np.concatenate((sign, wheel))
        images.append(
            Peaks(boxes=boxes, score=np.array([0.8, 0.7]), probability=read, truth=truth)
        )
    return images


def test_the_fit_finds_what_the_boxes_are_off_by_and_whom_to_trust():
    rng = np.random.default_rng(2)
    fitted = fit_calibration(made_up_images(rng, 80))
    for peaks in made_up_images(rng, 10):
        trust = trust_of(peaks.probability, fitted)
        assert trust[0] > 0.8 and trust[1] < 0.3
        box = fitted_boxes(peaks.boxes, peaks.probability, fitted)[0]
        size = peaks.truth[0, 2] - peaks.truth[0, 0]
        assert np.abs(box - peaks.truth[0]).max() < 0.08 * size + 0.4


def test_a_shape_that_was_never_seen_keeps_its_boxes():
    fitted = fit_calibration(made_up_images(np.random.default_rng(1), 20))
    assert fitted.edges[SHAPES.index('diamond')] == NOTHING


def test_images_without_a_sign_give_no_calibration():
    peaks = made_up_images(np.random.default_rng(0), 1)[0]
    empty = Peaks(
        boxes=peaks.boxes, score=peaks.score, probability=peaks.probability, truth=np.zeros((0, 4))
    )
    with pytest.raises(ValueError, match='no image shows a sign'):
        fit_calibration([empty])


def test_the_shipped_numbers_name_every_shape():
    assert isinstance(SHIPPED_CALIBRATION, Calibration)
    assert len(SHIPPED_CALIBRATION.edges) == len(SHAPES)
    assert len(SHIPPED_CALIBRATION.trust) == 3
