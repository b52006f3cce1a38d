# SPDX-License-Identifier: Apache-2.0
"""Training: augmentation keeps the world consistent, targets sit on objects, a scene is learnt."""

from dataclasses import replace

from mmperception.checkpoint import load_network, save_network
from mmperception.decode import decode_boxes
from mmperception.geometry import points_in_boxes
from mmperception.network.lidar import point_features
from mmperception.network.model import PerceptionNetwork
from mmperception.simulation.gallery import make_gallery
from mmperception.tensors import CameraInput, Inputs, make_batch
from mmperception.training import loop, settle
from mmperception.training.augment import draw_turn, look_aside, thin_points, turn_scene
from mmperception.training.config import load, TrainConfig
from mmperception.training.data import SceneBatches
from mmperception.training.galleries import load_gallery, NEGATIVE, save_gallery
from mmperception.training.loop import rate, Trainer
from mmperception.training.losses import box_iou, heat_loss, total_loss
from mmperception.training.paste import about_sensor, cut_objects, paste_objects
from mmperception.training.scenes import load_scene, save_scene, SENSOR_M
from mmperception.training.settle import settle_batch_norm
from mmperception.training.targets import bev_targets, camera_targets, stack_targets
import numpy as np
import pytest
from synthetic_scene import CONFIG, GRID, make_scene
import torch

needs_new_torch = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split('.')[:2])) < loop.OLDEST_TORCH,
    reason='training needs torch 2.11',
)


def test_scene_survives_its_file_within_half_a_step(tmp_path):
    scene = make_scene()
    save_scene(tmp_path / 's.npz', scene)
    loaded = load_scene(tmp_path / 's.npz')
    assert np.abs(loaded.points - scene.points).max() <= 0.0026
    assert (loaded.pixels == scene.pixels).all() and (loaded.label == scene.label).all()


@pytest.mark.parametrize('quadrant', range(4))
def test_turned_points_stay_in_their_turned_boxes_and_on_their_pixels(quadrant):
    scene = make_scene()
    turned = turn_scene(scene, draw_turn(np.random.default_rng(quadrant), quadrant))
    counts = [len(found['points']) for found in cut_objects(turned)]
    expected = [len(found['points']) for found in cut_objects(scene)]
    assert counts == pytest.approx(expected, abs=4)  # the cut's margin does not scale
    for before, after in ((scene.points, turned.points), (scene.center, turned.center)):
        old = np.c_[before, np.ones(len(before))] @ scene.pixel_from_base.T
        new = np.c_[after, np.ones(len(after))] @ turned.pixel_from_base.T
        assert np.allclose(old, new, atol=1e-2)


def test_heat_peaks_in_the_cell_of_the_object_and_hidden_objects_are_masked():
    heat, mask, cells, values = bev_targets(make_scene(view=False), GRID.coarser(2), 3)
    peak = np.argwhere(heat[0] == 1.0)
    assert peak.tolist() == [[int((3 + 12.8) / 0.4), int(12 / 0.4)]]
    assert np.argwhere(heat[1] == 1.0).tolist() == [[int((-2 + 12.8) / 0.4), int(8 / 0.4)]]
    assert not mask[0, int((8 + 12.8) / 0.4), int(22 / 0.4)]  # the van without points
    x = (cells[:, 1] + 0.5 + values[:, 0]) * 0.4
    y = (cells[:, 0] + 0.5 + values[:, 1]) * 0.4 - 12.8
    assert {(round(float(a), 3), round(float(b), 3)) for a, b in zip(x, y, strict=True)} == {
        (12.0, 3.0),
        (8.0, -2.0),
    }


def test_cells_outside_the_labelled_view_do_not_count():
    _, mask, _, _ = bev_targets(make_scene(), GRID.coarser(2), 3)
    assert mask[0, 32, 30]  # straight ahead
    assert not mask[0, 0, 5]  # 2 m ahead and 12.6 m to the right: outside the image
    scene = replace(make_scene(), ignore_2d=np.array([[300, 0, 340, 96]], np.float32))
    _, mask, _, _ = bev_targets(scene, GRID.coarser(2), 3)
    assert not mask[0, 32, 30]


def test_camera_target_sits_on_the_projected_centre():
    _, _, cells, values = camera_targets(make_scene(), (24, 160), 3)
    # The pedestrian: u = (2560 + 600) / 8, v = (384 - 270 + 450) / 8.
    u, v = (395 - 1.5) / 4, (70.5 - 1.5) / 4
    # Eight metres away, as a lens of 370 px instead of 300 would show it.
    found = [(c[1] + w[0], c[0] + w[1], np.exp(w[4])) for c, w in zip(cells, values, strict=True)]
    assert any(np.allclose(f, (u, v, 8.0 * 370 / 300), atol=1e-3) for f in found)


def test_scene_without_pixels_gives_no_camera_target():
    targets = stack_targets([make_scene(with_pixels=False)], GRID, (96, 640), CONFIG)
    assert not targets.camera_mask.any() and len(targets.camera_box) == 0


def pasted(donor, seed=4):
    """Return a full-turn scene before and after one object was pasted."""
    scene = make_scene(view=False)
    return scene, paste_objects(scene, [about_sensor(donor)], np.random.default_rng(seed))


def test_pasted_object_keeps_its_range_and_hides_what_is_behind():
    scene, moved = pasted(cut_objects(make_scene(view=False))[0])
    assert len(moved.center) == 4
    away = moved.center - SENSOR_M
    ranges = np.hypot(away[[0, 3], 0], away[[0, 3], 1])
    assert ranges[0] == pytest.approx(ranges[1], rel=1e-4)
    direction = away[3, :2] / ranges[1]

    def shadowed(points):
        along = (points - SENSOR_M)[:, :2] @ direction
        across = (points - SENSOR_M)[:, :2] @ np.array([-direction[1], direction[0]])
        return ((along > ranges[1] + 2.5) & (np.abs(across) < 0.5) & (along < ranges[1] + 7)).sum()

    assert shadowed(moved.points) < shadowed(scene.points)
    # What is not in its shadow stays.
    assert len(moved.points) > len(scene.points) - 500


def test_pasted_object_never_stands_in_another_or_in_a_wall():
    donor = cut_objects(make_scene(view=False))[0]
    scene = make_scene(view=False)
    azimuth = np.linspace(-np.pi, np.pi, 20_000)
    ring = np.stack(
        (11.9 * np.cos(azimuth), 11.9 * np.sin(azimuth), 0.5 + 7 * azimuth % 1), axis=1
    )
    walled = replace(scene, points=(np.concatenate((scene.points, ring + SENSOR_M * (1, 1, 0)))
                                    ).astype(np.float32),
                     intensity=np.zeros(len(scene.points) + 20_000, np.float32),
                     ring=np.zeros(len(scene.points) + 20_000, np.uint16))  # fmt: skip
    moved = paste_objects(walled, [about_sensor(donor)] * 5, np.random.default_rng(0))
    assert len(moved.center) == 3  # no direction is free: nothing was pasted
    assert moved.points.shape == walled.points.shape


def test_hard_negative_brings_points_and_no_box():
    donor = {**cut_objects(make_scene(view=False))[1], 'label': NEGATIVE}
    scene, moved = pasted(donor)
    assert len(moved.center) == len(scene.center)
    raised = (moved.points[:, 2] > 0.3).sum()
    assert raised > (scene.points[:, 2] > 0.3).sum() + 30


def test_scene_looked_at_aside_is_labelled_ahead_only():
    scene = look_aside(make_scene(view=False), np.random.default_rng(2))
    ahead = scene.points - SENSOR_M
    assert (np.abs(np.arctan2(ahead[:, 1], ahead[:, 0])) < 1.1).all() and len(ahead)
    counts = [len(found['points']) for found in cut_objects(scene, min_points=1)]
    for count in counts:  # boxes turned along with their points
        assert count > 20
    _, mask, _, _ = bev_targets(scene, GRID.coarser(2), 3)
    assert mask[0, 32, 30] and not mask[0, 0, 5]


def test_gallery_survives_its_file_and_things_fill_their_boxes(tmp_path):
    exhibits = make_gallery(3)
    save_gallery(tmp_path / 'g.npz', exhibits)
    things = load_gallery(tmp_path / 'g.npz')
    assert len(things) == len(exhibits) > 10
    assert {thing['label'] for thing in things} == {NEGATIVE, 0, 1, 2}
    for thing, exhibit in zip(things, exhibits, strict=True):
        assert np.abs(thing['points'] - exhibit.points).max() <= 0.0026
        if thing['label'] != NEGATIVE and len(thing['points']) > 50:
            box = thing['center'][None], thing['size'][None], np.array([thing['yaw']])
            assert points_in_boxes(thing['points'], *box, 0.12).mean() > 0.9


def test_two_processes_share_the_samples_of_a_run():
    train = TrainConfig(batch_size=1, window_m=(25.6, 25.6))
    first, second = (SceneBatches(train, CONFIG, [make_scene()], rank, 2) for rank in (0, 1))
    alone = SceneBatches(train, CONFIG, [make_scene()])
    assert torch.equal(first[3][0].points, alone[6][0].points)
    assert torch.equal(second[3][0].points, alone[7][0].points)


def test_thinned_scene_has_fewer_points_and_the_same_boxes():
    scene = make_scene()
    thinned = [thin_points(scene, np.random.default_rng(s)) for s in range(30)]
    assert min(len(t.points) for t in thinned) < 0.6 * len(scene.points)
    assert all((t.center == scene.center).all() for t in thinned)


def test_iou_of_a_box_moved_by_half_its_length_is_a_third():
    target = torch.tensor([[0.0, 0, 0.8, *np.log([4.0, 2.0, 1.5]), 0.0, 1.0, 1, 0]])
    moved = target.clone()
    moved[0, 0] = 2.0 / 0.4
    assert box_iou(moved, target, 0.4).item() == pytest.approx(1 / 3, rel=1e-5)
    assert box_iou(target, target, 0.4).item() == pytest.approx(1.0)


def test_masked_cells_cost_nothing():
    heat = torch.zeros(1, 1, 4, 4)
    logits = torch.full_like(heat, 5.0)
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    assert heat_loss(logits, heat, mask) == 0
    assert heat_loss(logits, heat, ~mask) > 10


def test_a_batch_is_a_function_of_seed_and_index():
    train = TrainConfig(batch_size=2, window_m=(25.6, 25.6))
    one, other = (SceneBatches(train, CONFIG, [make_scene()]) for _ in range(2))
    a, b = one[7][0], other[7][0]
    assert torch.equal(a.points, b.points)
    assert not torch.equal(a.pillar_cell, one[8][0].pillar_cell)


def test_an_old_torch_is_refused_with_the_version_that_is_needed(monkeypatch):
    monkeypatch.setattr(loop.torch, '__version__', '2.1.2+cu121')
    with pytest.raises(ValueError, match=r'needs 2\.11 or later, this is 2\.1\.2'):
        Trainer(TrainConfig(), 'unused', [])


@needs_new_torch
def test_one_scene_is_learnt_in_seconds():
    # Half the picture and a nearer window than elsewhere: a step costs a fifth.
    grid, config = (
        replace(GRID, y_min_m=-8.0, num_x=80, num_y=80),
        replace(CONFIG, image_width=320),
    )
    scene = make_scene(view=False)
    scene = replace(
        scene,
        pixels=scene.pixels[::2, ::2].copy(),
        pixel_from_base=np.diag((0.5, 0.5, 1.0)) @ scene.pixel_from_base,
    )
    torch.manual_seed(0)
    train = TrainConfig(steps=80, learning_rate=4e-3)
    trainer = Trainer(train, 'unused', [scene])
    camera = CameraInput(pixels=scene.pixels, pixel_from_base=scene.pixel_from_base)
    sample = Inputs(
        points=scene.points, intensity=scene.intensity, cameras=(camera,), motion=(4.0, 0.1)
    )
    batch = make_batch([sample], grid, config)
    targets = stack_targets([scene], grid, (48, 320), config)
    first, _ = total_loss(trainer.network(batch, targets.where), targets, 0.4)
    for step in range(60):
        trainer.step = step
        trainer._one_step(batch, targets)
    last, _ = total_loss(trainer.network(batch, targets.where), targets, 0.4)
    assert last < 0.2 * first
    with torch.no_grad():
        found = decode_boxes(trainer.network.train()(batch), batch)[0]
    best = {int(label): found['center'][i] for i, label in reversed([*enumerate(found['label'])])}
    assert np.abs(best[0][:2] - (12, 3)).max() < 0.3
    assert np.abs(best[1][:2] - (8, -2)).max() < 0.3


@needs_new_torch
def test_killed_run_resumes_where_it_was(tmp_path):
    scene = replace(make_scene(), pixels=make_scene().pixels[:32])
    train = TrainConfig(steps=3, batch_size=1, window_m=(12.8, 12.8), workers=0)
    whole = Trainer(train, tmp_path / 'whole', [scene])
    whole.run(lambda step, parts: None)
    first = Trainer(train, tmp_path / 'cut', [scene])
    first._one_step(*first.batches[0])
    first.step = 1
    first.save()
    second = Trainer(train, tmp_path / 'cut', [scene])
    second.resume()
    second.run(lambda step, parts: None)
    for name, value in whole.average.items():
        assert torch.allclose(second.average[name].float(), value.float(), atol=1e-5), name


@needs_new_torch
def test_a_fixed_camera_branch_stays_to_the_bit_while_all_else_learns(tmp_path):
    start = tmp_path / 'start.safetensors'
    save_network(start, PerceptionNetwork(TrainConfig().network), {})
    scene = replace(make_scene(), pixels=make_scene().pixels[:32])
    train = TrainConfig(steps=2, batch_size=1, window_m=(12.8, 12.8), workers=0, start=str(start),
                        camera_fixed=True, camera_batches=1.0)  # fmt: skip
    Trainer(train, tmp_path / 'run', [scene]).run(lambda step, parts: None)
    before = load_network(start)[0].state_dict()
    after = load_network(tmp_path / 'run' / 'weights.safetensors')[0].state_dict()
    for name, value in after.items():
        if name.startswith(('trunk.', 'camera_head.')):
            assert torch.equal(before[name], value), name
    learnt = [name for name in after if name.startswith(('backbone.', 'bev_head.'))]
    assert not all(torch.equal(before[name], after[name]) for name in learnt)


def test_settled_statistics_are_those_of_the_real_scenes():
    torch.manual_seed(0)
    network = PerceptionNetwork(CONFIG)
    weights = {name: p.clone() for name, p in network.named_parameters()}
    scenes = [make_scene(), make_scene()]
    settle_batch_norm(network, scenes, GRID)
    assert all(torch.equal(weights[name], p) for name, p in network.named_parameters())
    batch = make_batch([settle._inputs(scene) for scene in scenes], GRID, CONFIG)
    points = network.pillars.linear(point_features(batch))
    assert torch.allclose(network.pillars.norm.running_mean, points.mean(0), atol=1e-4)
    with torch.no_grad():  # settled on just these scenes, evaluation answers as training did
        settled = network.eval()(batch).heat_lidar
        assert torch.allclose(settled, network.train()(batch).heat_lidar, atol=0.05)


@needs_new_torch
def test_a_run_ends_by_its_minutes(tmp_path):
    scene = replace(make_scene(), pixels=make_scene().pixels[:32])
    train = TrainConfig(minutes=0.01, batch_size=1, window_m=(12.8, 12.8), workers=0)
    trainer = Trainer(train, tmp_path, [scene])
    trainer.run(lambda step, parts: None)
    assert 1 <= trainer.step < 200 and (tmp_path / 'weights.safetensors').exists()


def test_rate_warms_up_and_falls():
    assert rate(0.0) < rate(0.05) and rate(0.5) < rate(0.1) and rate(1.0) < 0.01


def test_unknown_training_setting_is_named(tmp_path):
    (tmp_path / 't.yaml').write_text('stepps: 3\n')
    with pytest.raises(ValueError, match='unknown setting stepps'):
        load(tmp_path / 't.yaml')


def test_training_without_any_scene_says_what_is_missing():
    with pytest.raises(ValueError, match='neither real drives'):
        SceneBatches(TrainConfig(), CONFIG, [])
