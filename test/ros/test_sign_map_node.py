# SPDX-License-Identifier: Apache-2.0
"""The node `perception` keeps a file with all signs it saw, and continues one that exists."""

import json
from types import SimpleNamespace

from graph import Graph, save_weights
from mmperception.config import from_mapping
from mmperception.geometry import transform_from_yaw
from mmperception.ros.perception_node import PerceptionNode
from mmperception.ros.sign_map import SignMapFile
import numpy as np
import pytest
from test_sign_atlas import Drive, STOP

SECOND_NS = 1_000_000_000


@pytest.fixture
def graph():
    graph = Graph()
    yield graph
    graph.close()


def make_file(path):
    config = from_mapping({'signs': {'map_file': str(path), 'map_period_s': 2.0}})
    # Of the transforms only where the antenna is in odom counts.
    places = {}
    transforms = SimpleNamespace(lookup=lambda parent, child, stamp_ns: places[stamp_ns])
    return SignMapFile(SimpleNamespace(config=config, transforms=transforms)), places


def drive(kept, places):
    """Drive past a stop sign, ten frames a second."""
    helper = Drive(kept.atlas)
    plates = [(STOP, 30.0, -3.0)]
    for step, x in enumerate(np.arange(0.0, 28.0, 1.0)):
        helper.now_ns += SECOND_NS // 10
        pose = transform_from_yaw((x, 0.0, 0.0), 0.0)
        fix = helper._fix(pose[:2, 3])
        places[fix.stamp_ns] = pose
        signs = helper._signs(plates if 30.0 - x < 25 else [], pose, plates, 1)
        frame = SimpleNamespace(gps=fix, odom_from_base=pose)
        kept.see(frame, signs, step * SECOND_NS // 10)


def test_the_file_is_there_while_the_node_works_and_whole(tmp_path):
    path = tmp_path / 'maps' / 'signs.geojson'
    kept, places = make_file(path)
    drive(kept, places)
    (feature,) = json.loads(path.read_text())['features']
    assert feature['properties']['class'] == 'stop'
    again, places = make_file(path)
    drive(again, places)
    again.write()
    (feature,) = json.loads(path.read_text())['features']
    assert feature['properties']['passes'] == 2


def test_a_place_that_cannot_be_written_costs_the_file_alone(tmp_path, caplog):
    (tmp_path / 'file').write_text('')
    kept, places = make_file(tmp_path / 'file' / 'signs.geojson')
    drive(kept, places)
    assert 'signs.map_file' in caplog.text and 'not written' in caplog.text


def test_no_file_is_asked_for_and_none_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept, places = make_file('')
    drive(kept, places)
    kept.write()
    assert list(tmp_path.iterdir()) == []


def test_a_deactivated_node_has_written_its_map(graph, tmp_path):
    path = tmp_path / 'signs.geojson'
    weights = str(save_weights(tmp_path))
    node = graph.make(PerceptionNode, weights=weights, signs__map_file=str(path))
    assert node.start()
    node.trigger_deactivate()
    assert json.loads(path.read_text())['features'] == []


def test_a_file_that_is_no_map_stops_the_node_before_it_is_lost(graph, tmp_path):
    path = tmp_path / 'notes.json'
    path.write_text('my notes')
    weights = str(save_weights(tmp_path))
    node = graph.make(PerceptionNode, weights=weights, signs__map_file=str(path))
    assert not node.start()
    assert path.read_text() == 'my notes'
