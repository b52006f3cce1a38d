# SPDX-License-Identifier: Apache-2.0
"""The network: masks are exact, batching changes nothing, every path learns."""

from mmperception.grid import BevGrid
from mmperception.network.config import FUSION_KINDS, NetworkConfig
from mmperception.network.fusion import project_pillars
from mmperception.network.lidar import SparseStem
from mmperception.network.model import fold_batch_norm, PerceptionNetwork
from mmperception.tensors import CameraInput, Inputs, make_batch
import numpy as np
import pytest
from synthetic_scene import box_map
import torch

GRID = BevGrid(x_min_m=0.0, y_min_m=-6.4, cell_m=0.2, num_x=64, num_y=64)
PIXEL_FROM_BASE = np.array([[320.0, -300, 0, 0], [48, 0, -300, 450], [1, 0, 0, 0]])


def make_inputs(seed, cameras=1, num_points=800, motion=(3.0, 0.1)):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 255, (96, 640, 3), dtype=np.uint8)
    camera = CameraInput(pixels=pixels, pixel_from_base=PIXEL_FROM_BASE)
    return Inputs(
        points=rng.uniform((0, -6, 0), (12, 6, 2), (num_points, 3)).astype(np.float32),
        intensity=rng.random(num_points).astype(np.float32),
        cameras=(camera,) * cameras,
        motion=motion,
    )


def make_network(fusion='attention', seed=0):
    torch.manual_seed(seed)
    network = PerceptionNetwork(NetworkConfig(fusion=fusion)).eval()
    # As made, the residual is zero; give it something to say.
    torch.nn.init.normal_(network.bev_head.residual.weight, std=0.5)
    return network


def run(network, *samples):
    with torch.inference_mode():
        return network(make_batch(samples, GRID, network.config))


@pytest.mark.parametrize('fusion', FUSION_KINDS)
def test_image_moves_the_fused_heat_and_nothing_else(fusion):
    network = make_network(fusion)
    one, other = make_inputs(0), make_inputs(0)
    brighter = CameraInput(pixels=255 - one.cameras[0].pixels, pixel_from_base=PIXEL_FROM_BASE)
    other = Inputs(
        points=one.points, intensity=one.intensity, cameras=(brighter,), motion=one.motion
    )
    a, b = run(network, one), run(network, other)
    assert not torch.allclose(a.heat_fused, b.heat_fused)
    assert torch.equal(a.heat_lidar, b.heat_lidar)
    # Boxes stand at the peaks of the fused heat: where both maps have one, it is the same box.
    one, other = box_map(a), box_map(b)
    both = (one != 0).any(-1) & (other != 0).any(-1)
    assert both.sum() > 10
    assert torch.allclose(one[both], other[both])


@pytest.mark.parametrize('fusion', FUSION_KINDS)
def test_without_cameras_the_fused_heat_is_the_lidars_exactly(fusion):
    heads = run(make_network(fusion), make_inputs(0, cameras=0))
    assert torch.equal(heads.heat_fused, heads.heat_lidar)


@pytest.mark.parametrize('fusion', FUSION_KINDS)
def test_batched_result_equals_the_single_one(fusion):
    network = make_network(fusion)
    a, b = make_inputs(0), make_inputs(1, num_points=300, motion=None)
    together, alone = run(network, a, b), run(network, b)
    assert torch.allclose(together.heat_fused[1], alone.heat_fused[0], atol=1e-4)
    assert torch.allclose(box_map(together)[1], box_map(alone)[0], atol=1e-4)


def test_a_masked_camera_in_a_batch_does_not_reach_its_sample():
    network = make_network()
    without, with_camera = make_inputs(0, cameras=0), make_inputs(1)
    heads = run(network, without, with_camera)
    assert torch.allclose(heads.heat_fused[0], heads.heat_lidar[0])
    assert not torch.allclose(heads.heat_fused[1], heads.heat_lidar[1])


def test_order_of_points_changes_nothing():
    network, inputs = make_network(), make_inputs(0)
    order = np.random.default_rng(5).permutation(len(inputs.points))
    shuffled = Inputs(
        points=inputs.points[order],
        intensity=inputs.intensity[order],
        cameras=inputs.cameras,
        motion=inputs.motion,
    )
    a, b = run(network, inputs), run(network, shuffled)
    assert torch.allclose(a.heat_fused, b.heat_fused, atol=1e-4)


@pytest.mark.parametrize('points', [None, 0, 1])
def test_next_to_no_points_give_maps_not_errors(points):
    network, inputs = make_network(), make_inputs(0, num_points=points or 0)
    if points is None:
        inputs = Inputs(points=None, intensity=None, cameras=inputs.cameras, motion=None)
    heads = run(network, inputs)
    assert heads.heat_fused.shape == (1, 3, 32, 32)
    assert torch.isfinite(heads.heat_fused).all()


def test_sparse_stem_equals_the_dense_two_by_two_convolution():
    torch.manual_seed(0)
    stem = SparseStem(3, 5).eval()
    grid = BevGrid(x_min_m=0, y_min_m=0, cell_m=1.0, num_x=8, num_y=6)
    cells = torch.tensor([3, 9, 17, 40, 8 * 6 + 13])  # the last in the second sample
    pillars = torch.randn(5, 3)
    dense = torch.zeros(2 * 6 * 8, 3).index_copy(0, cells, pillars)
    dense = dense.view(2, 6, 8, 3).permute(0, 3, 1, 2)
    kernel = stem.shares.weight.view(2, 2, 5, 3).permute(2, 3, 0, 1)  # (out, in, row, column)
    expected = torch.relu(stem.norm(torch.nn.functional.conv2d(dense, kernel, stride=2)))
    assert torch.allclose(stem(pillars, cells, 2, grid), expected, atol=1e-6)


def test_pillar_left_of_the_axis_is_looked_up_left_in_the_image():
    points = torch.tensor([[[10.0, 2.0, 1.5]]])
    matrix = torch.tensor(PIXEL_FROM_BASE, dtype=torch.float32)[None]
    where, is_seen = project_pillars(points, matrix, (96, 640))
    # u = (3200 - 600) / 10 = 260, v = (480 - 450 + 450) / 10 = 48.
    assert where[0, 0].tolist() == pytest.approx([260.5 / 320 - 1, 48.5 / 48 - 1], abs=1e-5)
    assert is_seen.item()


def test_pillar_behind_the_camera_is_not_seen():
    matrix = torch.tensor(PIXEL_FROM_BASE, dtype=torch.float32)[None]
    _, is_seen = project_pillars(torch.tensor([[[-10.0, 2.0, 1.5]]]), matrix, (96, 640))
    assert not is_seen.item()


@pytest.mark.parametrize('fusion', FUSION_KINDS)
def test_gradient_of_the_fused_heat_reaches_both_branches(fusion):
    network = make_network(fusion).train()
    heads = network(make_batch([make_inputs(0)], GRID, network.config))
    heads.heat_fused.sum().backward()
    assert network.pillars.linear.weight.grad.abs().sum() > 0
    assert network.trunk.stem[0].weight.grad.abs().sum() > 0
    assert network.motion.layers[0].weight.grad.abs().sum() > 0


def test_unknown_kind_of_fusion_is_named():
    with pytest.raises(ValueError, match='telepathy'):
        NetworkConfig(fusion='telepathy')


def test_folded_network_answers_the_same():
    network = make_network().train()
    with torch.no_grad():  # move the running statistics away from 0 and 1
        network(make_batch([make_inputs(0), make_inputs(1)], GRID, network.config))
    network.eval()
    plain, folded = run(network, make_inputs(2)), run(fold_batch_norm(network), make_inputs(2))
    for name in ('heat_fused', 'camera_heat'):
        assert torch.allclose(getattr(plain, name), getattr(folded, name), atol=1e-3), name
    assert torch.allclose(box_map(plain), box_map(folded), atol=1e-3)


def test_a_box_is_asked_for_again_where_its_middle_is():
    network = make_network()
    head = network.bev_head
    fine, middle = torch.randn(1, 32, 32, 32), torch.randn(1, 64, 16, 16)
    head.box.layers[-1].bias.data[:2] = torch.tensor([3.0, -2.0])
    head.box.layers[-1].weight.data[:2] = 0
    with torch.no_grad():
        cells = torch.tensor([[0, 10, 12]])
        asked = head.boxes_at(fine, middle, cells)
        there = head.box(fine, middle, torch.tensor([[0, 8, 15]]))
    # The answer is the one of the cell three to the right and two below, seen from the peak.
    assert torch.allclose(asked[:, 2:], there[:, 2:])
    assert torch.allclose(asked[:, :2], there[:, :2] + torch.tensor([3.0, -2.0]))


def test_boxes_of_cells_are_the_same_rows_in_training():
    network, batch = make_network(), make_batch([make_inputs(0)], GRID, NetworkConfig())
    cells = torch.tensor([[0, 3, 4], [0, 20, 9]])
    with torch.no_grad():
        heads = network(batch, cells)
    assert heads.box.shape == (2, 10)
    assert not torch.allclose(heads.box[0], heads.box[1])
