# SPDX-License-Identifier: Apache-2.0
"""
Homogeneity of the encoders: whether camera and LiDAR say the same of the same place.

`evaluate PATH --suite homogeneity`. Linear centred kernel alignment (Kornblith et al., ICML 2019)
of both features at the same in-view occupied pillars, before fusion, debiased as Song et al.
(JMLR 2012, eq. 5) do it for the dependence criterion. And what matters more: which objects one
finds and the other misses.
"""

from dataclasses import replace

from mmperception.evaluation.fusion import without_lidar
from mmperception.evaluation.matching import counted_truth, FrameJudge, Matching
from mmperception.evaluation.metrics import Metric
from mmperception.evaluation.viewpoint import viewpoint_of
from mmperception.network.model import PerceptionNetwork
from mmperception.tensors import inputs_from_frame, make_batch
import numpy as np
import torch

MIN_PILLARS = 4
SHUFFLE_SEED, UNTRAINED_SEED = 0, 0


def linear_cka(x, y):
    """
    Return the debiased linear alignment of two sets of features.

    Parameters
    ----------
    x, y : (n, C), (n, C') array
        Row i of both is of the same place; at least four.

    Returns
    -------
    float
        1 for features that are equal up to a turn, shift and scale; about 0 for independent ones,
        and also slightly below.

    Raises
    ------
    ValueError
        With too few rows, or numbers of rows that differ.

    """
    x, y = (np.asarray(part, np.float64) for part in (x, y))
    if len(x) != len(y) or len(x) < MIN_PILLARS:
        raise ValueError(f'alignment: {len(x)} and {len(y)} rows; equal, and at least 4')
    # The criterion does not change with the mean; its rounding does.
    x, y = x - x.mean(0), y - y.mean(0)
    scale = _dependence(x, x) * _dependence(y, y)
    return float(_dependence(x, y) / np.sqrt(scale)) if scale > 0 else 0.0


def _dependence(x, y):
    """
    Return the unbiased Hilbert-Schmidt criterion of linear kernels, without the n x n matrices.

    The kernels K = x x^T and L = y y^T count without their diagonals.
    """
    n = len(x)
    square_x, square_y = (x**2).sum(1), (y**2).sum(1)
    row_x, row_y = x @ x.sum(0) - square_x, y @ y.sum(0) - square_y  # sums of the rows of K and L
    trace = ((x.T @ y) ** 2).sum() - square_x @ square_y
    total = row_x.sum() * row_y.sum() / ((n - 1) * (n - 2))
    return (trace + total - 2 / (n - 2) * (row_x @ row_y)) / (n * (n - 3))


def features_of(network, frames):
    """
    Return LiDAR and camera features (n, C), (n, C') of all frames, float32.

    Parameters
    ----------
    network : PerceptionNetwork
        In evaluation mode.
    frames : iterable of Frame
        With cloud and image; others give nothing.

    """
    config, device = network.config, next(network.parameters()).device
    lidar, camera = [], []
    for frame in frames:
        batch = make_batch([inputs_from_frame(frame, config)], config.grid, config).to(device)
        with torch.inference_mode():
            pair = network(batch, with_pairs=True).pairs
        lidar.append(pair[0].cpu().numpy())
        camera.append(pair[1].cpu().numpy())
    return np.concatenate(lidar), np.concatenate(camera)


def homogeneity_metrics(samples, perceiver, viewpoint=None, against=None):
    """
    Make the figures of the suite.

    Parameters
    ----------
    samples : list of Sample
        With cloud and image.
    perceiver : Perceiver
        Whose encoders are compared.
    viewpoint : Viewpoint or None
        From where truth was labelled; that of each frame when None.
    against : Perceiver or None
        Another network of the same kind, such as of another seed: how alike two networks are, a
        ceiling for how alike two encoders of one network can be.

    Returns
    -------
    dict of str to Metric

    """
    frames = [sample.frame for sample in samples]
    lidar, camera = features_of(perceiver.network, frames)
    count = len(lidar)
    torch.manual_seed(UNTRAINED_SEED)
    untrained = features_of(PerceptionNetwork(perceiver.network.config).eval(), frames)
    order = np.random.default_rng(SHUFFLE_SEED).permutation(count)
    values = {
        'cka': linear_cka(lidar, camera),
        'cka_untrained': linear_cka(*untrained),
        'cka_shuffled': linear_cka(lidar, camera[order]),
    }
    if against is not None:
        other = features_of(against.network, frames)
        values['cka_against'] = linear_cka(*other)
        values['cka_lidar_of_both'] = linear_cka(lidar, other[0])
        values['cka_camera_of_both'] = linear_cka(camera, other[1])
    metrics = {name: Metric(value=value, count=count) for name, value in values.items()}
    return metrics | overlap_of_errors(samples, perceiver, viewpoint)


def overlap_of_errors(samples, perceiver, viewpoint=None):
    """
    Count the labelled vehicles that LiDAR and camera find, each without the other.

    Found is a centre within two metres from above, from the published score on.
    """
    min_score = perceiver.config.detection.score_threshold[0]
    found = {'lidar': [], 'camera': []}
    for sample in samples:
        view = viewpoint if viewpoint is not None else viewpoint_of(sample.frame)
        is_counted = counted_truth(sample, view)
        alone = {'lidar': replace(sample.frame, cameras=()), 'camera': without_lidar(sample.frame)}
        for name, frame in alone.items():
            detections = perceiver.detect(frame)
            judge = FrameJudge(sample, detections, view, is_counted)
            result = judge.judge('vehicle', Matching(space='near'))
            found[name].append(result.found_score >= min_score)
    lidar, camera = (np.concatenate([*parts, np.zeros(0, bool)]) for parts in found.values())
    counts = {
        'both': lidar & camera,
        'lidar_alone': lidar & ~camera,
        'camera_alone': camera & ~lidar,
        'neither': ~lidar & ~camera,
    }
    return {
        f'vehicles_found_by_{name}': Metric(value=int(hits.sum()), count=len(hits))
        for name, hits in counts.items()
    }
