# SPDX-License-Identifier: Apache-2.0
"""
Quality of service of every topic, in one place.

Inputs are best effort, so that any driver connects; grids and label info are latched. In mode
replay every topic of the package is reliable and at least ten deep: nothing may be lost between
a bag and its results. Users override inputs by parameters `qos_overrides.TOPIC.subscription.*`.
Source: docs.ros.org, About Quality of Service Settings.
"""

from rclpy.qos import QoSDurabilityPolicy as Durability
from rclpy.qos import QoSProfile
from rclpy.qos import QoSReliabilityPolicy as Reliability
from rclpy.qos_overriding_options import QoSOverridingOptions

IMAGE_DEPTH = LIDAR_DEPTH = 5
MOTION_DEPTH = 200
GPS_DEPTH = 10
REPLAY_DEPTH = 10


def _profile(depth, is_reliable, is_latched=False):
    reliability = Reliability.RELIABLE if is_reliable else Reliability.BEST_EFFORT
    durability = Durability.TRANSIENT_LOCAL if is_latched else Durability.VOLATILE
    return QoSProfile(depth=depth, reliability=reliability, durability=durability)


def sensor(depth, mode):
    """Return the profile of sensor data, in or out."""
    is_replay = mode == 'replay'
    return _profile(max(depth, REPLAY_DEPTH) if is_replay else depth, is_replay)


def result():
    """Return the profile of detections, tracks and signs."""
    return _profile(10, True)


def latched(mode='live'):
    """Return the profile of what a late subscriber must get too."""
    return _profile(REPLAY_DEPTH if mode == 'replay' else 1, True, True)


def drawing(mode):
    """Return the profile of pictures for people."""
    return _profile(REPLAY_DEPTH if mode == 'replay' else 1, True)


def static_transforms():
    """Return the profile of `/tf_static` as a player publishes it: every message is kept."""
    return _profile(100, True, True)


def player():
    """Return the profile under which a bag is played: fits any subscription that is volatile."""
    return _profile(200, True)


def recorder(is_latched=False, is_reliable=True):
    """Return the profile under which results are recorded."""
    return _profile(200, is_reliable, is_latched)


def overridable():
    """Return the options that let a user change reliability, depth and history."""
    return QoSOverridingOptions.with_default_policies()
