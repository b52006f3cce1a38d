# SPDX-License-Identifier: Apache-2.0
"""
`obstacles.geojson` of a replay: what stayed where it was, on the globe, with its accuracy.

Read from the recorded output: grids and tracks of the nodes, transforms and fixes of the bag.
The file says what its accuracy rests on; where fixes or odometry do not suffice it has no
features and says why.
"""

import json

from autoware_perception_msgs.msg import TrackedObjects
from mmperception.datatypes import CLASSES
from mmperception.geodesy import geojson
from mmperception.landmarks import features_of, fit_odometry, Landmarks
from mmperception.ros import bag, messages
from mmperception.ros.transforms import take_message, TransformBuffer
from nav_msgs.msg import OccupancyGrid
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import NavSatFix
from tf2_msgs.msg import TFMessage

TYPES = {
    '/path_cost': OccupancyGrid,
    '/tracks': TrackedObjects,
    '/gps/fix': NavSatFix,
    '/tf': TFMessage,
    '/tf_static': TFMessage,
}
FOREVER_NS = 1 << 62


def write_obstacle_map(output, path, config):
    """
    Write the map of a replay's output.

    Parameters
    ----------
    output : path
        The recorded rosbag2.
    path : path
        Of the GeoJSON file.
    config : Config
        Frames by name.

    Returns
    -------
    num_features : int

    """
    transforms, landmarks, fixes, tracks = TransformBuffer(FOREVER_NS), Landmarks(), [], None
    for topic, _, data, _ in bag.read_messages(output, set(TYPES)):
        msg = deserialize_message(data, TYPES[topic])
        if topic in ('/tf', '/tf_static'):
            take_message(transforms, msg, topic == '/tf_static')
        elif topic == '/gps/fix':
            fixes.append(msg)
        elif topic == '/tracks':
            tracks = messages.tracks_from_msg(msg)
        else:
            grid = messages.cost_grid_from_msg(msg)
            is_same = tracks is not None and tracks.stamp_ns == grid.stamp_ns
            landmarks.add(grid, tracks if is_same else None)
    note, features = _features(landmarks, *placed_fixes(fixes, transforms, config))
    collection = {**geojson(features), 'note': note}  # RFC 7946 allows members of one's own
    path.write_text(json.dumps(collection, indent=1, allow_nan=False) + '\n', encoding='utf-8')
    return len(features)


def placed_fixes(fixes, transforms, config):
    """Return where the antenna was in odom at each fix that can be placed, and the fixes."""
    places, known = [], []
    for msg in fixes:
        try:
            fix = messages.fix_from_msg(msg)
            pose = transforms.lookup(config.odom_frame, fix.frame_id, fix.stamp_ns)
        except (ValueError, LookupError):
            continue  # broken, or before the first and after the last transform
        places.append(pose[:2, 3])
        known.append(fix)
    return places, known


def _features(landmarks, places, fixes):
    """Return what is to be known about the features, and the features."""
    try:
        placing = fit_odometry(places, fixes)
    except LookupError as error:
        return f'no features: {error}', []
    note = (
        f'accuracy_m is one standard deviation, horizontal; {placing.num_fixes} fixes agree with '
        f'the odometry, {placing.num_left_out} were left out'
    )
    return note, features_of(landmarks, placing, CLASSES)
