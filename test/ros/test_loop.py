# SPDX-License-Identifier: Apache-2.0
"""A bag that starts over under a running robot, as `ros2 bag play --clock --loop` plays it."""

from time import monotonic, sleep

from diagnostic_msgs.msg import DiagnosticArray
from graph import Graph, save_weights, Sensors
from mmperception.datatypes import PointCloud
from mmperception.ros import messages
from mmperception.ros.diagnostics import values_of
from mmperception.ros.headers import ns_from_time
from mmperception.ros.path_cost_node import PathCostNode
from mmperception.ros.perception_node import PerceptionNode
from nav_msgs.msg import OccupancyGrid
import numpy as np
import pytest
from tiny_drive import BEGIN_NS, PERIOD_NS, pose_at, scan
from vision_msgs.msg import Detection3DArray

NUM_SWEEPS, NUM_AGAIN = 14, 10


@pytest.fixture
def graph():
    graph = Graph()
    yield graph
    graph.close()


def play(sensors, num_sweeps, has_box, begin_m, rate):
    """Play the drive once, beginning where odometry says `begin_m`."""
    rng = np.random.default_rng(2)
    started = monotonic()
    for number in range(num_sweeps):
        stamp_ns = BEGIN_NS + number * PERIOD_NS
        sensors.tell_time(stamp_ns)
        pose = pose_at(stamp_ns).copy()
        pose[0, 3] += begin_m
        entry = ('odom', 'base_link', stamp_ns, pose)
        sensors.tf.publish(messages.msg_from_transforms([entry]))
        points = scan(rng)
        points = points if has_box else points[points[:, 2] < -1.65]
        cloud = PointCloud(stamp_ns=stamp_ns, frame_id='lidar', points=points)
        sensors.sweeps.publish(messages.msg_from_cloud(cloud))
        wait_s = started + (number + 1) * PERIOD_NS / 1e9 / rate - monotonic()
        sleep(max(wait_s, 0.0))


def values_of_last(graph, name, kind):
    """Return count and size of a fault in the last status of this name."""
    found = [s for m in graph.heard['/diagnostics'] for s in m.status if s.name == name]
    values = values_of(found[-1]) if found else {}
    return values.get(f'fault.{kind}.count'), values.get(f'fault.{kind}.max_ms')


@pytest.mark.parametrize('rate', [1.0, 2.0])
def test_within_a_second_of_the_jump_both_nodes_speak_again_and_the_past_is_gone(
    graph, tmp_path, rate
):
    settings = {'use_sim_time': True, 'sync__lidar_timeout_ms': 9e9}
    perception = graph.make(PerceptionNode, weights=str(save_weights(tmp_path)), **settings)
    path_cost = graph.make(PathCostNode, **settings)
    graph.listen('/diagnostics', DiagnosticArray)
    graph.listen('detections', Detection3DArray)
    graph.listen('path_cost', OccupancyGrid, is_latched=True)
    assert perception.start() and path_cost.start()
    sensors = Sensors(graph)
    sensors.wait_for(sensors.sweeps, sensors.clock, sensors.tf, sensors.tf_static, number=2)
    sensors.mount()
    play(sensors, NUM_SWEEPS, has_box=True, begin_m=0.0, rate=rate)
    assert graph.wait(lambda: graph.heard['detections'] and graph.heard['path_cost'])
    sleep(0.3)
    assert (messages.cost_grid_from_msg(graph.heard['path_cost'][-1]).data == 100).any()
    for heard in graph.heard.values():
        heard.clear()
    # The second time the robot starts 500 m away and nothing stands beside the road.
    play(sensors, NUM_AGAIN, has_box=False, begin_m=500.0, rate=rate)
    sleep(0.3)
    loop_ms = (NUM_SWEEPS - 1) * PERIOD_NS / 1e6
    for name in ('perception: clock', 'path_cost: clock'):
        assert graph.wait(lambda name=name: values_of_last(graph, name, 'loop') == (1, loop_ms))
    for topic in ('detections', 'path_cost'):
        stamps = [ns_from_time(one.header.stamp) for one in graph.heard[topic]]
        assert stamps and stamps[0] < BEGIN_NS + NUM_AGAIN * PERIOD_NS, topic
    for grid in graph.heard['path_cost']:
        cells = messages.cost_grid_from_msg(grid)
        assert cells.origin_xy_m[0] > 400.0
        assert not (cells.data == 100).any()
    for node in (perception, path_cost):
        pose = node.transforms.lookup('odom', 'base_link', BEGIN_NS + PERIOD_NS // 2)
        assert pose[0, 3] > 499.0
        with pytest.raises(LookupError):  # known before the jump, not yet after it
            node.transforms.lookup('odom', 'base_link', BEGIN_NS + (NUM_SWEEPS - 1) * PERIOD_NS)
