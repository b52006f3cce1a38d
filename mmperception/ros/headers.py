# SPDX-License-Identifier: Apache-2.0
"""
What every message converter needs: time, headers, geometry fields, big arrays.

Time is integer nanoseconds on our side. Source: builtin_interfaces/Time, std_msgs/Header,
geometry_msgs.
"""

import array
import math

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, Quaternion, Transform, Vector3
from mmperception.geometry import quaternion_from_rotation, transform_from
import numpy as np
from std_msgs.msg import Header

SECOND_NS = 1_000_000_000


def ns_from_time(time):
    """Return the nanoseconds of a builtin_interfaces/Time."""
    return time.sec * SECOND_NS + time.nanosec


def time_from_ns(stamp_ns):
    """Return the builtin_interfaces/Time of nanoseconds."""
    seconds, nanoseconds = divmod(int(stamp_ns), SECOND_NS)
    return Time(sec=seconds, nanosec=nanoseconds)


def header_from(stamp_ns, frame_id):
    """Return the std_msgs/Header of a stamp and a frame."""
    return Header(stamp=time_from_ns(stamp_ns), frame_id=frame_id)


def big_field(values, typecode='B'):
    """
    Return an array.array with the bytes of `values`, as big message fields want it.

    The generated setters copy an array.array for free; anything else goes through Python once
    per element, which takes half a second for 10 MB.
    """
    field = array.array(typecode)
    field.frombytes(memoryview(np.ascontiguousarray(values)).cast('B') if values.size else b'')
    return field


def point_from(xyz):
    """Return the geometry_msgs/Point of three numbers."""
    return Point(x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))


def vector_from(xyz):
    """Return the geometry_msgs/Vector3 of three numbers."""
    return Vector3(x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))


def array_from(message):
    """Return (3,) float64 of a Point or Vector3."""
    return np.array((message.x, message.y, message.z), np.float64)


def quaternion_from(xyzw):
    """Return the geometry_msgs/Quaternion of x, y, z, w."""
    x, y, z, w = (float(value) for value in xyzw)
    return Quaternion(x=x, y=y, z=z, w=w)


def quaternion_array(message):
    """Return (4,) float64 x y z w of a geometry_msgs/Quaternion."""
    return np.array((message.x, message.y, message.z, message.w), np.float64)


def finite_array(name, values, shape, dtype=np.float32):
    """
    Return numbers of a message as an array.

    Parameters
    ----------
    name : str
        Of the field, for the error.
    values : nested sequence of float
        What the message holds.
    shape : tuple of int
        One entry may be -1.
    dtype : type
        In which they must be finite: 1e308 is not in float32.

    Raises
    ------
    ValueError
        If one of them is not finite.

    """
    with np.errstate(over='ignore'):
        numbers = np.array(values, np.float64).astype(dtype).reshape(shape)
    if not np.isfinite(numbers).all():
        raise ValueError(f'{name}: holds a value that is not finite')
    return numbers


def pose_from_yaw(center, yaw_rad):
    """Return the geometry_msgs/Pose of an upright box."""
    half = 0.5 * float(yaw_rad)
    return Pose(
        position=point_from(center),
        orientation=Quaternion(x=0.0, y=0.0, z=float(np.sin(half)), w=float(np.cos(half))),
    )


def yaw_from_quaternion(message):
    """Return the heading (rad) of a geometry_msgs/Quaternion."""
    x, y, z, w = message.x, message.y, message.z, message.w
    return math.atan2(2 * (w * z + x * y), w * w + x * x - y * y - z * z)


def transform_message(a_from_b):
    """Return the geometry_msgs/Transform of a (4, 4) transform."""
    return Transform(
        translation=vector_from(a_from_b[:3, 3]),
        rotation=quaternion_from(quaternion_from_rotation(a_from_b[:3, :3])),
    )


def transform_array(translation, rotation):
    """Return (4, 4) float64 of a Vector3 or Point and a Quaternion message."""
    return transform_from(array_from(translation), quaternion_array(rotation))
