# SPDX-License-Identifier: Apache-2.0
"""Sign data: folders are read, folds keep look-alikes together, training pictures are right."""

import cv2
from mmperception.datasets.gtsdb import gtsdb_folds, list_pictures, read_gtsdb, SignImage
from mmperception.datasets.gtsrb import gtsrb_folds, read_gtsrb
from mmperception.datasets.layout import GTSDB, GTSRB, layout_of
from mmperception.network.signs import CLASSIFIER, DETECTOR, REJECT
from mmperception.sign_classes import NUM_SIGN_CLASSES
from mmperception.simulation.sign_faces import sign_face
from mmperception.simulation.sign_others import DRAWERS, other_face, zone_face, ZONE_RING
from mmperception.training import sign_config, sign_data
from mmperception.training.sign_config import SignTrainConfig
from mmperception.training.sign_crops import ClassifierBatches
from mmperception.training.sign_data import load_sign_data, mirrored, pieces_of, SignData, warped
from mmperception.training.sign_pictures import paste
from mmperception.training.sign_scenes import DetectorBatches, stack_targets, visible_boxes
import numpy as np
import pytest

BOX = (40, 30, 72, 62)


def write_gtsdb(folder, number=3, suffix='.png', class_id=14):
    """Write images with one drawn sign each, listed as .ppm as the data set does."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for n in range(number):
        rng = np.random.default_rng(n)
        image = cv2.resize(rng.integers(0, 255, (6, 9, 3)).astype(np.uint8), (180, 120))
        face = sign_face(class_id, 32).astype(np.float32)
        face[..., 3] /= 255
        paste(image, face, BOX[0], BOX[1])
        cv2.imwrite(str(folder / f'{n:05d}{suffix}'), image[..., ::-1])
        lines.append(f'{n:05d}.ppm;{BOX[0]};{BOX[1]};{BOX[2]};{BOX[3]};{class_id}\n')
    (folder / 'gt.txt').write_text(''.join(lines[:-1]))
    return folder


def write_gtsrb(folder, classes=(14, 2), tracks=5, per_track=2):
    """Write crops of drawn signs in tracks."""
    rows = ['Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId,Path\n']
    for class_id in classes:
        (folder / 'Train' / str(class_id)).mkdir(parents=True)
        for track in range(tracks):
            for n in range(per_track):
                name = f'Train/{class_id}/{track:05d}_{n:05d}.png'
                face = cv2.resize(sign_face(class_id, 40)[..., :3], (48, 48))
                cv2.imwrite(str(folder / name), face[..., ::-1])
                rows.append(f'48,48,4,4,44,44,{class_id},{name}\n')
    (folder / 'Train.csv').write_text(''.join(rows))
    return folder


def make_data(tmp_path):
    images = read_gtsdb(write_gtsdb(tmp_path / 'gtsdb'))
    crops = read_gtsrb(write_gtsrb(tmp_path / 'gtsrb'))
    pixels = [image.pixels() for image in images]
    return SignData(
        images=images,
        pixels=pixels,
        crops=crops,
        crop_pixels=[crop.pixels() for crop in crops],
        faces=[sign_face(c, 64) for c in range(NUM_SIGN_CLASSES)],
        others=[other_face(np.random.default_rng(n), 64) for n in range(12)],
    )


def test_a_gtsdb_folder_is_read_whatever_the_suffix_of_its_images(tmp_path):
    images = read_gtsdb(write_gtsdb(tmp_path, suffix='.png'))
    assert layout_of(tmp_path) == GTSDB
    assert [image.file for image in images] == ['00000.png', '00001.png', '00002.png']
    assert images[0].boxes.tolist() == [list(BOX)] and images[0].class_id.tolist() == [14]
    assert images[2].boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ('line', 'sentence'),
    [
        ('00000.ppm;1;2;3;4', 'line 1 is not file;x1;y1;x2;y2;class'),
        ('00000.ppm;1;2;3;4;43', 'line 1 is not'),
        ('00009.ppm;1;2;3;4;5', 'image 00009 is not in the folder'),
    ],
)
def test_a_broken_truth_file_is_named_with_its_line(tmp_path, line, sentence):
    write_gtsdb(tmp_path)
    (tmp_path / 'gt.txt').write_text(line + '\n')
    with pytest.raises(ValueError, match=sentence):
        read_gtsdb(tmp_path)


def test_pictures_are_listed_below_sub_folders_and_other_files_left_out(tmp_path):
    write_gtsdb(tmp_path / 'a' / 'b', suffix='.ppm')
    write_gtsdb(tmp_path / 'c', number=2, suffix='.JPG')
    names = [path.as_posix() for path in list_pictures(tmp_path)]
    assert names[:3] == ['a/b/00000.ppm', 'a/b/00001.ppm', 'a/b/00002.ppm']
    assert len(names) == 5
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='holds no picture'):
        list_pictures(tmp_path / 'empty')


def test_look_alikes_share_a_fold_and_folds_are_even():
    rng = np.random.default_rng(0)
    places = [cv2.resize(rng.integers(0, 255, (5, 8, 3)).astype(np.uint8), (136, 80))
              for _ in range(20)]  # fmt: skip
    noisy = [np.clip(p + rng.normal(0, 4, p.shape), 0, 255).astype(np.uint8) for p in places]
    folds = gtsdb_folds(places + noisy)
    assert (folds[:20] == folds[20:]).all()
    assert np.bincount(folds).tolist() == [8] * 5


def test_tracks_are_never_split_and_every_fold_has_every_class(tmp_path):
    crops = read_gtsrb(write_gtsrb(tmp_path))
    assert layout_of(tmp_path) == GTSRB
    folds = gtsrb_folds(crops)
    for track in {crop.track for crop in crops}:
        assert len({folds[i] for i, crop in enumerate(crops) if crop.track == track}) == 1
    for class_id in (14, 2):
        own = {folds[i] for i, crop in enumerate(crops) if crop.class_id == class_id}
        assert own == set(range(5))


@pytest.mark.parametrize('drawer', DRAWERS)
def test_drawn_rejects_have_a_plate_with_something_on_it(drawer, monkeypatch):
    from mmperception.simulation import sign_others

    monkeypatch.setattr(sign_others, 'DRAWERS', (drawer,))
    face = other_face(np.random.default_rng(3), 64)
    covered = face[..., 3] > 128
    assert face.shape == (64, 64, 4) and 0.2 < covered.mean() <= 1.0
    assert face[..., :3][covered].std() > 20


def test_only_classes_with_a_mirror_image_are_mirrored():
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    turned, class_id = mirrored(picture, 33)
    assert class_id == 34 and (turned == picture[:, ::-1]).all()
    same, class_id = mirrored(picture, 14)
    assert class_id == 14 and (same == picture).all()


def test_a_batch_of_scenes_is_a_function_of_seed_and_index(tmp_path):
    train = sign_config.SignTrainConfig(crop_px=96, batch_size=3, steps=5)
    batches = DetectorBatches(train, make_data(tmp_path))
    images, targets = batches[3]
    again, same = batches[3]
    assert (images == again).all() and (targets.box == same.box).all()
    assert images.shape == (3, 96, 96, 3) and targets.heat.shape == (3, 1, 24, 24)
    assert not (batches[4][0] == images).all()


def test_a_batch_of_crops_has_all_kinds_and_repeats_itself(tmp_path):
    train = sign_config.SignTrainConfig(network=CLASSIFIER, batch_size=64, steps=5)
    batches = ClassifierBatches(train, make_data(tmp_path))
    crops, labels = batches[1]
    assert crops.shape == (64, 48, 48, 3)
    assert REJECT in labels and 14 in labels and 2 in labels
    assert (batches[1][0] == crops).all()


def test_the_target_of_a_sign_peaks_in_its_cell_and_gives_its_box():
    targets = stack_targets([([np.array([20.0, 12, 52, 44])], [np.array([60.0, 60, 70, 70])])], 96)
    row, column = np.unravel_index(int(targets.heat[0, 0].argmax()), (24, 24))
    assert (row, column) == (7, 9) and targets.heat[0, 0, row, column] == 1
    assert not targets.mask[0, 0, 16, 16] and targets.mask[0, 0, 7, 9]
    for (_, r, c), edges in zip(targets.where.tolist(), targets.box.numpy(), strict=True):
        middle = np.array([c, r, c, r]) + 0.5
        assert (edges + middle) * 4 == pytest.approx([20, 12, 52, 44])


def test_cut_signs_are_ignored_and_small_ones_too():
    boxes = np.array([[10, 10, 40, 40], [90, 10, 120, 40], [50, 50, 54, 54], [200, 200, 230, 230]])
    shift = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    visible, ignored = visible_boxes(boxes.astype(np.float32), shift, 96)
    assert list(visible) == [0] and sorted(ignored) == [1, 2]


def test_pieces_keep_each_sign_with_its_box(tmp_path):
    image = read_gtsdb(write_gtsdb(tmp_path))[0]
    pixels = image.pixels()
    piece, shown = pieces_of(np.random.default_rng(0), image, pixels)[0]
    x1, y1, x2, y2 = piece.boxes[0].astype(int)
    left, top, right, bottom = BOX
    assert (shown[y1:y2, x1:x2] == pixels[top:bottom, left:right]).all()
    assert shown.size < pixels.size


def test_an_unknown_setting_or_source_is_named(tmp_path):
    path = tmp_path / 'train.yaml'
    path.write_text('network: sign_detector\nepochs: 3\n')
    with pytest.raises(ValueError, match='unknown setting epochs'):
        sign_config.load(path)
    path.write_text('network: sign_detector\nsources: [gtsdb, photos]\n')
    with pytest.raises(ValueError, match='photos is none of'):
        sign_config.load(path)


def test_the_shipped_settings_of_both_networks_are_read():
    from pathlib import Path

    folder = Path(__file__).parents[1] / 'config'
    assert sign_config.load(folder / 'train_signs.yaml').network == DETECTOR
    assert sign_config.load(folder / 'train_sign_classifier.yaml').network == CLASSIFIER


@pytest.mark.parametrize('scale', [0.25, 0.4, 0.7, 1.0, 1.5])
def test_a_shrunk_picture_shows_a_sign_where_its_box_says(scale):
    picture = np.zeros((200, 200, 3), np.uint8)
    picture[60:100, 80:120] = 255
    matrix = scale * np.array([[1.0, 0.0, 3.0], [0.0, 1.0, -5.0]])
    rows, columns = np.nonzero(warped(picture, matrix, 200)[..., 0] > 127)
    seen = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    assert seen == pytest.approx(scale * np.array([83, 55, 123, 95]), abs=0.6)


def test_a_shrunk_picture_leaves_no_pixel_out():
    """A grid of lines that each second pixel would miss becomes an even grey."""
    picture = np.zeros((160, 160, 3), np.uint8)
    picture[:, ::4] = 255
    small = warped(picture, np.array([[0.25, 0.0, 0.0], [0.0, 0.25, 0.0]]), 40)
    assert np.ptp(small[2:-2, 2:-2]) < 40 and 40 < small.mean() < 90


def test_small_signs_are_learnt_more_often_than_large_ones(tmp_path):
    image = make_data(tmp_path).images[0]
    boxes = np.array([[10, 10, 26, 26], [60, 20, 124, 84]], np.float32)
    image = SignImage(file='a', path=image.path, boxes=boxes, class_id=np.array([1, 1]))
    data = SignData(images=[image], pixels=[np.zeros((120, 180, 3), np.uint8)], crops=[],
                    crop_pixels=[], faces=[], others=[])  # fmt: skip
    batches = DetectorBatches(SignTrainConfig(sources=('gtsdb',), crop_px=128), data)
    rng = np.random.default_rng(0)
    samples = [batches.sample(rng)[1] for _ in range(200)]
    widths = np.array([box[2] - box[0] for boxes in samples for box in boxes])
    assert (widths < 32).mean() > 0.5 and widths.min() >= 9 and (widths > 64).any()


def test_the_ring_of_a_zone_is_rejected_and_lies_where_it_is_said_to(tmp_path):
    rng = np.random.default_rng(4)
    face = zone_face(rng, 200)
    x1, y1, x2, y2 = (ZONE_RING * 200).astype(int)
    outside = face[..., :3].copy()
    outside[y1:y2, x1:x2] = 255
    # Red or grey with little green is the ring; nothing of it lies outside of its box.
    assert not ((outside[..., 0] > 150) & (outside[..., 1] < 80)).any()
    data = make_data(tmp_path)
    data = SignData(**{n: getattr(data, n) for n in data.__slots__ if n != 'zones'}, zones=[face])
    batches = ClassifierBatches(SignTrainConfig(network=CLASSIFIER, sources=('drawn',)), data)
    assert batches._ring_of_zone(rng).shape == (48, 48, 3)


@pytest.mark.parametrize('network', [DETECTOR, CLASSIFIER])
def test_in_simulated_streets_no_photograph_is_opened(monkeypatch, tmp_path, network):
    asked = []

    def street(seed, number):
        asked.append(number)
        pixels = np.random.default_rng(number).integers(0, 255, (240, 320, 3)).astype(np.uint8)
        return pixels, np.array([BOX], np.float32), np.array([14])

    monkeypatch.setattr(sign_data, 'picture_with_plates', street)
    train = SignTrainConfig(network=network, sources=('drawn',), streets=3)
    data = load_sign_data(train, tmp_path / 'no such folder')
    assert asked == [0, 1, 2] and not data.crops and len(data.faces) == NUM_SIGN_CLASSES
    if network == DETECTOR:
        assert [image.boxes.tolist() for image in data.images] == [[list(map(float, BOX))]] * 3
    else:  # five places of each street, none around its plate
        assert [image.file for image in data.images] == [
            f'simulated/{n}' for n in range(3) for _ in range(sign_data.PLACES)
        ]
    assert len(data.pixels) == len(data.images)


def test_streets_replace_photographs_and_do_not_mix_with_them():
    with pytest.raises(ValueError, match='drawn'):
        SignTrainConfig(sources=('gtsdb', 'drawn'), streets=3)
    with pytest.raises(ValueError, match='streets'):
        SignTrainConfig(sources=('drawn',), streets=-1)
