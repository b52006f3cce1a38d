# SPDX-License-Identifier: Apache-2.0
"""`mmperception explain PATH --frame N --out DIR`: why the detections of a frame are there."""

from itertools import islice
import json
from pathlib import Path

from mmperception.cli.evaluate import open_samples, settings_of_path
from mmperception.cli.settings import add_settings, config_of
from mmperception.datasets import layout


def add_arguments(parser):
    """Declare the options."""
    parser.add_argument('path', type=Path, help='bag with truth, KITTI drive or object folder')
    parser.add_argument('--frame', type=int, default=0, metavar='N', help='from 0')
    parser.add_argument('--min-score', type=float, default=0.3, help='of what is explained')
    parser.add_argument('--out', type=Path, required=True, help='folder of pictures and JSON')
    parser.add_argument('--force', action='store_true', help='write into an existing folder')
    add_settings(parser)


def run(args):
    """Explain one frame: JSON, attention on the image, gates from above."""
    from mmperception.drawing import Moment, write_png
    from mmperception.evaluation.explain import draw_attention, draw_gates, explain_frame
    from mmperception.pipeline import load_perceiver

    if args.out.exists() and not args.force:
        raise ValueError(f'{args.out}: exists already; choose another --out or add --force')
    kind = layout.layout_of(args.path)
    config = config_of(args, defaults=settings_of_path(args.path, kind))
    samples, _, _ = open_samples(args.path, kind, config)
    sample = next(islice(samples, args.frame, None), None) if args.frame >= 0 else None
    if sample is None:
        raise ValueError(f'{args.path}: has no frame {args.frame}')
    perceiver = load_perceiver(config)
    entries, detections, looks = explain_frame(perceiver, sample.frame, args.min_score)
    args.out.mkdir(parents=True, exist_ok=True)
    report = {'data': str(args.path), 'frame': args.frame, 'weights': perceiver.weights_name,
              'detections': entries}  # fmt: skip
    (args.out / 'explain.json').write_text(json.dumps(report, indent=1) + '\n')
    if looks is not None:
        width = perceiver.network.config.image_width
        for k, view in enumerate(sample.frame.cameras):
            pixels = draw_attention(view, detections, looks, k, width)
            write_png(args.out / f'attention_{view.name}.png', pixels)
        moment = Moment(frame=sample.frame, detections=detections)
        write_png(args.out / 'gates.png', draw_gates(moment, looks))
    print(f'{len(entries)} detections explained: {args.out.resolve()}')
    return 0
