# SPDX-License-Identifier: Apache-2.0
"""The simulated half of the path-cost suite: its truth, and its counting."""

from dataclasses import replace

from mmperception.cli.main import main
from mmperception.config import Config
from mmperception.cost import CostMapper, Sweep
from mmperception.datatypes import CostGrid
from mmperception.evaluation.path_cost_truth import judge_sweep, truth_metrics, TruthMap
from mmperception.evaluation.simulated_streets import locate, StreetDrive, Surfaces, TrueSweep
from mmperception.geometry import apply, invert, transform_from_yaw
import numpy as np
import pytest
import torch

CONFIG = Config()
START_NS = 10**18


def surfaces(*squares):
    """Return walls of 0.5 m squares, up to 1.5 m, at these corners."""
    across = np.linspace(0, 0.5, 11)
    points = [np.stack(np.meshgrid(x + across, y + across, [0.5, 1.5]), axis=-1).reshape(-1, 3)
              for x, y in squares]  # fmt: skip
    points = np.concatenate(points or [np.zeros((0, 3))]).astype(np.float32)
    return Surfaces(points=points, height_m=points[:, 2], is_soft=np.zeros(len(points), bool))


def true_sweep(things, seconds=0.0, moving=()):
    """Return a sweep with 24 points on each thing, at (x, y) from the robot."""
    points, thing = [], []
    for number, (x, y) in enumerate(things):
        points += [(x + 0.02 * k, y, 1.0) for k in range(24)]
        thing += [number] * 24
    points = np.array(points, np.float32).reshape(-1, 3)
    sweep = Sweep(
        stamp_ns=START_NS + int(seconds * 1e9),
        points_lidar=points - np.float32((0.0, 0.0, 1.7)),
        base_from_lidar=transform_from_yaw((0.0, 0.0, 1.7), 0.0),
        odom_from_base=np.eye(4),
    )
    return TrueSweep(
        sweep=sweep,
        thing=np.array(thing, np.int64),
        height_m=points[:, 2].copy(),
        moving=surfaces(*moving),
    )


def grid_with(squares):
    data = np.zeros((600, 600), np.int8)
    for x, y in squares:
        row, column = int((y + 30) * 10 + 0.5), int((x + 30) * 10 + 0.5)
        bottom, right = row + 5, column + 5
        data[row:bottom, column:right] = 100
    return CostGrid(
        stamp_ns=START_NS, frame_id='odom', resolution_m=0.1, origin_xy_m=(-30.0, -30.0), data=data
    )


def test_a_thing_without_any_lethal_cell_is_missed_and_one_with_a_few_is_not():
    truth = TruthMap(surfaces((8, 2), (12, -3)), CONFIG)
    judged = judge_sweep(true_sweep([(8, 2.2), (12, -2.8)]), grid_with([(8, 2)]), truth, CONFIG)
    assert judged.is_missed.tolist() == [False, True]
    assert judged.thing_range_m == pytest.approx([8.3, 12.3], abs=0.1)
    metrics = truth_metrics([[judged]])
    missed = metrics['missed_obstacle_sweeps_20m']
    assert (missed.value, missed.count) == (1, 2)
    assert metrics['lethal_recall_25m'].value == pytest.approx(50.0)
    assert metrics['lethal_recall_5_10m'].value == 100.0
    assert metrics['lethal_recall_10_15m'].value == 0.0


def test_a_lethal_cell_where_nothing_stands_is_wrong_and_one_beside_a_surface_is_not():
    truth = TruthMap(surfaces((8, 2)), CONFIG)
    judged = judge_sweep(true_sweep([(8, 2.2)]), grid_with([(8, 2), (15, 0)]), truth, CONFIG)
    metrics = truth_metrics([[judged]])
    assert metrics['lethal_precision_25m'].value == pytest.approx(50.0)
    assert metrics['lethal_precision_5_10m'].value == 100.0
    assert metrics['lethal_precision_15_20m'].value == 0.0
    assert metrics['lethal_precision_20_25m'].value is None


def test_what_moved_on_leaves_a_smear_while_its_cells_stay_lethal():
    truth, judged = TruthMap(surfaces(), CONFIG), []
    for step in range(12):
        sweep = true_sweep([], 0.1 * step, [(8 + step, 2)])
        judged.append(judge_sweep(sweep, grid_with([(8, 2), (8 + step, 2)]), truth, CONFIG))
    metrics = truth_metrics([judged])
    smeared, late = metrics['smeared_cells_after_0.5s'], metrics['time_to_clear_s_p99']
    assert smeared.value == 7 * 25  # of the first place, from 0.5 s on
    assert smeared.count > smeared.value
    assert late.value == pytest.approx(1.1, abs=0.02)


def test_cleared_at_once_is_no_smear():
    truth, judged = TruthMap(surfaces(), CONFIG), []
    for step in range(12):
        sweep = true_sweep([], 0.1 * step, [(8 + step, 2)])
        judged.append(judge_sweep(sweep, grid_with([(8 + step, 2)]), truth, CONFIG))
    metrics = truth_metrics([judged])
    assert metrics['smeared_cells_after_0.5s'].value == 0
    assert metrics['time_to_clear_s_p99'].value is None


@pytest.fixture(scope='module')
def drive():
    return StreetDrive(501, 0.2)


@pytest.fixture(scope='module')
def sweeps(drive):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as `judge_drives` does
    found = list(drive.sweeps())
    torch.set_num_threads(threads)
    return found


def test_ground_points_of_a_simulated_street_lie_on_its_true_ground(sweeps):
    for sweep in sweeps:
        height = sweep.height_m[sweep.thing < 0]
        near = np.hypot(*sweep.sweep.points_base[sweep.thing < 0, :2].T) < 25
        assert len(height) > 20_000
        assert np.abs(height[near]).mean() < 0.03 and (np.abs(height[near]) < 0.2).mean() > 0.995


def test_points_of_things_lie_on_their_surfaces_in_odom(drive, sweeps):
    def keys(places, step=(0, 0)):
        column, row = np.floor(places[:, :2] / 0.3).astype(np.int64).T
        return (row + step[1]) * 100_000 + column + step[0]

    sweep = sweeps[0]
    is_high = (sweep.thing >= 0) & (sweep.height_m > 0.4) & (sweep.height_m < 2)
    places = apply(sweep.sweep.odom_from_base, sweep.sweep.points_base[is_high].astype(float))
    every = np.unique(keys(np.concatenate((drive.standing.points, sweep.moving.points))))
    steps = [(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
    is_near = np.any([np.isin(keys(places, step), every) for step in steps], axis=0)
    assert len(places) > 5000 and is_near.mean() > 0.95


def test_a_place_beside_a_bent_road_is_found_again(drive):
    road = drive._road
    x, y, _ = road.locate(np.array([12.0, 55.0]), np.array([-4.0, 7.5]))
    station, lateral = locate(road, np.stack((x, y), axis=1))
    assert station == pytest.approx([12.0, 55.0], abs=0.01)
    assert lateral == pytest.approx([-4.0, 7.5], abs=0.01)


def test_gates_over_the_road_are_no_obstacles_and_the_ego_car_sees_them(drive, sweeps):
    range_m = np.hypot(*sweeps[0].sweep.points_base[:, :2].T)
    is_gate = (sweeps[0].height_m > 2.55) & (range_m < 20)
    assert is_gate.any()
    path_cost = CostMapper(CONFIG).integrate(sweeps[0].sweep)
    assert not path_cost.split.is_obstacle[is_gate].mean() > 0.02


def test_the_whole_of_it_misses_nothing_within_two_sweeps(drive, sweeps):
    mapper, truth = CostMapper(CONFIG), TruthMap(drive.standing, CONFIG)
    judged = [judge_sweep(s, mapper.integrate(s.sweep).grid, truth, CONFIG) for s in sweeps]
    metrics = truth_metrics([judged])
    assert metrics['missed_obstacle_sweeps_20m'].count > 20
    assert metrics['missed_obstacle_sweeps_20m'].value == 0
    assert metrics['lethal_recall_25m'].value > 95
    assert metrics['lethal_precision_25m'].value > 90
    blind = replace(CONFIG.ground, obstacle_height_m=1.0, hole_depth_m=1.0)
    mapper = CostMapper(replace(CONFIG, ground=blind))
    judged = [judge_sweep(s, mapper.integrate(s.sweep).grid, truth, CONFIG) for s in sweeps]
    assert truth_metrics([judged])['missed_obstacle_sweeps_20m'].value > 0


def test_no_drive_is_wrong_use(capsys):
    assert main(['evaluate', 'simulated', '--suite', 'path-cost', '--drives', '0']) == 2
    assert '--drives' in capsys.readouterr().err


def test_the_pose_on_hills_stands_upright_on_the_slope(drive):
    pose = drive._pose(0.1)
    assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-9)
    ahead = apply(pose, np.array((2.7, 0.0, 0.0)))
    assert abs(drive._height_m(ahead[None])[0]) < 0.1
    assert np.allclose(invert(pose) @ pose, np.eye(4))
