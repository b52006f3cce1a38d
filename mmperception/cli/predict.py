# SPDX-License-Identifier: Apache-2.0
"""`mmperception predict --format kitti-object/gtsdb/gtsrb DIR --out OUT`: result files."""

from pathlib import Path

from mmperception.cli.settings import add_settings, config_of, EXACT

FORMATS = ('kitti-object', 'gtsdb', 'gtsrb')


def add_arguments(parser):
    """Declare the options."""
    parser.add_argument('path', type=Path, metavar='DIR', help='folder of inputs')
    parser.add_argument('--format', choices=FORMATS, required=True, help='what DIR holds')
    parser.add_argument(
        '--out', type=Path, required=True, help='folder of the results; of signs: CSV file'
    )
    parser.add_argument('--force', action='store_true', help='write into an existing folder')
    add_settings(parser)


def run(args):
    """Write what is found: a file for each frame, in float32 unless asked, or one of all signs."""
    from mmperception.datasets.kitti_object import KittiObjectFolder
    from mmperception.pipeline import load_perceiver
    from tqdm import tqdm

    if args.format != 'kitti-object':
        from mmperception.cli.signs import predict_signs, sign_config_of

        return predict_signs(args, sign_config_of(args))
    folder = KittiObjectFolder(args.path)
    if args.out.exists() and not args.force:
        raise ValueError(f'{args.out}: exists already; choose another --out or add --force')
    perceiver = load_perceiver(config_of(args, EXACT))
    args.out.mkdir(parents=True, exist_ok=True)
    for index in tqdm(range(folder.num_frames), unit='frame', disable=None):
        lines = _predict(folder, index, perceiver)
        text = ''.join(f'{line}\n' for line in lines)
        (args.out / f'{folder.frames[index]}.txt').write_text(text, encoding='ascii')
    print(f'{folder.num_frames} files: {args.out.resolve()}')
    return 0


def _predict(folder, index, perceiver):
    from mmperception.evaluation.kitti_results import result_lines

    frame = folder.sample(index).frame
    detections = perceiver.detect(frame)
    model = frame.cameras[0].model if frame.cameras else None
    size = (model.width, model.height) if model else None
    return result_lines(detections, folder.calibration(index), size)
