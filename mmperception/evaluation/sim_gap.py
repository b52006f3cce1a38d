# SPDX-License-Identifier: Apache-2.0
"""
The gap between simulated and real vehicles: `evaluate DRIVE --suite sim-gap`.

Two questions, asked of a training drive (never of the one that gives figures): does a simulated
vehicle return as many points as a real one at the same range, and can a classifier tell their
crops apart? Ratios near 1 and an accuracy near 50 percent say that training on one serves the
other.
"""

from dataclasses import dataclass

from mmperception.evaluation.metrics import Metric
from mmperception.geometry import apply, points_in_boxes
import numpy as np
import torch

VEHICLE_KINDS = ('car', 'van')
RANGES_M, HALF_WINDOW_M = (10.0, 20.0, 30.0), 4.0
MIN_POINTS, MAX_RANGE_M, MAX_CROPS = 10, 45.0, 600
NUM_HEIGHT_BINS, NUM_SIDE_BINS = 6, 4
NUM_FOLDS, CLASSIFIER_STEPS = 5, 300


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crop:
    """
    The points of one unoccluded vehicle.

    `local` (N, 3) float64 in the axes of its box, metres from its middle; `intensity` (N,);
    `size` (3,); `range_m` from the sensor; `group` names the object, so that the views of one
    object never stand on both sides of a split.
    """

    local: np.ndarray
    intensity: np.ndarray
    size: np.ndarray
    range_m: float
    group: str


def crops_of(samples):
    """
    Cut the unoccluded cars and vans out of labelled frames.

    Parameters
    ----------
    samples : iterable of Sample
        With clouds.

    Yields
    ------
    Crop
        With at least one point.

    """
    for sample in samples:
        frame, truth = sample.frame, sample.truth
        wanted = np.isin(np.array(truth.kinds, object), VEHICLE_KINDS)
        wanted &= (truth.occlusion == 0) & ~truth.is_ignored
        if frame.cloud is None or not wanted.any():
            continue
        points = apply(frame.base_from_lidar, frame.cloud.points)
        intensity = frame.cloud.intensity
        intensity = np.zeros(len(points)) if intensity is None else intensity
        inside = points_in_boxes(points, truth.center, truth.size, truth.yaw, 0.05)
        for m in np.flatnonzero(wanted & inside.any(1)):
            cos, sin = np.cos(truth.yaw[m]), np.sin(truth.yaw[m])
            delta = points[inside[m]] - truth.center[m]
            local = delta @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
            distance = np.linalg.norm(truth.center[m] - frame.base_from_lidar[:3, 3])
            yield Crop(
                local=local,
                intensity=intensity[inside[m]],
                size=truth.size[m],
                range_m=float(distance),
                group=f'{sample.source}/{truth.object_id[m]}',
            )


def sim_gap_metrics(real, simulated, seed=0):
    """
    Compare real and simulated crops.

    Parameters
    ----------
    real, simulated : list of Crop
        Of vehicles that nothing hides.
    seed : int
        Of the split into folds.

    Returns
    -------
    metrics : dict of str to Metric
        `points_ratio_R`: median number of points, simulated over real, within 4 m of R;
        `SIZE_ratio`: medians of the boxes; `classifier_accuracy` in percent, 50 is chance.

    Raises
    ------
    ValueError
        If there are too few crops on either side.

    """
    if min(len(real), len(simulated)) < 2 * NUM_FOLDS:
        raise ValueError(f'sim-gap: {len(real)} real and {len(simulated)} simulated vehicles only')
    metrics = {}
    for range_m in RANGES_M:
        counts = [_counts_near(crops, range_m) for crops in (simulated, real)]
        ratio = None
        if min(map(len, counts)):
            ratio = float(np.median(counts[0]) / np.median(counts[1]))
        metrics[f'points_ratio_{range_m:.0f}m'] = Metric(value=ratio, count=len(counts[1]))
    for axis, name in enumerate(('length', 'width', 'height')):
        medians = [np.median([crop.size[axis] for crop in crops]) for crops in (simulated, real)]
        metrics[f'{name}_ratio'] = Metric(value=float(medians[0] / medians[1]), count=len(real))
    value, count = classifier_accuracy(real, simulated, seed)
    return metrics | {'classifier_accuracy': Metric(value=value, count=count)}


def _counts_near(crops, range_m):
    return [len(crop.local) for crop in crops if abs(crop.range_m - range_m) <= HALF_WINDOW_M]


def classifier_accuracy(real, simulated, seed=0):
    """
    Return how often a logistic regression tells real from simulated, percent, and on how many.

    Both sides are equally many; objects, not crops, are dealt into five folds.
    """
    rng = np.random.default_rng(seed)
    sides = [
        [c for c in crops if len(c.local) >= MIN_POINTS and c.range_m <= MAX_RANGE_M]
        for crops in (real, simulated)
    ]
    number = min(*map(len, sides), MAX_CROPS)
    chosen = [[side[i] for i in rng.permutation(len(side))[:number]] for side in sides]
    crops = chosen[0] + chosen[1]
    features = torch.tensor(np.array([describe(crop) for crop in crops]), dtype=torch.float32)
    truth = torch.cat((torch.ones(number), torch.zeros(number)))
    groups = sorted({crop.group for crop in crops})
    fold_of_group = dict(zip(groups, rng.permutation(len(groups)) % NUM_FOLDS, strict=True))
    fold = torch.tensor([int(fold_of_group[crop.group]) for crop in crops])
    hits = 0
    for k in range(NUM_FOLDS):
        is_test = fold == k
        if is_test.any() and (~is_test).any():
            guess = _guess(features[~is_test], truth[~is_test], features[is_test])
            hits += int((guess == (truth[is_test] > 0.5)).sum())
    return 100.0 * hits / len(crops), len(crops)


def describe(crop):
    """Return the features of a crop (F,): density, where its points sit, how bright they are."""
    height = crop.local[:, 2] / crop.size[2] + 0.5
    along = np.abs(crop.local[:, 0]) / crop.size[0] * 2
    across = np.abs(crop.local[:, 1]) / crop.size[1] * 2
    bins = [np.histogram(np.clip(height, 0, 0.999), NUM_HEIGHT_BINS, (0, 1))[0]]
    bins += [np.histogram(np.clip(v, 0, 0.999), NUM_SIDE_BINS, (0, 1))[0] for v in (along, across)]
    shares = np.concatenate(bins) / len(height)
    density = np.log(len(height) * crop.range_m**2)
    extent = np.ptp(crop.local, axis=0) / crop.size
    bright = np.percentile(crop.intensity, (10, 50, 90))
    return np.concatenate((shares, extent, bright, (density, crop.range_m / 50)))


def _guess(features, truth, unseen):
    """Fit a logistic regression with a small penalty; return its answers (T,) bool."""
    mean, spread = features.mean(0), features.std(0) + 1e-3
    weight = torch.zeros(features.shape[1] + 1, requires_grad=True)
    optimizer = torch.optim.Adam([weight], 0.05)
    known = torch.cat(((features - mean) / spread, torch.ones(len(features), 1)), dim=1)
    for _ in range(CLASSIFIER_STEPS):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(known @ weight, truth)
        loss = loss + 1e-2 * (weight[:-1] ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    asked = torch.cat(((unseen - mean) / spread, torch.ones(len(unseen), 1)), dim=1)
    return (asked @ weight).detach() > 0
