# SPDX-License-Identifier: Apache-2.0
"""
Figures from matched frames: average precision, found counts, recall per object, intervals.

Average precision with 40 recall points is the published definition (Simonelli et al., ICCV
2019): the mean over recall 1/40 .. 1 of the best precision at that recall or beyond. Intervals
are a bootstrap over blocks of consecutive frames, since neighbours are near-duplicates.
"""

from dataclasses import dataclass

import numpy as np

BLOCK_FRAMES = 14
NUM_RESAMPLES = 1000
INTERVAL_PERCENT = (5, 95)
RECALL_POINTS = np.arange(1, 41) / 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One figure with its 90 percent interval (None: none) and how many boxes it rests on."""

    value: float | None
    low: float | None = None
    high: float | None = None
    count: int = 0


def average_precision(results, frame_weights=None):
    """
    Average precision with 40 recall points, in percent.

    Parameters
    ----------
    results : sequence of FrameResult
        F frames, all of one class.
    frame_weights : (F,) array, optional
        How often each frame counts (bootstrap); once by default.

    Returns
    -------
    ap : float or None
        None when no truth counts.

    """
    weights = np.ones(len(results)) if frame_weights is None else np.asarray(frame_weights)
    pooled = _pool(results)
    return _average_precision(pooled, weights)


def average_precision_metric(results, seed=0):
    """Return average precision as a Metric with its block-bootstrap interval."""
    pooled = _pool(results)
    value = _average_precision(pooled, np.ones(len(results)))
    low, high = bootstrap(len(results), lambda weights: _average_precision(pooled, weights), seed)
    return Metric(value=value, low=low, high=high, count=int(pooled.num_truth.sum()))


def precision_of(results):
    """Return average precision as a function of frame weights (F,), for `metric_of`."""
    pooled = _pool(results)
    return lambda weights: _average_precision(pooled, weights)


def mean_of(figures):
    """Return the mean of figures that have a value, as a function of frame weights."""

    def figure(weights):
        values = [value for one in figures if (value := one(weights)) is not None]
        return float(np.mean(values)) if values else None

    return figure


def difference_of(one, other):
    """Return `one` minus `other`, both at the same frame weights: a paired difference."""

    def figure(weights):
        values = one(weights), other(weights)
        return None if None in values else values[0] - values[1]

    return figure


def metric_of(figure, num_frames, count, block_frames=BLOCK_FRAMES):
    """Return any figure of frame weights as a Metric with its block-bootstrap interval."""
    low, high = bootstrap(num_frames, figure, block_frames=block_frames)
    return Metric(value=figure(np.ones(num_frames)), low=low, high=high, count=count)


def bootstrap(num_frames, figure, seed=0, block_frames=BLOCK_FRAMES):
    """
    Return the 90 percent interval of a figure over blocks of consecutive frames.

    Parameters
    ----------
    num_frames : int
        In order of time, so that a block holds neighbours.
    figure : callable
        From frame weights (F,) to a float or None (a resample without truth; left out).
    seed : int
        The same one gives the same interval.
    block_frames : int
        1 where every frame is of a scene of its own.

    Returns
    -------
    low, high : float or None
        None with fewer than two blocks: then there is nothing to draw from.

    """
    block_of_frame = np.arange(num_frames) // block_frames
    num_blocks = int(block_of_frame[-1]) + 1 if num_frames else 0
    if num_blocks < 2:
        return None, None
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(num_blocks, np.full(num_blocks, 1 / num_blocks), NUM_RESAMPLES)
    values = [figure(draw[block_of_frame].astype(np.float64)) for draw in draws]
    values = [value for value in values if value is not None]
    if not values:
        return None, None
    low, high = np.percentile(values, INTERVAL_PERCENT)
    return float(low), float(high)


def recall_by_object(results, min_score=0.0):
    """Return {object id: Metric}: percent of its counted frames in which it was found."""
    found = {}
    for result in results:
        for name, score in zip(result.object_id, result.found_score, strict=True):
            found.setdefault(name, []).append(score >= max(min_score, 1e-9))
    return {
        name: Metric(value=100.0 * float(np.mean(hits)), count=len(hits))
        for name, hits in sorted(found.items(), key=lambda item: -len(item[1]))
    }


def found_metric(results, min_score):
    """Return how many counted boxes were found by detections of at least `min_score`."""
    scores = np.concatenate([result.found_score for result in results] or [np.zeros(0)])
    return Metric(value=int((scores >= min_score).sum()), count=len(scores))


def false_per_frame_metric(results, min_score):
    """Return the false detections of at least `min_score` per frame; count: frames."""
    false = [((r.score >= min_score) & ~r.is_hit).sum() for r in results]
    return Metric(value=float(np.mean(false)) if false else None, count=len(false))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pooled:
    """Detections of all frames, best first; `num_truth` (F,) per frame."""

    score: np.ndarray
    is_hit: np.ndarray
    frame: np.ndarray
    num_truth: np.ndarray


def _pool(results):
    score = np.concatenate([result.score for result in results] or [np.zeros(0)])
    is_hit = np.concatenate([result.is_hit for result in results] or [np.zeros(0, bool)])
    frame = np.repeat(np.arange(len(results)), [len(result.score) for result in results])
    order = np.argsort(-score, kind='stable')
    num_truth = np.array([len(result.found_score) for result in results], np.float64)
    return _Pooled(
        score=score[order],
        is_hit=is_hit[order],
        frame=frame[order].astype(np.int64),
        num_truth=num_truth,
    )


def _average_precision(pooled, frame_weights):
    num_truth = float((pooled.num_truth * frame_weights).sum())
    if num_truth == 0:
        return None
    if not len(pooled.score):
        return 0.0
    weight = frame_weights[pooled.frame]
    hits, judged = np.cumsum(weight * pooled.is_hit), np.cumsum(weight)
    # Detections of one score come together: no order among them is better than another.
    is_last = np.append(pooled.score[1:] != pooled.score[:-1], True)
    recall = hits[is_last] / num_truth
    precision = hits[is_last] / np.maximum(judged[is_last], 1e-12)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    reached = np.searchsorted(recall, RECALL_POINTS - 1e-9)
    at_points = np.append(best_from_here, 0.0)[reached]
    return 100.0 * float(at_points.mean())
