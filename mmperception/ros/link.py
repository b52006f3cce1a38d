# SPDX-License-Identifier: Apache-2.0
"""The replay's own place in the ROS graph: domain, context, node and the thread that spins it."""

import threading
from time import monotonic, sleep

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
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
        return self.state_of(node_name, timeout_s) == 'active'

    def state_of(self, node_name, timeout_s=1.0):
        """Return the label of a lifecycle node's state; '' when it does not answer."""
        answer = self._call(GetState, f'{node_name}/get_state', GetState.Request(), timeout_s)
        return '' if answer is None else answer.current_state.label

    def change_state(self, node_name, transition_id, timeout_s):
        """Ask for a transition; return whether it was made in time."""
        request = ChangeState.Request(transition=Transition(id=transition_id))
        answer = self._call(ChangeState, f'{node_name}/change_state', request, timeout_s)
        return answer is not None and answer.success

    def _call(self, service_type, name, request, timeout_s):
        """Return the answer of a service; None when there is none in time."""
        if name not in self._clients:
            self._clients[name] = self.node.create_client(service_type, name)
        client = self._clients[name]
        if not client.wait_for_service(timeout_s):
            return None
        future = client.call_async(request)
        deadline = monotonic() + timeout_s
        while not future.done() and monotonic() < deadline:
            sleep(0.01)
        if not future.done():
            client.remove_pending_request(future)  # an answer can get lost: ask again
            return None
        return future.result()
