# SPDX-License-Identifier: Apache-2.0
"""Training on images: pictures move with their projection, the branch learns alone."""

from dataclasses import replace

from mmperception.decode import decode_boxes
from mmperception.network.heads import FOCAL_PX, vertical_focal_px
from mmperception.network.model import PerceptionNetwork
from mmperception.tensors import CameraInput, Inputs, make_batch
from mmperception.training.augment import draw_turn, move_picture, spoil_picture, turn_scene
from mmperception.training.camera_loop import CameraTrainer
from mmperception.training.config import TrainConfig
from mmperception.training.data import _degraded, _miscalibrated, MISCALIBRATED
from mmperception.training.targets import camera_targets
import numpy as np
import pytest
from synthetic_scene import CONFIG, GRID, make_scene, PIXEL_FROM_BASE
from test_training import needs_new_torch
import torch


def with_dot(scene):
    """Return the scene, its picture black but for a white dot where the pedestrian's middle is."""
    pixels = np.zeros_like(scene.pixels)
    u, v = place_of(scene, 1)
    row, column = round(v), round(u)
    pixels[slice(row - 3, row + 4), slice(column - 3, column + 4)] = 255
    return replace(scene, pixels=pixels)


def place_of(scene, m):
    u, v, depth = scene.pixel_from_base @ np.append(scene.center[m], 1.0)
    return u / depth, v / depth


@pytest.mark.parametrize('seed', range(12))
def test_a_moved_picture_shows_things_where_its_projection_says(seed):
    scene = with_dot(make_scene())
    moved = move_picture(scene, np.random.default_rng(seed))
    u, v = place_of(moved, 1)
    rows, columns = np.nonzero(moved.pixels[..., 0] > 127)
    if len(rows) and rows.max() < 95 and columns.max() < 639 and min(rows.min(), columns.min()):
        assert columns.mean() == pytest.approx(u, abs=1.0)
        assert rows.mean() == pytest.approx(v, abs=1.0)
    else:
        assert not (10 < u < 630 and 10 < v < 86)


def test_dont_care_boxes_move_with_the_picture():
    u, v = place_of(make_scene(), 1)
    box = np.array([[u - 5, v - 4, u + 5, v + 4]], np.float32)
    for seed in range(8):
        moved = move_picture(replace(make_scene(), ignore_2d=box), np.random.default_rng(seed))
        x1, y1, x2, y2 = moved.ignore_2d[0]
        assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx(place_of(moved, 1), abs=0.6)
        assert x2 - x1 >= 10 - 1e-3 and y2 - y1 >= 8 - 1e-3


def test_a_spoilt_picture_keeps_its_shape_and_now_and_then_goes_dark():
    scene = make_scene()
    means = [spoil_picture(scene, np.random.default_rng(s)).pixels.mean() for s in range(60)]
    assert min(means) < 0.5 * scene.pixels.mean() and np.median(means) > 0.8 * scene.pixels.mean()
    none = make_scene(with_pixels=False)
    assert spoil_picture(none, np.random.default_rng(0)) is none


def test_the_pictures_of_a_clip_change_alike_however_many_points_their_sweeps_have():
    scene = make_scene()
    shorter = replace(
        scene, points=scene.points[::2], intensity=scene.intensity[::2], ring=scene.ring[::2]
    )
    for seed in range(20):
        one, other = (_degraded(s, np.random.default_rng(seed)) for s in (scene, shorter))
        assert (one.pixels == other.pixels).all()
        assert (one.pixel_from_base == other.pixel_from_base).all()


def test_a_slipped_camera_is_a_few_pixels_off_and_the_scene_keeps_the_truth():
    scene, rng = make_scene(), np.random.default_rng(0)
    away = []
    for _ in range(200):
        slipped = replace(scene, pixel_from_base=_miscalibrated(scene, rng))
        away.append(np.hypot(*np.subtract(place_of(slipped, 0), place_of(scene, 0))))
    away = np.array(away)
    assert np.mean(away > 0) == pytest.approx(MISCALIBRATED, abs=0.1)
    assert 1.0 < np.median(away[away > 0]) < 10.0 and away.max() < 40.0
    assert scene.pixel_from_base is PIXEL_FROM_BASE


def test_focal_length_is_read_from_a_projection_however_the_scene_is_turned():
    assert vertical_focal_px(torch.tensor(PIXEL_FROM_BASE)).item() == pytest.approx(300.0)
    turned = turn_scene(make_scene(), draw_turn(np.random.default_rng(3), 1))
    focal = vertical_focal_px(torch.from_numpy(turned.pixel_from_base)).item()
    assert focal == pytest.approx(300.0, rel=1e-4)


def test_what_a_nearer_thing_hides_is_neither_hit_nor_background_in_the_image():
    scene = make_scene()
    # The pedestrian goes straight behind the car, where its box is covered whole.
    center = scene.center.copy()
    center[1] = (18.0, 4.5, 0.7)
    heat, mask, _, _ = camera_targets(replace(scene, center=center), (24, 160), 3)
    assert heat[1].max() == 0 and heat[0].max() == 1
    beside = camera_targets(scene, (24, 160), 3)
    assert beside[0][1].max() == 1
    # Of the car, which hides it, every cell still counts.
    assert mask[tuple(np.argwhere(heat[0] == 1)[0])]


def test_the_camera_is_told_what_its_image_shows_however_the_scene_is_turned():
    scene = make_scene()
    _, _, cells, values = camera_targets(scene, (24, 160), 3)
    for seed in range(6):
        turned = turn_scene(scene, draw_turn(np.random.default_rng(seed), seed % 4))
        _, _, others, again = camera_targets(turned, (24, 160), 3)
        assert (others == cells).all() and again == pytest.approx(values, abs=2e-2)


def test_a_mirrored_picture_shows_things_turned_the_other_way():
    scene = make_scene()
    _, _, _, values = camera_targets(scene, (24, 160), 3)
    mirror = np.array([[-1.0, 0, 639], [0, 1, 0], [0, 0, 1]])
    mirrored = replace(scene, pixel_from_base=mirror @ scene.pixel_from_base)
    _, _, _, other = camera_targets(mirrored, (24, 160), 3)
    of_car, of_other = values[values[:, 5] > 1], other[other[:, 5] > 1]
    assert of_other[0, 8] == pytest.approx(-of_car[0, 8]) and abs(of_car[0, 8]) > 0.3
    assert of_other[0, 9] == pytest.approx(of_car[0, 9])
    assert of_other[0, 2:8] == pytest.approx(of_car[0, 2:8], abs=1e-3)


def test_a_box_from_the_image_is_as_high_as_the_image_says():
    scene = make_scene()
    _, _, cells, values = camera_targets(scene, (24, 160), 3)
    label_row = np.argmax(values[:, 5] > 1)  # of the car: the pedestrian is cut by the rim
    network = PerceptionNetwork(CONFIG).eval()
    camera = CameraInput(pixels=scene.pixels, pixel_from_base=PIXEL_FROM_BASE)
    batch = make_batch(
        [Inputs(points=None, intensity=None, cameras=(camera,), motion=None)], GRID, CONFIG
    )
    with torch.no_grad():
        heads = network(batch)
    row, column = cells[label_row]
    heads.camera_heat.fill_(-9.0)
    heads.camera_heat[0, 0, 0, row, column] = 2.0
    told = torch.from_numpy(values[label_row].copy())
    told[4] += 0.2  # a depth that is a fifth too large
    heads.camera_box[0, 0, :, row, column] = told
    found = decode_boxes(heads, batch)[0]
    assert found['center'][0].tolist() == pytest.approx(scene.center[0].tolist(), abs=0.3)
    assert pytest.approx(370.0) == FOCAL_PX


@needs_new_torch
def test_the_camera_branch_learns_alone_and_the_rest_stays(tmp_path):
    train = TrainConfig(camera_alone=True, steps=12, batch_size=2, workers=0)
    scene = make_scene()
    trainer = CameraTrainer(train, tmp_path, [scene])
    before = {n: t.clone() for n, t in trainer.network.state_dict().items()}
    losses = []
    trainer.run(lambda step, parts: losses.append(parts['camera']))
    changed = {
        name.split('.')[0]
        for name, value in trainer.network.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {'trunk', 'camera_head'}
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert (tmp_path / 'weights.safetensors').exists()


@needs_new_torch
def test_a_camera_branch_without_any_image_says_what_is_missing(tmp_path):
    train = TrainConfig(camera_alone=True, workers=0)
    with pytest.raises(ValueError, match='no image'):
        CameraTrainer(train, tmp_path, [make_scene(with_pixels=False)])


def test_a_camera_branch_and_a_second_stage_are_not_trained_at_once():
    with pytest.raises(ValueError, match='one part'):
        TrainConfig(camera_alone=True, refine=True, start='weights')
