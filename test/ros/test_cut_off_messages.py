# SPDX-License-Identifier: Apache-2.0
"""What the soak found: bytes that are no message, and memory that stayed after every round."""

import gc
import os
import threading

from diagnostic_msgs.msg import DiagnosticArray
from graph import Graph, save_weights, Sensors
from mmperception import memory
from mmperception.ros import messages, qos
from mmperception.ros.diagnostics import values_of
from mmperception.ros.path_cost_node import PathCostNode
from mmperception.ros.perception_node import PerceptionNode
from mmperception.ros.soak_run import usage
from nav_msgs.msg import Odometry
import numpy as np
import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image, Imu, NavSatFix, PointCloud2
from tiny_drive import BEGIN_NS, PERIOD_NS
from vision_msgs.msg import Detection3DArray

INPUTS = {
    'lidar/points': PointCloud2,
    'camera/image_raw': Image,
    'gps/fix': NavSatFix,
    'imu/data': Imu,
    'odom': Odometry,
}
HEADER_BYTES = 12


@pytest.fixture
def graph():
    graph = Graph()
    yield graph
    graph.close()


def cut_off(kind, number):
    """Return the first bytes of a message with a stamp."""
    message = kind()
    message.header.stamp = messages.time_from_ns(BEGIN_NS - PERIOD_NS)
    return serialize_message(message)[:number]


def counts_of(graph, name):
    found = [s for m in graph.heard['/diagnostics'] for s in m.status if s.name == name]
    values = values_of(found[-1]) if found else {}
    return values.get('dropped.bad_message', 0)


def test_bytes_that_are_no_message_are_counted_and_the_nodes_go_on(graph, tmp_path):
    weights, rng = str(save_weights(tmp_path)), np.random.default_rng(7)
    nodes = [
        graph.make(PerceptionNode, weights=weights, mode='replay'),
        graph.make(PathCostNode, weights=weights, mode='replay'),
    ]
    graph.listen('/diagnostics', DiagnosticArray)
    graph.listen('detections', Detection3DArray)
    assert all(node.start() for node in nodes)
    sensors = Sensors(graph)
    sensors.wait_for(sensors.sweeps, sensors.tf_static, number=2)
    sensors.mount()
    for topic, kind in INPUTS.items():
        publisher = graph.peer.create_publisher(kind, topic, qos.player())
        sensors.wait_for(publisher)
        for number in (HEADER_BYTES - 4, HEADER_BYTES + 8):
            publisher.publish(cut_off(kind, number))
    for topic in ('gps/fix', 'imu/data', 'odom'):
        assert graph.wait(lambda t=topic: counts_of(graph, f'perception: {t}') == 2), topic
    for topic in ('lidar/points', 'camera/image_raw'):  # the longer one is matched first
        assert graph.wait(lambda t=topic: counts_of(graph, f'perception: {t}') == 1), topic
    for name in ('path_cost: lidar/points', 'path_cost: pipeline'):
        assert graph.wait(lambda n=name: counts_of(graph, n) == 1), name
    assert graph.wait(lambda: counts_of(graph, 'path_cost: odom') == 2)
    sensors.move()
    stamp_ns = sensors.sweep(0, rng)
    assert graph.wait(lambda: graph.heard['detections'])
    assert messages.time_from_ns(stamp_ns) == graph.heard['detections'][-1].header.stamp
    assert [node.state for node in nodes] == ['active', 'active']


def resident_mb():
    return usage(os.getpid())[0]


def test_memory_that_only_a_cycle_holds_is_given_back():
    gc.disable()
    try:
        cycle = [np.ones(12_500_000)]
        cycle.append(cycle)
        held_mb = resident_mb()
        del cycle
        assert resident_mb() > held_mb - 20
        memory.give_back()
        assert resident_mb() < held_mb - 80
    finally:
        gc.enable()


def test_memory_that_a_thread_has_freed_goes_back_to_the_system():
    blocks = []

    def work():
        blocks.extend(np.ones(8_000) for _ in range(1600))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    held_mb = resident_mb()
    del blocks[::2], blocks[:-1]  # the last holds the rest of its arena in place
    assert resident_mb() > held_mb - 20
    memory.give_back()
    assert resident_mb() < held_mb - 80
    assert len(blocks) == 1
