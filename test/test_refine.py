# SPDX-License-Identifier: Apache-2.0
"""Second stage: crops are in the axes of their box, pushes keep the truth, boxes get better."""

from dataclasses import replace

from mmperception.checkpoint import load_network, save_network
from mmperception.decode import look_again
from mmperception.geometry import points_in_boxes
from mmperception.grid import BevGrid
from mmperception.network.config import NetworkConfig
from mmperception.network.crops import (
    chosen,
    crop_points,
    in_box_axes,
    lots,
    MANY_POINTS,
    MARGIN_M,
    MARGIN_Z_M,
    MAX_POINTS,
)
from mmperception.network.model import PerceptionNetwork
from mmperception.network.refine import BoxRefiner, changed_boxes
from mmperception.network.swift_refine import SwiftRefiner
from mmperception.tensors import Inputs, make_batch
from mmperception.training.config import TrainConfig
from mmperception.training.data import SceneBatches
from mmperception.training.losses import overlap_along
from mmperception.training.refine_bank import (
    Crops,
    make_bank,
    STORED_POINTS,
)
from mmperception.training.refine_loop import augment, choose_points, refine_loss, RefineTrainer
import numpy as np
import pytest
from synthetic_scene import make_scene
import torch

GRID = BevGrid(x_min_m=0.0, y_min_m=-12.8, cell_m=0.2, num_x=128, num_y=128)
SIZE = np.array([4.2, 1.8, 1.5], np.float32)


def car_points(rng, center, yaw, count=300, size=SIZE):
    """Return points on the rear, one side and the roof of a car."""
    places = rng.uniform(-0.5, 0.5, (count, 3))
    face = rng.integers(0, 3, count)
    places[face == 0, 0] = -0.5
    places[face == 1, 1] = -0.5
    places[face == 2, 2] = 0.5
    local = places * size
    cos, sin = np.cos(yaw), np.sin(yaw)
    turned = np.stack(
        (
            cos * local[:, 0] - sin * local[:, 1],
            sin * local[:, 0] + cos * local[:, 1],
            local[:, 2],
        ),
        1,
    )
    return (turned + center).astype(np.float32)


def make_boxes(center, yaw, size=SIZE, score=0.5):
    return {
        'center': np.array([center], np.float32),
        'size': np.array([size], np.float32),
        'yaw': np.array([yaw], np.float32),
        'score': np.array([score], np.float32),
        'label': np.array([0], np.int64),
        'sigma_m': np.array([0.1], np.float32),
    }


def batch_of(*clouds):
    inputs = [Inputs(points=c, intensity=None, cameras=(), motion=None) for c in clouds]
    return make_batch(inputs, GRID, NetworkConfig())


def test_a_crop_holds_the_points_in_the_grown_box_in_its_axes():
    rng = np.random.default_rng(0)
    center, yaw = np.array([12.0, 3.0, 0.8], np.float32), np.float32(0.6)
    scattered = rng.uniform((0, -12, 0), (25, 12, 2), (4000, 3)).astype(np.float32)
    cloud = np.concatenate((car_points(rng, center, yaw), scattered))
    # The second sample of the batch must not see the points of the first.
    batch = batch_of(scattered[:10], cloud)
    crops = crop_points(batch, 1, center[None], SIZE[None], yaw[None])
    points, count = crops.points(np.array([0])), crops.stored
    grown = SIZE + 2 * np.float32((MARGIN_M, MARGIN_M, MARGIN_Z_M))
    expected = points_in_boxes(cloud, center[None], grown[None], yaw[None]).sum()
    assert abs(int(count[0]) - int(expected)) <= 1
    assert points.shape == (1, MAX_POINTS, 3)
    assert (np.abs(points[0]) <= grown / 2 + 1e-4).all()
    cos, sin = np.cos(yaw), np.sin(yaw)
    back = points[0] @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) + center
    nearest = np.linalg.norm(back[:, None] - cloud[None], axis=2).min(1)
    assert nearest.max() < 1e-4


def test_a_crop_without_points_is_empty_and_its_box_stays():
    boxes = make_boxes([20, 5, 1], 0.3)
    batch = batch_of(np.array([[3, -3, 0.0]] * 20, np.float32))
    refiner = SwiftRefiner(BoxRefiner(3))
    found, quality = refiner.refine(batch, 0, boxes)
    assert np.isnan(quality).all()
    assert all((found[name] == boxes[name]).all() for name in boxes)
    assert look_again(refiner, batch, 0, boxes)['score'] == boxes['score']


def test_the_second_look_begins_where_the_first_ended_and_weak_boxes_have_one():
    cloud = np.array([[20, 5, 1.0], [21, 5, 1.2], [19, 5, 0.8]] * 4, np.float32)
    batch, refiner = batch_of(cloud), BoxRefiner(3)
    torch.nn.init.constant_(refiner.change.bias, 0.1)  # the same step for every box
    torch.nn.init.constant_(refiner.quality.bias, -3.0)
    refiner = SwiftRefiner(refiner)
    both = [make_boxes([20, 5, 1], 0.0), make_boxes([19, 5, 1], 0.0)]
    boxes = {name: np.concatenate([b[name] for b in both]) for name in both[0]}
    boxes['label'] = np.array([0, 1])  # two things, or one would go
    boxes['score'] = np.array([0.9, 0.06], np.float32)
    once, quality = refiner.refine(batch, 0, boxes)
    found = look_again(refiner, batch, 0, boxes)
    twice, _ = refiner.refine(batch, 0, once, limit=1)
    assert np.allclose(found['center'], twice['center']) and set(found) == set(boxes)
    assert np.allclose(found['size'][1], once['size'][1])
    assert found['score'][1] == pytest.approx(0.06**0.7 * quality[1] ** 0.3)


def test_nothing_is_looked_at_twice_where_there_is_nothing():
    boxes = {name: value[:0] for name, value in make_boxes([20, 5, 1], 0.0).items()}
    refiner = SwiftRefiner(BoxRefiner(3))
    found = look_again(refiner, batch_of(np.zeros((4, 3), np.float32)), 0, boxes)
    assert set(found) == set(boxes) and not len(found['score'])


def test_a_turned_scene_gives_the_same_answer():
    torch.manual_seed(0)
    refiner = BoxRefiner(3)
    torch.nn.init.normal_(refiner.change.weight, 0, 0.05)
    refiner = SwiftRefiner(refiner)
    rng = np.random.default_rng(1)
    center, yaw = np.array([12.0, 3.0, 0.8]), 0.6
    cloud = car_points(rng, center, yaw, 200)
    answers = []
    for turn in (0.0, 0.3):
        cos, sin = np.cos(turn), np.sin(turn)
        matrix = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        boxes = make_boxes(center @ matrix, yaw + turn)
        turned = batch_of((cloud @ matrix).astype(np.float32))
        found, quality = refiner.refine(turned, 0, boxes)
        answers.append((found['center'] @ matrix.T, found['size'], found['yaw'] - turn, quality))
    for one, other in zip(*answers, strict=True):
        assert one == pytest.approx(other, abs=2e-4)


def make_crops(number, seed=0):
    """Return crops of one car each, the proposals on their true boxes."""
    rng = np.random.default_rng(seed)
    size = (SIZE * rng.uniform(0.85, 1.15, (number, 3))).astype(np.float32)
    points = [car_points(rng, np.zeros(3), 0.0, STORED_POINTS, s) for s in size]
    zero = torch.zeros(number)
    return Crops(
        points=torch.from_numpy(np.stack(points)).half(),
        count=torch.full((number,), STORED_POINTS, dtype=torch.int32),
        center=torch.tensor([[15.0, 4.0, 0.8]]).repeat(number, 1),
        size=torch.from_numpy(size),
        yaw=zero.clone(),
        label=torch.zeros(number, dtype=torch.int64),
        true_center=torch.zeros(number, 3),
        true_size=torch.from_numpy(size),
        true_yaw=zero.clone(),
        is_drawn=torch.ones(number, dtype=torch.bool),
    )


def test_pushed_and_mirrored_crops_keep_their_points_in_the_true_box():
    crops = augment(make_crops(64), torch.Generator().manual_seed(3))
    assert crops.true_center.abs().max() > 0.05, 'nothing was pushed'
    for m in range(64):
        inside = points_in_boxes(
            crops.points[m].numpy(),
            crops.true_center[m][None].numpy(),
            crops.true_size[m][None].numpy(),
            crops.true_yaw[m][None].numpy(),
            0.02,
        )
        assert inside.all()


def test_the_wanted_change_leads_to_the_true_box():
    crops = augment(make_crops(32), torch.Generator().manual_seed(4))
    wanted = torch.cat(
        (crops.true_center, (crops.true_size / crops.size).log(), crops.true_yaw[:, None]), 1
    )
    zero = torch.zeros(32, 3)
    center, size, yaw = changed_boxes(wanted, zero, crops.size, zero[:, 0])
    step, turn = center - crops.true_center, yaw - crops.true_yaw
    iou = overlap_along(step, crops.true_yaw, size, crops.true_size, turn)
    assert iou.min() > 0.999


def test_chosen_points_are_those_in_the_grown_proposal():
    crops = augment(make_crops(16), torch.Generator().manual_seed(5))
    points, count = choose_points(crops, torch.Generator().manual_seed(6))
    half = crops.size[:, None] / 2 + torch.tensor([MARGIN_M, MARGIN_M, MARGIN_Z_M])
    assert (points.abs() < half).all()
    assert (count > 0).all() and (count <= STORED_POINTS).all()
    assert count.min() < 0.6 * STORED_POINTS, 'no scan was thinned'


def test_second_stage_learns_to_move_boxes_and_to_tell_empty_ones():
    torch.manual_seed(0)
    refiner, generator = BoxRefiner(3), torch.Generator().manual_seed(0)
    cars = make_crops(96)
    # Scattered points with no true box: nothing is there.
    empty = replace(
        make_crops(32, 1),
        points=((torch.rand(32, STORED_POINTS, 3) - 0.5) * torch.tensor([5.0, 3, 2])).half(),
        true_size=torch.zeros(32, 3),
    )
    crops = Crops(**{n: torch.cat((getattr(cars, n), getattr(empty, n))) for n in Crops.__slots__})
    optimizer = torch.optim.AdamW(refiner.parameters(), 3e-3)
    first = None
    for _ in range(120):
        loss, parts = refine_loss(refiner, crops, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first = first or parts
    assert parts['iou'] < 0.7 * first['iou'], (first, parts)
    crops = augment(crops, generator)
    points, count = choose_points(crops, generator)
    with torch.no_grad():
        _, quality = refiner(points, count, crops.center, crops.size, crops.yaw, crops.label)
    quality = torch.sigmoid(quality)
    assert quality[:96].mean() > quality[96:].mean() + 0.3


def test_both_stages_travel_in_one_file(tmp_path):
    network = PerceptionNetwork(NetworkConfig(refine=True))
    save_network(tmp_path / 'w.safetensors', network, {})
    loaded, _ = load_network(tmp_path / 'w.safetensors')
    assert loaded.config.refine
    for name, value in network.refiner.state_dict().items():
        assert torch.equal(value, loaded.refiner.state_dict()[name])


def test_bank_holds_true_boxes_with_their_points(tmp_path):
    torch.manual_seed(0)
    network = PerceptionNetwork(NetworkConfig()).eval()
    train = TrainConfig(drives=(), batch_size=2, steps=3, seed=5)
    batches = SceneBatches(train, network.config, [make_scene(with_pixels=False)])
    Crops.save(tmp_path / 'bank.npz', make_bank(network, batches, range(3)))
    crops = Crops.load(tmp_path / 'bank.npz')
    drawn = crops.at(crops.is_drawn & (crops.label == 0) & (crops.count > 0))
    assert len(drawn) >= 2
    assert drawn.true_center.abs().max() < 1e-5 and drawn.true_yaw.abs().max() < 1e-5
    assert torch.equal(drawn.true_size, drawn.size)
    # Points of the car stand above the ground inside its box; around it there is the ground.
    inside = (drawn.points.float().abs() < drawn.size[:, None] / 2 + 0.03).all(2)
    assert (inside.sum(1) > 50).all()


def test_killed_second_stage_resumes_where_it_was(tmp_path):
    torch.manual_seed(0)
    first = tmp_path / 'first.safetensors'
    save_network(first, PerceptionNetwork(NetworkConfig()), {'samples': '7'})
    train = TrainConfig(start=str(first), refine=True, steps=4, batch_size=8)
    runs = {}
    for name in ('whole', 'killed'):
        (tmp_path / name).mkdir()
        Crops.save(tmp_path / name / 'bank.npz', [make_crops(16)])
        runs[name] = RefineTrainer(train, tmp_path / name, [])
    runs['whole'].run(lambda step, parts: None)
    short = replace(train, steps=2)
    RefineTrainer(short, tmp_path / 'killed', []).run(lambda step, parts: None)
    resumed = RefineTrainer(train, tmp_path / 'killed', [])
    resumed.resume()
    assert resumed.step == 2
    resumed.run(lambda step, parts: None)
    whole, facts = load_network(tmp_path / 'whole' / 'weights.safetensors')
    again, _ = load_network(tmp_path / 'killed' / 'weights.safetensors')
    assert facts['samples'] == '7' and facts['refine_rows'] == '32'
    start, _ = load_network(first)
    for name, value in whole.state_dict().items():
        assert torch.allclose(value, again.state_dict()[name], atol=1e-6), name
        if not name.startswith('refiner.'):
            assert torch.equal(value, start.state_dict()[name]), name


def test_second_stage_without_a_first_is_refused():
    with pytest.raises(ValueError, match='start'):
        TrainConfig(refine=True)


def test_what_is_trained_and_what_is_run_look_at_crops_alike():
    torch.manual_seed(0)
    refiner = BoxRefiner(3)
    torch.nn.init.normal_(refiner.change.weight, 0, 0.1)
    torch.nn.init.normal_(refiner.points[0].bias)
    rng = np.random.default_rng(3)
    places = [(8.0 + 6 * k, 3.0 - k, 0.8) for k in range(3)]
    # Few points, some and too many: each goes with others of its number.
    clouds = [
        car_points(rng, p, 0.4 * k, n)
        for k, (p, n) in enumerate(zip(places, (9, 90, 400), strict=True))
    ]
    batch = batch_of(np.concatenate(clouds))
    each = [make_boxes(p, 0.4 * k) for k, p in enumerate(places)]
    boxes = {name: np.concatenate([b[name] for b in each]) for name in each[0]}
    crops = crop_points(batch, 0, boxes['center'], boxes['size'], boxes['yaw'])
    assert list(crops.count) == [9, 90, 400]
    inputs = [torch.from_numpy(boxes[name]) for name in ('center', 'size', 'yaw', 'label')]
    count = torch.from_numpy(crops.count)
    points = torch.from_numpy(crops.points(np.arange(3)))
    change, logit = refiner(points, count, *inputs)
    center, size, _ = changed_boxes(change.detach(), *inputs[:3])
    for is_half, tolerance in ((False, 1e-4), (True, 0.02)):
        found, quality = SwiftRefiner(refiner, is_half).refine(batch, 0, boxes)
        assert found['center'] == pytest.approx(center.numpy(), abs=tolerance)
        assert found['size'] == pytest.approx(size.numpy(), abs=tolerance)
        assert quality == pytest.approx(torch.sigmoid(logit).detach().numpy(), abs=tolerance)
    assert change.detach().std() > 0.01


def test_crops_hold_every_point_of_every_box_however_it_lies():
    rng = np.random.default_rng(5)
    cloud = rng.uniform((-30, -30, -0.5), (30, 30, 2), (30000, 3)).astype(np.float32)
    batch = batch_of(cloud)
    kept = batch.points[:, :3]
    number = 60
    center = rng.uniform((-32, -32, 0), (32, 32, 1.5), (number, 3)).astype(np.float32)
    size = rng.uniform((0.5, 0.5, 1), (14, 4, 4), (number, 3)).astype(np.float32)
    yaw = rng.uniform(-4, 4, number).astype(np.float32)
    yaw[:3] = 0, np.pi / 2, np.pi
    crops = crop_points(batch, 0, center, size, yaw)
    grown = size + 2 * np.float32((MARGIN_M, MARGIN_M, MARGIN_Z_M))
    expected = points_in_boxes(kept.numpy(), center, grown, yaw).sum(1)
    few = expected < MANY_POINTS / 2
    assert np.abs(crops.count - expected)[few].max() <= 1  # on the rim, by rounding
    assert crops.count[few].sum() == pytest.approx(expected[few].sum(), abs=3)
    assert crops.count[~few] == pytest.approx(expected[~few], rel=0.2)
    assert 0 < few.sum() < number and expected[few].max() > 100


def test_of_a_crowd_the_lot_draws_whom_it_would_draw_of_all():
    rng = np.random.default_rng(6)
    center, yaw = np.array([12.0, 3.0, 0.8], np.float32), np.float32(0.4)
    batch = batch_of(car_points(rng, center, yaw, 9000))
    crops = crop_points(batch, 0, center[None], SIZE[None], yaw[None])
    assert crops.count[0] == pytest.approx(9000, rel=0.15)
    assert MAX_POINTS < crops.stored[0] < 1.3 * MANY_POINTS
    every = in_box_axes(batch.points[:, :3].numpy(), center, yaw)
    lowest = every[chosen(lots(batch.point_index.numpy()), MAX_POINTS)]
    drawn = crops.points(np.array([0]))[0]
    for one, other in zip(drawn[np.lexsort(drawn.T)], lowest[np.lexsort(lowest.T)], strict=True):
        assert one == pytest.approx(other, abs=1e-4)
