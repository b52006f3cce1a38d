# SPDX-License-Identifier: Apache-2.0
"""Poses, motion and places with answers worked out by hand or by closed formulas."""

import json
import math

from mmperception.datatypes import GpsFix, ImuSample, Pose
from mmperception.geodesy import geojson, LocalEnu
from mmperception.geometry import transform_from_yaw
from mmperception.odometry import GpsHistory, MotionEstimator, PoseHistory
import numpy as np
import pytest

T0 = 1_317_384_506_400_000_123
MS = 1_000_000
KARLSRUHE = (49.015003, 8.434297, 116.4)


def pose(at_ms, x, y=0.0, yaw=0.0):
    transform = transform_from_yaw((x, y, 0.0), yaw)
    return Pose(stamp_ns=T0 + at_ms * MS, odom_from_base=transform)


def fix(at_ms, latitude, longitude, altitude=116.4, **more):
    values = {'status': 0, 'covariance': np.diag([1.0, 1.0, 4.0]), **more}
    return GpsFix(
        stamp_ns=T0 + at_ms * MS,
        frame_id='gps_link',
        latitude_deg=latitude,
        longitude_deg=longitude,
        altitude_m=altitude,
        **values,
    )


def history(*poses, **settings):
    made = PoseHistory(**settings)
    for one in poses:
        made.add(one)
    return made


def test_between_two_poses_the_robot_is_between_them():
    poses = history(pose(0, 10.0, 2.0, 0.2), pose(100, 14.0, 1.0, 0.6))
    at = poses.at(T0 + 25 * MS)
    np.testing.assert_allclose(at, transform_from_yaw((11.0, 1.75, 0.0), 0.3), atol=1e-9)


def test_a_turn_through_south_takes_the_short_way():
    poses = history(pose(0, 0, yaw=3.0), pose(100, 0, yaw=-3.0))
    turned = transform_from_yaw((0, 0, 0), math.pi)
    np.testing.assert_allclose(poses.at(T0 + 50 * MS), turned, atol=1e-9)


def test_beyond_the_newest_pose_the_motion_goes_on_but_not_for_long():
    poses = history(pose(0, 0.0), pose(50, 1.0), max_extrapolation_ns=100 * MS)
    assert poses.at(T0 + 150 * MS)[0, 3] == pytest.approx(3.0)
    assert poses.at(T0 + 151 * MS) is None
    assert poses.at(T0 - 25 * MS)[0, 3] == pytest.approx(-0.5)
    assert poses.at(T0 - 101 * MS) is None


def test_no_pose_is_invented_in_a_wide_gap():
    poses = history(pose(0, 0.0), pose(1001, 10.0))
    assert poses.at(T0 + 500 * MS) is None
    assert poses.at(T0 + 1001 * MS)[0, 3] == 10.0


def test_without_poses_there_is_none():
    poses = history(pose(0, 1.0))
    assert poses.at(T0)[0, 3] == 1.0
    poses.clear()
    assert poses.at(T0) is None
    assert history().at(T0) is None


def test_poses_out_of_order_and_doubled_are_sorted_and_the_first_stays():
    poses = history(pose(100, 1.0), pose(0, 0.0), pose(100, 9.0))
    assert len(poses) == 2
    assert poses.at(T0 + 50 * MS)[0, 3] == pytest.approx(0.5)


def test_the_oldest_poses_are_forgotten():
    poses = history(*(pose(10 * i, i) for i in range(50)), capacity=10)
    assert len(poses) == 10
    assert poses.at(T0) is None


def test_speed_and_turn_come_from_poses_first():
    motion = MotionEstimator()
    for i in range(11):
        motion.add_pose(pose(20 * i, 0.1 * i, yaw=0.01 * i))
    motion.add_twist(T0 + 200 * MS, 99.0, 9.0)
    at = motion.at(T0 + 200 * MS)
    assert (at.source, at.age_ns) == ('tf', 0)
    assert at.speed_mps == pytest.approx(5.0, rel=1e-3)
    assert at.yaw_rate_radps == pytest.approx(0.5)


def test_driving_backwards_is_a_negative_speed():
    motion = MotionEstimator()
    motion.add_pose(pose(0, 0.0, yaw=math.pi))
    motion.add_pose(pose(100, 0.3, yaw=math.pi))
    assert motion.at(T0 + 100 * MS).speed_mps == pytest.approx(-3.0)


def test_one_pose_is_not_a_standing_robot():
    motion = MotionEstimator()
    motion.add_pose(pose(0, 5.0))
    assert motion.at(T0) is None


def test_without_poses_the_odometer_says_how_the_robot_moves_and_how_old_that_is():
    motion = MotionEstimator(max_age_ns=500 * MS)
    motion.add_twist(T0, 3.5, -0.25)
    at = motion.at(T0 + 40 * MS)
    assert (at.speed_mps, at.yaw_rate_radps, at.age_ns, at.source) == (3.5, -0.25, 40 * MS, 'odom')
    assert motion.at(T0 + 501 * MS) is None


def imu(at_ms, rate):
    return ImuSample(
        stamp_ns=T0 + at_ms * MS,
        frame_id='imu_link',
        angular_velocity=np.array(rate, np.float64),
        linear_acceleration=np.array([0.0, 0.0, 9.81]),
    )


def test_imu_and_gps_give_the_motion_above_the_speed_gate_only():
    enu = LocalEnu(*KARLSRUHE)
    motion, slow = MotionEstimator(), MotionEstimator()
    for estimator, speed in ((motion, 8.0), (slow, 0.3)):
        for at_ms in (0, 200):
            step = np.array([[0.6, 0.8, 0.0]]) * speed * at_ms / 1000
            (latitude,), (longitude,), (altitude,) = enu.geodetic_from_enu(step)
            estimator.add_gps(fix(at_ms, latitude, longitude, altitude))
        estimator.add_imu(imu(190, (0.0, 0.3, 0.1)), transform_from_roll(math.pi / 2))
    at = motion.at(T0 + 230 * MS)
    assert at.speed_mps == pytest.approx(8.0, abs=1e-3)
    assert at.yaw_rate_radps == pytest.approx(0.3)  # the mounted IMU's y axis points up
    assert (at.source, at.age_ns) == ('imu_gps', 30 * MS)
    assert slow.at(T0 + 230 * MS) is None
    motion.clear()
    assert motion.at(T0 + 230 * MS) is None


def transform_from_roll(angle):
    transform = np.eye(4)
    cos, sin = math.cos(angle), math.sin(angle)
    transform[1:3, 1:3] = [[cos, -sin], [sin, cos]]
    return transform


def closed_form_enu(latitude, longitude, altitude, datum):
    """WGS84 to ECEF to ENU by the textbook formulas."""
    a, f = 6378137.0, 1 / 298.257223563
    e2 = f * (2 - f)

    def ecef(lat, lon, h):
        n = a / np.sqrt(1 - e2 * np.sin(lat) ** 2)
        return np.stack(
            [
                (n + h) * np.cos(lat) * np.cos(lon),
                (n + h) * np.cos(lat) * np.sin(lon),
                (n * (1 - e2) + h) * np.sin(lat),
            ],
            axis=-1,
        )

    lat0, lon0 = np.radians(datum[:2])
    s, c, sl, cl = np.sin(lat0), np.cos(lat0), np.sin(lon0), np.cos(lon0)
    rotation = np.array([[-sl, cl, 0], [-s * cl, -s * sl, c], [c * cl, c * sl, s]])
    delta = ecef(np.radians(latitude), np.radians(longitude), altitude)
    return (delta - ecef(lat0, lon0, datum[2])) @ rotation.T


@pytest.mark.parametrize('datum', [KARLSRUHE, (-33.9, -71.6, 520.0), (0.0, 179.99, 0.0)])
def test_local_enu_agrees_with_the_closed_form_within_a_millimetre_up_to_ten_kilometres(datum):
    rng = np.random.default_rng(3)
    latitude = datum[0] + rng.uniform(-0.09, 0.09, 200)
    longitude = datum[1] + rng.uniform(-0.009, 0.009, 200)
    altitude = rng.uniform(-50, 900, 200)
    points = LocalEnu(*datum).enu_from_geodetic(latitude, longitude, altitude)
    expected = closed_form_enu(latitude, longitude, altitude, datum)
    assert np.abs(expected[:, :2]).max() > 9_000
    print(f'largest difference {1e3 * np.abs(points - expected).max():.6f} mm')
    np.testing.assert_allclose(points, expected, atol=1e-3)


def test_local_enu_there_and_back_is_the_same_place():
    enu = LocalEnu(*KARLSRUHE)
    points = np.array([[1200.0, -340.0, 12.5], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(
        enu.enu_from_geodetic(*enu.geodetic_from_enu(points)), points, atol=1e-6
    )
    assert enu.enu_from_geodetic([], [], []).shape == (0, 3)


def test_north_of_the_datum_is_y_and_east_is_x():
    enu = LocalEnu(*KARLSRUHE)
    latitude, longitude, altitude = KARLSRUHE
    (north,) = enu.enu_from_geodetic(latitude + 0.001, longitude, altitude)
    (east,) = enu.enu_from_geodetic(latitude, longitude + 0.001, altitude)
    assert north[1] == pytest.approx(111.2, abs=0.1)
    assert east[0] == pytest.approx(73.2, abs=0.1)
    assert abs(north[0]) < 1e-3


def test_an_unknown_altitude_is_taken_as_that_of_the_datum():
    enu = LocalEnu(49.0, 8.4, math.nan)
    (place,) = enu.enu_from_geodetic(49.0, 8.4, math.nan)
    np.testing.assert_allclose(place, 0, atol=1e-6)


def fixes(*all_fixes, **settings):
    made = GpsHistory(**settings)
    for one in all_fixes:
        made.add(one)
    return made


def test_between_two_fixes_the_place_is_interpolated_with_the_worse_covariance():
    gps = fixes(
        fix(0, 49.0, 8.4, 100.0),
        fix(100, 49.0001, 8.4002, 104.0, covariance=np.diag([9.0, 9.0, 9.0]), status=1),
    )
    at = gps.at(T0 + 25 * MS)
    assert at.stamp_ns == T0 + 25 * MS
    assert at.latitude_deg == pytest.approx(49.000025, abs=1e-9)
    assert at.longitude_deg == pytest.approx(8.40005, abs=1e-9)
    assert at.altitude_m == pytest.approx(101.0, abs=1e-3)
    assert at.covariance[0, 0] == 9.0
    assert at.status == 0


def test_after_the_last_fix_the_place_goes_on_and_its_covariance_grows():
    gps = fixes(fix(0, 49.0, 8.4), fix(100, 49.00001, 8.4))  # 11.1 m/s north
    at = gps.at(T0 + 300 * MS)
    assert at.latitude_deg == pytest.approx(49.00003, abs=1e-8)
    grown = (0.5 * 0.2) ** 2 + (1.5 * 0.04 / 2) ** 2
    np.testing.assert_allclose(at.covariance, np.diag([1 + grown, 1 + grown, 4 + grown]))
    assert gps.at(T0 + 601 * MS) is None


def test_a_fix_of_a_standing_robot_stays_where_it_is_and_is_trusted_less():
    gps = fixes(fix(0, 49.0, 8.4), fix(100, 49.0000001, 8.4))
    at = gps.at(T0 + 200 * MS)
    assert at.latitude_deg == pytest.approx(49.0000001, abs=1e-12)
    assert at.covariance[0, 0] > 1 + (5.0 * 0.1) ** 2 - 1e-9


def test_an_unknown_covariance_and_altitude_stay_unknown():
    unknown = {'covariance': None, 'altitude': math.nan}
    gps = fixes(fix(0, 49.0, 8.4, **unknown), fix(100, 49.0001, 8.4, **unknown))
    for at_ms in (50, 200):
        at = gps.at(T0 + at_ms * MS)
        assert at.covariance is None
        assert math.isnan(at.altitude_m)


def test_a_receiver_without_a_fix_says_nothing_about_the_place():
    assert fixes(fix(0, 0.0, 0.0, status=-1)).at(T0) is None
    assert fixes().at(T0) is None
    assert fixes(fix(0, 49.0, 8.4)).at(T0 - 1) is None


def test_the_date_line_is_no_jump():
    gps = fixes(fix(0, 10.0, 179.9999), fix(100, 10.0, -179.9999))
    assert abs(gps.at(T0 + 25 * MS).longitude_deg) == pytest.approx(179.99995, abs=1e-8)


def test_geojson_gives_longitude_first_and_is_valid_json():
    features = [
        (49.0, 8.4, 116.4, {'class': 'stop'}),
        (-33.9, -71.6, None, {'class': 'vehicle', 'track': 7}),
        (1.0, 2.0, math.nan, {}),
    ]
    read = json.loads(json.dumps(geojson(features), allow_nan=False))
    assert read == geojson(features)
    assert read['type'] == 'FeatureCollection'
    places = [feature['geometry']['coordinates'] for feature in read['features']]
    assert places == [[8.4, 49.0, 116.4], [-71.6, -33.9], [2.0, 1.0]]
    assert read['features'][1]['properties'] == {'class': 'vehicle', 'track': 7}
    assert geojson([]) == {'type': 'FeatureCollection', 'features': []}


def test_satellite_places_agree_with_the_integrated_velocities_of_a_real_drive(real_data):
    """Drive 0009; in 0005 the receiver's places themselves slide by metres (docs/data.md)."""
    kitti = pytest.importorskip('mmperception.datasets.kitti')
    drive = kitti.KittiDrive(real_data / 'kitti_raw/2011_09_26/2011_09_26_drive_0009_sync')
    records = sorted(drive.records.values(), key=lambda record: record.stamp_ns)
    enu = LocalEnu(records[0].latitude_deg, records[0].longitude_deg, records[0].altitude_m)
    places = np.concatenate(
        [enu.enu_from_geodetic(r.latitude_deg, r.longitude_deg, r.altitude_m) for r in records]
    )
    seconds = np.diff([record.stamp_ns for record in records]) * 1e-9
    velocity = np.array([record.velocity_enu for record in records])
    driven = ((velocity[1:] + velocity[:-1]) / 2 * seconds[:, None])[:, :2].sum(axis=0)
    moved = places[-1, :2] - places[0, :2]
    assert np.linalg.norm(driven) > 50
    assert np.linalg.norm(moved) == pytest.approx(np.linalg.norm(driven), rel=0.01)
    assert moved @ driven / np.linalg.norm(moved) / np.linalg.norm(driven) > 0.999
