# SPDX-License-Identifier: Apache-2.0
"""
`signs.geojson` of a replay: each confirmed sign on the globe, one feature over all passes.

Read from the recorded output: `signs` of the node, transforms and fixes of the bag, laid over each
other as the map of obstacles is. Where fixes or odometry do not suffice there are no features and
the file says why.
"""

from dataclasses import dataclass
import json

from mmperception.geodesy import geojson
from mmperception.geometry import apply, yaw_of
from mmperception.landmarks import fit_odometry
from mmperception.ros import bag
from mmperception.ros.headers import array_from, ns_from_time
from mmperception.ros.obstacle_map import FOREVER_NS, placed_fixes
from mmperception.ros.transforms import take_message, TransformBuffer
import numpy as np
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import NavSatFix
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray

TYPES = {
    '/signs': Detection3DArray,
    '/gps/fix': NavSatFix,
    '/tf': TFMessage,
    '/tf_static': TFMessage,
}
# Sightings of one class that are nearer to each other are one sign, seen in several passes.
SAME_M = 3.0


@dataclass(slots=True, kw_only=True)
class _Sign:
    """One track: its latest name and place in odom, variance, way of the robot, and when."""

    name: str
    place_xy: np.ndarray
    variance: float
    yaw: float
    first_ns: int
    last_ns: int
    passes: int = 1


def write_sign_map(output, path, config):
    """
    Write the map of signs of a replay's output.

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
        note, features = f'no features: {error}', []
    else:
        note = 'accuracy_m is one standard deviation, horizontal; heading_deg is that of the face'
        features = _features(_merged(_tracks(arrays, transforms, config)), placing)
    collection = {**geojson(features), 'note': note}
    path.write_text(json.dumps(collection, indent=1, allow_nan=False) + '\n', encoding='utf-8')
    return len(features)


def _tracks(arrays, transforms, config):
    """Return a _Sign for every track; what it was last read as and where it was last seen."""
    signs = {}
    for msg in arrays:
        stamp_ns = ns_from_time(msg.header.stamp)
        try:
            pose = transforms.lookup(config.odom_frame, config.base_frame, stamp_ns)
        except LookupError:
            continue  # before the first and after the last transform
        for one in (detection for detection in msg.detections if detection.results):
            covariance = np.array(one.results[0].pose.covariance).reshape(6, 6)
            known = signs.get(one.id)
            signs[one.id] = _Sign(
                name=one.results[0].hypothesis.class_id,
                place_xy=apply(pose, array_from(one.bbox.center.position)[None])[0, :2],
                variance=float(np.trace(covariance[:2, :2]) / 2),
                yaw=known.yaw if known else yaw_of(pose),
                first_ns=known.first_ns if known else stamp_ns,
                last_ns=stamp_ns,
            )
    return list(signs.values())


def _merged(signs):
    """Join tracks of one name at one place: the more certain position weighs more."""
    merged = []
    for sign in signs:
        same = next(
            (
                other
                for other in merged
                if other.name == sign.name
                and np.linalg.norm(other.place_xy - sign.place_xy) < SAME_M
            ),
            None,
        )
        if same is None:
            merged.append(sign)
            continue
        share = same.variance / max(same.variance + sign.variance, 1e-9)
        same.place_xy = same.place_xy + share * (sign.place_xy - same.place_xy)
        same.variance = min(same.variance, sign.variance)
        same.first_ns = min(same.first_ns, sign.first_ns)
        same.last_ns = max(same.last_ns, sign.last_ns)
        same.passes += 1
    return merged


def _features(signs, placing):
    if not signs:
        return []
    places = np.array([sign.place_xy for sign in signs])
    turn = placing.enu_from_odom[:2, :2]
    enu = np.column_stack((places @ turn.T + placing.enu_from_odom[:2, 2], np.zeros(len(signs))))
    latitude, longitude, _ = placing.enu.geodetic_from_enu(enu)
    odom_yaw = np.arctan2(turn[1, 0], turn[0, 0])
    sigmas, features = placing.sigma_at(places), []
    for n, sign in enumerate(signs):
        # The face looks back at who drives towards it; degrees from north, clockwise.
        facing = 90.0 - np.degrees(sign.yaw + odom_yaw + np.pi)
        sigma = np.hypot(sigmas[n], np.sqrt(sign.variance))
        properties = {
            'class': sign.name,
            'heading_deg': round(float(facing % 360), 1),
            'accuracy_m': round(float(sigma), 2),
            'first_seen_ns': sign.first_ns,
            'last_seen_ns': sign.last_ns,
            'passes': sign.passes,
        }
        features.append((latitude[n], longitude[n], None, properties))
    return features
