# SPDX-License-Identifier: Apache-2.0
"""Type and quality of service of every topic, as `ros2 topic info -v` shows them to a user."""

from pathlib import Path
import re

from graph import Graph, save_weights
from mmperception.ros.path_cost_node import PathCostNode
from mmperception.ros.perception_node import PerceptionNode
import pytest
from rclpy.qos import QoSDurabilityPolicy as Durability
from rclpy.qos import QoSReliabilityPolicy as Reliability

INTERFACES = Path(__file__).parents[2] / 'docs' / 'interfaces.md'
BEST_EFFORT = Reliability.BEST_EFFORT, Durability.VOLATILE
RELIABLE = Reliability.RELIABLE, Durability.VOLATILE
LATCHED = Reliability.RELIABLE, Durability.TRANSIENT_LOCAL
CAMERAS = {'camera_names': ['front', 'rear'], 'cameras__rear__transport': 'compressed'}
# A name that no other test uses: the graph may still hold nodes of a process that was killed.
NAMESPACE = 'contract'
NODES = {'perception': PerceptionNode, 'path_cost': PathCostNode}

# (node, topic): (type, quality of service). One line for each row of the contract.
PUBLISHED = {
    ('perception', 'detections'): ('vision_msgs/msg/Detection3DArray', RELIABLE),
    ('perception', 'tracks'): ('autoware_perception_msgs/msg/TrackedObjects', RELIABLE),
    ('perception', 'signs'): ('vision_msgs/msg/Detection3DArray', RELIABLE),
    ('perception', 'signs_2d'): ('vision_msgs/msg/Detection2DArray', RELIABLE),
    ('perception', 'label_info'): ('vision_msgs/msg/LabelInfo', LATCHED),
    ('perception', 'overlay'): ('sensor_msgs/msg/Image', RELIABLE),
    ('perception', 'overlay/rear'): ('sensor_msgs/msg/Image', RELIABLE),
    ('perception', 'markers'): ('visualization_msgs/msg/MarkerArray', RELIABLE),
    ('perception', '/diagnostics'): ('diagnostic_msgs/msg/DiagnosticArray', RELIABLE),
    ('perception', 'debug/latency'): ('diagnostic_msgs/msg/DiagnosticArray', RELIABLE),
    ('path_cost', 'path_cost'): ('nav_msgs/msg/OccupancyGrid', LATCHED),
    ('path_cost', 'obstacle_points'): ('sensor_msgs/msg/PointCloud2', BEST_EFFORT),
    ('path_cost', 'ground_points'): ('sensor_msgs/msg/PointCloud2', BEST_EFFORT),
    ('path_cost', 'costmap_filter_info'): ('nav2_msgs/msg/CostmapFilterInfo', LATCHED),
    ('path_cost', 'speed_limit'): ('nav2_msgs/msg/SpeedLimit', RELIABLE),
    ('path_cost', '/diagnostics'): ('diagnostic_msgs/msg/DiagnosticArray', RELIABLE),
    ('path_cost', 'debug/latency'): ('diagnostic_msgs/msg/DiagnosticArray', RELIABLE),
}
HEARD = {
    ('perception', 'front/image_raw'): ('sensor_msgs/msg/Image', BEST_EFFORT),
    ('perception', 'front/camera_info'): ('sensor_msgs/msg/CameraInfo', BEST_EFFORT),
    ('perception', 'rear/image_raw/compressed'): ('sensor_msgs/msg/CompressedImage', BEST_EFFORT),
    ('perception', 'rear/camera_info'): ('sensor_msgs/msg/CameraInfo', BEST_EFFORT),
    ('perception', 'lidar/points'): ('sensor_msgs/msg/PointCloud2', BEST_EFFORT),
    ('perception', 'gps/fix'): ('sensor_msgs/msg/NavSatFix', BEST_EFFORT),
    ('perception', 'imu/data'): ('sensor_msgs/msg/Imu', BEST_EFFORT),
    ('perception', 'odom'): ('nav_msgs/msg/Odometry', BEST_EFFORT),
    ('perception', '/tf'): ('tf2_msgs/msg/TFMessage', RELIABLE),
    ('perception', '/tf_static'): ('tf2_msgs/msg/TFMessage', LATCHED),
    ('path_cost', 'lidar/points'): ('sensor_msgs/msg/PointCloud2', BEST_EFFORT),
    ('path_cost', 'odom'): ('nav_msgs/msg/Odometry', BEST_EFFORT),
    ('path_cost', 'tracks'): ('autoware_perception_msgs/msg/TrackedObjects', RELIABLE),
    ('path_cost', 'signs'): ('vision_msgs/msg/Detection3DArray', RELIABLE),
    ('path_cost', 'debug/latency'): ('diagnostic_msgs/msg/DiagnosticArray', RELIABLE),
    ('path_cost', '/tf'): ('tf2_msgs/msg/TFMessage', RELIABLE),
    ('path_cost', '/tf_static'): ('tf2_msgs/msg/TFMessage', LATCHED),
}
# What rclpy gives every node.
OF_EVERY_NODE = {'/rosout', '/parameter_events'}


@pytest.fixture(scope='module')
def graph(tmp_path_factory):
    """Both nodes, active, in a namespace of their own."""
    graph = Graph()
    weights = str(save_weights(tmp_path_factory.mktemp('weights')))
    for node_type in NODES.values():
        node = graph.make(node_type, namespace=NAMESPACE, weights=weights, **CAMERAS)
        assert node.start()
    yield graph
    graph.close()


def full(topic):
    """Return the resolved name of a topic of a topic in that namespace."""
    return topic if topic.startswith('/') else f'/{NAMESPACE}/{topic}'


@pytest.mark.parametrize(('table', 'is_output'), [(PUBLISHED, True), (HEARD, False)])
def test_every_endpoint_has_the_type_and_quality_of_service_of_the_contract(
    graph, table, is_output
):
    peer = graph.peer
    look = peer.get_publishers_info_by_topic if is_output else peer.get_subscriptions_info_by_topic

    def found():
        return {
            (info.node_name, topic): (
                info.topic_type,
                (info.qos_profile.reliability, info.qos_profile.durability),
            )
            for _, topic in table
            for info in look(full(topic))
            if info.node_namespace == f'/{NAMESPACE}'
        }

    graph.wait(lambda: found() == table, timeout_s=5.0)
    assert found() == table


@pytest.mark.parametrize(('table', 'is_output'), [(PUBLISHED, True), (HEARD, False)])
def test_the_nodes_have_no_topic_beside_the_contract(graph, table, is_output):
    peer = graph.peer
    by_node = (
        peer.get_publisher_names_and_types_by_node
        if is_output
        else peer.get_subscriber_names_and_types_by_node
    )
    for node in NODES:
        own = {full(topic) for name, topic in table if name == node}
        names = {name for name, _ in by_node(node, f'/{NAMESPACE}')} - OF_EVERY_NODE
        beyond = {name for name in names if not name.startswith(f'/{NAMESPACE}/{node}/')}
        assert beyond == own


def test_the_documentation_lists_every_topic_with_its_type():
    text = INTERFACES.read_text(encoding='utf-8')
    rows = [row for row in text.splitlines() if row.startswith('| `')]
    for (_, topic), (type_name, _) in (PUBLISHED | HEARD).items():
        named = re.sub(r'^(front|rear)/', 'NAME/', topic).replace('overlay/rear', 'overlay/NAME')
        of_topic = [row for row in rows if f'`{named}`' in row.split(' | ')[0]]
        assert any(type_name.split('/')[-1] in row for row in of_topic), topic
