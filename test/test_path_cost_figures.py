# SPDX-License-Identifier: Apache-2.0
"""The path-cost suite: what lies in the later footprint, and boxes that geometry must show."""

from dataclasses import replace
import json

from mmperception import cost
from mmperception.cli.main import main
from mmperception.config import Config, from_mapping
from mmperception.datasets import kitti
from mmperception.datatypes import CostGrid, Frame, PointCloud
from mmperception.evaluation.metrics import Metric
from mmperception.evaluation.path_cost import (
    BoxEvidence,
    cells_of_box,
    footprint_cells,
    map_sweeps,
    MappedSweep,
    path_cost_metrics,
)
from mmperception.geometry import transform_from, transform_from_yaw
from mmperception.recording import Sample, Truth
import numpy as np
import pytest
from synthetic_scan import MOUNT, scan
from test_kitti import make_drive, make_moving_drive

CONFIG = Config()
NUM_SWEEPS, STEP_M = 30, 1.0
IN_THE_WAY = (24.0, -0.4, 0.0, 25.0, 0.3, 1.5)
ASIDE = (24.0, 3.0, 0.0, 25.5, 3.7, 1.7)


def evidence(center=(), size=(), kind='car'):
    N = len(center)
    return BoxEvidence(
        kinds=np.array([kind] * N, object),
        center_xy=np.array(center, float).reshape(N, 2),
        size_xy=np.array(size, float).reshape(N, 2),
        yaw=np.zeros(N),
        range_m=np.zeros(N),
        num_points=np.zeros(N, int),
        num_obstacle=np.zeros(N, int),
        is_in_grid=np.ones(N, bool),
        has_lethal=np.zeros(N, bool),
    )


def free_grid(lethal=(), unknown=()):
    """60 m around the origin of odom, free but for the cells that hold these places."""
    data = np.zeros((600, 600), np.int8)
    for places, value in ((lethal, 100), (unknown, -1)):
        for x, y in places:
            data[int((y + 30) * 10), int((x + 30) * 10)] = value
    return CostGrid(
        stamp_ns=1, frame_id='odom', resolution_m=0.1, origin_xy_m=(-30.0, -30.0), data=data
    )


def count_ahead(grid, boxes=None, yaw=0.0, ground=CONFIG.ground, far_m=40):
    """Count the footprint of a straight drive from the origin of odom."""
    start = transform_from_yaw((0, 0, 0), yaw)
    later = [start @ transform_from((x, 0, 0)) for x in range(1, far_m)]
    sweep = MappedSweep(odom_from_base=start, grid=grid, boxes=boxes or evidence())
    return footprint_cells(sweep, later, ground)


def drive(boxes=(), labels=(), kind='car', object_id='7'):
    """Yield samples of a drive along x over these boxes; `labels` are the labelled ones."""
    for index in range(NUM_SWEEPS):
        x = index * STEP_M
        shift = np.array((x, 0, 0, x, 0, 0))
        labelled = (np.array(labels, float).reshape(-1, 6) - shift).astype(np.float32)
        N, stamp_ns = len(labelled), 10**18 + index * 10**8
        points = scan(np.array(boxes, float).reshape(-1, 6) - shift) - MOUNT.astype(np.float32)
        truth = Truth(
            stamp_ns=stamp_ns,
            center=(labelled[:, :3] + labelled[:, 3:]) / 2,
            size=labelled[:, 3:] - labelled[:, :3] + np.float32(0.1),
            yaw=np.zeros(N, np.float32),
            kinds=(kind,) * N,
            occlusion=np.zeros(N, np.int64),
            object_id=(object_id,) * N,
            is_ignored=np.zeros(N, bool),
        )
        frame = Frame(
            stamp_ns=stamp_ns,
            cloud=PointCloud(stamp_ns=stamp_ns, frame_id='lidar', points=points),
            base_from_lidar=transform_from(MOUNT),
            odom_from_base=transform_from((x, 0, 0)),
        )
        yield Sample(frame=frame, truth=truth, source=f'test/{index}')


def figures(samples):
    return path_cost_metrics(list(map_sweeps(samples, cost.CostMapper(CONFIG))), CONFIG.ground)


def test_the_footprint_is_1_8_m_wide_and_ends_20_m_ahead_from_the_front_of_the_vehicle_on():
    cells = count_ahead(free_grid())
    front_m = CONFIG.ground.self_center_x_m + CONFIG.ground.self_length_m / 2
    assert cells.num_all == pytest.approx((20 - front_m) * 1.8 / 0.01, rel=0.01)
    assert cells.num_near == pytest.approx((10 - front_m) * 1.8 / 0.01, rel=0.02)
    assert (cells.num_lethal, cells.num_unknown, cells.num_left_out) == (0, 0, 0)


def test_cells_beside_behind_and_beyond_the_footprint_do_not_count():
    inside = [(4.25, 0.85), (12.05, -0.85), (19.95, 0.05)]
    outside = [(12.05, 0.95), (12.05, -0.95), (20.15, 0.05), (2.55, 0.05), (-5.05, 0.05)]
    cells = count_ahead(free_grid(lethal=inside + outside))
    assert cells.num_lethal == 3
    cells = count_ahead(free_grid(unknown=inside + outside))
    assert (cells.num_unknown, cells.num_near_unknown) == (3, 1)


def test_a_vehicle_whose_middle_is_right_of_base_link_drives_right_of_it():
    ground = replace(CONFIG.ground, self_center_y_m=-0.3)
    # Heading to odom's y, right is x: from -0.6 to 1.2.
    grid = free_grid(lethal=[(1.15, 9.05), (-0.55, 9.05), (1.25, 9.05), (-0.65, 9.05)])
    assert count_ahead(grid, yaw=np.pi / 2, ground=ground).num_lethal == 2


def test_only_what_was_driven_later_is_footprint():
    far = count_ahead(free_grid(lethal=[(15.05, 0.05)]))
    near = count_ahead(free_grid(lethal=[(15.05, 0.05)]), far_m=6)
    assert (far.num_lethal, near.num_lethal) == (1, 0)
    assert near.num_all == pytest.approx(5.0 * 1.8 / 0.01, rel=0.02)  # its front goes on 5 m
    assert count_ahead(free_grid(), far_m=1).num_all == 0


def test_cells_within_half_a_metre_of_a_labelled_box_are_left_out():
    # A car on the next lane: its box begins 0.3 m beside the footprint's rim, 0.2 m are left out.
    boxes = evidence([(10.0, 2.1)], [(4.0, 1.8)])
    cells = count_ahead(free_grid(lethal=[(10.05, 0.75), (10.05, 0.65)]), boxes)
    assert (cells.num_lethal, cells.num_left_out) == (1, pytest.approx(2 * 43, abs=6))
    assert cells.num_judged == cells.num_all - cells.num_left_out


def test_the_cells_of_a_turned_box_outside_the_grid_are_none():
    row, column = cells_of_box(free_grid(), ((80.0, 5.0), (4.0, 2.0), 0.5))
    assert len(row) == 0 == len(column)
    row, column = cells_of_box(free_grid(), ((3.0, -7.0), (4.0, 2.0), np.pi / 6))
    assert len(row) == pytest.approx(800, rel=0.02)
    assert (column.mean() + 0.5) / 10 - 30 == pytest.approx(3.0, abs=0.02)
    assert (row.mean() + 0.5) / 10 - 30 == pytest.approx(-7.0, abs=0.02)


def test_an_empty_road_has_no_lethal_cell_and_no_box():
    metrics = figures(drive())
    assert metrics['footprint_lethal_share'].value == 0.0
    assert metrics['footprint_lethal_share'].count > 20_000
    assert metrics['footprint_left_out_share'].value == 0.0
    assert metrics['footprint_unknown_share_within_10m'].value < 1.0
    assert metrics['boxes_without_lethal_cell'] == Metric(value=0, count=0)
    assert all(name.startswith(('footprint_', 'boxes_')) for name in metrics)


def test_a_thing_in_the_driven_path_counts_unless_it_is_labelled():
    unlabelled, labelled = figures(drive([IN_THE_WAY])), figures(drive([IN_THE_WAY], [IN_THE_WAY]))
    share = unlabelled['footprint_lethal_share']
    assert share.low <= share.value <= share.high and share.value > 0.05
    assert unlabelled['footprint_sweeps_with_lethal'].value >= 14
    assert unlabelled['footprint_left_out_share'].value == 0.0
    assert labelled['footprint_lethal_share'].value == 0.0
    assert labelled['footprint_left_out_share'].value > 1.0


def test_a_labelled_box_is_an_obstacle_in_each_of_its_frames():
    metrics = figures(drive([ASIDE], [ASIDE], kind='cyclist'))
    seen, lethal = metrics['cyclist_obstacle_points'], metrics['cyclist_lethal']
    assert seen.value == seen.count >= 15
    assert lethal.value == lethal.count >= 15
    missed = metrics['boxes_without_lethal_cell']
    assert (missed.value, missed.count >= 10) == (0, True)


def test_a_labelled_thing_too_low_to_be_an_obstacle_is_missed_in_each_of_its_frames():
    low = (15.0, 2.0, 0.0, 18.0, 4.0, 0.12)
    metrics = figures(drive([low], [low], kind='misc'))
    missed = metrics['boxes_without_lethal_cell']
    assert missed.value == missed.count >= 5
    assert metrics['misc_obstacle_points'].value == 0 == metrics['misc_lethal'].value


def test_boxes_that_no_labeller_drew_are_not_judged():
    metrics = figures(drive([IN_THE_WAY], [IN_THE_WAY], object_id='unlabelled_3'))
    assert metrics['boxes_without_lethal_cell'].count == 0
    assert metrics['footprint_lethal_share'].value > 0.05


def test_a_drive_without_any_sweep_is_refused():
    with pytest.raises(ValueError, match='no sweep with a cloud and odometry'):
        figures([])


def test_evaluate_a_drive_prints_the_figures_with_the_outline_of_its_car(
    tmp_path, capsys, monkeypatch
):
    outlines = []

    class Watched(cost.CostMapper):
        """Notes the outline that it is made with."""

        def __init__(self, config):
            outlines.append((config.ground.self_center_y_m, config.ground.self_width_m))
            super().__init__(config)

    monkeypatch.setattr(cost, 'CostMapper', Watched)
    path, out = make_moving_drive(tmp_path).path, tmp_path / 'path_cost.json'
    assert main(['evaluate', str(path), '--suite', 'path-cost', '--json', str(out)]) == 0
    report = json.loads(out.read_text())
    assert (report['suite'], report['weights']) == ('path-cost', 'none')
    assert set(report['metrics']['footprint_lethal_share']) == {'value', 'low', 'high', 'count'}
    assert report['metrics']['footprint_unknown_share']['count'] > 100  # one metre of road
    assert outlines == [(-0.3, 2.9)]
    assert 'path-cost of geometry alone' in capsys.readouterr().out


def test_sweeps_of_a_drive_are_degraded_on_demand(tmp_path, capsys, monkeypatch):
    numbers = []

    class Watched(cost.CostMapper):
        """Notes how many points come."""

        def integrate(self, sweep):
            numbers.append(len(sweep.points_lidar))
            return super().integrate(sweep)

    monkeypatch.setattr(cost, 'CostMapper', Watched)
    asked = ['evaluate', str(make_moving_drive(tmp_path).path), '--suite', 'path-cost']
    assert main(asked) == main([*asked, '--corrupt', 'fov/3']) == 0
    whole, degraded = np.split(np.array(numbers), 2)
    assert (degraded < whole / 2).all() and len(whole) > 0
    assert main([*asked, '--corrupt', 'smoke/1']) == 2
    assert 'smoke/1' in capsys.readouterr().err


def test_evaluate_a_drive_without_odometry_says_so_in_one_sentence(tmp_path, capsys):
    path = make_drive(tmp_path)
    assert main(['evaluate', str(path), '--suite', 'path-cost']) == 1
    error = capsys.readouterr().err
    assert 'no sweep with a cloud and odometry' in error and error.count('\n') == 1


def test_the_settings_of_the_kitti_car_go_with_its_recording(tmp_path):
    settings = make_moving_drive(tmp_path).recording().settings
    assert settings is kitti.SETTINGS
    assert from_mapping(settings).ground.self_center_y_m == -0.3
