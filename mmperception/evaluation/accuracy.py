# SPDX-License-Identifier: Apache-2.0
"""
The accuracy suite: from labelled frames and a detector to named figures.

`judge_frames` runs the detector and keeps what is needed of each frame; `accuracy_metrics` makes
the figures of docs/accuracy.md from it. The detector is anything with `detect(frame)`.
"""

from dataclasses import dataclass

from mmperception.datatypes import CLASSES
from mmperception.evaluation.matching import counted_truth, FrameJudge, Matching
from mmperception.evaluation.metrics import (
    average_precision_metric,
    false_per_frame_metric,
    found_metric,
    recall_by_object,
)
from mmperception.evaluation.viewpoint import Viewpoint, viewpoint_of
from mmperception.geometry import invert
import numpy as np

PRECISION_MATCHINGS = (('3d', 0.5), ('bev', 0.5), ('3d', 0.7), ('bev', 0.7))
FOUND_IOUS = (0.5, 0.25)
# With fewer objects average precision tells about these objects, not about the class.
MIN_OBJECTS_FOR_PRECISION = 5
# Objects with at least this share of the boxes: the figure is also given without each of them.
DOMINANT_SHARE, MAX_DOMINANT = 0.1, 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgedFrame:
    """One frame: decoded boxes before tracking, and the published ones (None: not tracked)."""

    decoded: FrameJudge
    published: FrameJudge | None


def judge_frames(samples, perceiver, mounting=None, is_sequence=True):
    """
    Run a detector over labelled frames.

    Parameters
    ----------
    samples : iterable of Sample
        In order of time when `is_sequence`.
    perceiver : Perceiver
        `detect(frame)`, and `perceive(frame)` for sequences.
    mounting : Mounting, optional
        Truth is projected by its static extrinsics; by those of each frame's view otherwise.
    is_sequence : bool
        Also judge what is published after tracking.

    Yields
    ------
    JudgedFrame

    """
    viewpoint = None if mounting is None else viewpoint_of_mounting(mounting)
    for sample in samples:
        if mounting is None:
            viewpoint = viewpoint_of(sample.frame, viewpoint)
        is_counted = counted_truth(sample, viewpoint)
        decoded = perceiver.detect(sample.frame)
        published = None
        if is_sequence:  # a frame in which nothing is published counts as missed
            shown = perceiver.perceive(sample.frame).detections
            published = FrameJudge(sample, shown, viewpoint, is_counted)
        yield JudgedFrame(
            decoded=FrameJudge(sample, decoded, viewpoint, is_counted), published=published
        )


def accuracy_metrics(judged, min_scores):
    """
    Make every figure of the suite.

    Parameters
    ----------
    judged : list of JudgedFrame
        In the order of the recording: intervals come from blocks of neighbours.
    min_scores : sequence of float
        Published threshold of each class: found and false detections are counted from there on.

    Returns
    -------
    metrics : dict of str to Metric

    Raises
    ------
    ValueError
        If there is no labelled box in any frame.

    """
    if not any(len(frame.decoded.truth) for frame in judged):
        raise ValueError(f'no labelled box in any of {len(judged)} frames: nothing to compare')
    decoded = [frame.decoded for frame in judged]
    published = [frame.published for frame in judged if frame.published is not None]
    metrics = {}
    for class_name, min_score in zip(CLASSES, min_scores, strict=True):
        metrics.update(_precision_metrics(decoded, class_name))
        metrics.update(_found_metrics(decoded, class_name, min_score))
        metrics.update(_object_metrics(decoded, published, class_name))
    return metrics


def _precision_metrics(judges, class_name):
    results = _judge(judges, class_name, Matching())
    objects = recall_by_object(results)
    if len(objects) < MIN_OBJECTS_FOR_PRECISION:
        return {}
    metrics = {}
    is_incomplete = any(judge.is_completed for judge in judges)
    for space, min_iou in PRECISION_MATCHINGS:
        name = f'{class_name}_ap40_{space}_{min_iou}'
        matching = Matching(min_iou=min_iou, space=space)
        metrics[name] = average_precision_metric(_judge(judges, class_name, matching))
        if is_incomplete:
            plain = Matching(min_iou=min_iou, space=space, with_completion=False)
            results = _judge(judges, class_name, plain)
            metrics[f'{name}_as_labelled'] = average_precision_metric(results)
    for object_id in _dominant(objects):
        results = _judge(judges, class_name, Matching(), without=(object_id,))
        name = f'{class_name}_ap40_3d_0.5_without_object_{object_id}'
        metrics[name] = average_precision_metric(results)
    return metrics


def _found_metrics(judges, class_name, min_score):
    metrics = {}
    for min_iou in FOUND_IOUS:
        results = _judge(judges, class_name, Matching(min_iou=min_iou))
        metrics[f'{class_name}_found_{min_iou}'] = found_metric(results, min_score)
        false = false_per_frame_metric(results, min_score)
        metrics[f'{class_name}_false_per_frame_{min_iou}'] = false
    return metrics


def _object_metrics(decoded, published, class_name):
    """Recall by object, where objects are followed: not in folders of single frames."""
    recall = recall_by_object(_judge(decoded, class_name, Matching()))
    boxed = recall_by_object(_judge(published, class_name, Matching(space='bev')))
    is_followed = any(metric.count > 1 for metric in recall.values())
    if not is_followed:
        return {}
    metrics = {f'{class_name}_recall_object_{name}': metric for name, metric in recall.items()}
    metrics |= {f'{class_name}_boxed_object_{name}': metric for name, metric in boxed.items()}
    return metrics


def _judge(judges, class_name, matching, without=()):
    return [judge.judge(class_name, matching, without) for judge in judges]


def _dominant(objects):
    total = sum(metric.count for metric in objects.values())
    large = [name for name, metric in objects.items() if metric.count >= DOMINANT_SHARE * total]
    return large[:MAX_DOMINANT] if any(metric.count > 1 for metric in objects.values()) else []


def viewpoint_of_mounting(mounting):
    """Return the Viewpoint of static extrinsics and the first camera."""
    cameras = list(mounting.base_from_camera)
    if not cameras:
        return Viewpoint(lidar_xy=mounting.base_from_lidar[:2, 3])
    return Viewpoint(
        lidar_xy=np.asarray(mounting.base_from_lidar)[:2, 3],
        camera_from_base=invert(mounting.base_from_camera[cameras[0]]),
        model=mounting.camera_models[cameras[0]],
    )
