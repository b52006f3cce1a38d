# SPDX-License-Identifier: Apache-2.0
"""`mmperception bench soak`: the nodes for a long time, with a fault every few seconds."""

import json
from pathlib import Path
import signal
import tempfile

from mmperception.cli import WrongUse
from mmperception.cli.settings import config_of

SECONDS, LEAST_S, SIMULATED_S, FEWEST_HZ = 120.0, 20.0, 10.0, 3.0
# Complaints in the last line; the report has all.
MOST = 5


def add_soak_arguments(parser):
    """Declare what only a soak takes."""
    parser.add_argument('--seed', type=int, default=1, help='soak: another seed, other faults')
    parser.add_argument(
        '--rate', type=float, default=4.0, metavar='HZ', help='soak: sweeps a second (default 4)'
    )
    parser.add_argument(
        '--resume', type=float, default=1.0, metavar='S',
        help='soak: a result after a fault comes at most this much later than usual (default 1)',
    )  # fmt: skip


def run_soak(args):
    """Run, print a line a minute, judge; return the report."""
    from mmperception.evaluation.latency import describe_machine
    from mmperception.evaluation.soak import judge
    from mmperception.evaluation.soak_faults import make_schedule
    from mmperception.ros.soak import sensors_in, soak

    seconds = args.seconds or SECONDS
    if seconds < LEAST_S or not args.rate >= FEWEST_HZ:
        raise WrongUse(f'give --seconds of {LEAST_S:g} or more, --rate of {FEWEST_HZ:g} or more')
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leave like Ctrl-C: in order
    about = {'machine': describe_machine('cpu'), 'seed': args.seed, 'rate_hz': args.rate}

    def report(recorded):
        result = {**about, **judge(recorded, args.resume)}
        if args.json:
            Path(args.json).write_text(json.dumps(result, indent=2) + '\n')
        print(_line(result), flush=True)
        return result

    with tempfile.TemporaryDirectory(prefix='mmperception-soak-') as folder:
        plan = _plan(args, seconds, Path(folder))
        faults = make_schedule(seconds, args.seed, sensors_in(plan.bag, plan.config))
        return report(soak(plan, faults, report))


def complain(result):
    """
    Return when a soak was passed.

    Raises
    ------
    ValueError
        With what went wrong.

    """
    complaints = result['complaints']
    if complaints:
        more = f'; and {len(complaints) - MOST} more' if len(complaints) > MOST else ''
        raise ValueError('; '.join(complaints[:MOST]) + more)


def _plan(args, seconds, folder):
    from mmperception.ros.bag import settings_of
    from mmperception.ros.replay_plan import check_bag, prepare, ReplayPlan
    from mmperception.ros.soak import SoakPlan

    bag = Path(args.bag) if args.bag else _simulated(folder / 'bag')
    config = config_of(args, defaults=settings_of(bag), mode='live')
    replay_plan = ReplayPlan(bag=bag, out=folder, config=config, may_overwrite=True)
    check_bag(replay_plan)
    return SoakPlan(
        bag=bag,
        out=folder,
        params=prepare(replay_plan),
        log=Path(args.json).with_suffix('.nodes.log') if args.json else folder / 'nodes.log',
        config=config,
        rate_hz=args.rate,
        seconds=seconds,
    )


def _simulated(path):
    from mmperception.cli.recording import write
    from mmperception.simulation.drive import SimulatedDrive

    write(path, SimulatedDrive(SIMULATED_S, 1).recording(), force=False)
    return path


def _line(result):
    memory, minutes = result['memory'], result['elapsed_s'] / 60
    return (
        f'{minutes:.1f} min: {result["faults_accounted"]} of {result["faults_injected"]} faults '
        f'accounted for, {memory["rss_now_mb"]:.0f} MB, {memory["threads_now"]} threads, '
        f'{len(result["complaints"])} complaints'
    )
