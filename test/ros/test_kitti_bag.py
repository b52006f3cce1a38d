# SPDX-License-Identifier: Apache-2.0
"""A KITTI drive as a bag brings along what belongs to its car."""

from mmperception.cli.main import main
from mmperception.config import from_mapping
import pytest
from test_kitti import make_moving_drive

pytestmark = pytest.mark.ros
bag = pytest.importorskip('mmperception.ros.bag')


def test_the_bag_of_a_drive_says_how_the_car_is_outlined_and_its_sweeps_stamped(tmp_path):
    path = make_moving_drive(tmp_path).path
    assert main(['import-kitti', str(path), str(tmp_path / 'bag')]) == 0
    config = from_mapping(bag.settings_of(tmp_path / 'bag'))
    assert (config.ground.self_center_y_m, config.ground.self_width_m) == (-0.3, 2.9)
    assert config.lidar.stamp == 'middle' and config.camera('camera').rectified


def test_path_cost_figures_of_the_bag_are_those_of_the_drive(tmp_path, capsys):
    path = make_moving_drive(tmp_path).path
    main(['import-kitti', str(path), str(tmp_path / 'bag')])
    capsys.readouterr()
    figures = []
    for place in (path, tmp_path / 'bag'):
        assert main(['evaluate', str(place), '--suite', 'path-cost']) == 0
        figures.append(capsys.readouterr().out.splitlines()[1:])
    assert figures[0] == figures[1]
