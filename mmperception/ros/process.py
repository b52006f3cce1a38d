# SPDX-License-Identifier: Apache-2.0
"""
From the command line to running nodes and back: the body of the three executables.

Each node has an executor of one thread, so that a transition of one does not hold up the other;
callbacks only store, the work is done in the nodes' own threads. Signals are handled here and not
by rclpy, because a node that is stopped still has a last grid to publish. Exit codes: 0 stopped,
1 failed, 2 wrong parameters.
"""

import os
import signal
import sys
import threading

from mmperception.ros.lifecycle import forward_logging, sentence_of
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

# When set, the process ends as soon as its parent is no longer the process of this id.
PARENT_VARIABLE = 'MMPERCEPTION_PARENT'
POLL_S = 0.5


def run(node_types, argv=None):
    """
    Run nodes until a signal or a failure.

    Parameters
    ----------
    node_types : sequence of type
        Subclasses of ManagedNode.
    argv : list of str, optional
        Arguments with the program's name first; default `sys.argv`.

    Returns
    -------
    int
        Exit code.

    """
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    nodes = []
    try:
        rclpy.init(args=argv, signal_handler_options=SignalHandlerOptions.NO)
        nodes = [node_type() for node_type in node_types]
    except Exception as error:  # settings that are wrong, in a file or on the command line
        sys.stderr.write(f'mmperception: {sentence_of(error)}\n')
        _close(nodes)
        return 2
    forward_logging(nodes[0].get_logger())
    try:
        return _run(nodes, ended)
    finally:
        _close(nodes)


def _run(nodes, ended):
    for node in nodes:
        node.failed = ended
        if node.config.autostart and not node.start():
            return 1
    executors = [_spin_in_thread(node) for node in nodes]
    parent = os.environ.get(PARENT_VARIABLE)
    while not ended.wait(POLL_S):
        if parent is not None and os.getppid() != int(parent):
            break
    for executor, thread in executors:
        executor.shutdown()
        thread.join()
    for node in nodes:
        node.stop()
    return 1 if any(node.failure for node in nodes) else 0


def _spin_in_thread(node):
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def spin():
        try:
            executor.spin()
        except Exception as error:  # nothing would call this node back any more
            node.fail(f'a callback failed: {sentence_of(error)}')

    thread = threading.Thread(target=spin, name=f'{node.get_name()} callbacks', daemon=True)
    thread.start()
    return executor, thread


def _close(nodes):
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown()
