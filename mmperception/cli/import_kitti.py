# SPDX-License-Identifier: Apache-2.0
"""`mmperception import-kitti DRIVE OUT`: a KITTI raw drive as a bag, with truth."""

from pathlib import Path


def add_arguments(parser):
    """Declare the verb's arguments."""
    parser.add_argument(
        'drive', type=Path, metavar='DRIVE', help='such as .../2011_09_26_drive_0009_sync'
    )
    parser.add_argument('out', type=Path, metavar='OUT', help='folder of the bag')
    parser.add_argument('--force', action='store_true', help='replace a bag at OUT')


def run(args):
    """Convert."""
    from mmperception.cli.recording import write
    from mmperception.datasets.kitti import KittiDrive
    from mmperception.ros.bag import check_place

    check_place(args.out, args.force)
    write(args.out, KittiDrive(args.drive).recording(), args.force)
    return 0
