# SPDX-License-Identifier: Apache-2.0
"""
A Fast DDS profile with shared memory large enough for LiDAR sweeps, and discovery kept at home.

The default segment of half a megabyte overflows with every sweep: between two processes a
quarter of the small messages sent beside it then came late by seconds or never, also reliable
ones. With 64 MB all of them came within 30 ms. What the user has set in the environment stays.
Source: the XML profiles of the Fast DDS documentation.
"""

import os

PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
RANGE_VARIABLE = 'ROS_AUTOMATIC_DISCOVERY_RANGE'
LOOPBACK = '<interfaceWhiteList><address>127.0.0.1</address></interfaceWhiteList>'
PROFILE = """<?xml version="1.0" encoding="UTF-8" ?>
<!-- For FASTRTPS_DEFAULT_PROFILES_FILE: large sweeps between processes of one machine. -->
<dds xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles">
  <profiles>
    <transport_descriptors>
      <transport_descriptor>
        <transport_id>shared_memory</transport_id>
        <type>SHM</type>
        <segment_size>67108864</segment_size>
        <maxMessageSize>16777216</maxMessageSize>
        <port_queue_capacity>4096</port_queue_capacity>
      </transport_descriptor>
      <transport_descriptor>
        <transport_id>udp</transport_id>
        <type>UDPv4</type>
        {loopback}
      </transport_descriptor>
    </transport_descriptors>
    <participant profile_name="large_sweeps" is_default_profile="true">
      <rtps>
        <userTransports>
          <transport_id>shared_memory</transport_id>
          <transport_id>udp</transport_id>
        </userTransports>
        <useBuiltinTransports>false</useBuiltinTransports>
      </rtps>
    </participant>
  </profiles>
</dds>
"""


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
    loopback = LOOPBACK if os.environ[RANGE_VARIABLE] == 'LOCALHOST' else ''
    path = (folder / 'fastdds.xml').absolute()
    path.write_text(PROFILE.format(loopback=loopback))
    os.environ[PROFILE_VARIABLES[0]] = str(path)


def choose_domain():
    """Return the user's ROS domain, or one of this process alone."""
    return int(os.environ.get('ROS_DOMAIN_ID') or 1 + os.getpid() % 100)
