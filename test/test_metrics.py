# SPDX-License-Identifier: Apache-2.0
"""Figures with values worked out by hand."""

from mmperception.evaluation.matching import FrameResult
from mmperception.evaluation.metrics import (
    average_precision,
    average_precision_metric,
    bootstrap,
    false_per_frame_metric,
    found_metric,
    recall_by_object,
)
import numpy as np
import pytest


def result(score=(), is_hit=(), found=(), ids=None):
    return FrameResult(
        score=np.array(score, np.float64),
        is_hit=np.array(is_hit, bool),
        object_id=tuple(ids or map(str, range(len(found)))),
        found_score=np.array(found, np.float64),
    )


def test_average_precision_of_four_cars_and_one_false_detection_is_62_5():
    # Recall 1/4 at precision 1; then, behind the false one, 2/4 at 2/3 and 3/4 at 3/4.
    # Ten recall points at 1, twenty at 3/4, ten at 0.
    one = result([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 1], [0.9, 0.7, 0.6, -1])
    assert average_precision([one]) == pytest.approx(62.5)


def test_average_precision_pools_the_frames_before_it_ranks():
    frames = [
        result([0.9, 0.6], [1, 1], [0.9, 0.6]),
        result([0.8, 0.7], [0, 1], [0.7, -1]),
    ]
    assert average_precision(frames) == pytest.approx(62.5)


def test_detections_of_equal_score_do_not_profit_from_their_order():
    hit_first, false_first = ([0.5, 0.5], [1, 0], [0.5]), ([0.5, 0.5], [0, 1], [0.5])
    assert average_precision([result(*hit_first)]) == pytest.approx(50.0)
    assert average_precision([result(*false_first)]) == pytest.approx(50.0)


def test_everything_found_is_100_nothing_found_0_and_nothing_to_find_none():
    assert average_precision([result([0.3], [1], [0.3])]) == 100.0
    assert average_precision([result([], [], [-1, -1])]) == 0.0
    assert average_precision([result([0.9], [0], [])]) is None
    assert average_precision([]) is None


def test_a_frame_of_weight_two_counts_like_two_frames():
    frames = [result([0.9, 0.8], [1, 0], [0.9, -1]), result([0.7], [1], [0.7])]
    doubled = average_precision([frames[0], frames[0], frames[1]])
    assert average_precision(frames, [2, 1]) == pytest.approx(doubled)


def test_the_interval_is_drawn_from_blocks_of_fourteen_frames():
    # Three blocks: all found, half found, none found. A resample's mean is one of few values.
    quality = np.repeat([1.0, 0.5, 0.0], 14)

    def mean(weights):
        return float((quality * weights).sum() / weights.sum())

    low, high = bootstrap(42, mean, seed=1)
    assert (low, high) == (pytest.approx(1 / 6, abs=0.18), pytest.approx(5 / 6, abs=0.18))
    sixths = {round(6 * value, 6) % 1 for value in (low, high)}
    assert sixths == {0.0}


def test_one_block_has_no_interval():
    assert bootstrap(14, lambda weights: 1.0) == (None, None)
    assert bootstrap(0, lambda weights: 1.0) == (None, None)


def test_the_interval_of_average_precision_holds_its_value_and_repeats():
    rng = np.random.default_rng(0)
    frames = []
    for index in range(56):
        is_hit = bool(rng.random() < (0.9 if index < 28 else 0.5))
        frames.append(result([rng.random()], [is_hit], [0.5 if is_hit else -1]))
    metric = average_precision_metric(frames)
    assert metric.low < metric.value < metric.high and metric.count == 56
    assert metric == average_precision_metric(frames)


def test_recall_by_object_counts_the_frames_of_each_object():
    frames = [
        result(found=[0.9, -1], ids=['van', 'car']),
        result(found=[0.2], ids=['van']),
        result(found=[-1], ids=['van']),
    ]
    recall = recall_by_object(frames)
    assert list(recall) == ['van', 'car'] and recall['van'].count == 3
    assert recall['van'].value == pytest.approx(200 / 3) and recall['car'].value == 0.0
    assert recall_by_object(frames, 0.5)['van'].value == pytest.approx(100 / 3)


def test_found_and_false_are_counted_from_the_published_threshold_on():
    frames = [result([0.9, 0.4, 0.1], [1, 0, 0], [0.9, 0.2]), result([0.5], [0], [-1])]
    found, false = found_metric(frames, 0.3), false_per_frame_metric(frames, 0.3)
    assert (found.value, found.count) == (1, 3)
    assert (false.value, false.count) == (1.0, 2)
    assert found_metric([], 0.3).count == 0 and false_per_frame_metric([], 0.3).value is None
