# SPDX-License-Identifier: Apache-2.0
"""`mmperception check BAG`: what is in a bag, what is missing, whether it lines up."""

from itertools import islice
from pathlib import Path

# The picture is of the first second or so: the first sweeps may lack an image.
NUM_FRAMES = 12


def add_arguments(parser):
    """Declare the verb's arguments."""
    parser.add_argument('bag', type=Path, metavar='BAG', help='bag folder or file')
    parser.add_argument(
        '--out', type=Path, default=Path('output/check'), help='folder of check.png'
    )
    parser.add_argument('--params', metavar='FILE', help='YAML file of settings')


def run(args):
    """Look, print, draw."""
    from mmperception.ros.bag_check import BagCheck

    config = _config(args)
    check = BagCheck(args.bag, config)
    _print_topics(check)
    for level, sentence in check.findings:
        print(f'{level + ":":9}{sentence}')
    if not check.has_errors:
        _draw(args, config)
    print('cannot be used: see the errors above' if check.has_errors else 'usable')
    return int(check.has_errors)


def _config(args):
    from mmperception import config
    from mmperception.cli import WrongUse
    from mmperception.cli.settings import merged
    from mmperception.ros.bag import settings_of

    brought = settings_of(args.bag)
    try:
        values = config.read_mapping(args.params) if args.params else {}
        return config.from_mapping(merged(brought, values))
    except ValueError as error:
        place = '' if args.params in str(error) else f'{args.params}: '
        raise WrongUse(f'{place}{error}') from error


def _print_topics(check):
    contents = check.contents
    print(f'{contents.num_messages} messages in {contents.duration_s:.1f} s')
    width = max(map(len, check.streams), default=0)
    for topic, stream in check.streams.items():
        delay_ms = stream.delay_ms()
        delay = '' if delay_ms is None else f'  logged {delay_ms:+.0f} ms after its stamp'
        rate = f'{stream.count:6d} x {stream.rate_hz():6.1f} Hz'
        print(f'{topic:{width}}  {rate}  {stream.type_name}{delay}')


def _draw(args, config):
    """Draw the points of a sweep on its image, where there are both."""
    from mmperception.drawing import draw_lidar_on_image, write_png
    from mmperception.ros.offline import frames_from_bag

    frames = [sample.frame for sample in islice(frames_from_bag(args.bag, config), NUM_FRAMES)]
    frame = next((f for f in reversed(frames) if f.cloud is not None and f.cameras), None)
    if frame is None:
        print(f'note:    nothing to draw: no image among the first {NUM_FRAMES} sweeps')
        return
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / 'check.png'
    write_png(path, draw_lidar_on_image(frame.cameras[0], frame.cloud, frame.base_from_lidar))
    print(f'picture: {path.resolve()}')
