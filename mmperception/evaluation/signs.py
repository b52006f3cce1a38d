# SPDX-License-Identifier: Apache-2.0
"""
Figures of signs: found in whole images, read in crops.

Overlap 0.5 of image boxes, greedy from the best score down, one to one; average precision as in
metrics.py. `sign` counts every class as one; a class figure counts only detections read as it.
Intervals are a bootstrap over images (GTSDB) or tracks (GTSRB).
"""

from dataclasses import dataclass

from mmperception.evaluation.matching import FrameResult
from mmperception.evaluation.metrics import average_precision, Metric
from mmperception.sign_classes import NUM_SIGN_CLASSES
from mmperception.signs import box_ious
import numpy as np

MIN_IOU = 0.5
MIN_BOXES = 5
WIDTHS_PX = ((0, 24), (24, 32), (32, 10_000))
# Scores at which the wrong and the lost are told: what is published is in this range.
REJECT_AT = (0.1, 0.3, 0.5, 0.7, 0.9)
NUM_RESAMPLES = 500


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgedImage:
    """Truth of one image, `boxes` (N, 4) and `class_id` (N,), and the SignDetections in it."""

    file: str
    boxes: np.ndarray
    class_id: np.ndarray
    found: object


def match_signs(judged, class_id=None):
    """
    Match the detections of one image with its truth.

    Parameters
    ----------
    judged : JudgedImage
        Detections best first.
    class_id : int, optional
        Only truth and detections of this class; by default all, whatever they were read as.

    Returns
    -------
    result : FrameResult
    matched : (D,) int64
        For each detection counted the index of its truth in the image, or -1.

    """
    found = judged.found
    truth = np.arange(len(judged.boxes))
    chosen = np.arange(len(found.boxes))
    if class_id is not None:
        truth = truth[judged.class_id == class_id]
        chosen = chosen[found.class_id == class_id]
    matched = np.full(len(chosen), -1, np.int64)
    score_of = np.full(len(truth), -1.0)
    for place, detection in enumerate(chosen):
        free = np.flatnonzero(score_of < 0)
        if not len(free):
            break
        overlap = box_ious(found.boxes[detection], judged.boxes[truth[free]])
        best = int(overlap.argmax())
        if overlap[best] >= MIN_IOU:
            matched[place] = truth[free[best]]
            score_of[free[best]] = found.score[detection]
    result = FrameResult(
        score=found.score[chosen].astype(np.float64),
        is_hit=matched >= 0,
        object_id=tuple(f'{judged.file}/{index}' for index in truth),
        found_score=score_of,
    )
    return result, matched


def detection_metrics(images, min_score):
    """
    Return every figure of signs found in whole images.

    Parameters
    ----------
    images : sequence of JudgedImage
        All of them, those without signs too.
    min_score : float
        What is published; average precision does not depend on it.

    Returns
    -------
    dict of str to Metric

    """
    matched = [match_signs(image) for image in images]
    results = [result for result, _ in matched]
    metrics = {'sign_ap_0.5': _with_interval(results)}
    classes = np.concatenate([image.class_id for image in images] or [np.zeros(0, np.int64)])
    counts = np.bincount(classes, minlength=NUM_SIGN_CLASSES)
    frequent = [c for c in range(NUM_SIGN_CLASSES) if counts[c] >= MIN_BOXES]
    by_class = {c: average_precision([match_signs(i, c)[0] for i in images]) for c in frequent}
    if by_class:
        value = float(np.mean(list(by_class.values())))
        metrics['class_mean_ap_0.5'] = Metric(value=value, count=len(by_class))
    metrics |= _recalls(images, results, min_score)
    metrics['sign_false_per_image'] = _false(results, min_score)
    metrics |= _readings(images, matched, min_score)
    metrics |= {
        f'class_{c}_ap_0.5': Metric(value=by_class[c], count=int(counts[c])) for c in frequent
    }
    return metrics


def _with_interval(results):
    rng = np.random.default_rng(0)
    count = sum(len(result.found_score) for result in results)
    value = average_precision(results)
    if len(results) < 2 or value is None:
        return Metric(value=value, count=count)
    draws = rng.multinomial(len(results), np.full(len(results), 1 / len(results)), NUM_RESAMPLES)
    values = [average_precision(results, draw.astype(float)) for draw in draws]
    values = [v for v in values if v is not None]
    low, high = np.percentile(values, (5, 95))
    return Metric(value=value, low=float(low), high=float(high), count=count)


def _recalls(images, results, min_score):
    """Return recall at the published score, in percent, by the width of the sign."""
    widths = np.concatenate([i.boxes[:, 2] - i.boxes[:, 0] for i in images] or [np.zeros(0)])
    scores = np.concatenate([r.found_score for r in results] or [np.zeros(0)])
    metrics = {}
    for low, high in WIDTHS_PX:
        inside = (widths >= low) & (widths < high)
        name = f'sign_recall_{low}_{high}px' if high < 10_000 else f'sign_recall_{low}px_up'
        share = 100.0 * float((scores[inside] >= min_score).mean()) if inside.any() else None
        metrics[name] = Metric(value=share, count=int(inside.sum()))
    return metrics


def _false(results, min_score):
    false = [int(((r.score >= min_score) & ~r.is_hit).sum()) for r in results]
    return Metric(value=float(np.mean(false)) if false else None, count=len(false))


def _readings(images, matched, min_score):
    """Return, of the signs found at the published score, how many were read, and rightly."""
    read, right = [], []
    for image, (result, truth) in zip(images, matched, strict=True):
        kept = (truth >= 0) & (result.score >= min_score)
        said = image.found.class_id[kept]
        read.append(said >= 0)
        right.append(said == image.class_id[truth[kept]])
    read, right = (np.concatenate(values or [np.zeros(0, bool)]) for values in (read, right))
    metrics = {}
    if len(read):
        metrics['found_and_read'] = Metric(value=100.0 * float(read.mean()), count=len(read))
    if read.any():
        value = 100.0 * float(right[read].mean())
        metrics['read_right'] = Metric(value=value, count=int(read.sum()))
    return metrics


def reading_metrics(class_id, track, probability):
    """
    Return the figures of signs read in crops.

    Parameters
    ----------
    class_id : (N,) int64
        Truth.
    track : sequence of str
        Of every crop; crops of one track are near-duplicates.
    probability : (N, 44) float32
        Of the classes and the reject.

    Returns
    -------
    dict of str to Metric

    """
    best = probability[:, :NUM_SIGN_CLASSES].argmax(1)
    is_right = best == class_id
    metrics = {'reading_accuracy': _by_track(is_right, track)}
    score = probability[np.arange(len(best)), best]
    for limit in REJECT_AT:
        kept = score >= limit
        count = int(kept.sum())
        metrics[f'kept_at_{limit}'] = Metric(value=100.0 * float(kept.mean()), count=len(kept))
        wrong = 100.0 * float((~is_right[kept]).mean()) if count else None
        metrics[f'wrong_at_{limit}'] = Metric(value=wrong, count=count)
    for c in np.unique(class_id):
        own = class_id == c
        value = 100.0 * float(is_right[own].mean())
        metrics[f'class_{c}_accuracy'] = Metric(value=value, count=int(own.sum()))
    return metrics


def _by_track(is_right, track):
    names, index = np.unique(np.asarray(track), return_inverse=True)
    total = np.bincount(index)
    right = np.bincount(index, is_right)
    rng = np.random.default_rng(0)
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), NUM_RESAMPLES)
    values = 100.0 * (draws @ right) / np.maximum(draws @ total, 1)
    low, high = np.percentile(values, (5, 95))
    return Metric(
        value=100.0 * float(is_right.mean()), low=float(low), high=float(high), count=len(is_right)
    )
