# SPDX-License-Identifier: Apache-2.0
"""`mmperception replay`: a bag through DDS into the nodes, and what they made of it."""

import math
from pathlib import Path
import signal

from mmperception.cli import WrongUse
from mmperception.cli.settings import add_settings, config_of

# What a replay leaves behind, in the order in which people look.
RESULTS = (
    'summary.json', 'overview.png', 'overview.mp4', 'obstacles.geojson', 'signs.geojson',
    'signs.png', 'output',
)  # fmt: skip


def add_arguments(parser):
    """Declare the options."""
    parser.add_argument('bag', help='rosbag2 folder or MCAP file')
    parser.add_argument('--out', metavar='DIR', help='results (default: BAG_replay)')
    parser.add_argument(
        '--mode',
        choices=['live', 'replay'],
        default='replay',
        help='replay: every sweep, without hurry (default); live: as a robot would hear it',
    )
    parser.add_argument('--rate', type=float, default=1.0, help='speed in mode live (default 1)')
    parser.add_argument('--loop', type=int, default=1, metavar='N', help='play N times')
    parser.add_argument(
        '--drop',
        action='append',
        default=[],
        metavar='SENSOR[@FROM-TO]',
        help='withhold lidar, gps, imu, odom or a camera, seconds; repeatable',
    )
    parser.add_argument('--video', action='store_true', help='write overview.mp4 too')
    parser.add_argument('--force', action='store_true', help='overwrite an existing DIR')
    add_settings(parser)


def run(args):
    """Play, sum up, and say where the results are."""
    from mmperception.ros.bag import settings_of
    from mmperception.ros.child import ChildDied
    from mmperception.ros.replay import replay
    from mmperception.ros.replay_plan import drop_from_text, ReplayPlan
    from tqdm import tqdm

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leave like Ctrl-C: in order
    if not 0 < args.rate < math.inf or args.loop < 1:
        raise WrongUse('--rate must be positive and finite, and --loop at least 1')
    config = config_of(args, defaults=settings_of(args.bag), mode=args.mode)
    try:
        drops = tuple(drop_from_text(text, config) for text in args.drop)
    except ValueError as error:
        raise WrongUse(str(error)) from error
    plan = ReplayPlan(
        bag=Path(args.bag),
        out=Path(args.out or f'{args.bag.rstrip("/").removesuffix(".mcap")}_replay'),
        config=config,
        drops=drops,
        rate=args.rate,
        loops=args.loop,
        has_video=args.video,
        may_overwrite=args.force,
    )
    try:
        summary = replay(plan, tqdm.write)
    except ChildDied as error:
        if error.exit_code == 2:
            raise WrongUse(str(error)) from error
        raise
    _print(summary, plan)
    if summary['sweeps_in'] and not summary['sweeps_processed']:
        raise ValueError(f'no sweep was processed: see {plan.out / "nodes.log"}')
    return 0


def _print(summary, plan):
    print(f'sweeps: {summary["sweeps_processed"]} of {summary["sweeps_in"]} processed')
    for what in ('detections', 'signs'):
        found = ', '.join(f'{n} {kind}' for kind, n in summary[what].items()) or 'none'
        print(f'{what}: {found}')
    for topic, reasons in summary['dropped'].items():
        print(f'dropped on {topic}: ' + ', '.join(f'{n} {why}' for why, n in reasons.items()))
    for name in RESULTS:
        path = (plan.out / name).resolve()
        if path.exists():
            print(path)
