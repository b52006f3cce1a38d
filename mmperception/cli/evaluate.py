# SPDX-License-Identifier: Apache-2.0
"""`mmperception evaluate PATH`: accuracy on a bag or folder with truth."""

from pathlib import Path

from mmperception.cli.settings import add_settings, config_of
from mmperception.datasets import layout

SUITES = ('accuracy', 'robustness', 'path-cost', 'signs', 'sim-gap', 'fusion')


def add_arguments(parser):
    """Declare the options."""
    parser.add_argument('path', type=Path, help='bag, KITTI drive or KITTI object folder')
    parser.add_argument('--suite', choices=SUITES, default='accuracy', help='which figures')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures here too')
    add_settings(parser)


def run(args):
    """Run the detector over every frame, print the figures and write them as JSON."""
    from mmperception.evaluation.accuracy import accuracy_metrics, judge_frames
    from mmperception.evaluation.report import as_mapping, source_commit, table, write_json
    from mmperception.pipeline import load_perceiver
    from tqdm import tqdm

    if args.suite != 'accuracy':
        raise ValueError(f'--suite {args.suite} comes with a later release; use accuracy')
    kind = layout.layout_of(args.path)
    config = config_of(args, defaults=_settings(args.path, kind))
    samples, total, mounting = _open(args.path, kind, config)
    perceiver = load_perceiver(config)
    judged = judge_frames(
        tqdm(samples, total=total, unit='frame', disable=None),
        perceiver,
        mounting,
        is_sequence=kind != layout.KITTI_OBJECTS,
    )
    metrics = accuracy_metrics(list(judged), config.detection.score_threshold)
    data, weights = args.path.resolve().name, str(perceiver.weights_name)
    report = as_mapping(args.suite, data, weights, source_commit(), metrics)
    print(table(report))
    if args.json:
        write_json(args.json, report)
        print(f'figures: {args.json.resolve()}')
    return 0


def _settings(path, kind):
    if kind != layout.BAG:
        return {}
    from mmperception.ros.bag import settings_of

    return settings_of(path)


def _open(path, kind, config):
    """Return the samples of a path, their number (None: unknown) and the static mounting."""
    if kind == layout.BAG:
        from mmperception.ros.bag import contents_of
        from mmperception.ros.extrinsics import mounting_from_bag
        from mmperception.ros.offline import frames_from_bag

        total = contents_of(path).counts.get('/lidar/points')
        return frames_from_bag(path, config), total, mounting_from_bag(path, config)
    if kind == layout.KITTI_DRIVE:
        from mmperception.datasets.kitti import KittiDrive

        drive = KittiDrive(path)
        return drive.samples(), drive.num_frames, drive.mounting
    if kind == layout.KITTI_OBJECTS:
        from mmperception.datasets.kitti_object import KittiObjectFolder

        folder = KittiObjectFolder(path)
        if not folder.has_labels:
            raise ValueError(f'{path}: has no label_2 to compare with; predict needs none')
        return folder.samples(), folder.num_frames, None
    raise ValueError(f'{path}: is a {kind}; sign networks come with a release of their own')
