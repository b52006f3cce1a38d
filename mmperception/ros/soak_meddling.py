# SPDX-License-Identifier: Apache-2.0
"""
What a fault does to the messages of a sensor while it lasts.

A `Meddler` gets every message that is about to leave and says what leaves instead, at once or
later. What kinds there are, and what each must leave in `/diagnostics`, stands in
`evaluation/soak_faults.py`.
"""

import random
import struct

from mmperception.ros.player import message_class
import numpy as np
from rclpy.serialization import deserialize_message, serialize_message

NS = 1_000_000_000
FUTURE_NS, BACK_NS, LATE_S = 5 * NS, 300_000_000, 2.0
# Of a regressing sensor every third message is set back.
REGRESSING = 3
TF = 'tf2_msgs/msg/TFMessage'
# Behind the encapsulation (4 bytes), and in TFMessage behind the number of transforms, too.
STAMP_AT, TF_STAMP_AT = 4, 8
STAMP = struct.Struct('<iI')
ABSURD = 2**31 - 1


def stamped(message, stamp_ns):
    """Return the bytes of a Recorded message with another stamp."""
    data = bytearray(message.data)
    place = TF_STAMP_AT if message.type_name == TF else STAMP_AT
    STAMP.pack_into(data, place, *divmod(stamp_ns, NS))
    return bytes(data)


class Meddler:
    """
    One fault at work.

    Parameters
    ----------
    kind : str
    targets : collection of str
        Sensors whose messages are changed.
    seed : int

    Attributes
    ----------
    injected : int
        Messages that were changed, held back or sent twice.

    """

    def __init__(self, kind, targets, seed):
        self.kind, self.targets = kind, targets
        self.injected, self._random = 0, random.Random(seed)
        self._number = 0
        self._held = []  # (due_s, topic, data), in order

    def change(self, message, stamp_ns, now_s):
        """
        Return what leaves instead of a message.

        Parameters
        ----------
        message : Recorded
            As it is in the bag.
        stamp_ns : int
            Its stamp on the present time line.
        now_s : float
            Steady time.

        Returns
        -------
        list of bytes

        """
        if message.sensor not in self.targets or not self._concerns(message):
            return [stamped(message, stamp_ns)]
        data = self._changed(message, stamp_ns)
        if self.kind in ('late', 'burst'):
            self.injected += 1
            due_s = now_s + LATE_S if self.kind == 'late' else float('inf')
            self._held.append((due_s, message.topic, data[0]))
            return []
        self.injected += data != [stamped(message, stamp_ns)]
        return data

    def release(self, now_s):
        """Return (topic, data) of what was held back and is due; all when `now_s` is inf."""
        due = [one[1:] for one in self._held if one[0] <= now_s]
        del self._held[: len(due)]
        return due

    def _concerns(self, message):
        """Tell which of a camera's two topics a kind is about; both fall silent together."""
        is_info = message.type_name.endswith('CameraInfo')
        return self.kind == 'silent' or is_info == (self.kind == 'wrong_size')

    def _changed(self, message, stamp_ns):
        change = CHANGES.get(self.kind)
        if change is not None:
            return change(self, message, stamp_ns)
        return [stamped(message, stamp_ns)]

    def _duplicate(self, message, stamp_ns):
        return [stamped(message, stamp_ns)] * 2

    def _regressing(self, message, stamp_ns):
        self._number += 1
        is_back = self._number % REGRESSING == 0
        return [stamped(message, stamp_ns - BACK_NS * is_back)]

    def _truncated(self, message, stamp_ns):
        data = stamped(message, stamp_ns)
        return [data[: self._random.randrange(4, min(len(data) // 2, 64))]]

    def _not_finite(self, message, stamp_ns):
        msg = _message(message, stamp_ns)
        msg.data = b'\xff' * len(msg.data)
        return [serialize_message(msg)]

    def _empty(self, message, stamp_ns):
        msg = _message(message, stamp_ns)
        msg.width = msg.row_step = 0
        msg.data = b''
        return [serialize_message(msg)]

    def _wrong_size(self, message, stamp_ns):
        msg = _message(message, stamp_ns)
        msg.width, msg.height = msg.width // 2 + 1, msg.height // 2 + 1
        return [serialize_message(msg)]

    def _lying(self, message, stamp_ns):
        msg = _message(message, stamp_ns)
        lie = self._random.choice(LIES[message.type_name.rpartition('/')[2]])
        lie(msg)
        return [serialize_message(msg)]


CHANGES = {
    'silent': lambda meddler, message, stamp_ns: [],
    'zero_stamp': lambda meddler, message, stamp_ns: [stamped(message, 0)],
    'future': lambda meddler, message, stamp_ns: [stamped(message, stamp_ns + FUTURE_NS)],
    'duplicate': Meddler._duplicate,
    'regressing': Meddler._regressing,
    'truncated': Meddler._truncated,
    'not_finite': Meddler._not_finite,
    'empty': Meddler._empty,
    'wrong_size': Meddler._wrong_size,
    'lying': Meddler._lying,
}


def _message(message, stamp_ns):
    return deserialize_message(stamped(message, stamp_ns), message_class(message.type_name))


def _half_the_data(msg):
    msg.data = msg.data[: len(msg.data) // 2]


def _absurd(name, value=ABSURD):
    return lambda msg: setattr(msg, name, value)


def _rename_x(msg):
    msg.fields[0].name = 'sonar'


def _far_field(msg):
    msg.fields[0].offset = ABSURD


def _no_number(msg):
    msg.latitude = float('nan')


def _infinite_rate(msg):
    msg.angular_velocity.z = np.inf


def _nowhere(msg):
    msg.transforms[0].transform.translation.x = np.inf


def _not_turned(msg):
    rotation = msg.transforms[0].transform.rotation
    rotation.x = rotation.y = rotation.z = rotation.w = 0.0


def _no_pose(msg):
    msg.pose.pose.position.x = np.nan


# By the type's last name: what cannot be believed whatever else the message holds.
LIES = {
    'PointCloud2': (_half_the_data, _absurd('width'), _absurd('height'), _absurd('point_step'),
                    _rename_x, _far_field),
    'Image': (_half_the_data, _absurd('width'), _absurd('height'), _absurd('step', 1),
              _absurd('encoding', 'unicorn')),
    'CompressedImage': (_half_the_data,),
    'NavSatFix': (_no_number, _absurd('longitude', 1e308)),
    'Imu': (_infinite_rate,),
    'Odometry': (_no_pose,),
    'TFMessage': (_nowhere, _not_turned),
}  # fmt: skip
