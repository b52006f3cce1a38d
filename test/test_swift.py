# SPDX-License-Identifier: Apache-2.0
"""The network for one frame on a CPU gives the answers of the plain one."""

from dataclasses import replace

from mmperception.grid import BevGrid
from mmperception.network.config import FUSION_KINDS, NetworkConfig
from mmperception.network.model import fold_batch_norm, PerceptionNetwork
from mmperception.network.swift import NO_HEAT, SwiftNetwork
import mmperception.network.swift_conv as swift_conv
from mmperception.network.swift_lidar import MAX_ROUNDS, SwiftEncoder
from mmperception.tensors import CameraInput, Inputs, make_batch
import numpy as np
import pytest
from synthetic_scene import box_map
import torch

GRID = BevGrid(x_min_m=0.0, y_min_m=-6.4, cell_m=0.2, num_x=64, num_y=64)
PIXEL_FROM_BASE = np.array([[320.0, -300, 0, 0], [48, 0, -300, 450], [1, 0, 0, 0]])
TURNED = np.array([[320.0, -300, 0, 90], [48, 0, -300, 450], [1, 0, 0, -2]])


def make_inputs(seed=0, num_points=3000, matrices=(PIXEL_FROM_BASE,), **more):
    rng = np.random.default_rng(seed)
    # Crowded on the left: pillars with hundreds of points as near the sensor.
    points = rng.uniform((0, -6, 0), (12, 6, 2), (num_points, 3))
    points[::3] = rng.uniform((3, 1, 0), (3.5, 1.4, 2), (len(points[::3]), 3))
    cameras = tuple(
        CameraInput(
            pixels=rng.integers(0, 255, (96, 640, 3), dtype=np.uint8), pixel_from_base=matrix
        )
        for matrix in matrices
    )
    values = {
        'points': points.astype(np.float32),
        'intensity': rng.random(num_points).astype(np.float32),
        'cameras': cameras,
        'motion': (3.0, 0.1),
    }
    return Inputs(**{**values, **more})


def make_network(fusion='attention', seed=0):
    """Return a folded network in which every weight has something to say."""
    torch.manual_seed(seed)
    network = PerceptionNetwork(NetworkConfig(fusion=fusion)).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.2)
    torch.nn.init.normal_(network.bev_head.residual.weight, std=0.5)
    if fusion == 'attention':
        torch.nn.init.normal_(network.fusion.offset.weight, std=0.3)
    return fold_batch_norm(network)


def both(inputs, fusion='attention'):
    network = make_network(fusion)
    batch = make_batch([inputs], GRID, network.config)
    with torch.inference_mode():
        return network(batch), SwiftNetwork(network)(batch)


def assert_same(plain, swift):
    for name in ('heat_lidar', 'heat_fused'):
        one, other = getattr(plain, name), getattr(swift, name)
        assert torch.allclose(one, other, atol=2e-4), (name, (one - other).abs().max())
    one, other = box_map(plain), box_map(swift)
    at_peak = (one != 0).any(-1) & (other != 0).any(-1)
    assert at_peak.sum() >= 0.95 * (one != 0).any(-1).sum()
    # An answer that rounds to the cell beside asks there; that happens to hardly any.
    assert (one - other)[at_peak].abs().amax(1).quantile(0.95) < 1e-3


@pytest.mark.parametrize('fusion', [kind for kind in FUSION_KINDS if kind != 'recurrent'])
def test_swift_and_plain_network_say_the_same(fusion):
    plain, swift = both(make_inputs(), fusion)
    assert (plain.heat_lidar - plain.heat_fused).abs().max() > 0.1  # or fusion would not count
    assert_same(plain, swift)


@pytest.mark.parametrize(
    'more',
    [
        {'cameras': ()},
        {'motion': None},
        {'intensity': None},
        {'points': np.zeros((0, 3), np.float32), 'intensity': None},
        {'points': np.array([[3.0, 1.0, 0.5]], np.float32), 'intensity': None},
    ],
    ids=['no camera', 'unknown motion', 'no intensity', 'no points', 'one point'],
)
def test_swift_and_plain_network_agree_on_what_is_missing(more):
    plain, swift = both(make_inputs(**more))
    assert_same(plain, swift)
    if 'cameras' in more:
        assert torch.equal(swift.heat_fused, swift.heat_lidar)


def test_two_cameras_that_see_the_same_pillars_are_summed_in_both():
    plain, swift = both(make_inputs(matrices=(PIXEL_FROM_BASE, TURNED)))
    assert_same(plain, swift)
    alone, _ = both(make_inputs(matrices=(PIXEL_FROM_BASE,)))
    assert (plain.heat_fused - alone.heat_fused).abs().max() > 0.02


def test_without_lidar_both_give_the_camera_heads_and_with_it_only_the_plain_one():
    plain, swift = both(make_inputs(points=None, intensity=None))
    assert torch.allclose(plain.camera_heat, swift.camera_heat, atol=1e-4)
    assert torch.allclose(plain.camera_box, swift.camera_box, atol=1e-4)
    _, swift = both(make_inputs())
    assert (swift.camera_heat == NO_HEAT).all()


def test_a_crowded_pillar_has_the_maximum_over_all_of_its_points():
    network = make_network()
    inputs = make_inputs(num_points=9000)
    batch = make_batch([inputs], GRID, network.config)
    assert torch.bincount(batch.point_pillar).max() > 10 * MAX_ROUNDS
    with torch.inference_mode():
        expected = network.pillars(batch)
        assert torch.allclose(SwiftEncoder(network.pillars)(batch), expected, atol=1e-5)


def test_bfloat16_stays_near_float32():
    network = make_network()
    batch = make_batch([make_inputs()], GRID, network.config)
    plain, half = SwiftNetwork(network)(batch), SwiftNetwork(network, is_half=True)(batch)
    assert half.heat_fused.dtype == half.box.dtype == torch.float32
    assert (plain.heat_fused - half.heat_fused).abs().mean() < 0.05
    assert not torch.equal(plain.heat_fused, half.heat_fused)


def test_a_torch_without_the_fused_convolution_gives_the_same(monkeypatch):
    network = make_network()
    batch = make_batch([make_inputs()], GRID, network.config)
    expected = SwiftNetwork(network)(batch)
    monkeypatch.setattr(swift_conv, 'has_fused_convolution', lambda: False)
    assert_same(expected, SwiftNetwork(network)(batch))


def test_several_samples_and_memories_are_refused_by_name():
    network = make_network()
    batch = make_batch([make_inputs(), make_inputs(1)], GRID, network.config)
    with pytest.raises(ValueError, match='batch of 1, got 2'):
        SwiftNetwork(network)(batch)
    with pytest.raises(ValueError, match='memory'):
        SwiftNetwork(make_network('recurrent'))


def test_the_swift_network_changes_neither_weights_nor_inputs():
    network = make_network()
    batch = make_batch([make_inputs()], GRID, network.config)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    fields = {
        name: value.clone()
        for name in batch.__slots__
        if isinstance(value := getattr(batch, name), torch.Tensor)
    }
    swift = SwiftNetwork(network)
    first, second = swift(batch), swift(replace(batch))
    assert torch.equal(first.heat_fused, second.heat_fused)
    assert all(torch.equal(value, weights[n]) for n, value in network.state_dict().items())
    assert all(torch.equal(getattr(batch, name), value) for name, value in fields.items())
