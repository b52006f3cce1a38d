# SPDX-License-Identifier: Apache-2.0
"""
Play a bag with `ros2 bag play` into the nodes, on the time of the bag.

For a run that loses no sweep and writes results use `mmperception replay`. Settings that a bag
brings along are not read by themselves: add `params_file:=BAG/perception.yaml`.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare


def generate_launch_description():
    """Start the nodes as perception.launch.py does, and the player beside them."""
    nodes = PathJoinSubstitution(
        [FindPackageShare('mmperception'), 'launch', 'perception.launch.py']
    )
    bag, rate = LaunchConfiguration('bag'), LaunchConfiguration('rate')
    return LaunchDescription(
        [
            DeclareLaunchArgument('bag', description='Folder of the bag.'),
            DeclareLaunchArgument(
                'rate', default_value='1.0', description='Speed of the player; 1.0: real time.'
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(nodes),
                launch_arguments={'use_sim_time': 'true'}.items(),
            ),
            ExecuteProcess(
                cmd=['ros2', 'bag', 'play', bag, '--clock', '--rate', rate], output='screen'
            ),
        ]
    )
