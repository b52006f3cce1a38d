# SPDX-License-Identifier: Apache-2.0
"""`mmperception evaluate PATH`: figures on a bag, drive or folder with truth."""

from pathlib import Path

from mmperception.cli.settings import add_settings, config_of, EXACT
from mmperception.datasets import kitti, layout
from tqdm import tqdm

ACCURACY, PATH_COST, SIGNS = 'accuracy', 'path-cost', 'signs'
FUSION, HOMOGENEITY = FUSION_SUITES = ('fusion', 'homogeneity')
SUITES = (ACCURACY, PATH_COST, SIGNS, 'robustness', 'sim-gap', *FUSION_SUITES)
SIMULATED = Path('simulated')  # instead of a path: streets made on the spot, with all their truth


def add_arguments(parser):
    """Declare the options."""
    parser.add_argument(
        'path', type=Path, help='bag, KITTI drive or object folder, GTSDB or GTSRB folder; '
        'path-cost, signs, fusion and homogeneity: or simulated'
    )  # fmt: skip
    parser.add_argument('--suite', choices=SUITES, help='boxes of a network (accuracy), the cost '
                        'grid of geometry alone, signs, boxes under degraded sensors, '
                        'simulated against real vehicles, what each sensor gives (fusion), or how '
                        'alike the encoders are; by default what fits PATH')  # fmt: skip
    parser.add_argument('--sign-truth', type=Path, metavar='FILE',
                        help='list of the signs of a KITTI drive, for --suite signs')  # fmt: skip
    parser.add_argument('--pictures', type=Path, metavar='DIR',
                        help='GTSDB: pictures of what was missed, false and misread')  # fmt: skip
    parser.add_argument('--calibrate', action='store_true',
                        help='GTSDB: judge each fold with a calibration of the others, and print '
                        'that of all')  # fmt: skip
    parser.add_argument('--every', type=int, default=1, metavar='N',
                        help='robustness, fusion: judge each N-th frame only')  # fmt: skip
    parser.add_argument('--against', nargs='+', default=[], metavar='FILE',
                        help='fusion, homogeneity: further weights, on the same frames; '
                        'differences are to --weights')  # fmt: skip
    parser.add_argument('--other', type=Path, nargs='+', default=[], metavar='DRIVE',
                        help='fusion: KITTI drives whose images are swapped in; by default those '
                        'of the frame half of PATH away; sim-gap: further training '
                        'drives')  # fmt: skip
    parser.add_argument('--scenes', type=int, default=40, metavar='N',
                        help='fusion and homogeneity of simulated: how many')  # fmt: skip
    parser.add_argument('--drives', type=int, default=4, metavar='N',
                        help='simulated: how many drives, of seeds 101 and on')  # fmt: skip
    parser.add_argument('--seconds', type=float, default=4.0, help='simulated: of each drive')
    parser.add_argument('--corrupt', metavar='NAME/SEVERITY',
                        help='path-cost: degraded sweeps, beams/2 or fog/1')  # fmt: skip
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures here too')
    add_settings(parser)


def run(args):
    """Judge every frame of a path, print the figures and write them as JSON."""
    from mmperception.cli import fusion_suites, suites

    if args.suite == PATH_COST and args.path == SIMULATED and not args.path.exists():
        config = config_of(args)
        metrics = suites.simulated_path_cost(args.drives, args.seconds, config, args.corrupt)
        return _report(args, PATH_COST, 'none', metrics)
    if args.suite == SIGNS and args.path == SIMULATED and not args.path.exists():
        from mmperception.cli.signs import evaluate_simulated

        return _report(args, SIGNS, 'signs', evaluate_simulated(args))
    if args.suite in FUSION_SUITES:
        return _report(args, args.suite, *fusion_suites.evaluate(args))
    kind = layout.layout_of(args.path)
    suite = args.suite or (SIGNS if kind in (layout.GTSDB, layout.GTSRB) else ACCURACY)
    if suite == SIGNS:
        from mmperception.cli.signs import evaluate_signs, sign_config_of

        config = sign_config_of(args, settings_of_path(args.path, kind))
        pictures, calibrate = args.pictures, args.calibrate
        weights, metrics = evaluate_signs(
            args.path, kind, config, args.sign_truth, pictures, calibrate
        )
        return _report(args, suite, weights, metrics)
    config = config_of(args, defaults=settings_of_path(args.path, kind))
    samples, total, mounting = open_samples(args.path, kind, config)
    samples = tqdm(samples, total=total, unit='frame', disable=None)
    if suite == PATH_COST:
        weights, metrics = suites.path_cost(samples, config, args.corrupt)
    elif suite == 'robustness':
        weights, metrics = suites.robustness(samples, config, mounting, args.every)
    elif suite == 'sim-gap':
        weights, metrics = suites.sim_gap([args.path, *args.other], samples)
    else:
        is_sequence = kind != layout.KITTI_OBJECTS
        weights, metrics = suites.accuracy(samples, config, mounting, is_sequence)
    return _report(args, suite, weights, metrics)


def _report(args, suite, weights, metrics):
    from mmperception.evaluation.report import as_mapping, source_commit, table, write_json

    report = as_mapping(suite, args.path.resolve().name, weights, source_commit(), metrics)
    print(table(report))
    if args.json:
        write_json(args.json, report)
        print(f'figures: {args.json.resolve()}')
    return 0


def settings_of_path(path, kind):
    """Return the settings that belong to the recording, such as the robot's outline, exact."""
    if kind == layout.BAG:
        from mmperception.ros.bag import settings_of

        return EXACT | settings_of(path)
    return EXACT | (kitti.SETTINGS if kind == layout.KITTI_DRIVE else {})


def open_samples(path, kind, config):
    """Return the samples of a path, their number (None: unknown) and the static mounting."""
    if kind == layout.BAG:
        from mmperception.ros.bag import contents_of
        from mmperception.ros.extrinsics import mounting_from_bag
        from mmperception.ros.offline import frames_from_bag

        total = contents_of(path).counts.get('/lidar/points')
        return frames_from_bag(path, config), total, mounting_from_bag(path, config)
    if kind == layout.KITTI_DRIVE:
        drive = kitti.KittiDrive(path)
        return drive.samples(), drive.num_frames, drive.mounting
    if kind == layout.KITTI_OBJECTS:
        from mmperception.datasets.kitti_object import KittiObjectFolder

        folder = KittiObjectFolder(path)
        if not folder.has_labels:
            raise ValueError(f'{path}: has no label_2 to compare with; predict needs none')
        return folder.samples(), folder.num_frames, None
    raise ValueError(f'{path}: is a {kind}, which shows signs alone: use --suite signs')
