# SPDX-License-Identifier: Apache-2.0
"""
A Fast DDS profile with shared memory large enough for LiDAR sweeps, and discovery kept at home.

The default segment of half a megabyte overflows with every sweep: between two processes a
quarter of the small messages sent beside it then came late by seconds or never, also reliable
ones. With 64 MB all of them came within 30 ms. What the user has set in the environment stays.
Source: the XML profiles of the Fast DDS documentation.
"""

import os
from pathlib import Path

PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
RANGE_VARIABLE = 'ROS_AUTOMATIC_DISCOVERY_RANGE'
# Also installed as share/mmperception/config/fastdds.xml, for robots.
PROFILE = Path(__file__).with_name('fastdds.xml')
UDP = '<type>UDPv4</type>'
LOOPBACK = '<interfaceWhiteList><address>127.0.0.1</address></interfaceWhiteList>'


def set_up(folder):
    """
    Set this process's environment, and so its children's, before its first use of DDS.

    Parameters
    ----------
    folder : Path
        Where `fastdds.xml` is written.

    """
    os.environ.setdefault(RANGE_VARIABLE, 'LOCALHOST')
    if any(os.environ.get(variable) for variable in PROFILE_VARIABLES):
        return
    profile = PROFILE.read_text()
    if os.environ[RANGE_VARIABLE] == 'LOCALHOST':
        profile = profile.replace(UDP, UDP + LOOPBACK)
    path = (folder / 'fastdds.xml').absolute()
    path.write_text(profile)
    os.environ[PROFILE_VARIABLES[0]] = str(path)


def choose_domain():
    """Return the user's ROS domain, or one of this process alone."""
    return int(os.environ.get('ROS_DOMAIN_ID') or 1 + os.getpid() % 100)
