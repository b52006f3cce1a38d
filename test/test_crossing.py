# SPDX-License-Identifier: Apache-2.0
"""People who cross in the path-cost suite: what is asked of the grid, and how it is counted."""

from mmperception.cli.main import main
from mmperception.config import Config
from mmperception.cost import CostMapper, Sweep
from mmperception.datatypes import CostGrid
from mmperception.evaluation.crossing import CrossingJudge, horizon_steps, raised_along
from mmperception.evaluation.simulated_streets import People, Surfaces, TrueSweep
from mmperception.geometry import transform_from_yaw
import numpy as np
import pytest
from synthetic_scan import MOUNT, scan

CONFIG = Config()
START_NS = 1_700_000_000_000_000_000


def grid_of(data):
    return CostGrid(
        stamp_ns=START_NS, frame_id='odom', resolution_m=0.1, origin_xy_m=(-1.0, -2.0), data=data
    )


def test_only_known_and_free_places_inside_the_window_are_counted():
    plain = np.zeros((40, 30), np.int8)
    plain[20, 10], plain[20, 11] = 100, -1
    raised = plain.copy()
    raised[20, 12] = 7
    ways = np.array([
        [(0.05, 0.05), (0.15, 0.05), (0.25, 0.05), (0.35, 0.05), (99.0, 0.0), (-1.05, 0.0)]
    ])  # fmt: skip
    places, more = raised_along(ways, grid_of(plain), grid_of(raised))
    assert places.tolist() == [0, 0, 1, 1, 0, 0]
    assert more.tolist() == [0, 0, 1, 0, 0, 0]


def test_nobody_has_no_way():
    grid = grid_of(np.zeros((40, 30), np.int8))
    places, more = raised_along(np.zeros((0, 8, 2)), grid, grid)
    assert places.tolist() == more.tolist() == [0] * 8


def walker_at(seconds, speed_mps, is_crossing=True):
    box = (9.9, -3 + speed_mps * seconds, 0, 10.3, -2.6 + speed_mps * seconds, 1.7)
    middle = np.array([[10.1, -2.8 + speed_mps * seconds]])
    ahead = horizon_steps(CONFIG)
    ways = middle[:, None] + np.stack((0 * ahead, speed_mps * ahead), axis=1)
    nothing = np.zeros((0, 3), np.float32)
    return TrueSweep(
        sweep=Sweep(
            stamp_ns=START_NS + int(seconds * 1e9),
            points_lidar=scan([box]) - np.float32(MOUNT),
            base_from_lidar=transform_from_yaw(MOUNT, 0.0),
            odom_from_base=np.eye(4),
        ),
        thing=np.zeros(0, np.int64),
        height_m=np.zeros(0, np.float32),
        moving=Surfaces(points=nothing, height_m=nothing[:, 0], is_soft=np.zeros(0, bool)),
        people=People(
            center=np.column_stack((middle, [[0.85]])),
            size=np.array([[0.4, 0.4, 1.7]]),
            yaw=np.array([np.pi / 2]),
            ways=ways,
            is_crossing=np.array([is_crossing]),
        ),
    )


@pytest.mark.parametrize(('is_crossing', 'counts'), [(True, True), (False, False)])
def test_the_way_of_who_crosses_costs_more_once_the_track_is_confirmed(is_crossing, counts):
    judge, mapper = CrossingJudge(CONFIG, 1), CostMapper(CONFIG)
    for step in range(10):
        true_sweep = walker_at(0.1 * step, 1.5, is_crossing)
        plain = mapper.integrate(true_sweep.sweep).grid
        places, raised = judge.judge(true_sweep, plain)
        if step == 0:
            assert not places.any()  # no track yet
    assert places.shape == horizon_steps(CONFIG).shape == (8,)
    if counts:
        assert (places[1:] == 1).all() and (raised == places).all()
    else:
        assert not places.any()


def test_a_track_that_walks_the_other_way_raises_nothing_far_ahead():
    judge, mapper = CrossingJudge(CONFIG, 1), CostMapper(CONFIG)
    for step in range(10):
        true_sweep = walker_at(0.1 * step, 1.5)
        people = true_sweep.people
        people.ways[...] = people.center[:, None, :2] - (people.ways - people.center[:, None, :2])
        places, raised = judge.judge(true_sweep, mapper.integrate(true_sweep.sweep).grid)
    assert places[-1] == 1 and raised[-1] == 0


@pytest.mark.parametrize('name', ['mud/1', 'fog', 'fog/4', 'dark/1'])
def test_an_unknown_corruption_is_wrong_use_and_the_known_ones_are_named(name, capsys):
    words = ['evaluate', 'simulated', '--suite', 'path-cost', '--corrupt', name]
    assert main(words) == 2
    assert 'beams/1' in capsys.readouterr().err
