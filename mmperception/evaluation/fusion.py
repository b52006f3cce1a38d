# SPDX-License-Identifier: Apache-2.0
"""
The fusion suite: what each sensor gives, whether the camera is used, and networks side by side.

`evaluate PATH --suite fusion [--against FILE ...]`. Average precision of decoded boxes, as in the
accuracy suite; differences are paired: both sides see the same frames in every resample. Figures
are described in docs/accuracy.md.
"""

import copy
from dataclasses import dataclass, replace

import cv2
from mmperception.datatypes import CLASSES
from mmperception.evaluation.corruptions import corrupt_frame, without_lidar
from mmperception.evaluation.matching import counted_truth, FrameJudge, Matching
from mmperception.evaluation.metrics import (
    difference_of,
    mean_of,
    Metric,
    metric_of,
    precision_of,
)
from mmperception.evaluation.viewpoint import viewpoint_of
from mmperception.sweep_memory import SweepMemory
from mmperception.training.config import BOTH, CAMERA, LIDAR
import numpy as np

MACRO = 'macro'
VOLUME, IMAGE, NEAR = (Matching(space=space) for space in ('3d', 'image', 'near'))
# Severity of `beams` that leaves 16 of 64.
BEAMS_16 = 2
# Sweeps of which the time is taken, and how far they are apart.
NUM_TIMED, STEP_NS = 10, 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """One network of the table: its perceiver, what it was trained on, and facts about it."""

    perceiver: object
    sensors: str = BOTH
    facts: dict


class FusionSuite:
    """
    Frames with what counts in them; judges one network after another on the same ones.

    Parameters
    ----------
    samples : list of Sample
        In order of time; memory is forgotten where stamps jump.
    is_judged : (F,) bool
        The others are only remembered.
    viewpoint : Viewpoint or None
        From where truth was labelled; that of each frame when None.
    others : list of (H, W, 3) uint8, or None
        Images of another drive to swap in; those of the frame half of the judged ones away when
        None.
    range_m : float
        Labelled boxes further ahead or aside are ignored: no network looks there.
    block_frames : int
        Of the bootstrap.

    """

    def __init__(self, samples, is_judged, viewpoint=None, others=None, range_m=51.2,
                 block_frames=14):  # fmt: skip
        self._frames = [sample.frame for sample in samples]
        self._block_frames = block_frames
        self._judged = {}
        for index in np.flatnonzero(is_judged):
            sample = _within(samples[index], range_m)
            view = viewpoint if viewpoint is not None else viewpoint_of(sample.frame)
            self._judged[int(index)] = (sample, view, counted_truth(sample, view))
        order = list(self._judged)
        half = len(order) // 2
        away = dict(zip(order, order[half:] + order[:half], strict=True))
        self._others = {
            k: _pixels(self._frames[away[k]]) if others is None else others[n % len(others)]
            for n, k in enumerate(order)
        }

    def metrics(self, row):
        """Return every figure of a row, by name."""
        if row.sensors == CAMERA:
            return self._blind(row, '') | row.facts
        metrics, clean = self._figures(row, '', lambda f, k: seen_by(f, row.sensors))
        if row.sensors == LIDAR:
            return metrics | row.facts
        if row.perceiver.network.fusion.has_memory:
            full, with_memory = self._figures(row, 'full_memory_', lambda f, k: f, True)
            metrics |= full | self._differences('memory_gain', with_memory, clean)
        gone, without = self._figures(row, 'camera_gone_', lambda f, k: replace(f, cameras=()))
        metrics |= gone | self._differences('camera_gain', clean, without)
        metrics |= self._blind(row, 'lidar_gone_')
        thin, thinned = self._figures(row, 'beams_16_', lambda f, k: _thin(f, k))
        other, swapped = self._figures(row, 'beams_16_swapped_', self._swapped)
        metrics |= thin | other | self._differences('camera_use', thinned, swapped)
        return metrics | row.facts

    def compare(self, one, other, name):
        """Return the paired differences of two rows (one minus other) on clean frames."""
        judged = [
            self._judge(row, lambda f, k, s=row.sensors: seen_by(f, s), False)
            for row in (one, other)
        ]
        return self._differences(name, *judged)

    def _figures(self, row, prefix, change, with_memory=False):
        """Return the figures of changed frames, and their judges."""
        judges = self._judge(row, change, with_memory)
        metrics = {}
        for class_name in (*CLASSES, MACRO):
            metrics[f'{prefix}{class_name}_ap40_3d_0.5'] = self._metric(judges, class_name)
        if not prefix:
            matching = Matching(min_iou=0.7, space='bev')
            metrics['vehicle_ap40_bev_0.7'] = self._metric(judges, CLASSES[0], matching)
        return metrics, judges

    def _blind(self, row, prefix):
        """Return what is left of vehicles without LiDAR: in the image, and within two metres."""
        judges = self._judge(row, lambda f, k: seen_by(f, CAMERA), False)
        return {
            f'{prefix}vehicle_ap40_2d_0.5': self._metric(judges, CLASSES[0], IMAGE),
            f'{prefix}vehicle_ap40_2m': self._metric(judges, CLASSES[0], NEAR),
            f'{prefix}vehicle_ap40_3d_0.5': self._metric(judges, CLASSES[0]),
        }

    def _judge(self, row, change, with_memory):
        judges, past = [], SweepMemory()
        for index, frame in enumerate(self._frames):
            if index not in self._judged:
                if with_memory:
                    row.perceiver.detect(frame, past=past)
                continue
            sample, viewpoint, is_counted = self._judged[index]
            found = row.perceiver.detect(change(frame, index), past=past if with_memory else None)
            judges.append(FrameJudge(sample, found, viewpoint, is_counted))
        return judges

    def _metric(self, judges, class_name, matching=VOLUME):
        figure, count = _figure(judges, class_name, matching)
        return metric_of(figure, len(judges), count, self._block_frames)

    def _differences(self, name, one, other):
        metrics = {}
        for class_name in (CLASSES[0], MACRO):
            figure, count = _figure(one, class_name)
            figure = difference_of(figure, _figure(other, class_name)[0])
            metrics[f'{name}_{class_name}'] = metric_of(
                figure, len(one), count, self._block_frames
            )
        return metrics

    def _swapped(self, frame, index):
        """Return a frame of 16 beams whose images show somewhere else."""
        return swap_images(_thin(frame, index), self._others[index])


def swap_images(frame, pixels):
    """Return a frame whose cameras all show other pixels (H, W, 3), resized to their images."""
    views = []
    for view in frame.cameras:
        H, W, _ = view.image.pixels.shape
        shown = cv2.resize(pixels, (W, H), interpolation=cv2.INTER_AREA)
        views.append(replace(view, image=replace(view.image, pixels=shown)))
    return replace(frame, cameras=tuple(views))


def facts_of(perceiver, frame, metadata):
    """
    Return what else the table says of a network.

    Parameters
    ----------
    perceiver : Perceiver
        Its network is counted and timed.
    frame : Frame
        Of what the network was trained on: its operations are counted, and its time is taken.
    metadata : dict of str to str
        Of its weights file.

    Returns
    -------
    dict of str to Metric

    """
    past, times = SweepMemory(), []
    # The robot stands, the clock goes on: a network that remembers does so from the second on.
    frames = [replace(frame, stamp_ns=frame.stamp_ns + k * STEP_NS) for k in range(NUM_TIMED + 3)]
    for later in frames[:-1]:
        timings_ms = {}
        perceiver.detect(later, timings_ms, past)
        times.append(timings_ms['network'])
    # Counted where the counter knows the operations: in the network as it is trained.
    plain = copy.copy(perceiver)
    plain.swift = plain.second = None
    facts = {
        'parameters': Metric(value=sum(p.numel() for p in perceiver.network.parameters())),
        'gflop': Metric(value=count_gflop(lambda: plain.detect(frames[-1], past=past))),
        'network_ms': Metric(value=float(np.median(times[-NUM_TIMED:])), count=NUM_TIMED),
    }
    for name in ('samples', 'step_s'):
        if name in metadata:
            facts[name] = Metric(value=int(metadata[name]))
    return facts


def count_gflop(run):
    """Return the operations of convolutions and matrix products of a function, 10^9."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        run()
    return counter.get_total_flops() * 1e-9


def _figure(judges, class_name, matching=VOLUME):
    """Return average precision as a function of frame weights, and the number of boxes."""
    if class_name == MACRO:
        parts = [_figure(judges, name, matching) for name in CLASSES]
        return mean_of([part[0] for part in parts]), sum(part[1] for part in parts)
    results = [judge.judge(class_name, matching) for judge in judges]
    return precision_of(results), sum(len(result.found_score) for result in results)


def seen_by(frame, sensors):
    """Return the frame with what `sensors` (`both`, `lidar` or `camera`) give."""
    if sensors == LIDAR:
        return replace(frame, cameras=())
    return without_lidar(frame) if sensors == CAMERA else frame


def _thin(frame, index):
    return corrupt_frame(frame, 'beams', BEAMS_16, index)


def _pixels(frame):
    if not frame.cameras:
        raise ValueError('fusion: a frame has no image; judge frames with cameras, see --every')
    return frame.cameras[0].image.pixels


def _within(sample, range_m):
    """Return the sample with boxes beyond the reach of the networks ignored."""
    truth = sample.truth
    is_far = (np.abs(truth.center[:, :2]) > range_m).any(axis=1)
    return replace(sample, truth=replace(truth, is_ignored=truth.is_ignored | is_far))
