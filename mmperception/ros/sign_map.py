# SPDX-License-Identifier: Apache-2.0
"""
`signs.geojson`: each confirmed sign on the globe, of a replay's output or from the live node.

Of a replay it is read from the recorded output, `signs` of the node, transforms and fixes of the
bag, and all fixes place all signs. The node writes what `sign_atlas.py` knows so far, every few
seconds and when it is deactivated, if `signs.map_file` names a file.
"""

import logging
from pathlib import Path

from mmperception.canvas import write_png
from mmperception.landmarks import fit_odometry
from mmperception.ros import bag
from mmperception.ros.headers import array_from, ns_from_time
from mmperception.ros.obstacle_map import FOREVER_NS, placed_fixes
from mmperception.ros.sign_messages import facing_from_msg
from mmperception.ros.transforms import take_message, TransformBuffer
from mmperception.sign_atlas import (
    follow,
    merged,
    NOTE,
    placed_signs,
    read_atlas,
    SignAtlas,
    write_atlas,
)
from mmperception.sign_chart import sign_chart
import numpy as np
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import NavSatFix
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray

logger = logging.getLogger(__name__)
TYPES = {
    '/signs': Detection3DArray,
    '/gps/fix': NavSatFix,
    '/tf': TFMessage,
    '/tf_static': TFMessage,
}


def write_sign_map(output, path, config):
    """
    Write the map of signs of a replay's output, and where there are fixes its picture.

    Parameters
    ----------
    output : path
        The recorded rosbag2.
    path : path
        Of the GeoJSON file; the picture has the same name with `.png`.
    config : Config
        Frames by name.

    Returns
    -------
    num_features : int

    """
    transforms, fixes, arrays = TransformBuffer(FOREVER_NS), [], []
    for topic, _, data, _ in bag.read_messages(output, set(TYPES)):
        msg = deserialize_message(data, TYPES[topic])
        if topic in ('/tf', '/tf_static'):
            take_message(transforms, msg, topic == '/tf_static')
        else:
            (fixes if topic == '/gps/fix' else arrays).append(msg)
    try:
        placing = fit_odometry(*placed_fixes(fixes, transforms, config))
    except LookupError as error:
        note, signs = f'no features: {error}', []
    else:
        note, signs = NOTE, placed_signs(merged(_tracks(arrays, transforms, config)), placing)
    write_atlas(path, signs, note)
    known = [(msg.latitude, msg.longitude) for msg in fixes if msg.status.status >= 0]
    if known and np.isfinite(known).all():
        write_png(path.with_suffix('.png'), sign_chart(signs, np.array(known)))
    return len(signs)


def _tracks(arrays, transforms, config):
    """Return a FollowedSign for every track: what and where it was last seen as."""
    signs = {}
    for msg in arrays:
        stamp_ns = ns_from_time(msg.header.stamp)
        try:
            pose = transforms.lookup(config.odom_frame, config.base_frame, stamp_ns)
        except LookupError:
            continue  # before the first and after the last transform
        for one in (detection for detection in msg.detections if detection.results):
            covariance = np.array(one.results[0].pose.covariance).reshape(6, 6)
            signs[one.id] = follow(
                signs.get(one.id),
                one.results[0].hypothesis.class_id,
                (array_from(one.bbox.center.position), covariance),
                facing_from_msg(one),
                pose,
                stamp_ns,
            )
    return list(signs.values())


class SignMapFile:
    """The map that the live node keeps; without `signs.map_file` it does nothing."""

    def __init__(self, node):
        self.node, self.config = node, node.config
        name = self.config.signs.map_file
        self.path = Path(name).expanduser() if name else None
        self.atlas, self.written_ns = SignAtlas(), None
        if self.path is not None and self.path.exists():
            self.atlas = SignAtlas(read_atlas(self.path))

    def see(self, frame, signs, now_ns):
        """Take in a frame and its Signs; write when it is time by a steady clock."""
        if self.path is None or signs is None or frame.odom_from_base is None:
            return
        self._locate(frame.gps)
        self.atlas.see(signs, frame.odom_from_base)
        if self.written_ns is None:
            self.written_ns = now_ns
        if now_ns - self.written_ns >= self.config.signs.map_period_s * 1e9:
            self.written_ns = now_ns
            self.write()

    def _locate(self, fix):
        if fix is None or not fix.has_fix:
            return
        try:
            odom, transforms = self.config.odom_frame, self.node.transforms
            pose = transforms.lookup(odom, fix.frame_id, fix.stamp_ns)
        except LookupError:
            return  # its antenna cannot be placed
        self.atlas.locate(pose[:2, 3], fix)

    def forget(self):
        """Time or the odometry has jumped."""
        self.atlas.forget_odometry()

    def write(self):
        """Write the file; what stands in the way is said, and the node goes on."""
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atlas(self.path, *self.atlas.signs())
        except OSError as error:
            logger.error('signs.map_file %s: not written: %s', self.path, error)
