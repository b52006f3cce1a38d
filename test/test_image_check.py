# SPDX-License-Identifier: Apache-2.0
"""Image check: regions lie where boxes are, evidence moves scores and nothing else."""

from dataclasses import replace

from mmperception.checkpoint import load_network, save_network
from mmperception.decode import hold_against_images
from mmperception.grid import BevGrid
from mmperception.network.config import NetworkConfig
from mmperception.network.heads import CAMERA_CHANNELS, FOCAL_PX, Heads
from mmperception.network.image_check import (
    answer_facts,
    check_scores,
    image_rectangles,
    ImageCheck,
    NUM_FACTS,
    PLACES,
    read_regions,
)
from mmperception.network.model import PerceptionNetwork
from mmperception.tensors import CameraInput, Inputs, make_batch
from mmperception.training.check_bank import make_bank, overlaps, Regions
from mmperception.training.check_loop import check_loss, CheckTrainer, SeenBatches
from mmperception.training.config import TrainConfig
import numpy as np
import pytest
from synthetic_scene import make_scene
import torch

GRID = BevGrid(x_min_m=0.0, y_min_m=-12.8, cell_m=0.2, num_x=128, num_y=128)
# A camera at the origin that looks along x: 300 px, middle of the image at (320, 96).
AHEAD = np.array([[320.0, -300, 0, 0], [96, 0, -300, 0], [1, 0, 0, 0]])


def camera(matrix=AHEAD):
    return CameraInput(pixels=np.zeros((192, 640, 3), np.uint8), pixel_from_base=matrix)


def batch_of(*cameras):
    points = np.array([[10.0, 0, 0]], np.float32)
    inputs = Inputs(points=points, intensity=None, cameras=cameras, motion=None)
    return make_batch([inputs], GRID, NetworkConfig())


def boxes_at(*places, score=0.5):
    n = len(places)
    return {
        'center': np.array(places, np.float32),
        'size': np.tile(np.float32((4.0, 2.0, 1.5)), (n, 1)),
        'yaw': np.zeros(n, np.float32),
        'score': np.full(n, score, np.float32),
        'label': np.zeros(n, np.int64),
        'sigma_m': np.full(n, 0.15, np.float32),
    }


def heads_of(features):
    """Return Heads with trunk maps (K, C, h, w), whose camera head says nothing."""
    K, _, h, w = features.shape
    empty = torch.zeros(1, 1)
    return Heads(
        heat_lidar=empty,
        heat_fused=empty,
        peaks=None,
        box=empty,
        camera_heat=torch.zeros(1, K, 3, h, w),
        camera_box=torch.zeros(1, K, CAMERA_CHANNELS, h, w),
        features=features[None],
    )


NO_FEATURES = heads_of(torch.zeros(1, 32, 48, 160))


def check_that_says(evidence):
    """Return a check whose answer is the same for all boxes."""
    check = ImageCheck(32, 3).eval()
    torch.nn.init.constant_(check.out.bias, evidence)
    return check


def tensors(boxes):
    return [torch.from_numpy(boxes[name]) for name in ('center', 'size', 'yaw')]


def test_rectangle_of_a_box_ahead_is_that_of_its_near_face():
    boxes = boxes_at((12.0, 1.0, 0.25), (0.0, 3.0, 0.0))
    found, is_ahead = image_rectangles(*tensors(boxes), torch.from_numpy(AHEAD).float())
    # The near face is at x = 10, y 0..2, z -0.5..1: columns 320 - 60 .. 320, rows 96 - 30 .. 111;
    # the far one at 14 m ends nearer to the middle.
    assert found[0].numpy() == pytest.approx([260, 66, 320, 111], abs=1e-3)
    assert is_ahead.tolist() == [True, False]


def test_regions_are_read_where_they_are():
    h, w = 48, 160
    row, column = torch.meshgrid(torch.arange(h).float(), torch.arange(w).float(), indexing='ij')
    read, inside = read_regions(
        torch.stack((column, row)),
        torch.tensor([[261.5, 65.5, 321.5, 111.5], [600.0, 0, 700, 40]]),
    )
    places = read[0].view(PLACES, PLACES, 2)
    # Feature c is centred on pixel 4 c + 1.5; the grown half widths are 44 and 34.2 px.
    steps = (np.arange(PLACES) + 0.5) / PLACES * 2 - 1
    assert places[2, :, 0].numpy() == pytest.approx((291.5 + 44 * steps - 1.5) / 4, abs=1e-3)
    assert places[:, 2, 1].numpy() == pytest.approx((88.5 + 34.2 * steps - 1.5) / 4, abs=1e-3)
    assert inside[0] == 1 and 0 < inside[1] < 1
    outside = read[1].view(PLACES, PLACES, 2)[:, -1]
    assert not outside.any()


def camera_that_sees(box, matrix, column, row, label=0):
    """Return answers (13, 48, 160) that name the box, before `matrix`, at one cell alone."""
    answers = torch.full((3 + CAMERA_CHANNELS, 48, 160), -6.0)
    answers[label, row, column] = 2.0
    rectangle, _ = image_rectangles(*tensors(box), matrix)
    x1, y1, x2, y2 = rectangle[0].tolist()
    turn = box['yaw'][0] - np.arctan2(box['center'][0, 1], box['center'][0, 0])
    answers[3:, row, column] = torch.tensor([
        0, 0, *np.log([(x2 - x1) / 4, (y2 - y1) / 4, box['center'][0, 0] * FOCAL_PX / 300]),
        *np.log(box['size'][0]), np.sin(2 * turn), np.cos(2 * turn),
    ])  # fmt: skip
    return answers


def test_camera_that_sees_the_same_box_agrees_in_all():
    box = boxes_at((12.0, 1.0, 0.25))
    box['yaw'][:] = 0.7
    matrix = torch.from_numpy(AHEAD).float()
    rectangle, _ = image_rectangles(*tensors(box), matrix)
    column, row = ((rectangle[0, :2] + rectangle[0, 2:]) / 8).round().int().tolist()
    facts = {n: torch.from_numpy(v) for n, v in box.items()}
    found = answer_facts(camera_that_sees(box, matrix, column, row), rectangle, matrix, facts)
    assert found[0].numpy() == pytest.approx([0.5, -1.5, -1.5, *[0.0] * 6, 1.0], abs=1e-5)
    # What it sees elsewhere is not about this box.
    elsewhere = answer_facts(camera_that_sees(box, matrix, 5, 5), rectangle, matrix, facts)
    assert elsewhere[0, 0] == -1.5


def test_camera_that_sees_it_farther_smaller_and_turned_differs_by_that():
    box, other = boxes_at((12.0, 1.0, 0.25)), boxes_at((12.0, 1.0, 0.25))
    other['size'] *= 1.2
    other['yaw'] += np.pi / 2
    matrix = torch.from_numpy(AHEAD).float()
    rectangle, _ = image_rectangles(*tensors(box), matrix)
    column, row = ((rectangle[0, :2] + rectangle[0, 2:]) / 8).round().int().tolist()
    answers = camera_that_sees(other, matrix, column, row)
    answers[7, row, column] += np.log(1.1)
    facts = {n: torch.from_numpy(v) for n, v in box.items()}
    found = answer_facts(answers, rectangle, matrix, facts)[0]
    assert found[5] == pytest.approx(3 * np.log(1.1), abs=1e-4)
    assert found[6:9].numpy() == pytest.approx(3 * np.log(1.2), abs=1e-4)
    assert found[9] == pytest.approx(-1.0, abs=1e-4)


def test_mirrored_and_scaled_scenes_are_told_as_the_image_shows_them():
    box = boxes_at((12.0, 1.0, 0.25))
    box['yaw'][:] = 0.7
    matrix = torch.from_numpy(AHEAD).float()
    rectangle, _ = image_rectangles(*tensors(box), matrix)
    column, row = ((rectangle[0, :2] + rectangle[0, 2:]) / 8).round().int().tolist()
    answers = camera_that_sees(box, matrix, column, row)
    # The same picture beside a scene that was made a tenth larger and mirrored.
    beside = matrix @ torch.diag(torch.tensor([1 / 1.1, -1 / 1.1, 1 / 1.1, 1]))
    moved = {n: torch.from_numpy(v) for n, v in box.items()}
    moved['center'] = moved['center'] * torch.tensor([1.1, -1.1, 1.1])
    moved |= {'size': moved['size'] * 1.1, 'yaw': -moved['yaw']}
    found = answer_facts(answers, rectangle, beside, moved)[0]
    assert found.numpy() == pytest.approx([0.5, -1.5, -1.5, *[0.0] * 6, 1.0], abs=1e-4)


@pytest.mark.parametrize('evidence, expected', [(2.0, 0.7685), (-2.0, 0.2315), (0.0, 0.5)])
def test_evidence_is_added_to_the_log_odds_where_a_camera_sees_the_box(evidence, expected):
    batch, boxes = batch_of(camera()), boxes_at((12.0, 0, 0), (12.0, 30.0, 0))
    score = check_scores(check_that_says(evidence), NO_FEATURES, batch, 0, boxes)
    assert score == pytest.approx([expected, 0.5], abs=1e-3)


def test_two_cameras_give_the_mean_of_their_evidence():
    batch = batch_of(camera(), camera())
    torch.manual_seed(0)
    check = ImageCheck(32, 3).eval()
    features = torch.zeros(2, 32, 48, 160)
    features[1] = 5.0
    with torch.no_grad():
        check.out.weight.normal_(generator=torch.Generator().manual_seed(1))
    boxes = boxes_at((12.0, 0, 0))
    alone = [
        check_scores(check, heads_of(features[slice(k, k + 1)]), batch_of(camera()), 0, boxes)[0]
        for k in (0, 1)
    ]
    assert abs(alone[0] - alone[1]) > 0.01
    both = check_scores(check, heads_of(features), batch, 0, boxes)[0]
    odds = [np.log(p / (1 - p)) for p in (*alone, both)]
    assert odds[2] == pytest.approx((odds[0] + odds[1]) / 2, abs=1e-3)


def test_slope_of_the_scores_scales_the_evidence():
    check = check_that_says(2.0)
    torch.nn.init.constant_(check.slope, 2.0)
    score = check_scores(check, NO_FEATURES, batch_of(camera()), 0, boxes_at((12.0, 0, 0)))
    assert score == pytest.approx([1 / (1 + np.exp(-0.6))], abs=1e-3)


def test_boxes_are_ranked_anew_and_refuted_ones_go():
    boxes = boxes_at((12.0, 0, 0), (12.0, 30.0, 0))
    boxes['score'][:] = 0.6, 0.55
    batch = batch_of(camera())
    found = hold_against_images(check_that_says(-1.0), NO_FEATURES, batch, 0, boxes)
    assert found['center'][:, 1].tolist() == [30.0, 0.0]
    found = hold_against_images(check_that_says(-9.0), NO_FEATURES, batch, 0, boxes)
    assert found['center'][:, 1].tolist() == [30.0]
    for name in ('center', 'size', 'yaw', 'label'):
        assert np.array_equal(found[name], boxes[name][1:])


def test_without_an_image_nothing_changes():
    boxes = boxes_at((12.0, 0, 0))
    heads = heads_of(torch.zeros(0, 32, 48, 160))
    assert hold_against_images(check_that_says(3.0), heads, batch_of(), 0, boxes) is boxes


def test_of_several_boxes_on_one_object_the_best_counts():
    scene = make_scene()
    true = {k: getattr(scene, k)[[0, 0, 0]] for k in ('center', 'size', 'yaw', 'label')}
    true['center'] = true['center'] + np.float32([[0.1, 0, 0], [0, 0, 0], [0, 0, 9]])
    true['label'][2] = 0
    found = overlaps(scene, true)
    assert 0.5 < found[0] < 1 and found[1] == -1 and found[2] == 0


@pytest.mark.parametrize('refine', [True, False])
def test_bank_holds_what_the_network_finds_in_scenes_with_images(refine):
    torch.manual_seed(0)
    network = PerceptionNetwork(NetworkConfig(refine=refine)).eval()
    torch.nn.init.constant_(network.bev_head.heat[-1].bias, -1.0)  # boxes without training
    train = TrainConfig(
        check_images=True, start='x', camera_batches=1.0, batch_size=2, steps=2, ahead_only=True
    )
    blind, seen = make_scene(with_pixels=False), make_scene()
    batches = SeenBatches(train, network.config, [blind, seen])
    assert len(batches.real) == 1
    parts = list(make_bank(network, batches, range(2)))
    assert len(parts) == 4 and all(len(part) for part in parts)
    rows = parts[0]
    assert rows.read.shape[1:] == (PLACES**2, 32) and rows.facts.shape[1] == NUM_FACTS
    assert (rows.overlap >= 0).all() and torch.isfinite(rows.facts).all()


def make_regions(number, seed=0):
    """Return regions in which the first feature tells what is right, and the score does not."""
    generator = torch.Generator().manual_seed(seed)
    right = torch.rand(number, generator=generator) < 0.5
    read = torch.randn(number, PLACES**2, 32, generator=generator) * 0.1
    read[:, :, 0] += right[:, None].float()
    return Regions(
        read=read.half(),
        facts=torch.zeros(number, NUM_FACTS),
        label=torch.randint(3, (number,), generator=generator),
        score=torch.full((number,), 0.5),
        overlap=right * 0.8,
    )


def test_check_learns_what_images_tell(tmp_path):
    first = tmp_path / 'first.safetensors'
    save_network(first, PerceptionNetwork(NetworkConfig(refine=True)), {'samples': '7'})
    train = TrainConfig(
        start=str(first), check_images=True, steps=80, batch_size=64, learning_rate=5e-3
    )
    (tmp_path / 'run').mkdir()
    Regions.save(tmp_path / 'run' / 'bank.npz', [make_regions(400)])
    CheckTrainer(train, tmp_path / 'run', []).run(lambda step, parts: None)
    network, facts = load_network(tmp_path / 'run' / 'weights.safetensors')
    assert network.config.check_images and facts['check_images_rows'] == str(80 * 64)
    with torch.no_grad():
        _, parts = check_loss(network.image_check.eval(), make_regions(200, 1), torch.Generator())
    assert parts['weighed'] < 0.5 * parts['alone']
    start, _ = load_network(first)
    for name, value in start.state_dict().items():
        assert torch.equal(value, network.state_dict()[name]), name


@pytest.mark.parametrize(
    'wrong, message',
    [
        ({'start': ''}, 'start'),
        ({'refine': True}, 'one part'),
        ({'camera_batches': 0.0}, 'camera_batches'),
    ],
)
def test_settings_that_cannot_be_trained_are_refused(wrong, message):
    settings = {'check_images': True, 'start': 'weights', **wrong}
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


def test_a_scene_in_which_the_network_finds_nothing_gives_nothing():
    network = PerceptionNetwork(NetworkConfig(refine=True)).eval()
    torch.nn.init.constant_(network.bev_head.heat[-1].bias, -20.0)
    train = TrainConfig(check_images=True, start='x', camera_batches=1.0, batch_size=1, steps=1)
    batches = SeenBatches(train, network.config, [replace(make_scene(), stamp_ns=1)])
    assert list(make_bank(network, batches, range(1))) == []
