# SPDX-License-Identifier: Apache-2.0
"""The path cost node obeys a speed limit once its sign is passed, and takes it back at the end."""

from geometry_msgs.msg import Pose
from graph import Graph, Sensors
from mmperception.ros import messages
from mmperception.ros.headers import pose_from_yaw
from mmperception.ros.path_cost_node import PathCostNode
from nav2_msgs.msg import SpeedLimit
import numpy as np
import pytest
from tiny_drive import BEGIN_NS
from vision_msgs.msg import (
    Detection3D,
    Detection3DArray,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
)


@pytest.fixture
def graph():
    graph = Graph()
    yield graph
    graph.close()


def signs_ahead(name, x_m, turned_deg=None):
    """Return one sign beside the road, `x_m` ahead at the first sweep; None: facing unknown."""
    header = messages.header_from(BEGIN_NS, 'base_link')
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = x_m, -3.0, 2.0
    one = Detection3D(header=header, id='5')
    one.bbox.center = pose
    one.bbox.size.x, one.bbox.size.y, one.bbox.size.z = 0.05, 0.6, 0.6
    hypothesis = ObjectHypothesis(class_id=name, score=0.9)
    one.results = [ObjectHypothesisWithPose(hypothesis=hypothesis)]
    if turned_deg is not None:
        yaw = np.pi + np.deg2rad(turned_deg)
        one.results[0].pose.pose = pose_from_yaw((x_m, -3.0, 2.0), yaw)
        one.results[0].pose.covariance[35] = 0.01
    return Detection3DArray(header=header, detections=[one])


def drive_past(graph, name, turned_deg=None, **settings):
    """Start the node, show it a sign 1.1 m ahead and drive 1.6 m; return the node."""
    node = graph.make(PathCostNode, mode='replay', **settings)
    graph.listen('speed_limit', SpeedLimit)
    publisher = graph.peer.create_publisher(Detection3DArray, 'signs', 10)
    assert node.start()
    sensors = Sensors(graph)
    sensors.wait_for(sensors.sweeps, sensors.tf, sensors.tf_static, publisher)
    sensors.mount()
    sensors.move(5)
    publisher.publish(signs_ahead(name, 1.1, turned_deg))
    assert graph.wait(lambda: len(node.limits._messages) == 1)
    sensors.play(5, np.random.default_rng(7), kinds=('PointCloud',))
    assert graph.wait(lambda: node.outputs.num_grids == 5)
    return node


def test_a_passed_sign_becomes_a_limit_that_ends_with_the_node(graph):
    node = drive_past(graph, 'speed_limit_30', speed_limit__robot_max_mps=20.0)
    assert graph.wait(lambda: graph.heard['speed_limit'])
    first = graph.heard['speed_limit'][0]
    assert first.speed_limit == pytest.approx(30 / 3.6) and not first.percentage
    assert graph.wait(lambda: len(graph.heard['speed_limit']) >= 2, timeout_s=5.0)
    node.deactivate()
    assert graph.wait(lambda: graph.heard['speed_limit'][-1].speed_limit == 0.0)


@pytest.mark.parametrize(('name', 'maximum'), [('speed_limit_50', 0.5), ('stop', 20.0)])
def test_neither_a_fast_sign_nor_a_stop_sign_sets_a_slow_robot_free(graph, name, maximum):
    drive_past(graph, name, speed_limit__robot_max_mps=maximum)
    assert not graph.wait(lambda: graph.heard['speed_limit'], timeout_s=1.0)


@pytest.mark.parametrize(('turned_deg', 'is_obeyed'), [(30, True), (90, False), (180, False)])
def test_a_sign_that_faces_another_road_neither_slows_nor_closes(graph, turned_deg, is_obeyed):
    node = drive_past(graph, 'speed_limit_30', turned_deg, speed_limit__robot_max_mps=20.0)
    assert graph.wait(lambda: graph.heard['speed_limit'], timeout_s=1.0) is is_obeyed
    node.signs.clear()
    node.signs._receive(signs_ahead('no_entry', 1.1, turned_deg))
    assert len(node.signs.before(BEGIN_NS + 1)) == is_obeyed
