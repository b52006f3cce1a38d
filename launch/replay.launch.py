# SPDX-License-Identifier: Apache-2.0
"""
Play a bag into the nodes on the time of the bag: with `ros2 bag play`, or with our own replay.

`player:=ros2` is what a robot would hear, at the pace of the bag; settings that a bag brings along
are not read by themselves: add `params_file:=BAG/perception.yaml`. `player:=mmperception` loses
no sweep, reads those settings and writes results; it starts nodes of its own.
"""

import shlex

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, PythonExpression
from launch_ros.substitutions import FindPackageShare

NODES = PathJoinSubstitution([FindPackageShare('mmperception'), 'launch', 'perception.launch.py'])
PLAY = 'ros2 bag play --clock 100'
REPLAY = 'ros2 run mmperception mmperception replay --force'
ARGUMENTS = {
    'bag': (None, 'Folder of the bag.'),
    'player': ('ros2', 'ros2: `ros2 bag play` beside the nodes; mmperception: our replay.'),
    'rate': ('1.0', 'Speed of the player; 1.0: real time.'),
    'delay': ('6.0', 'ros2: seconds before the first message, while the network is loaded.'),
    'out': ('replay', 'mmperception: folder of the results, overwritten.'),
    'options': ('', 'Further options of the player, for example --loop of `ros2 bag play`.'),
}


def is_player(name):
    """Return the condition that this player was chosen."""
    return IfCondition(PythonExpression(["'", LaunchConfiguration('player'), "' == '", name, "'"]))


def start_player(context):
    """Pass the arguments on to the player."""
    options = shlex.split(LaunchConfiguration('options').perform(context))
    bag, rate = LaunchConfiguration('bag'), LaunchConfiguration('rate')
    own = {'--rate': rate, '--out': LaunchConfiguration('out')}
    theirs = {'--rate': rate, '--delay': LaunchConfiguration('delay')}
    return [
        ExecuteProcess(
            cmd=[
                *command.split(),
                bag,
                *(word for pair in given.items() for word in pair),
                *options,
            ],
            condition=is_player(player),
            output='screen',
        )
        for player, command, given in (('ros2', PLAY, theirs), ('mmperception', REPLAY, own))
    ]


def generate_launch_description():
    """Start the nodes as perception.launch.py does with a player beside them, or our replay."""
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in ARGUMENTS.items()
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(NODES),
                launch_arguments={'use_sim_time': 'true'}.items(),
                condition=is_player('ros2'),
            ),
            OpaqueFunction(function=start_player),
        ]
    )
