# SPDX-License-Identifier: Apache-2.0
"""
A lifecycle node whose transitions speak.

rclpy swallows what a transition callback raises, and an invalid request kills the node: here
every failure is logged as one sentence and fails its transition, and an invalid request is
answered `success=false`. Subclasses say what to do in `configure`, `activate`, `deactivate` and
`cleanup`. Source: design.ros2.org, Managed nodes.
"""

import logging
import threading

from lifecycle_msgs.msg import Transition
from mmperception import memory
from mmperception.ros.parameters import declare_config
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

# A lifecycle manager asks by number.
TRANSITIONS = {
    Transition.TRANSITION_CONFIGURE: 'configure',
    Transition.TRANSITION_CLEANUP: 'cleanup',
    Transition.TRANSITION_ACTIVATE: 'activate',
    Transition.TRANSITION_DEACTIVATE: 'deactivate',
}
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class ManagedNode(LifecycleNode):
    """Base of both nodes: settings, transitions that speak, and a place to fail."""

    def __init__(self, name, **options):
        super().__init__(name, automatically_declare_parameters_from_overrides=True, **options)
        self.config = declare_config(self)
        self.failure = None
        self.failed = threading.Event()
        self._service_change_state.callback = self._answering(self._service_change_state.callback)

    def configure(self):
        """Get everything ready that takes time; raise to fail."""

    def activate(self):
        """Begin to work; raise to fail."""

    def deactivate(self):
        """Stop working."""

    def cleanup(self):
        """Free what `configure` took."""

    @property
    def state(self):
        """Label of the lifecycle state."""
        return self._state_machine.current_state[1]

    def start(self):
        """Configure and activate without a manager; return whether the node is active."""
        return self.trigger_configure() == SUCCESS and self.trigger_activate() == SUCCESS

    def stop(self):
        """Leave the active and inactive states in order, as far as the node is in them."""
        if self.state == 'active':
            self.trigger_deactivate()
        if self.state == 'inactive':
            self.trigger_cleanup()

    def fail(self, sentence):
        """Say that the node cannot go on; its process then ends."""
        self.get_logger().fatal(sentence)
        self.failure = sentence
        self.failed.set()

    def on_configure(self, state):
        """Run `configure`, undoing it when it fails."""
        return self._transition('configure', state, self.configure, self.cleanup)

    def on_activate(self, state):
        """Run `activate`, undoing it when it fails."""
        result = super().on_activate(state)
        if result == SUCCESS:
            result = self._transition('activate', state, self.activate, self.deactivate)
        if result != SUCCESS:
            super().on_deactivate(state)
        return result

    def on_deactivate(self, state):
        """Run `deactivate` while publishers still work."""
        self._transition('deactivate', state, self.deactivate)
        memory.give_back()
        return super().on_deactivate(state)

    def on_cleanup(self, state):
        """Run `cleanup`."""
        result = self._transition('clean up', state, self.cleanup)
        memory.give_back()
        return result

    def on_shutdown(self, state):
        """Stop from any state."""
        if state.label == 'active':
            self.on_deactivate(state)
        return self._transition('shut down', state, self.cleanup)

    def on_error(self, state):
        """Go back to the unconfigured state."""
        return self._transition('recover', state, self.cleanup)

    def _transition(self, verb, state, action, undo=None):
        try:
            action()
        except Exception as error:  # the callback boundary: rclpy would swallow it
            self.get_logger().error(f'cannot {verb}: {sentence_of(error)}')
            if undo is not None:
                self._transition(f'undo {verb}', state, undo)
            return FAILURE
        return SUCCESS

    def _answering(self, change_state):
        """Return the service callback that answers an invalid request instead of raising."""

        def answer(request, response):
            try:
                return change_state(request, response)
            except Exception as error:  # rclpy's own exception type is private
                asked = request.transition
                wish = asked.label or TRANSITIONS.get(asked.id, f'transition {asked.id}')
                hint = sentence_of(error)
                if wish == 'configure':
                    hint = 'set autostart to false where a lifecycle manager starts this node'
                self.get_logger().error(f'{wish} is not possible in state {self.state}: {hint}')
                response.success = False
                return response

        return answer


def sentence_of(error):
    """Return an exception as one line; its type only where the text alone says too little."""
    text = ' '.join(str(error).split())
    if isinstance(error, ValueError | LookupError | OSError) and text:
        return text.strip('\'"')
    return f'{type(error).__name__}: {text}' if text else type(error).__name__


class RosLogHandler(logging.Handler):
    """Forwards the package's own log records to a node's logger."""

    def __init__(self, logger):
        super().__init__(logging.INFO)
        self.ros_logger = logger

    def emit(self, record):
        """Log one record at its level."""
        # One line for each level: rclpy ties a severity to the line that logs.
        if record.levelno >= logging.ERROR:
            self.ros_logger.error(record.getMessage())
        elif record.levelno >= logging.WARNING:
            self.ros_logger.warning(record.getMessage())
        else:
            self.ros_logger.info(record.getMessage())


def forward_logging(logger):
    """Send records of `mmperception` to a node's logger, once for the process."""
    package = logging.getLogger('mmperception')
    if not any(isinstance(handler, RosLogHandler) for handler in package.handlers):
        package.addHandler(RosLogHandler(logger))
        package.setLevel(logging.INFO)
