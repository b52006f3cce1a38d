# SPDX-License-Identifier: Apache-2.0
"""
The files for RViz and Foxglove show topics that exist, as what they are, from where they are.

Topics, types and qualities of service are asked of the code that publishes: a fake node notes
what is made.
"""

import json
from pathlib import Path
import re
from types import SimpleNamespace

from mmperception.config import Config
from mmperception.config_sections import CameraConfig
import pytest
import yaml

CONFIG = Path(__file__).parents[1] / 'config'
RVIZ = yaml.safe_load((CONFIG / 'mmperception.rviz').read_text())['Visualization Manager']
LAYOUT = json.loads((CONFIG / 'foxglove_layout.json').read_text())
DISPLAYS = RVIZ['Displays']
SHOWN_BY_RVIZ = [one for one in DISPLAYS if 'Topic' in one]
PANELS = LAYOUT['configById']
ros = pytest.mark.ros
# What each display and panel can draw; nothing that a bare RViz lacks.
DRAWN = {
    'rviz_default_plugins/Map': {'nav_msgs/msg/OccupancyGrid'},
    'rviz_default_plugins/PointCloud2': {'sensor_msgs/msg/PointCloud2'},
    'rviz_default_plugins/MarkerArray': {'visualization_msgs/msg/MarkerArray'},
    'rviz_default_plugins/Image': {'sensor_msgs/msg/Image'},
    'Image': {'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'},
    'calibration': {'sensor_msgs/msg/CameraInfo'},
    'DiagnosticSummary': {'diagnostic_msgs/msg/DiagnosticArray'},
    'DiagnosticStatusPanel': {'diagnostic_msgs/msg/DiagnosticArray'},
    'Plot': {'diagnostic_msgs/msg/DiagnosticArray'},
    'map': {'sensor_msgs/msg/NavSatFix'},
}
DRAWN['3D'] = set().union(*(DRAWN[name] for name in list(DRAWN)[:3]))


class FakeNode:
    """Notes the publishers that are made: topic to (type, quality of service)."""

    def __init__(self):
        self.config, self.made = Config(), {}

    def create_lifecycle_publisher(self, kind, topic, profile):
        self.made[topic] = (kind, profile)

    create_publisher = create_lifecycle_publisher


@pytest.fixture(scope='module')
def published():
    """Return what both nodes publish, topic to (type, quality of service)."""
    from mmperception.ros.cost_outputs import CostOutputs
    from mmperception.ros.outputs import PerceptionOutputs
    from mmperception.ros.working_node import WorkingNode

    node = FakeNode()
    for make in (PerceptionOutputs, CostOutputs, WorkingNode.configure):
        make(node)
    return node.made


@pytest.fixture(scope='module')
def type_of(published):
    """Return the type of every topic that the package publishes or hears."""
    from mmperception.ros.bag import type_name_of
    from mmperception.ros.inputs import inputs_of

    types = {topic: type_name_of(kind) for topic, (kind, _) in published.items()}
    for transport in ('raw', 'compressed'):
        config = Config(cameras={'camera': CameraConfig(transport=transport)})
        types.update({one.topic: type_name_of(one.type) for one in inputs_of(config)})
    return types


def kind_of(panel):
    return panel.partition('!')[0]


def topics_of_foxglove():
    """Yield what draws a topic, and the topic."""
    for panel, settings in PANELS.items():
        kind = kind_of(panel)
        yield from (('3D', topic) for topic in settings.get('topics', {}))
        image = settings.get('imageMode', {})
        for drawer, key in ((kind, 'imageTopic'), ('calibration', 'calibrationTopic')):
            if key in image:
                yield drawer, image[key]
        for key in ('topicToRender', 'followTopic'):
            if key in settings:
                yield kind, settings[key]
        for path in settings.get('paths', []):
            yield kind, path['value'].partition('.')[0]


@ros
def test_rviz_shows_topics_of_ours_with_displays_of_their_type(type_of):
    assert len(SHOWN_BY_RVIZ) >= 6
    for display in SHOWN_BY_RVIZ:
        assert type_of[display['Topic']['Value']] in DRAWN[display['Class']], display['Name']


def test_rviz_needs_no_plugin_of_another_package():
    classes = [one['Class'] for one in (*DISPLAYS, *RVIZ['Tools'])]
    classes += [one['Class'] for one in (RVIZ['Views']['Current'], *RVIZ['Views']['Saved'])]
    assert all(name.startswith('rviz_default_plugins/') for name in classes)


def test_topics_in_rviz_are_relative_so_that_a_namespace_works():
    topics = [one['Topic']['Value'] for one in SHOWN_BY_RVIZ]
    topics += [one['Update Topic']['Value'] for one in DISPLAYS if 'Update Topic' in one]
    assert not [topic for topic in topics if topic.startswith('/')]


@ros
def test_rviz_gets_the_grid_of_a_node_that_has_fallen_silent(published):
    from rclpy.qos import QoSDurabilityPolicy, QoSReliabilityPolicy

    (grid,) = (one['Topic'] for one in SHOWN_BY_RVIZ if one['Topic']['Value'] == 'path_cost')
    profile = published['path_cost'][1]
    assert profile.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL
    assert profile.reliability == QoSReliabilityPolicy.RELIABLE
    assert grid['Durability Policy'] == 'Transient Local'
    assert grid['Reliability Policy'] == 'Reliable'
    assert grid['Depth'] == profile.depth


@ros
def test_no_display_asks_for_more_than_the_nodes_offer(published):
    from rclpy.qos import qos_check_compatible, QoSCompatibility, QoSProfile
    from rclpy.qos import QoSDurabilityPolicy as Durability
    from rclpy.qos import QoSReliabilityPolicy as Reliability

    words = {
        'Reliable': Reliability.RELIABLE,
        'Best Effort': Reliability.BEST_EFFORT,
        'Transient Local': Durability.TRANSIENT_LOCAL,
        'Volatile': Durability.VOLATILE,
    }
    for topic in (one['Topic'] for one in SHOWN_BY_RVIZ):
        wanted = QoSProfile(
            depth=topic['Depth'],
            reliability=words[topic['Reliability Policy']],
            durability=words[topic['Durability Policy']],
        )
        # Sensor drivers may be best effort.
        offered = published.get(topic['Value'], (None, None))[1] or QoSProfile(
            depth=1, reliability=Reliability.BEST_EFFORT
        )
        compatible, why = qos_check_compatible(offered, wanted)
        assert compatible != QoSCompatibility.ERROR, f'{topic["Value"]}: {why}'


def test_the_views_stand_in_frames_that_the_nodes_know():
    config = Config()
    assert RVIZ['Global Options']['Fixed Frame'] == config.odom_frame
    for view in (RVIZ['Views']['Current'], *RVIZ['Views']['Saved']):
        assert view['Target Frame'] == config.base_frame
    scene = next(panel for name, panel in PANELS.items() if kind_of(name) == '3D')
    assert scene['followTf'] == config.base_frame
    assert {layer['frameId'] for layer in scene['layers'].values()} == {config.odom_frame}
    frames = {name.partition(':')[2] for name in scene['transforms']}
    assert frames <= {config.base_frame, config.odom_frame, config.map_frame}


@ros
def test_foxglove_shows_topics_of_ours_with_panels_of_their_type(type_of):
    shown = list(topics_of_foxglove())
    assert {kind for kind, _ in shown} >= {'3D', 'Image', 'Plot', 'DiagnosticSummary', 'map'}
    absolute = {f'/{topic.lstrip("/")}': kind for topic, kind in type_of.items()}
    for kind, topic in shown:
        assert absolute[topic] in DRAWN[kind], topic


@ros
def test_obstacle_points_have_the_field_by_which_they_are_coloured():
    from mmperception.datatypes import PointCloud
    from mmperception.ros.messages import msg_from_points
    import numpy as np

    cloud = PointCloud(stamp_ns=1, frame_id='lidar', points=np.ones((1, 3), np.float32))
    fields = {one.name for one in msg_from_points(cloud, np.array([True]), np.ones(1)).fields}
    (display,) = (d for d in SHOWN_BY_RVIZ if d['Topic']['Value'] == 'obstacle_points')
    assert display['Channel Name'] in fields
    assert PANELS['3D!scene']['topics']['/obstacle_points']['colorField'] in fields


@ros
def test_the_plot_finds_what_the_nodes_say_about_each_frame():
    from mmperception.ros.diagnostics import OK
    from mmperception.ros.replay import NODES
    from mmperception.ros.working_node import WorkingNode

    said = []
    clock = SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=5_000_000))
    for name in NODES:
        node = SimpleNamespace(
            get_name=lambda name=name: name,
            get_clock=lambda: clock,
            latency=SimpleNamespace(publish=said.append),
        )
        item = SimpleNamespace(stamp_ns=2_000_000)
        WorkingNode._publish_latency(node, item, {'total': 1.5}, OK, '')
    statuses = {status.name: status for array in said for status in array.status}
    pattern = r'/debug/latency\.status\[:\]\{name=="(.+)"\}\.values\[:\]\{key=="(.+)"\}\.value'
    plotted = [
        re.fullmatch(pattern, path['value']).groups() for path in PANELS['Plot!latency']['paths']
    ]
    assert {name for name, _ in plotted} == set(statuses)
    for name, key in plotted:
        (value,) = (one.value for one in statuses[name].values if one.key == key)
        assert float(value) in (3.0, 1.5)


def test_every_panel_of_the_layout_has_its_place_once():
    def leaves(node):
        if isinstance(node, str):
            return [node]
        if node.get('tabs'):
            return [leaf for tab in node['tabs'] for leaf in leaves(tab['layout'])]
        return leaves(node['first']) + leaves(node['second'])

    placed = leaves(LAYOUT['layout'])
    for name in [name for name in placed if kind_of(name) == 'Tab']:
        placed += leaves(PANELS[name])
    assert sorted(placed) == sorted(PANELS)
