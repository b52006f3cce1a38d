# SPDX-License-Identifier: Apache-2.0
"""
Start the nodes under a lifecycle manager of their own, beside a running Nav2.

Nav2 itself gets config/nav2_overlay.yaml merged into its parameters.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare


def generate_launch_description():
    """Leave the start of the nodes to the manager: autostart is false."""
    nodes = PathJoinSubstitution(
        [FindPackageShare('mmperception'), 'launch', 'perception.launch.py']
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'namespace', default_value='', description='Namespace of nodes and topics.'
            ),
            DeclareLaunchArgument(
                'use_sim_time', default_value='false', description='Take time from /clock.'
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(nodes),
                launch_arguments={'autostart': 'false'}.items(),
            ),
            Node(
                package='nav2_lifecycle_manager',
                executable='lifecycle_manager',
                name='lifecycle_manager_mmperception',
                namespace=LaunchConfiguration('namespace'),
                parameters=[
                    {
                        'use_sim_time': LaunchConfiguration('use_sim_time'),
                        'autostart': True,
                        'node_names': ['perception', 'path_cost'],
                        # The nodes keep no bond; a manager that waits for one gives up.
                        'bond_timeout': 0.0,
                    }
                ],
                output='screen',
            ),
        ]
    )
