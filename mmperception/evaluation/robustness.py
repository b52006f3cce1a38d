# SPDX-License-Identifier: Apache-2.0
"""
The robustness suite: vehicle AP under ten corruptions at three severities, relative to clean.

`evaluate PATH --suite robustness`. Each figure is min(1, S / S_clean) with S the average
precision at 3D 0.5 of the decoded boxes, thresholds unchanged; random rows are the mean of three
repetitions. Missing sensors stand apart: they are states, not degradations.
"""

from dataclasses import replace

from mmperception.evaluation.corruptions import (
    CAMERA_CORRUPTIONS,
    corrupt_frame,
    LIDAR_CORRUPTIONS,
    NUM_REPETITIONS,
    RANDOM,
    without_lidar,
)
from mmperception.evaluation.matching import counted_truth, FrameJudge, Matching
from mmperception.evaluation.metrics import average_precision_metric, Metric
from mmperception.evaluation.viewpoint import viewpoint_of
import numpy as np

SEVERITIES = (1, 2, 3)
# What the camera alone is worth: boxes in the image, and middles within 2 m seen from above.
LIDAR_GONE = (('lidar_gone_ap40_2d_0.5', 'image'), ('lidar_gone_ap40_2m', 'near'))


def robustness_metrics(samples, perceiver, viewpoint=None, every=1, progress=None):
    """
    Run a detector over clean and corrupted frames.

    Parameters
    ----------
    samples : iterable of Sample
        In order of time.
    perceiver : Perceiver
        Anything with `detect(frame)`.
    viewpoint : Viewpoint or None
        From where truth was labelled; that of each frame when None.
    every : int
        Judge each n-th frame only; stale images still come from the frames just before.
    progress : callable or None
        Wraps the list of rows, to show how far it is.

    Returns
    -------
    metrics : dict of str to Metric
        `clean` (AP), one share for each row and severity, the three means, `camera_gone`, and
        the average precisions of `LIDAR_GONE`.

    """
    samples = list(samples)
    judged = _Suite(samples, perceiver, viewpoint, every)
    clean = judged.score(lambda frame, index: frame)
    metrics = {'clean': clean}
    rows = [(n, s) for n in (*LIDAR_CORRUPTIONS, *CAMERA_CORRUPTIONS) for s in SEVERITIES]
    for name, severity in rows if progress is None else progress(rows):
        share = judged.share(name, severity, clean.value)
        metrics[f'{name}_{severity}'] = Metric(value=share, count=clean.count)
    for group, names in (('lidar', LIDAR_CORRUPTIONS), ('camera', CAMERA_CORRUPTIONS)):
        values = [metrics[f'{name}_{s}'].value for name in names for s in SEVERITIES]
        metrics[f'{group}_mean'] = Metric(value=float(np.mean(values)), count=len(values))
    values = [metrics[f'{name}_{severity}'].value for name, severity in rows]
    metrics['overall_mean'] = Metric(value=float(np.mean(values)), count=len(values))
    gone = judged.score(lambda frame, index: replace(frame, cameras=()))
    metrics['camera_gone'] = Metric(value=_share(gone.value, clean.value), count=clean.count)
    if not all(sample.frame.cameras for sample in samples):
        return metrics
    blind = judged.found(lambda frame, index: without_lidar(frame))
    for name, space in LIDAR_GONE:
        matching = Matching(space=space)
        metrics[name] = average_precision_metric([j.judge('vehicle', matching) for j in blind])
    return metrics


class _Suite:
    """Clean frames with what counts in them; scores any change of the frames."""

    def __init__(self, samples, perceiver, viewpoint, every):
        self._frames = [sample.frame for sample in samples]
        self._perceiver = perceiver
        self._judged = []
        for index, sample in enumerate(samples):
            view = viewpoint if viewpoint is not None else viewpoint_of(sample.frame)
            if index % every == 0:
                self._judged.append((index, sample, view, counted_truth(sample, view)))

    def score(self, change):
        """Return the vehicle AP when frame `index` is `change(frame, index)`."""
        judges = self.found(change)
        return average_precision_metric([j.judge('vehicle', Matching()) for j in judges])

    def found(self, change):
        """Return a FrameJudge for each frame, its `index`-th being `change(frame, index)`."""
        return [
            FrameJudge(
                sample, self._perceiver.detect(change(sample.frame, index)), viewpoint, is_counted
            )
            for index, sample, viewpoint, is_counted in self._judged
        ]

    def share(self, name, severity, clean):
        """Return the mean over repetitions of the score relative to the clean one, at most 1."""
        repetitions = range(NUM_REPETITIONS) if name in RANDOM else (None,)
        shares = []
        for repetition in repetitions:

            def change(frame, index, repetition=repetition):
                return corrupt_frame(frame, name, severity, index, repetition, self._frames)

            shares.append(_share(self.score(change).value, clean))
        return float(np.mean(shares))


def _share(score, clean):
    if not clean:
        raise ValueError('robustness: the clean score is zero or nothing counts: no ratio')
    return min(1.0, score / clean)
