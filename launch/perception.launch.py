# SPDX-License-Identifier: Apache-2.0
"""
Start the perception and path cost nodes, in one process or two.

Arguments left empty do not touch what the parameter file says. Sweeps of a LiDAR driver come
through shared memory, for which the 0.5 MB of Fast DDS are too little: start driver and nodes
with config/fastdds.xml, as docs/interfaces.md says under "Large sweeps".
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare
import yaml

PARAMS_FILE = PathJoinSubstitution([FindPackageShare('mmperception'), 'config', 'perception.yaml'])
# Argument: (default, what `--show-args` says of it).
GENERAL = {
    'params_file': (PARAMS_FILE, 'YAML file of parameters; it only overrides defaults.'),
    'namespace': ('', 'Namespace of nodes and topics.'),
    'use_sim_time': ('false', 'true: take time from /clock, as for a played bag.'),
    'two_processes': ('false', 'true: one process for each node, false: one for both.'),
    'enclave': ('/', 'SROS 2 enclave of the process, used when security is switched on.'),
    'log_level': ('info', 'debug, info, warn, error or fatal.'),
}
# Parameters that have an argument of their own; empty leaves them to the parameter file.
PARAMETERS = {
    'device': 'Where the network runs: auto, cpu or cuda:N.',
    'camera_names': 'Cameras as a YAML list, for example [front, rear].',
    'weights': 'street, or the path of a safetensors file.',
    'autostart': 'true: configure and activate without a lifecycle manager.',
}
# Argument: (topic of the package, what it is); the argument says what it is called on the robot.
TOPICS = {
    'lidar_topic': ('lidar/points', 'Topic of the sweeps, PointCloud2.'),
    'image_topic': ('camera/image_raw', 'Topic of the images of the camera named camera.'),
    'camera_info_topic': ('camera/camera_info', 'Topic of the calibration of that camera.'),
    'gps_topic': ('gps/fix', 'Topic of the GPS receiver, NavSatFix.'),
    'imu_topic': ('imu/data', 'Topic of the IMU.'),
    'odom_topic': ('odom', 'Topic of the odometry, used where TF does not say the pose.'),
}


def start_nodes(context):
    """Pass on the parameter file, then what was given as arguments."""
    values = {name: LaunchConfiguration(name).perform(context) for name in PARAMETERS}
    settings = {name: yaml.safe_load(text) for name, text in values.items() if text}
    settings['use_sim_time'] = LaunchConfiguration('use_sim_time')
    topics = [(own, LaunchConfiguration(name)) for name, (own, _) in TOPICS.items()]
    topics.append(
        ('camera/image_raw/compressed', [LaunchConfiguration('image_topic'), '/compressed'])
    )
    others = yaml.safe_load(LaunchConfiguration('topics').perform(context)) or {}
    is_split = yaml.safe_load(LaunchConfiguration('two_processes').perform(context))
    return [
        Node(
            package='mmperception',
            executable=executable,
            namespace=LaunchConfiguration('namespace'),
            parameters=[LaunchConfiguration('params_file'), settings],
            remappings=[*topics, *others.items()],
            ros_arguments=[
                *('--log-level', LaunchConfiguration('log_level')),
                *('--enclave', LaunchConfiguration('enclave')),
            ],
            output='screen',
        )
        for executable in (['perception_node', 'path_cost_node'] if is_split else ['perception'])
    ]


def generate_launch_description():
    """Declare the arguments; `ros2 launch mmperception perception.launch.py -s` lists them."""
    arguments = {
        **GENERAL,
        **{name: ('', f'{text} Empty: as params_file says.') for name, text in PARAMETERS.items()},
        **{name: (own, text) for name, (own, text) in TOPICS.items()},
        'topics': (
            '{}',
            'Further topics as a YAML map, for example {front/image_raw: /front/color}.',
        ),
    }
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in arguments.items()
            ),
            OpaqueFunction(function=start_nodes),
        ]
    )
