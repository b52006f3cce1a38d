# SPDX-License-Identifier: Apache-2.0
"""The replay's own place in the ROS graph: domain, context, node and the thread that spins it."""

import threading
from time import monotonic, sleep

from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions


class Link:
    """The replay's own node in a context of its own, spun by a thread."""

    def __init__(self, domain_id):
        self.context = rclpy.Context()
        self._domain_id = domain_id
        self._clients = {}

    def __enter__(self):
        rclpy.init(
            context=self.context,
            domain_id=self._domain_id,
            args=[],
            signal_handler_options=SignalHandlerOptions.NO,
        )
        self.node = rclpy.create_node(
            'mmperception_replay', context=self.context, start_parameter_services=False
        )
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._executor.shutdown()
        self._thread.join(5.0)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def is_active(self, node_name, timeout_s=1.0):
        """Ask a lifecycle node whether it is active; False also when it does not answer."""
        if node_name not in self._clients:
            self._clients[node_name] = self.node.create_client(GetState, f'{node_name}/get_state')
        client = self._clients[node_name]
        if not client.wait_for_service(timeout_s):
            return False
        future = client.call_async(GetState.Request())
        deadline = monotonic() + timeout_s
        while not future.done() and monotonic() < deadline:
            sleep(0.01)
        if not future.done():
            client.remove_pending_request(future)  # an answer can get lost: ask again
            return False
        return future.result().current_state.id == State.PRIMARY_STATE_ACTIVE
