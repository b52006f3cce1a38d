# SPDX-License-Identifier: Apache-2.0
"""Memory over sweeps: it moves with the robot, is forgotten when it must be, and is learned."""

from dataclasses import replace

from mmperception.config import from_mapping
from mmperception.datatypes import CameraView, Frame
from mmperception.geometry import invert, transform_from_yaw
from mmperception.grid import BevGrid
from mmperception.network.config import NetworkConfig
from mmperception.network.memory import align_memory
from mmperception.network.model import PerceptionNetwork
from mmperception.pipeline import Perceiver
from mmperception.simulation.drive import simulate_clip, simulate_samples
from mmperception.sweep_memory import SweepMemory
from mmperception.tensors import make_batch
from mmperception.training import loop
from mmperception.training.config import TrainConfig
from mmperception.training.data import clip_inputs, follows, SceneBatches, side_by_side
from mmperception.training.loop import Trainer
from mmperception.training.scenes import load_past, save_past
import numpy as np
import pytest
import synthetic
from test_network import GRID, make_inputs, make_network
from test_training import make_scene
import torch

needs_new_torch = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split('.')[:2])) < loop.OLDEST_TORCH,
    reason='training needs torch 2.11',
)
MAP = BevGrid(x_min_m=-8.0, y_min_m=-4.0, cell_m=1.0, num_x=16, num_y=8)
STEP_NS = 100_000_000


def batch_of(inputs, previous_from_base=None):
    inputs = replace(inputs, previous_from_base=previous_from_base)
    return make_batch([inputs], GRID, NetworkConfig(fusion='recurrent'))


def aligned(memory, previous_from_base):
    matrix = torch.from_numpy(np.asarray(previous_from_base, np.float32))[None]
    return align_memory(memory, matrix, MAP)


def memory_of(row, column):
    memory = torch.zeros(1, 1, MAP.num_y, MAP.num_x)
    memory[0, 0, row, column] = 1.0
    return memory


def test_what_was_five_metres_ahead_is_three_ahead_after_driving_two():
    memory = memory_of(row=6, column=13)  # at (5.5, 2.5)
    moved = aligned(memory, transform_from_yaw((2.0, 0.0, 0.0), 0.0))
    assert torch.nonzero(moved[0, 0] > 0.5).tolist() == [[6, 11]]


def test_what_was_ahead_is_on_the_right_after_a_turn_to_the_left():
    memory = memory_of(row=4, column=10)  # at (2.5, 0.5)
    moved = aligned(memory, transform_from_yaw((0.0, 0.0, 0.0), np.pi / 2))
    # (2.5, 0.5) seen from a robot that turned left is (0.5, -2.5).
    assert torch.nonzero(moved[0, 0] > 0.5).tolist() == [[1, 8]]


def test_memory_beyond_its_window_and_with_unknown_motion_is_gone():
    memory = memory_of(row=6, column=13)
    assert not aligned(memory, transform_from_yaw((20.0, 0.0, 0.0), 0.0)).any()
    assert not aligned(memory, np.zeros((4, 4))).any()


def test_an_empty_memory_is_concat_exactly():
    network, batch = make_network('recurrent'), batch_of(make_inputs(0), np.eye(4))
    concat = PerceptionNetwork(NetworkConfig(fusion='concat')).eval()
    state = network.state_dict()
    concat.load_state_dict({name: state[name] for name in concat.state_dict()})
    with torch.inference_mode():
        alone, nothing = concat(batch), network(batch)
        empty = network(batch, memory=torch.zeros_like(nothing.memory))
    assert torch.equal(alone.heat_fused, nothing.heat_fused)
    assert torch.equal(alone.heat_fused, empty.heat_fused)


def test_a_full_memory_moves_the_fused_heat_and_only_that():
    network = make_network('recurrent')
    with torch.inference_mode():
        past = network(batch_of(make_inputs(1)))
        alone = network(batch_of(make_inputs(0), np.eye(4)))
        full = network(batch_of(make_inputs(0), np.eye(4)), memory=past.memory)
        forgotten = network(batch_of(make_inputs(0)), memory=past.memory)
    assert not torch.allclose(full.heat_fused, alone.heat_fused)
    assert torch.equal(full.heat_lidar, alone.heat_lidar)
    assert torch.equal(forgotten.heat_fused, alone.heat_fused)


def test_remembering_needs_no_heads_and_gives_the_same_memory():
    network = make_network('recurrent')
    with torch.inference_mode():
        first = network(batch_of(make_inputs(1)))
        again = network.remember(batch_of(make_inputs(1)))
    assert torch.equal(first.memory, again)


def test_memory_speaks_when_the_camera_has_died():
    network = make_network('recurrent')
    dark = make_inputs(0, cameras=0)
    with torch.inference_mode():
        past = network(batch_of(make_inputs(1)))
        heads = network(batch_of(dark, np.eye(4)), memory=past.memory)
        forgotten = network(batch_of(dark), memory=past.memory)
    assert not torch.allclose(heads.heat_fused, heads.heat_lidar)
    assert torch.equal(forgotten.heat_fused, forgotten.heat_lidar)


def test_a_sample_that_forgets_does_not_see_its_neighbours_memory():
    network = make_network('recurrent')
    known = replace(make_inputs(0), previous_from_base=np.eye(4))
    config = network.config
    with torch.inference_mode():
        past = network(make_batch([make_inputs(1), make_inputs(2)], GRID, config))
        both = network(make_batch([known, make_inputs(3)], GRID, config), memory=past.memory)
        alone = network(make_batch([make_inputs(3)], GRID, config))
    assert torch.allclose(both.heat_fused[1], alone.heat_fused[0], atol=1e-4)


def frame(number=0, x=0.0, stamp_ns=None, odom=True):
    stamp_ns = synthetic.START_NS + number * STEP_NS if stamp_ns is None else stamp_ns
    return Frame(
        stamp_ns=stamp_ns,
        cloud=synthetic.cloud(stamp_ns),
        base_from_lidar=synthetic.mounting().base_from_lidar,
        odom_from_base=transform_from_yaw((x, 0.0, 0.0), 0.0) if odom else None,
    )


def test_the_previous_pose_is_behind_a_robot_that_drives_ahead():
    memory = SweepMemory()
    assert memory.previous_from_base(frame()) is None
    memory.keep('state', frame())
    assert memory.previous_from_base(frame(1, x=0.8))[:2, 3].tolist() == pytest.approx([0.8, 0])


@pytest.mark.parametrize(
    'later',
    [
        frame(0),
        frame(-1),
        frame(30),
        frame(1, odom=False),
        frame(1, x=100.0),
    ],
    ids=['twice', 'backwards', 'after a gap', 'without odometry', 'after a leap'],
)
def test_memory_is_forgotten(later):
    memory = SweepMemory()
    memory.keep('state', frame())
    assert memory.previous_from_base(later) is None
    assert memory.state is None


def test_what_was_seen_without_odometry_is_not_remembered():
    memory = SweepMemory()
    memory.keep('state', frame(odom=False))
    assert memory.state is None


def perceiver_of(fusion):
    config = NetworkConfig(
        fusion=fusion, range_m=25.6, cell_m=0.4, pillar_channels=8, bev_channels=(8, 16, 16),
        image_channels=(8, 8, 8, 8), feature_channels=8, image_width=160,
    )  # fmt: skip
    torch.manual_seed(3)
    network = PerceptionNetwork(config).eval()
    torch.nn.init.normal_(network.bev_head.residual.weight, std=0.5)
    torch.nn.init.constant_(network.bev_head.heat[-1].bias, 0.0)  # so that boxes come out
    # What an untrained network remembers is too little for bfloat16.
    return Perceiver(network, from_mapping({'device': 'cpu', 'precision': 'float32'}))


def seen(number, seed=0):
    camera_from_base = invert(synthetic.mounting().base_from_camera['camera'])
    view = CameraView(
        name='camera',
        image=synthetic.image(seed=seed),
        model=synthetic.camera_model(),
        camera_from_base=camera_from_base,
    )
    return replace(frame(number, x=0.1 * number), cameras=(view,))


def test_the_perceiver_remembers_in_order_and_forgets_on_reset():
    perceiver = perceiver_of('recurrent')
    alone = perceiver.detect(seen(1)).score
    perceiver.perceive(seen(0, seed=7))
    after = perceiver.detect(seen(1), past=perceiver.past).score
    assert len(alone) and not np.array_equal(alone, after)
    perceiver.perceive(seen(2))
    perceiver.reset()
    assert np.array_equal(alone, perceiver.detect(seen(1), past=perceiver.past).score)


def test_kinds_without_memory_keep_nothing():
    perceiver = perceiver_of('attention')
    perceiver.perceive(seen(0))
    assert perceiver.past.state is None


def clip_of_two(distance_m=1.0):
    """Return a scene and the sweep before it, from a robot that drove ahead in between."""
    now = replace(make_scene(), stamp_ns=STEP_NS, odom_from_base=np.eye(4))
    pose = transform_from_yaw((-distance_m, 0.0, 0.0), 0.0)
    return [replace(make_scene(), stamp_ns=0, odom_from_base=pose), now]


def test_scenes_follow_each_other_within_a_step_and_with_known_motion():
    before, now = clip_of_two()
    assert follows(before, now)
    assert not follows(now, before) and not follows(now, now)
    assert not follows(before, replace(now, odom_from_base=np.full((4, 4), np.nan)))
    assert not follows(before, replace(now, stamp_ns=5 * STEP_NS))


def test_a_turned_clip_still_says_where_it_was():
    train = TrainConfig(
        batch_size=1, window_m=(25.6, 25.6), camera_batches=1.0, fusion='recurrent'
    )
    batches = SceneBatches(train, train.network, clip_of_two(4.0))
    lengths = set()
    for index in range(12):
        clip, _ = batches[index]
        lengths.add(len(clip))
        if len(clip) == 1:  # the older of the two was drawn
            continue
        moved = clip[-1].previous_from_base[0]
        if moved[3, 3]:
            # Angle and mirror are any; driven are 4 m times scale, within the noise of the pose.
            assert 3.3 < np.hypot(*moved[:2, 3].tolist()) < 4.8
            assert abs(np.linalg.det(moved[:2, :2].numpy()) - 1) < 0.01
    assert lengths == {1, 2}


def test_the_memory_is_lost_now_and_then():
    clip = clip_of_two()
    lost = [
        clip_inputs(clip, np.random.default_rng(0), np.random.default_rng(k))[1]
        .previous_from_base is None
        for k in range(300)
    ]  # fmt: skip
    assert 0.12 < np.mean(lost) < 0.28


def test_the_last_sweep_of_a_clip_is_the_sample_of_a_network_without_memory():
    settings = {'batch_size': 2, 'window_m': (25.6, 25.6), 'camera_batches': 0.7}
    with_memory, without = (
        SceneBatches(train, train.network, clip_of_two())
        for train in (TrainConfig(fusion='recurrent', **settings), TrainConfig(**settings))
    )
    for index in range(6):
        (clip, targets), (batch, same) = with_memory[index], without[index]
        for name in ('points', 'pillar_cell', 'images', 'pixel_from_base', 'motion'):
            assert torch.equal(getattr(clip[-1], name), getattr(batch, name)), name
        assert torch.equal(targets.heat, same.heat)


def test_shorter_clips_begin_with_nothing():
    long, short = [make_inputs(0), make_inputs(1)], [make_inputs(2)]
    together = side_by_side([long, short])
    assert together[1] == [long[1], short[0]]
    nothing = together[0][1]
    assert nothing.points is None and not nothing.cameras and nothing.previous_from_base is None


def test_earlier_sweeps_survive_their_file(tmp_path):
    path = tmp_path / 'camera_1.npz'
    assert load_past(path) == []
    save_past(path, clip_of_two())
    before, now = load_past(path)
    assert follows(before, now) and not list(tmp_path.glob('*.npz'))
    assert before.odom_from_base[0, 3] == -1.0


@needs_new_torch
def test_a_clip_teaches_the_gate():
    train = TrainConfig(fusion='recurrent', batch_size=1, window_m=(25.6, 25.6), steps=4)
    trainer = Trainer(train, 'unused', clip_of_two())
    torch.nn.init.normal_(trainer.network.bev_head.residual.weight, std=0.5)
    one, other = make_inputs(0), replace(make_inputs(1), previous_from_base=np.eye(4))
    clip = [make_batch([inputs], GRID, train.network) for inputs in (one, other)]
    heads = trainer.network(clip[1], memory=trainer.network.remember(clip[0]))
    heads.heat_fused.sum().backward()
    assert trainer.network.fusion.memory.gate.weight.grad.abs().sum() > 0
    trainer.one_step(
        *next(trainer.batches[i] for i in range(40) if len(trainer.batches[i][0]) > 1)
    )
    assert trainer.step == 1


def test_a_simulated_clip_ends_in_the_scene_of_its_seed():
    before, now = simulate_clip(11, 0, length=2)
    scene = next(simulate_samples(11))
    np.testing.assert_array_equal(now.frame.cloud.points, scene.frame.cloud.points)
    assert now.frame.stamp_ns - before.frame.stamp_ns == STEP_NS
    driven = np.linalg.norm(
        (invert(before.frame.odom_from_base) @ now.frame.odom_from_base)[:2, 3]
    )
    assert driven == pytest.approx(now.frame.motion.speed_mps * 0.1, abs=0.05)
    # Most of what is seen in one sweep is seen in the next.
    assert len(set(before.truth.object_id) & set(now.truth.object_id)) > 3
