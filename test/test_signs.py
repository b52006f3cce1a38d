# SPDX-License-Identifier: Apache-2.0
"""Signs in one image: folding, decoding, cutting, and a detector that learns one scene."""

import itertools
import json
import math

import cv2
from mmperception.config import from_mapping
from mmperception.network.signs import (
    build_sign_network,
    CLASSIFIER,
    default_config,
    DETECTOR,
    fold_pixels,
    NUM_OUTPUTS,
    REJECT,
    SignNetworkConfig,
)
from mmperception.sign_classes import NUM_SIGN_CLASSES, SIGN_CLASSES, sign_name, UNREAD
from mmperception.sign_weights import load_sign_network, load_sign_networks, load_sign_reader
from mmperception.signs import (
    _peaks,
    box_ious,
    crop_of,
    decode_signs,
    padded,
    resized_crop,
    SignReader,
    without_doubles,
)
from mmperception.simulation.sign_faces import sign_face
from mmperception.simulation.sign_plates import picture_with_plates
from mmperception.training.sign_pictures import paste
import numpy as np
import pytest
import torch


def mark_one_cell(pixels):
    """Answer like a detector that finds one sign, always at the same place."""
    h, w = ((n + -n % 16) // 4 for n in pixels.shape[:2])
    heat = torch.full((1, 1, h, w), -9.0)
    heat[:, :, 10, 20] = 4.0
    box = torch.zeros(1, 4, h, w)
    box[:, :2] = 0.25
    box[:, 2:] = float(np.log(6.0))
    return heat, box


def reader_that_says(class_id):
    """Return a reader whose classifier has one opinion."""

    def classifier(crops):
        logits = torch.zeros(len(crops), NUM_OUTPUTS)
        logits[:, class_id] = 8.0
        return logits

    reader = SignReader(None, bfloat16=False)
    reader.detector, reader.classifier = mark_one_cell, classifier
    return reader


def test_each_class_has_its_own_name_and_mirrors_are_mutual():
    names = [sign.name for sign in SIGN_CLASSES]
    assert len(set(names)) == NUM_SIGN_CLASSES == 43
    assert names[14] == 'stop' and names[17] == 'no_entry' and names[1] == 'speed_limit_30'
    assert sign_name(UNREAD) == 'sign'
    for class_id, sign in enumerate(SIGN_CLASSES):
        if sign.mirrored is not None:
            assert SIGN_CLASSES[sign.mirrored].mirrored == class_id
            assert SIGN_CLASSES[sign.mirrored].shape == sign.shape


def test_folding_keeps_every_pixel_in_its_cell():
    image = torch.arange(32 * 48 * 3, dtype=torch.int32).reshape(1, 32, 48, 3)
    image = (image % 256).to(torch.uint8)
    folded = fold_pixels(image)
    assert folded.shape == (1, 48, 8, 12)
    row, column, channel = 13, 30, 2
    place = ((row % 4) * 4 + column % 4) * 3 + channel
    value = float(image[0, row, column, channel])
    assert folded[0, place, row // 4, column // 4] == pytest.approx(value / 64 - 2)


def test_a_peak_becomes_the_box_around_its_cell():
    heat = torch.full((1, 1, 20, 30), -9.0)
    heat[0, 0, 7, 11] = 3.0
    box = torch.zeros(1, 4, 20, 30)
    box[0, :, 7, 11] = torch.tensor([0.25, -0.5, np.log(4.0), np.log(6.0)])
    boxes, score = decode_signs(heat, box)
    assert boxes == pytest.approx(np.array([[39.0, 16.0, 55.0, 40.0]]))
    assert score == pytest.approx([1 / (1 + np.exp(-3.0))])


def test_of_two_peaks_on_one_sign_the_better_stays():
    heat = torch.full((1, 1, 20, 30), -9.0)
    heat[0, 0, 7, 11], heat[0, 0, 7, 13], heat[0, 0, 7, 25] = 1.0, 3.0, 2.0
    box = torch.zeros(1, 4, 20, 30)
    box[0, 2:] = float(np.log(8.0))
    boxes, score = decode_signs(heat, box)
    assert len(boxes) == 2 and (np.diff(score) < 0).all()
    assert boxes[:, 0] == pytest.approx([38.0, 86.0])


def test_nothing_is_found_in_an_answer_without_peaks():
    boxes, score = decode_signs(torch.full((1, 1, 8, 8), -9.0), torch.zeros(1, 4, 8, 8))
    assert boxes.shape == (0, 4) and score.shape == (0,)


@pytest.mark.parametrize('limit', [0.02, 0.6])
def test_peaks_are_the_cells_that_a_window_of_three_agrees_with(limit):
    heat = torch.randn(1, 1, 20, 31, generator=torch.Generator().manual_seed(3))
    heat[0, 0, 0, 0] = heat[0, 0, 19, 30] = heat[0, 0, 5, 5] = heat[0, 0, 5, 6] = 5.0
    low = math.log(limit / (1 - limit))
    is_peak = (heat == torch.nn.functional.max_pool2d(heat, 3, 1, 1)) & (heat >= low)
    rows, columns = _peaks(heat[0, 0].numpy(), low)
    assert np.stack((rows, columns), axis=1).tolist() == is_peak[0, 0].nonzero().tolist()
    found = set(zip(rows.tolist(), columns.tolist(), strict=True))
    assert {(0, 0), (19, 30), (5, 5), (5, 6)} <= found


@pytest.mark.parametrize('size', [(375, 1242), (800, 1360), (97, 211)])
def test_any_image_size_is_found_in_its_own_pixels(size):
    found = reader_that_says(14).find(np.zeros((*size, 3), np.uint8))
    # By what octagons are known to be off, a third of a pixel, beside the cell.
    assert found.boxes == pytest.approx(np.array([[71.0, 31.0, 95.0, 55.0]]), abs=0.5)
    assert found.class_id.tolist() == [14]


def test_a_rejected_sign_keeps_its_box_and_loses_its_score():
    found = reader_that_says(REJECT).find(np.zeros((96, 160, 3), np.uint8))
    assert len(found.boxes) == 1 and found.score[0] < 0.02
    assert found.class_id.tolist() == [UNREAD]


def test_padding_adds_only_below_and_on_the_right():
    pixels = np.full((375, 1242, 3), 7, np.uint8)
    grown = padded(pixels)
    assert grown.shape == (384, 1248, 3)
    assert (grown[:375, :1242] == 7).all() and (grown[375:] == 128).all()


def test_a_crop_shows_the_sign_with_a_tenth_of_margin():
    pixels = np.zeros((120, 200, 3), np.uint8)
    pixels[40:80, 100:140] = 255
    crop = crop_of(pixels, np.array([100.0, 40.0, 140.0, 80.0]))
    assert crop.shape == (48, 48, 3)
    assert (crop[6:42, 6:42] == 255).all() and (crop[0] == 0).all() and (crop[:, 47] == 0).all()


@pytest.mark.parametrize('box', [(-5.0, -5.0, 9.0, 9.0), (190.0, 110.0, 230.0, 140.0)])
def test_a_box_at_the_edge_still_gives_a_crop(box):
    assert crop_of(np.zeros((120, 200, 3), np.uint8), np.array(box)).shape == (48, 48, 3)


@pytest.mark.parametrize('size', [(15, 16), (250, 243), (48, 48)])
def test_crops_of_any_size_are_read(size):
    assert resized_crop(np.zeros((*size, 3), np.uint8)).shape == (48, 48, 3)


def test_overlap_of_boxes_shifted_by_half_is_a_third():
    box = np.array([0.0, 0.0, 10.0, 10.0])
    others = np.array([[5.0, 0, 15, 10], [0, 0, 10, 10], [20, 20, 30, 30]])
    assert box_ious(box, others) == pytest.approx([1 / 3, 1.0, 0.0])


def test_the_networks_are_as_small_as_promised():
    sizes = {}
    for kind in (DETECTOR, CLASSIFIER):
        network = build_sign_network(default_config(kind))
        sizes[kind] = sum(p.numel() for p in network.parameters())
    assert sizes[CLASSIFIER] < 500_000 and sum(sizes.values()) < 1_200_000


def test_a_network_of_another_kind_is_refused_by_name(tmp_path):
    from mmperception.checkpoint import save_network

    config = SignNetworkConfig(kind=CLASSIFIER, channels=(4, 4, 4, 4))
    path = tmp_path / 'reader.safetensors'
    save_network(path, build_sign_network(config), {})
    network, _ = load_sign_network(path, CLASSIFIER)
    assert network.config == config
    with pytest.raises(ValueError, match='holds a sign_classifier, expected a sign_detector'):
        load_sign_network(path, DETECTOR)


def test_own_weights_need_the_word_of_their_user(tmp_path):
    from mmperception.checkpoint import save_network

    config = SignNetworkConfig(kind=CLASSIFIER, channels=(4, 4, 4, 4))
    save_network(tmp_path / 'reader.safetensors', build_sign_network(config), {})
    settings = from_mapping({'signs': {'weights': str(tmp_path)}}).signs
    with pytest.raises(ValueError, match='allow_unverified'):
        load_sign_networks(settings)
    assert [kind for kind, _, _ in load_sign_networks(settings, True)] == [CLASSIFIER]
    with pytest.raises(ValueError, match='give signs, drawn, or a folder'):
        load_sign_networks(from_mapping({'signs': {'weights': str(tmp_path / 'x')}}).signs)


def test_the_drawn_pair_is_free_and_finds_and_reads_what_it_learnt_from():
    config = from_mapping({'signs': {'weights': 'drawn'}})
    for _, _, metadata in load_sign_networks(config.signs):
        assert metadata['licence'] == 'Apache-2.0'
        assert json.loads(metadata['train'])['sources'] == ['drawn']
    reader = load_sign_reader(config, torch.device('cpu'))
    # Such a street as it was trained with, and one of its plates, a warning of pedestrians.
    pixels, boxes, class_id = picture_with_plates(4300, 2)
    found = reader.find(pixels, config.signs.score_threshold)
    overlap = box_ious(boxes[0], found.boxes)
    assert overlap.max() > 0.6 and found.class_id[overlap.argmax()] == class_id[0]
    # Faces in front of it, out of focus.
    pixels = cv2.GaussianBlur(pixels, (0, 0), 2)
    read = 0
    for class_id in range(NUM_SIGN_CLASSES):
        image = pixels.copy()
        paste(image, sign_face(class_id, 44).astype(np.float32) / (1, 1, 1, 255), 500, 150)
        found = reader.find(image, config.signs.score_threshold)
        is_there = box_ious(np.array([500, 150, 544, 194], np.float32), found.boxes) > 0.5
        read += bool((found.class_id[is_there] == class_id).any())
    assert read > 0.8 * NUM_SIGN_CLASSES


def test_one_scene_is_learnt_in_seconds():
    from mmperception.simulation.sign_faces import sign_face
    from mmperception.training.sign_loop import detector_loss
    from mmperception.training.sign_pictures import paste
    from mmperception.training.sign_scenes import stack_targets

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    image = rng.integers(60, 120, (128, 128, 3)).astype(np.uint8)
    face = sign_face(14, 32).astype(np.float32)
    face[..., 3] /= 255
    paste(image, face, 70, 33)
    truth = np.array([70.0, 33.0, 102.0, 65.0])
    targets = stack_targets([([truth], [])], 128)
    network = build_sign_network(SignNetworkConfig(kind=DETECTOR, channels=(16, 16, 16)))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    folded = fold_pixels(torch.from_numpy(image)[None])
    for _ in itertools.repeat(None, 60):
        loss, _ = detector_loss(*network(folded), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    boxes, score = SignReader(network, bfloat16=False).detect(image)
    assert score[0] > 0.5
    assert box_ious(truth, boxes)[0] > 0.8


def test_of_overlapping_boxes_the_best_stay_and_what_only_a_dropped_one_hides_stays_too():
    # The second overlaps the first, the third the second alone.
    boxes = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10], [40, 0, 50, 10]], np.float32)
    assert without_doubles(boxes).tolist() == [0, 2, 3]
    assert without_doubles(boxes[:0]).tolist() == []


def test_weights_of_half_the_room_come_back_nearly_the_same(tmp_path):
    from mmperception.checkpoint import save_network

    torch.manual_seed(0)
    network = build_sign_network(SignNetworkConfig(kind=CLASSIFIER, channels=(4, 4, 4, 4)))
    save_network(tmp_path / 'whole.safetensors', network, {})
    save_network(tmp_path / 'half.safetensors', network, {}, float16=True)
    again, _ = load_sign_network(tmp_path / 'half.safetensors')
    for name, value in network.state_dict().items():
        assert again.state_dict()[name].dtype == value.dtype
        assert torch.allclose(again.state_dict()[name], value, rtol=1e-3, atol=1e-6)
    sizes = [(tmp_path / f'{n}.safetensors').stat().st_size for n in ('whole', 'half')]
    assert sizes[1] < 0.75 * sizes[0]
