# SPDX-License-Identifier: Apache-2.0
"""
The header stamp of a serialised message, without deserialising it.

Source: the CDR encapsulation of the DDS-XTypes standard (4 bytes, the second one's lowest bit
says little endian), then std_msgs/Header: int32 seconds, uint32 nanoseconds.
"""

import struct


def stamp_of(data):
    """
    Return the stamp in ns of a serialised message whose first field is its header.

    Raises
    ------
    ValueError
        If there are too few bytes for a header.

    """
    if len(data) < 12:
        raise ValueError(f'message of {len(data)} bytes: too short for a header')
    seconds, nanoseconds = struct.unpack_from('<iI' if data[1] & 1 else '>iI', data, 4)
    return seconds * 1_000_000_000 + nanoseconds
