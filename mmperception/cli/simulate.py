# SPDX-License-Identifier: Apache-2.0
"""`mmperception simulate OUT`: a bag of a simulated drive, with truth."""

import math
from pathlib import Path


def add_arguments(parser):
    """Declare the verb's arguments."""
    parser.add_argument('out', type=Path, metavar='OUT', help='folder of the bag')
    parser.add_argument('--seconds', type=float, default=10.0, help='length of the drive')
    parser.add_argument('--seed', type=int, default=1, help='another seed is another street')
    parser.add_argument('--force', action='store_true', help='replace a bag at OUT')


def run(args):
    """Simulate and write."""
    from mmperception.cli import WrongUse

    if not 0 < args.seconds < math.inf:
        raise WrongUse(f'--seconds {args.seconds:g}: give a positive number')
    from mmperception.cli.recording import write
    from mmperception.ros.bag import check_place
    from mmperception.simulation.drive import SimulatedDrive

    check_place(args.out, args.force)
    write(args.out, SimulatedDrive(args.seconds, args.seed).recording(), args.force)
    return 0
