# SPDX-License-Identifier: Apache-2.0
"""
The sign branches of `predict` and `evaluate`.

`--weights` is a folder of sign networks, by default the shipped pair. A network that left out a
fold of GTSDB or GTSRB in training, as its header says, is judged on that fold alone.
"""

from dataclasses import replace
import json
import logging

from mmperception.cli import WrongUse
from mmperception.cli.settings import config_of
from mmperception.datasets import layout
from mmperception.datasets.gtsrb import NUM_FOLDS
from mmperception.network.signs import CLASSIFIER, DETECTOR
import numpy as np
from tqdm import tqdm

logger = logging.getLogger(__name__)
NO_FOLD, UNSEEN = -1, -2
SHIPPED_OBSTACLES = 'street'


def sign_config_of(args, defaults=None):
    """Return the Config of the options; `--weights` names the sign networks."""
    own, args.weights = args.weights, None
    config = config_of(args, defaults)
    if own is None or own == SHIPPED_OBSTACLES:
        return config
    return replace(config, signs=replace(config.signs, weights=own))


def predict_signs(args, config):
    """Write `file;x1;y1;x2;y2;class;score` or `file;class;score` for every picture below DIR."""
    from mmperception.datasets.gtsdb import list_pictures
    from mmperception.datasets.gtsrb import read_picture
    from mmperception.devices import choose_device
    from mmperception.sign_weights import load_sign_reader

    files = list_pictures(args.path)
    if args.out.exists() and not args.force:
        raise ValueError(f'{args.out}: exists already; choose another --out or add --force')
    reader = load_sign_reader(config, choose_device(config.device))
    lines_of = _gtsdb_lines if args.format == 'gtsdb' else _gtsrb_lines
    lines = []
    for file in tqdm(files, unit='picture', disable=None):
        lines += lines_of(file.as_posix(), read_picture(args.path / file), reader)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')
    print(f'{len(files)} pictures, {len(lines)} lines: {args.out.resolve()}')
    return 0


def _gtsdb_lines(file, pixels, reader):
    found = reader.find(pixels)
    for box, class_id, score in zip(found.boxes, found.class_id, found.score, strict=True):
        edges = ';'.join(f'{edge:.1f}' for edge in box)
        yield f'{file};{edges};{class_id};{score:.6f}'


def _gtsrb_lines(file, pixels, reader):
    from mmperception.signs import resized_crop

    classes = reader.read([resized_crop(pixels)])[0, :-1]
    yield f'{file};{classes.argmax()};{classes.max():.6f}'


def evaluate_signs(path, kind, config, truth=None, pictures=None, calibrate=False):
    """
    Judge the sign networks on a GTSDB or GTSRB folder, or on a KITTI drive with a list of signs.

    Returns
    -------
    weights : str
    metrics : dict of str to Metric

    """
    if kind == layout.GTSDB:
        return _evaluate_gtsdb(path, config, pictures, calibrate)
    if kind == layout.GTSRB:
        return _evaluate_gtsrb(path, config)
    if kind == layout.KITTI_DRIVE and truth is not None:
        return _evaluate_drive(path, config, truth)
    raise WrongUse(
        f'{path}: is a {kind}; --suite signs needs a GTSDB or GTSRB folder, or a KITTI drive '
        'and --sign-truth'
    )


def evaluate_simulated(args):
    """Return the figures of simulated drives, whose plates are known."""
    from mmperception.cli.suites import FIRST_SEED
    from mmperception.devices import choose_device
    from mmperception.evaluation.sign_truth import judge_signs, sighting_metrics
    from mmperception.sign_weights import load_sign_reader

    if args.drives < 1 or not args.seconds > 0:
        raise WrongUse('--drives and --seconds must be positive')
    config = sign_config_of(args)
    seeds = range(FIRST_SEED, FIRST_SEED + args.drives)
    reader, sightings = load_sign_reader(config, choose_device(config.device)), []
    for seed in tqdm(seeds, unit='drive', disable=None):
        sightings += judge_signs(seed, args.seconds, reader, config.signs)
    return sighting_metrics(sightings)


def _evaluate_drive(path, config, truth):
    from mmperception.datasets.kitti import KittiDrive
    from mmperception.devices import choose_device
    from mmperception.evaluation.sign_drives import drive_metrics, follow_signs, read_sign_truth
    from mmperception.sign_stage import SignStage
    from mmperception.sign_weights import load_sign_reader

    drive = KittiDrive(path)
    listed = read_sign_truth(truth, drive.name.split('_')[-2])
    stage = SignStage(load_sign_reader(config, choose_device(config.device)), config)
    samples = tqdm(drive.samples(), total=drive.num_frames, unit='frame', disable=None)
    return config.signs.weights, drive_metrics(listed, *follow_signs(samples, stage))


def _evaluate_gtsdb(path, config, pictures=None, calibrate=False):
    from mmperception.datasets.gtsdb import gtsdb_folds, read_gtsdb
    from mmperception.evaluation.sign_failures import failures_of
    from mmperception.evaluation.sign_fit import Peaks
    from mmperception.evaluation.signs import detection_metrics, JudgedImage

    images = read_gtsdb(path)
    readers = _readers(config, 'gtsdb_fold')
    folds = np.full(len(images), NO_FOLD)
    if set(readers) != {NO_FOLD}:
        folds = gtsdb_folds([image.pixels() for image in images])
    judged, failures, seen = [], [], []
    for image, fold in tqdm(list(zip(images, folds, strict=True)), unit='image', disable=None):
        if int(fold) in readers:
            said = readers[int(fold)].peaks(image.pixels())
            names = ('boxes', 'score', 'probability')
            peaks = Peaks(truth=image.boxes, **dict(zip(names, said, strict=True)))
            seen.append((image, int(fold), peaks))
    if calibrate:
        _calibrate(readers, [(fold, peaks) for _, fold, peaks in seen])
    for image, fold, peaks in seen:
        pixels = image.pixels()
        size_px = pixels.shape[1], pixels.shape[0]
        found = readers[fold].weighed(peaks.boxes, peaks.score, peaks.probability, size_px)
        judged.append(
            JudgedImage(file=image.file, boxes=image.boxes, class_id=image.class_id, found=found)
        )
        failures += failures_of(judged[-1], pixels, config.signs.score_threshold)
    if pictures is not None:
        _write_failures(failures, pictures)
    return _name(config, readers), detection_metrics(judged, config.signs.score_threshold)


def _calibrate(readers, seen):
    """Give each fold's reader the numbers of the others, and print those of all."""
    from mmperception.evaluation.sign_fit import fit_calibration

    print(fit_calibration([peaks for _, peaks in seen]))
    for fold, reader in readers.items():
        others = [peaks for own, peaks in seen if own != fold]
        if not others:
            raise WrongUse('--calibrate: needs networks of at least two folds')
        reader.calibration = fit_calibration(others)


def _write_failures(failures, folder):
    from mmperception.canvas import write_png
    from mmperception.evaluation.sign_failures import failure_sheet, KINDS, summary_of

    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        own = [failure for failure in failures if failure.kind == kind]
        if own:
            write_png(folder / f'{kind}.png', failure_sheet(own))
    print('\n'.join([*summary_of(failures), f'pictures: {folder.resolve()}']))


def _evaluate_gtsrb(path, config):
    from mmperception.datasets.gtsrb import gtsrb_folds, read_gtsrb
    from mmperception.evaluation.signs import reading_metrics
    from mmperception.signs import resized_crop

    crops = read_gtsrb(path)
    readers = _readers(config, 'gtsrb_fold')
    folds = np.full(len(crops), NO_FOLD)
    if set(readers) != {NO_FOLD}:
        folds = gtsrb_folds(crops)
    judged, probability = [], []
    for fold, reader in readers.items():
        own = [crop for crop, f in zip(crops, folds, strict=True) if f == fold]
        for crop in tqdm(own, unit='crop', disable=None):
            probability.append(reader.read([resized_crop(crop.pixels())])[0])
        judged += own
    metrics = reading_metrics(
        np.array([crop.class_id for crop in judged]),
        [crop.track for crop in judged],
        np.stack(probability),
    )
    return _name(config, readers), metrics


def _name(config, readers):
    folds = sorted(set(readers) - {NO_FOLD})
    return f'{config.signs.weights}{f", left-out folds {folds}" if folds else ""}'


def _readers(config, fold_name):
    """Return a SignReader by the fold of `fold_name` that its networks left out."""
    from mmperception.devices import choose_device
    from mmperception.sign_weights import load_sign_networks
    from mmperception.signs import SignReader

    networks = {DETECTOR: {}, CLASSIFIER: {}}
    for kind, network, metadata in load_sign_networks(config.signs, config.allow_unverified):
        train = json.loads(metadata.get('train', '{}'))
        fold = train.get(fold_name, NO_FOLD)
        has_seen = fold_name.removesuffix('_fold') in train.get('sources', ['gtsdb', 'gtsrb'])
        networks[kind][fold if has_seen else UNSEEN] = network
    for found in networks.values():
        # What was trained without the data set may be judged on every fold of it.
        unseen = found.pop(UNSEEN, None)
        if unseen is not None:
            found |= {fold: unseen for fold in range(NO_FOLD, NUM_FOLDS) if fold not in found}
    needed = networks[CLASSIFIER]
    if fold_name == 'gtsdb_fold':
        needed = {fold: n for fold, n in needed.items() if fold in networks[DETECTOR]}
    if not needed:
        raise ValueError(f'{config.signs.weights}: holds no detector and classifier of one fold')
    device = choose_device(config.device)
    return {
        fold: SignReader(
            networks[DETECTOR].get(fold), classifier, device=device, min_read=config.signs.min_read
        )
        for fold, classifier in sorted(needed.items())
    }
