# SPDX-License-Identifier: Apache-2.0
"""
The launch files under the real launch and launch_ros, where a distribution brings them.

They start the package as it is installed: under `colcon test`, or with its workspace sourced.
"""

from contextlib import contextmanager
import importlib.util
import os
from pathlib import Path
import signal
import subprocess
import sys

from graph import Graph, save_weights, Sensors
from lifecycle_msgs.srv import GetState
import numpy as np
import pytest
from vision_msgs.msg import Detection3DArray

ROOT = Path(__file__).parents[2]
LAUNCH_FILES = sorted(path.name for path in (ROOT / 'launch').iterdir() if path.is_file())
# `ros2 launch` is a thin layer over this.
RUN = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
source = PythonLaunchDescriptionSource(sys.argv[1])
arguments = [word.split(':=', 1) for word in sys.argv[2:]]
service = LaunchService()
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)])
)
sys.exit(service.run())
"""


@pytest.fixture(scope='module', autouse=True)
def needs_launch_and_the_installed_package():
    if importlib.util.find_spec('launch_ros') is None:
        pytest.skip('launch_ros comes with a ROS distribution')
    from ament_index_python.packages import get_packages_with_prefixes

    if 'mmperception' not in get_packages_with_prefixes():
        pytest.skip('mmperception is not installed: source its workspace')


@pytest.fixture
def graph():
    graph = Graph()
    yield graph
    graph.close()


@contextmanager
def launched(name, **arguments):
    """Run a launch file as a user would, and end it as Ctrl-C does."""
    words = [f'{key}:={value}' for key, value in arguments.items()]
    command = [sys.executable, '-c', RUN, str(ROOT / 'launch' / name), *words]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def state_of(graph, node):
    """Return the lifecycle state of a node; empty while it does not answer."""
    client = graph.peer.create_client(GetState, f'{node}/get_state')
    if not client.wait_for_service(1.0):
        return ''
    future = client.call_async(GetState.Request())
    return future.result().current_state.label if graph.wait(future.done, 2.0) else ''


@pytest.mark.parametrize('name', LAUNCH_FILES)
def test_every_argument_is_documented(name):
    from launch import LaunchContext
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    source = PythonLaunchDescriptionSource(str(ROOT / 'launch' / name))
    arguments = source.get_launch_description(LaunchContext()).get_launch_arguments()
    assert len(arguments) >= 5
    bare = [argument.name for argument in arguments if len(argument.description) < 10]
    assert not bare


@pytest.mark.parametrize('two_processes', ['false', 'true'])
def test_both_nodes_become_active_and_answer_a_sweep_under_the_names_of_the_robot(
    graph, tmp_path, two_processes
):
    settings = tmp_path / 'own.yaml'
    settings.write_text('/**:\n  ros__parameters:\n    allow_unverified: true\n')
    graph.listen('/robot/detections', Detection3DArray)
    arguments = {
        'namespace': 'robot',
        'params_file': settings,
        'weights': save_weights(tmp_path),
        'device': 'cpu',
        'lidar_topic': '/lidar/points',
        'two_processes': two_processes,
    }
    with launched('perception.launch.py', **arguments):
        for node in ('/robot/perception', '/robot/path_cost'):
            assert graph.wait(lambda node=node: state_of(graph, node) == 'active', 40.0), node
        sensors = Sensors(graph)
        sensors.wait_for(sensors.sweeps, sensors.tf, sensors.tf_static, number=2)
        sensors.mount()
        sensors.move()
        sensors.play(1, np.random.default_rng(7), kinds=('PointCloud',))
        assert graph.wait(lambda: graph.heard['/robot/detections'])
        assert graph.wait(lambda: graph.peer.count_publishers('/robot/path_cost') == 1)


def test_without_autostart_the_nodes_wait_for_a_manager(graph, tmp_path):
    settings = tmp_path / 'own.yaml'
    settings.write_text('/**:\n  ros__parameters:\n    allow_unverified: true\n')
    arguments = {
        'params_file': settings,
        'weights': save_weights(tmp_path),
        'autostart': 'false',
        'device': 'cpu',
    }
    with launched('perception.launch.py', **arguments):
        for node in ('perception', 'path_cost'):
            assert graph.wait(lambda node=node: state_of(graph, node) == 'unconfigured', 40.0)
            assert graph.request(node, 'configure') and graph.request(node, 'activate')
            assert state_of(graph, node) == 'active'
