# SPDX-License-Identifier: Apache-2.0
"""The suites fusion and homogeneity of `mmperception evaluate`: several weights, same frames."""

import json
from pathlib import Path

from mmperception.cli import WrongUse
from mmperception.cli.settings import config_of, EXACT
from mmperception.datasets import layout
import numpy as np
from tqdm import tqdm

# Scenes of the simulation that networks are judged on: a seed that no training uses.
SEED = 91_000


def evaluate(args):
    """Return the weights' names and the figures."""
    from mmperception import checkpoint
    from mmperception.pipeline import load_perceiver

    config = config_of(args, EXACT)
    perceivers = {}
    for name in dict.fromkeys((config.weights, *args.against)):
        short = Path(name).parent.name if Path(name).suffix else str(name)
        if short in perceivers:
            raise WrongUse(f'--against: two networks are called {short}')
        metadata = checkpoint.read_tensors(checkpoint.weights_path(name))[1]
        perceivers[short] = load_perceiver(config, name), metadata
    has_memory = any(p.network.fusion.has_memory for p, _ in perceivers.values())
    samples, is_judged, viewpoint, block = _frames(args, config, has_memory)
    names = ', '.join(perceivers)
    if args.suite == 'homogeneity':
        return names, _homogeneity(samples, is_judged, viewpoint, perceivers)
    return names, _fusion(args, samples, is_judged, viewpoint, block, perceivers)


def _frames(args, config, has_memory):
    """Return samples, which of them are judged, the viewpoint and the block of the bootstrap."""
    from mmperception.cli.evaluate import open_samples, settings_of_path, SIMULATED
    from mmperception.evaluation.accuracy import viewpoint_of_mounting
    from mmperception.evaluation.metrics import BLOCK_FRAMES
    from mmperception.simulation.drive import simulate_clip
    from mmperception.training.data import CLIP

    if args.path == SIMULATED and not args.path.exists():
        length = CLIP if has_memory and args.suite == 'fusion' else 1
        numbers = tqdm(range(args.scenes), unit='scene', disable=None)
        clips = [simulate_clip(SEED, number, True, length) for number in numbers]
        is_judged = np.arange(len(clips) * length) % length == length - 1
        return [sample for clip in clips for sample in clip], is_judged, None, 1
    kind = layout.layout_of(args.path)
    config = config_of(args, defaults=settings_of_path(args.path, kind))
    samples, total, mounting = open_samples(args.path, kind, config)
    samples = list(tqdm(samples, total=total, unit='frame', disable=None))
    viewpoint = None if mounting is None else viewpoint_of_mounting(mounting)
    block = max(1, BLOCK_FRAMES // args.every)
    return samples, np.arange(len(samples)) % args.every == 0, viewpoint, block


def _fusion(args, samples, is_judged, viewpoint, block, perceivers):
    from mmperception.evaluation.fusion import facts_of, FusionSuite, Row, seen_by

    first_judged = samples[int(np.flatnonzero(is_judged)[0])].frame
    rows = {}
    for name, (perceiver, metadata) in perceivers.items():
        sensors = json.loads(metadata.get('train', '{}')).get('sensors', 'both')
        facts = facts_of(perceiver, seen_by(first_judged, sensors), metadata)
        rows[name] = Row(perceiver=perceiver, sensors=sensors, facts=facts)
    range_m = min(row.perceiver.network.config.range_m for row in rows.values())
    suite = FusionSuite(samples, is_judged, viewpoint, _others(args), range_m, block)
    metrics, (first, *further) = {}, rows
    for name, row in tqdm(rows.items(), unit='network', disable=None):
        prefix = f'{name}/' if further else ''
        metrics |= {f'{prefix}{key}': value for key, value in suite.metrics(row).items()}
    for name in further:
        metrics |= suite.compare(rows[name], rows[first], f'{name}/minus_{first}')
    return metrics


def _others(args):
    """Return the images of other drives, None without any."""
    if not args.other:
        return None
    from mmperception.datasets.kitti import KittiDrive

    frames = (sample.frame for path in args.other for sample in KittiDrive(path).samples())
    return [frame.cameras[0].image.pixels for frame in frames if frame.cameras]


def _homogeneity(samples, is_judged, viewpoint, perceivers):
    from mmperception.evaluation.homogeneity import homogeneity_metrics

    samples = [sample for sample, judged in zip(samples, is_judged, strict=True) if judged]
    (perceiver, _), *others = perceivers.values()
    if len(others) > 1:
        raise WrongUse('--against: homogeneity compares two networks')
    return homogeneity_metrics(samples, perceiver, viewpoint, others[0][0] if others else None)
