# SPDX-License-Identifier: Apache-2.0
"""The GeoJSON of a replay: read back from a recorded output."""

import json

from mmperception.config import Config
from mmperception.datatypes import CostGrid, GpsFix, Pose
from mmperception.geodesy import LocalEnu
from mmperception.geometry import transform_from_yaw
from mmperception.recording import Event, Mounting, Recording
from mmperception.ros import bag, messages
from mmperception.ros.obstacle_map import write_obstacle_map
from mmperception.ros.recording import write_recording
import numpy as np
from rclpy.serialization import serialize_message

START_NS, PERIOD_NS = 1_317_046_448_123_456_789, 100_000_000
ENU = LocalEnu(49.0, 8.4, 110.0)


def output(path, with_fixes=True):
    """Write four seconds of a drive along odom's x, which is north, past something at (20, 5)."""
    mounting = Mounting(
        base_from_lidar=np.eye(4),
        base_from_imu=np.eye(4),
        base_from_gps=transform_from_yaw((-0.5, 0.2, 1.9), 0.0),
        base_from_camera={},
        camera_models={},
    )
    events, grids = [], []
    for step in range(-2, 43):
        stamp_ns, x = START_NS + step * PERIOD_NS, 1.0 * step
        pose = transform_from_yaw((x, 0.0, 0.0), 0.0)
        events.append(Event(log_ns=stamp_ns, value=Pose(stamp_ns=stamp_ns, odom_from_base=pose)))
        if not 0 <= step <= 40:
            continue
        lat, lon, _ = (float(v[0]) for v in ENU.geodetic_from_enu([[-0.2, x - 0.5, 0.0]]))
        fix = GpsFix(stamp_ns=stamp_ns, frame_id='gps_link', latitude_deg=lat, longitude_deg=lon,
                     altitude_m=110.0, status=0, covariance=np.eye(3) * 0.04)  # fmt: skip
        if with_fixes:
            events.append(Event(log_ns=stamp_ns, value=fix))
        data = np.zeros((400, 400), np.int8)
        left, right = 400 - 10 * step, 405 - 10 * step
        data[250:255, left:right] = 100
        grids.append(CostGrid(stamp_ns=stamp_ns, frame_id='odom', resolution_m=0.1, data=data,
                              origin_xy_m=(x - 20.0, -20.0)))  # fmt: skip
    write_recording(path / 'inputs', Recording(mounting=mounting, events=events, num_sweeps=0))
    with bag.BagWriter(path / 'output') as writer:
        for topic, kind, message, log_ns in bag.read_messages(path / 'inputs'):
            writer.write(topic, kind, message, log_ns)
        for grid in grids:
            message = serialize_message(messages.msg_from_cost_grid(grid))
            writer.write('/path_cost', 'nav_msgs/msg/OccupancyGrid', message, grid.stamp_ns)
    return path / 'output'


def test_what_stayed_stands_on_the_globe_within_its_accuracy(tmp_path):
    path = tmp_path / 'obstacles.geojson'
    assert write_obstacle_map(output(tmp_path), path, Config()) == 1
    collection = json.loads(path.read_text())
    (feature,) = collection['features']
    longitude, latitude = feature['geometry']['coordinates']
    east, north, _ = ENU.enu_from_geodetic([latitude], [longitude], [110.0])[0]
    accuracy_m = feature['properties']['accuracy_m']
    assert 0.2 <= accuracy_m < 0.5
    assert np.hypot(east + 5.25, north - 20.25) < 0.15
    assert '41 fixes agree' in collection['note']


def test_without_fixes_there_are_no_features_and_the_note_says_why(tmp_path):
    path = tmp_path / 'obstacles.geojson'
    assert write_obstacle_map(output(tmp_path, with_fixes=False), path, Config()) == 0
    collection = json.loads(path.read_text())
    assert collection['features'] == [] and '0 fixes' in collection['note']
