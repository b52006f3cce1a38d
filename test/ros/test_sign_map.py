# SPDX-License-Identifier: Apache-2.0
"""The map of signs: two passes of one sign are one feature at its place on the globe."""

import json

from mmperception.config import Config
from mmperception.ros import bag
from mmperception.ros.sign_map import write_sign_map
from mmperception.ros.sign_messages import msg_from_signs
import numpy as np
from rclpy.serialization import serialize_message
from test_obstacle_map import ENU, output, PERIOD_NS, START_NS
from test_sign_messages import make_signs

SIGN_XY = np.array([30.0, -3.0])  # in odom, whose x is north


def with_signs(path, with_fixes=True):
    """Add to the drive a sign that is followed by two tracks, one after the other."""
    recorded = output(path, with_fixes)
    with bag.BagWriter(path / 'with_signs') as writer:
        for topic, kind, message, log_ns in bag.read_messages(recorded):
            writer.write(topic, kind, message, log_ns)
        for step in range(0, 25):
            signs = make_signs(classes=(14,), sources=('lidar',))
            stamp_ns = START_NS + step * PERIOD_NS
            moved = {name: getattr(signs, name) for name in signs.__slots__}
            moved['stamp_ns'] = stamp_ns
            moved['position'] = np.array([[SIGN_XY[0] - step, SIGN_XY[1], 2.0]])
            moved['track_id'] = np.array([1 if step < 12 else 2])
            message = serialize_message(msg_from_signs(type(signs)(**moved)))
            writer.write('/signs', 'vision_msgs/msg/Detection3DArray', message, stamp_ns)
    return path / 'with_signs'


def test_a_sign_stands_on_the_globe_once_however_often_it_was_passed(tmp_path):
    path = tmp_path / 'signs.geojson'
    assert write_sign_map(with_signs(tmp_path), path, Config()) == 1
    (feature,) = json.loads(path.read_text())['features']
    longitude, latitude = feature['geometry']['coordinates']
    east, north, _ = ENU.enu_from_geodetic([latitude], [longitude], [110.0])[0]
    assert np.hypot(east - 3.0, north - 30.0) < 0.3
    facts = feature['properties']
    assert facts['class'] == 'stop' and facts['passes'] == 2
    assert abs(facts['heading_deg'] - 180.0) < 2.0
    assert 0.1 < facts['accuracy_m'] < 1.0
    assert (facts['first_seen_ns'], facts['last_seen_ns']) == (
        START_NS,
        START_NS + 24 * PERIOD_NS,
    )


def test_without_fixes_the_map_is_empty_and_says_why(tmp_path):
    path = tmp_path / 'signs.geojson'
    assert write_sign_map(with_signs(tmp_path, with_fixes=False), path, Config()) == 0
    collection = json.loads(path.read_text())
    assert collection['features'] == [] and collection['note'].startswith('no features')
