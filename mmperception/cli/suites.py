# SPDX-License-Identifier: Apache-2.0
"""The suites of `mmperception evaluate`: each returns the weights' name and its figures."""

from itertools import chain

from mmperception.cli import WrongUse
from tqdm import tqdm

# Scenes of the simulation that real vehicles are compared with: seeds that no training uses.
SIM_GAP_SEEDS, SIM_GAP_SCENES = 90_000, 40
# Drives on which the path cost is judged with all their truth.
FIRST_SEED = 101


def accuracy(samples, config, mounting, is_sequence):
    """Judge the boxes of a network."""
    from mmperception.evaluation.accuracy import accuracy_metrics, judge_frames
    from mmperception.pipeline import load_perceiver

    perceiver = load_perceiver(config)
    judged = list(judge_frames(samples, perceiver, mounting, is_sequence))
    metrics = accuracy_metrics(judged, config.detection.score_threshold)
    return str(perceiver.weights_name), metrics


def path_cost(samples, config, corruption=None):
    """Judge the cost grid of geometry alone, on sweeps as `NAME/SEVERITY` degrades them."""
    from mmperception.cost import CostMapper
    from mmperception.evaluation.path_cost import map_sweeps, path_cost_metrics
    from mmperception.evaluation.report import NO_WEIGHTS

    samples = _corrupted(samples, _corruption(corruption))
    sweeps = list(map_sweeps(samples, CostMapper(config)))
    return NO_WEIGHTS, path_cost_metrics(sweeps, config.ground)


def simulated_path_cost(num_drives, seconds, config, corruption=None):
    """Return the figures of simulated drives whose seeds nothing else uses."""
    from mmperception.evaluation.path_cost_truth import judge_drives, truth_metrics

    if num_drives < 1 or not seconds > 0:
        raise WrongUse('--drives and --seconds must be positive')
    seeds = range(FIRST_SEED, FIRST_SEED + num_drives)
    drives = judge_drives(seeds, seconds, config, _corruption(corruption))
    return truth_metrics(list(tqdm(drives, total=num_drives, unit='drive', disable=None)))


def _corrupted(samples, corruption):
    """Yield samples with degraded sweeps; of rows that depend on chance the first repetition."""
    from dataclasses import replace

    from mmperception.evaluation.corruptions import corrupt_frame, RANDOM

    for index, sample in enumerate(samples):
        if corruption is None:
            yield sample
            continue
        repetition = 0 if corruption[0] in RANDOM else None
        frame = corrupt_frame(sample.frame, *corruption, index, repetition)
        yield replace(sample, frame=frame)


def _corruption(text):
    """Return name and severity of `NAME/SEVERITY`, None of None."""
    from mmperception.evaluation.corruptions import LIDAR_CORRUPTIONS

    if text is None:
        return None
    known = [f'{name}/{severity}' for name in LIDAR_CORRUPTIONS for severity in (1, 2, 3)]
    if text not in known:
        raise WrongUse(f'--corrupt {text}: none of {", ".join(known)}')
    name, severity = text.split('/')
    return name, int(severity)


def robustness(samples, config, mounting, every):
    """Judge the boxes of a network while sensors degrade."""
    from mmperception.evaluation.accuracy import viewpoint_of_mounting
    from mmperception.evaluation.robustness import robustness_metrics
    from mmperception.pipeline import load_perceiver

    perceiver = load_perceiver(config)
    viewpoint = None if mounting is None else viewpoint_of_mounting(mounting)

    def progress(rows):
        return tqdm(rows, unit='row', disable=None)

    metrics = robustness_metrics(samples, perceiver, viewpoint, every, progress)
    return str(perceiver.weights_name), metrics


def sim_gap(paths, samples):
    """Compare simulated vehicles with those of training drives; `samples` are of the first."""
    from mmperception.datasets.kitti import KittiDrive, refuse_for_training
    from mmperception.evaluation.report import NO_WEIGHTS
    from mmperception.evaluation.sim_gap import crops_of, sim_gap_metrics
    from mmperception.simulation.drive import simulate_samples

    for path in paths:
        refuse_for_training(path)
    real = list(crops_of(chain(samples, *(KittiDrive(path).samples() for path in paths[1:]))))
    scenes = simulate_samples(SIM_GAP_SEEDS, num=SIM_GAP_SCENES)
    scenes = tqdm(scenes, total=SIM_GAP_SCENES, unit='scene', disable=None)
    return NO_WEIGHTS, sim_gap_metrics(real, list(crops_of(scenes)))
