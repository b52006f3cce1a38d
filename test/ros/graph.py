# SPDX-License-Identifier: Apache-2.0
"""A small ROS graph in one process: nodes under test, and a peer that talks to them."""

from collections import defaultdict
import threading
from time import monotonic, sleep

from lifecycle_msgs.srv import ChangeState
from mmperception import checkpoint
from mmperception.network.model import PerceptionNetwork
from mmperception.ros import messages, qos
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, NavSatFix, PointCloud2
from synthetic import SMALL_NETWORK
from tf2_msgs.msg import TFMessage
from tiny_drive import BEGIN_NS, CAMERA, events, mounting, pose_at
import torch

TIMEOUT_S = 20.0


def save_weights(folder):
    """Write a small untrained network; return its path."""
    torch.manual_seed(5)
    path = folder / 'untrained.safetensors'
    network = PerceptionNetwork(SMALL_NETWORK)
    # Some peaks: heat begins below what is ever given out.
    torch.nn.init.constant_(network.bev_head.heat[-1].bias, -2.0)
    checkpoint.save_network(path, network, {'licence': 'none'})
    return path


class Graph:
    """Nodes in a context of their own, each spun by a thread, and a peer node."""

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, args=[])
        self.heard = defaultdict(list)
        self._spinning = []
        self.peer = rclpy.create_node('peer', context=self.context)
        self.spin(self.peer)

    def close(self):
        """Stop every node."""
        for node, executor, thread in self._spinning:
            executor.shutdown()
            thread.join(5.0)
            if hasattr(node, 'stop'):
                node.stop()
            node.destroy_node()
        rclpy.shutdown(context=self.context)

    def spin(self, node):
        """Spin a node in a thread; return it."""
        executor = SingleThreadedExecutor(context=self.context)
        executor.add_node(node)
        thread = threading.Thread(target=executor.spin, daemon=True)
        thread.start()
        self._spinning.append((node, executor, thread))
        return node

    def make(self, node_type, namespace=None, **settings):
        """Return a node under test with these parameters, spinning."""
        values = {'device': 'cpu', 'threads': 1, 'allow_unverified': True, **settings}
        overrides = [Parameter(n.replace('__', '.'), value=v) for n, v in values.items()]
        node = node_type(context=self.context, parameter_overrides=overrides, namespace=namespace)
        return self.spin(node)

    def listen(self, topic, message_type, is_latched=False, is_reliable=True):
        """Collect the messages of a topic in `heard`."""
        self.peer.create_subscription(
            message_type, topic, self.heard[topic].append, qos.recorder(is_latched, is_reliable)
        )

    def wait(self, condition, timeout_s=TIMEOUT_S):
        """Return whether a condition came true in time."""
        deadline = monotonic() + timeout_s
        while not condition():
            if monotonic() > deadline:
                return False
            sleep(0.01)
        return True

    def request(self, node_name, label='', number=0):
        """Ask for a lifecycle transition, by name or number; return whether it succeeded."""
        client = self.peer.create_client(ChangeState, f'{node_name}/change_state')
        assert client.wait_for_service(TIMEOUT_S)
        request = ChangeState.Request()
        request.transition.label, request.transition.id = label, number
        future = client.call_async(request)
        assert self.wait(future.done), f'{node_name} did not answer {label}'
        return future.result().success


class Sensors:
    """Publishes the tiny drive by hand."""

    def __init__(self, graph):
        self.graph = graph
        make = graph.peer.create_publisher
        self.sweeps = make(PointCloud2, 'lidar/points', qos.player())
        self.images = make(Image, 'camera/image_raw', qos.player())
        self.infos = make(CameraInfo, 'camera/camera_info', qos.player())
        self.fixes = make(NavSatFix, 'gps/fix', qos.player())
        self.clock = make(Clock, '/clock', qos.player())
        self.tf = make(TFMessage, '/tf', qos.player())
        self.tf_static = make(TFMessage, '/tf_static', qos.static_transforms())

    def wait_for(self, *publishers, number=1):
        """Wait until somebody listens."""
        assert self.graph.wait(
            lambda: all(p.get_subscription_count() >= number for p in publishers)
        )
        sleep(0.2)

    def tell_time(self, now_ns):
        """Publish the time of day of the drive."""
        self.clock.publish(Clock(clock=messages.time_from_ns(now_ns)))

    def mount(self):
        """Say where the sensors sit."""
        where = mounting()
        entries = [
            ('base_link', 'lidar', BEGIN_NS, where.base_from_lidar),
            ('base_link', 'gps_link', BEGIN_NS, where.base_from_gps),
            ('base_link', 'camera_optical', BEGIN_NS, where.base_from_camera['camera']),
        ]
        self.tf_static.publish(messages.msg_from_transforms(entries))

    def move(self, num_sweeps=1):
        """Say where the robot was, ten times a sweep."""
        for number in range(-2, 10 * num_sweeps + 3):
            stamp_ns = BEGIN_NS + number * 10_000_000
            entry = ('odom', 'base_link', stamp_ns, pose_at(stamp_ns))
            self.tf.publish(messages.msg_from_transforms([entry]))

    def publish(self, event):
        """Publish one sensor event of the drive."""
        kind = type(event.value).__name__
        if kind == 'PointCloud':
            self.sweeps.publish(messages.msg_from_cloud(event.value))
        elif kind == 'GpsFix':
            self.fixes.publish(messages.msg_from_fix(event.value))
        elif kind == 'Image':
            image = event.value
            self.infos.publish(messages.msg_from_camera_model(CAMERA, image.stamp_ns))
            self.images.publish(
                messages.msg_from_image(image.pixels, image.stamp_ns, 'camera_optical')
            )

    def sweep(self, number, rng):
        """Publish one sweep of the drive."""
        cloud = [e for e in events(number + 1, rng) if type(e.value).__name__ == 'PointCloud'][-1]
        self.publish(cloud)
        return cloud.value.stamp_ns

    def play(self, num_sweeps, rng, kinds=('PointCloud', 'GpsFix', 'Image')):
        """Publish the sensors' part of the drive, in log order."""
        chosen = [e for e in events(num_sweeps, rng) if type(e.value).__name__ in kinds]
        for event in sorted(chosen, key=lambda e: e.log_ns):
            self.publish(event)
