# SPDX-License-Identifier: Apache-2.0
"""
Start the perception and path cost nodes, in one process or two.

Arguments left empty do not touch what the parameter file says. Sweeps come from the LiDAR
driver's process through shared memory, for which the 0.5 MB of Fast DDS are too little: set
FASTRTPS_DEFAULT_PROFILES_FILE for driver and nodes to a profile with 64 MB, as
docs/interfaces.md says under "Large sweeps".
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare
import yaml

PARAMS_FILE = PathJoinSubstitution([FindPackageShare('mmperception'), 'config', 'perception.yaml'])
OVERRIDES = {
    'device': 'Where the network runs: auto, cpu or cuda:N.',
    'camera_names': 'Cameras as a YAML list, for example [front, rear].',
    'weights': 'street, or the path of a safetensors file.',
    'autostart': 'true: configure and activate without a lifecycle manager.',
}


def start_nodes(context):
    """Pass on the parameter file, then the overrides that were given."""
    given = {name: LaunchConfiguration(name).perform(context) for name in OVERRIDES}
    settings = {name: yaml.safe_load(text) for name, text in given.items() if text}
    settings['use_sim_time'] = LaunchConfiguration('use_sim_time')
    is_split = yaml.safe_load(LaunchConfiguration('two_processes').perform(context))
    return [
        Node(
            package='mmperception',
            executable=executable,
            namespace=LaunchConfiguration('namespace'),
            parameters=[LaunchConfiguration('params_file'), settings],
            ros_arguments=['--log-level', LaunchConfiguration('log_level')],
            output='screen',
        )
        for executable in (['perception_node', 'path_cost_node'] if is_split else ['perception'])
    ]


def generate_launch_description():
    """Declare the arguments; `ros2 launch mmperception perception.launch.py -s` lists them."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'params_file',
                default_value=PARAMS_FILE,
                description='YAML file of parameters; it only overrides defaults.',
            ),
            DeclareLaunchArgument(
                'namespace', default_value='', description='Namespace of nodes and topics.'
            ),
            DeclareLaunchArgument(
                'use_sim_time', default_value='false', description='Take time from /clock.'
            ),
            DeclareLaunchArgument(
                'two_processes',
                default_value='false',
                description='true: one process for each node, false: one for both.',
            ),
            DeclareLaunchArgument(
                'log_level', default_value='info', description='debug, info, warn, error or fatal.'
            ),
            *(
                DeclareLaunchArgument(name, default_value='', description=text)
                for name, text in OVERRIDES.items()
            ),
            OpaqueFunction(function=start_nodes),
        ]
    )
