# SPDX-License-Identifier: Apache-2.0
"""`mmperception bench`: latency per stage, the synchroniser, or a soak; with its machine."""

import json
from pathlib import Path
import re

from mmperception.cli import WrongUse
from mmperception.cli.bench_soak import add_soak_arguments, complain, run_soak
from mmperception.cli.bench_sync import run_sync
from mmperception.cli.settings import add_settings, config_of

NUM_FRAMES = 20
# Images take seconds to render; a few sweeps with theirs are enough to measure with.
SIMULATED_S = 0.3


def add_arguments(parser):
    """Declare the options."""
    parser.add_argument(
        'what',
        nargs='?',
        default='frame',
        choices=['frame', 'sync', 'soak'],
        help='frame: every stage of a frame (default); sync: the synchroniser alone; '
        'soak: the nodes, with a fault every few seconds',
    )
    parser.add_argument('--bag', help='take the frames of this bag; default: simulated ones')
    parser.add_argument(
        '--seconds',
        type=float,
        help='how long (default: 200 frames; sync: 60 s of messages; soak: 120 s)',
    )
    parser.add_argument(
        '--image', metavar='WxH', help='frame: enlarge the images to this size, such as 1360x800'
    )
    parser.add_argument('--json', metavar='FILE', help='write the figures here too')
    add_soak_arguments(parser)
    add_settings(parser)


def run(args):
    """Measure, print, and write."""
    if args.seconds is not None and not args.seconds > 0:
        raise WrongUse('--seconds must be positive')
    if args.image is not None and not re.fullmatch(r'[1-9]\d{1,3}x[1-9]\d{1,3}', args.image):
        raise WrongUse(f'--image: expected WIDTHxHEIGHT such as 1360x800, got {args.image}')
    result = RUNS[args.what](args)
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=2, default=float) + '\n')
    if args.what == 'soak':
        complain(result)
    return 0


def run_frame(args):
    """Measure the stages of frames and print them; return the figures."""
    from mmperception.cost import CostMapper
    from mmperception.evaluation.latency import describe_machine, measure_frames, with_image_size
    from mmperception.pipeline import load_perceiver
    import numpy as np
    from tqdm import tqdm

    config = config_of(args, defaults=_settings(args.bag))
    perceiver = load_perceiver(config)
    frames = _frames(args.bag, config)
    if args.image:
        size_px = tuple(int(number) for number in args.image.split('x'))
        frames = [with_image_size(frame, size_px) for frame in frames]
    machine = describe_machine(perceiver.device, perceiver.is_half)
    with tqdm(unit=' frame', disable=None) as bar:
        mapper = CostMapper(config)
        times_ms = measure_frames(frames, perceiver, mapper, args.seconds, bar.update)
    stages = {
        stage: dict(zip(('p50', 'p99'), np.percentile(values, (50, 99)).round(2), strict=True))
        for stage, values in times_ms.items()
    }
    result = {
        'machine': machine,
        'frames': len(times_ms['frame']),
        'points': int(np.median([len(frame.cloud.points) for frame in frames if frame.cloud])),
        'images': args.image or 'as they are',
        'weights': perceiver.weights_name,
        'latency_ms': stages,
    }
    _print(result)
    return result


def _settings(bag):
    if not bag:
        return {}
    from mmperception.ros.bag import settings_of

    return settings_of(bag)


def _frames(bag, config):
    from itertools import islice

    if bag:
        from mmperception.ros.offline import frames_from_bag

        frames = [sample.frame for sample in islice(frames_from_bag(bag, config), NUM_FRAMES)]
        if not frames:
            raise ValueError(f'{bag}: no frame in it, nothing to measure')
        return frames
    from mmperception.simulation.drive import SimulatedDrive

    drive = SimulatedDrive(seconds=SIMULATED_S, seed=1)
    return [sample.frame for sample in islice(drive.samples(), NUM_FRAMES)]


def _print(result):
    for key, value in result['machine'].items():
        print(f'{key}: {", ".join(value) if isinstance(value, list) else value}')
    print(f'{result["frames"]} frames of {result["points"]} points, weights {result["weights"]}')
    print(f'{"stage":14s} {"p50 ms":>9s} {"p99 ms":>9s}')
    for stage, figures in result['latency_ms'].items():
        print(f'{stage:14s} {figures["p50"]:9.2f} {figures["p99"]:9.2f}')


RUNS = {'frame': run_frame, 'sync': run_sync, 'soak': run_soak}
