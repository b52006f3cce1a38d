# SPDX-License-Identifier: Apache-2.0
"""Matched messages become frames: placed, compensated, and missing what is missing by name."""

from dataclasses import replace

from mmperception.config import from_mapping
from mmperception.datatypes import CameraModel, PointCloud
from mmperception.geometry import apply, invert, project, transform_from_yaw
from mmperception.ros import bag, messages
from mmperception.ros.assembly import FrameAssembler, make_synchronizer
from mmperception.ros.deskew import deskew
from mmperception.ros.offline import frames_from_bag
from mmperception.ros.recording import write_recording
from mmperception.ros.transforms import TransformBuffer
from mmperception.synchronizer import MatchedSet, Stamped
from nav_msgs.msg import Odometry
import numpy as np
import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import NavSatFix
from std_msgs.msg import String
import synthetic

T0, MS = synthetic.START_NS, 1_000_000
IMAGE_NS = T0 + 10 * MS
MOUNTING = synthetic.mounting()
CONFIG = from_mapping({'lidar': {'stamp': 'middle'}, 'cameras': {'camera': {'rectified': True}}})


def transforms(has_odom=True, has_extrinsics=True):
    buffer = TransformBuffer()
    if has_extrinsics:
        places = {
            'lidar': MOUNTING.base_from_lidar,
            'imu_link': MOUNTING.base_from_imu,
            'camera_optical': MOUNTING.base_from_camera['camera'],
        }
        for child, at in places.items():
            buffer.put('base_link', child, 0, at, is_static=True)
    if has_odom:
        for ms in range(-200, 201, 20):
            stamp_ns = T0 + ms * MS
            buffer.put('odom', 'base_link', stamp_ns, synthetic.odom_from_base(stamp_ns))
    return buffer


def assembler(buffer=None, config=CONFIG, has_info=True):
    result = FrameAssembler(config, transforms() if buffer is None else buffer)
    if has_info:
        info = messages.msg_from_camera_model(synthetic.camera_model(), IMAGE_NS)
        result.observe('camera/camera_info', info)
    return result


def matched(cloud=None, image=None, is_raw=False, **changes):
    sweep = messages.msg_from_cloud(cloud or synthetic.cloud(T0))
    picture = image or messages.msg_from_image(
        synthetic.image(IMAGE_NS).pixels, IMAGE_NS, 'camera_optical'
    )
    if is_raw:
        sweep, picture = serialize_message(sweep), serialize_message(picture)
    values = {
        'stamp_ns': T0,
        'pivot': 'lidar',
        'payload': sweep,
        'members': {'camera': Stamped(stamp_ns=IMAGE_NS, payload=picture)},
        'missing': {},
        'skew_ns': {'camera': IMAGE_NS - T0},
        'waited_ns': 0,
    }
    return MatchedSet(**{**values, **changes})


@pytest.mark.parametrize('is_raw', [False, True])
def test_a_whole_set_is_a_whole_frame(is_raw):
    frame = assembler().assemble(matched(is_raw=is_raw))
    sweep, image = synthetic.cloud(T0), synthetic.image(IMAGE_NS)
    np.testing.assert_array_equal(frame.cloud.points, sweep.points)
    np.testing.assert_allclose(frame.base_from_lidar, MOUNTING.base_from_lidar, atol=1e-12)
    np.testing.assert_allclose(frame.odom_from_base, np.eye(4), atol=1e-9)
    (view,) = frame.cameras
    np.testing.assert_array_equal(view.image.pixels, image.pixels)
    assert (view.name, view.is_compensated, frame.stamp_ns) == ('camera', True, T0)
    assert set(frame.missing) == {'gps'}


def test_the_camera_is_placed_at_its_own_stamp_through_the_odometry_frame():
    (view,) = assembler().assemble(matched()).cameras
    point_odom = np.array([[20.0, 1.0, 0.5]])  # at T0 odom is base_link
    point_base_then = apply(invert(synthetic.odom_from_base(IMAGE_NS)), point_odom)
    expected = apply(invert(MOUNTING.base_from_camera['camera']), point_base_then)
    np.testing.assert_allclose(apply(view.camera_from_base, point_odom), expected, atol=1e-4)
    static = apply(invert(MOUNTING.base_from_camera['camera']), point_odom)
    assert np.abs(static - expected).max() > 0.05  # the compensation matters


def test_at_ten_metres_a_second_and_50_ms_lidar_points_stay_within_a_pixel():
    def odom_from_base(stamp_ns):  # 10 m/s in a gentle bend
        seconds = (stamp_ns - T0) * 1e-9
        return transform_from_yaw((10 * seconds, 0.4 * seconds, 0), 0.2 * seconds)

    image_ns, buffer = T0 + 50 * MS, transforms(has_odom=False)
    for ms in range(-200, 201, 20):
        buffer.put('odom', 'base_link', T0 + ms * MS, odom_from_base(T0 + ms * MS))
    pole = np.array([[x, y, z] for x in (8.0, 15.0, 30.0) for y in (-2.0, 1.0) for z in (0.5, 2)])
    sweep = apply(invert(MOUNTING.base_from_lidar), pole).astype(np.float32)  # odom is base at T0
    picture = messages.msg_from_image(synthetic.image(image_ns).pixels, image_ns, 'camera_optical')
    cloud = PointCloud(stamp_ns=T0, frame_id='lidar', points=sweep)
    members = {'camera': Stamped(stamp_ns=image_ns, payload=picture)}
    frame = assembler(buffer).assemble(matched(cloud=cloud, image=picture, members=members))
    (view,) = frame.cameras
    found = apply(frame.base_from_lidar, frame.cloud.points.astype(np.float64))
    intrinsics = np.array([[721.5, 0, 609.6], [0, 721.5, 172.9], [0, 0, 1]])
    kitti = CameraModel(width=1242, height=375, intrinsics=intrinsics, frame_id='camera_optical')
    pixels, _ = project(apply(view.camera_from_base, found), kitti)
    camera_from_odom = invert(odom_from_base(image_ns) @ MOUNTING.base_from_camera['camera'])
    expected, _ = project(apply(camera_from_odom, pole), kitti)
    assert np.abs(pixels - expected).max() < 1.0
    static = invert(MOUNTING.base_from_camera['camera'])
    assert np.abs(project(apply(static, found), kitti)[0] - expected).max() > 10.0


def test_without_odometry_the_static_extrinsic_is_used_and_counted():
    work = assembler(transforms(has_odom=False))
    frame = work.assemble(matched())
    (view,) = frame.cameras
    np.testing.assert_allclose(
        view.camera_from_base, invert(MOUNTING.base_from_camera['camera']), atol=1e-12
    )
    assert not view.is_compensated and frame.odom_from_base is None and frame.motion is None
    assert "nobody has published 'odom'" in frame.missing['odom']
    assert work.counts['uncompensated'] == 1


def test_speed_and_turn_come_from_transforms():
    motion = assembler().assemble(matched()).motion
    assert motion.source == 'tf'
    assert motion.speed_mps == pytest.approx(synthetic.SPEED_MPS, rel=1e-3)
    assert motion.yaw_rate_radps == pytest.approx(synthetic.YAW_RATE_RADPS, rel=1e-3)


def odometry(stamp_ns, child='base_link', child_from_base=None):
    pose = synthetic.odom_from_base(stamp_ns)
    pose = pose if child_from_base is None else pose @ invert(child_from_base)
    msg = Odometry(header=messages.header_from(stamp_ns, 'odom'), child_frame_id=child)
    entry = messages.msg_from_transforms([('odom', child, stamp_ns, pose)]).transforms[0]
    msg.pose.pose.position.x = entry.transform.translation.x
    msg.pose.pose.position.y = entry.transform.translation.y
    msg.pose.pose.position.z = entry.transform.translation.z
    msg.pose.pose.orientation = entry.transform.rotation
    msg.twist.twist.linear.x = synthetic.SPEED_MPS
    return msg


@pytest.mark.parametrize('child', ['base_link', 'imu_link'])
def test_an_odometry_topic_serves_where_transforms_do_not(child):
    work = assembler(transforms(has_odom=False))
    offset = None if child == 'base_link' else invert(MOUNTING.base_from_imu)
    for ms in range(-100, 101, 20):
        work.observe('odom', serialize_message(odometry(T0 + ms * MS, child, offset)))
    frame = work.assemble(matched())
    np.testing.assert_allclose(frame.odom_from_base, np.eye(4), atol=1e-6)
    assert frame.cameras[0].is_compensated and frame.motion.source == 'odom'
    assert frame.motion.speed_mps == synthetic.SPEED_MPS


def test_a_camera_without_calibration_is_masked_and_named():
    work = assembler(has_info=False)
    frame = work.assemble(matched())
    assert frame.cameras == () and frame.cloud is not None
    assert 'no camera_info on camera/camera_info' in frame.missing['camera']
    assert work.counts['masked.camera'] == 1


def test_an_uncalibrated_camera_is_masked_and_named():
    work = assembler()
    info = messages.msg_from_camera_model(synthetic.camera_model(), IMAGE_NS)
    info.p = [0.0] * 12
    work.observe('camera/camera_info', info)
    assert 'uncalibrated' in work.assemble(matched()).missing['camera']


def test_an_image_of_another_size_than_its_calibration_is_masked_and_both_are_named():
    picture = messages.msg_from_image(np.zeros((5, 9, 3), np.uint8), IMAGE_NS, 'camera_optical')
    frame = assembler().assemble(matched(image=picture))
    assert '9x5' in frame.missing['camera'] and '64x32' in frame.missing['camera']


def test_a_camera_without_a_place_on_the_robot_is_masked_with_its_frames():
    buffer = TransformBuffer()
    buffer.put('base_link', 'lidar', 0, MOUNTING.base_from_lidar, is_static=True)
    frame = assembler(buffer).assemble(matched())
    assert 'from base_link to camera_optical' in frame.missing['camera']


def test_a_lidar_without_a_place_on_the_robot_is_an_error_that_names_the_frames():
    with pytest.raises(LookupError, match='from lidar to base_link'):
        assembler(transforms(has_extrinsics=False)).assemble(matched())


def test_a_broken_sweep_is_an_error_that_names_the_field():
    sweep = messages.msg_from_cloud(synthetic.cloud(T0))
    sweep.width += 1
    with pytest.raises(ValueError, match='row_step'):
        assembler().assemble(matched(payload=sweep))


def test_a_set_without_image_says_why():
    frame = assembler().assemble(matched(members={'camera': None}, missing={'camera': 'too late'}))
    assert frame.missing['camera'] == 'too late' and frame.cameras == ()


def test_without_lidar_the_image_is_the_frame():
    frame = assembler().assemble(
        matched(stamp_ns=IMAGE_NS, pivot='camera', payload=None, missing={'lidar': 'silent'})
    )
    assert frame.cloud is None and frame.missing['lidar'] == 'silent'
    np.testing.assert_allclose(
        frame.cameras[0].camera_from_base,
        invert(MOUNTING.base_from_camera['camera']),
        atol=1e-9,
    )


def test_with_nothing_to_see_there_is_no_frame():
    nothing = matched(payload=None, members={'camera': None}, missing={'lidar': 'silent'})
    with pytest.raises(ValueError, match='nothing to see with: lidar: silent'):
        assembler().assemble(nothing)


def test_an_empty_sweep_is_a_frame_of_no_points():
    frame = assembler().assemble(matched(cloud=synthetic.cloud(T0, num_points=0)))
    assert len(frame.cloud.points) == 0 and len(frame.cameras) == 1


def test_a_satellite_fix_is_taken_between_its_neighbours():
    work = assembler()
    for ms, latitude in ((-50, 49.0), (50, 49.0001)):
        fix = replace(synthetic.fix(T0 + ms * MS), latitude_deg=latitude)
        work.observe('gps', messages.msg_from_fix(fix))
    work.observe('gps', no_fix())
    gps = work.assemble(matched()).gps
    assert gps.latitude_deg == pytest.approx(49.00005, abs=1e-7)


def no_fix():
    msg = NavSatFix(header=messages.header_from(T0, 'gps_link'), latitude=float('nan'))
    msg.status.status = -1
    return msg


def test_fixes_that_jump_lie_or_fail_never_move_the_robot_in_odom():
    plain, misled = assembler(), assembler()
    bad = [
        {'latitude_deg': 49.7},  # 78 km away within 100 ms
        {'longitude_deg': -8.4, 'covariance': np.eye(3) * 1e-8},  # and sure of it
        {'covariance': None},
        {'covariance': np.full((3, 3), np.nan)},
        {'status': -1},
        {'altitude_m': float('nan')},
    ]
    for number, changes in enumerate(bad):
        fix = replace(synthetic.fix(T0 + (number - 3) * 20 * MS), **changes)
        misled.observe('gps', messages.msg_from_fix(fix))
    misled.observe('gps', no_fix())
    one, other = plain.assemble(matched()), misled.assemble(matched())
    assert (one.odom_from_base == other.odom_from_base).all()
    assert (one.cloud.points == other.cloud.points).all()
    assert one.motion.speed_mps == other.motion.speed_mps
    assert one.motion.yaw_rate_radps == other.motion.yaw_rate_radps


def test_forgetting_takes_the_motion_and_keeps_the_calibration():
    work = assembler()
    work.observe('gps', messages.msg_from_fix(synthetic.fix(T0 - 1)))
    assert work.assemble(matched()).gps is not None
    work.reset()
    frame = work.assemble(matched())
    assert frame.gps is None and len(frame.cameras) == 1


def test_what_cannot_be_observed_is_refused():
    with pytest.raises(LookupError, match="'radar' is nothing that can be observed"):
        assembler().observe('radar', String())


def test_the_synchroniser_knows_every_camera_by_its_settings():
    config = from_mapping(
        {
            'camera_names': ['front', 'rear'],
            'cameras': {'rear': {'offset_ms': -25.0, 'tolerance_ms': 30.0, 'required': True}},
        }
    )
    synchronizer = make_synchronizer(config, mode='replay')
    sets = synchronizer.add('lidar', T0, 'sweep', 0)
    sets += synchronizer.add('front', T0, 'front', 0)
    sets += synchronizer.add('rear', T0 + 25 * MS, 'rear', 0)
    (only,) = sets
    assert only.skew_ns == {'front': 0, 'rear': 0}


# A wall of points that stands still while the robot drives and turns past it.
def skewed_wall():
    rng = np.random.default_rng(4)
    wall_odom = np.stack(
        (rng.uniform(5, 40, 800), rng.uniform(-20, 20, 800), rng.uniform(0, 3, 800)), axis=1
    )
    time_ns = np.sort(rng.integers(-50 * MS, 50 * MS, 800))
    points = np.empty((800, 3))
    for i in range(800):
        odom_from_lidar = synthetic.odom_from_base(T0 + int(time_ns[i])) @ MOUNTING.base_from_lidar
        points[i] = apply(invert(odom_from_lidar), wall_odom[i])
    cloud = PointCloud(
        stamp_ns=T0, frame_id='lidar', points=points.astype(np.float32), time_ns=time_ns
    )
    at_stamp = apply(invert(synthetic.odom_from_base(T0) @ MOUNTING.base_from_lidar), wall_odom)
    return cloud, at_stamp


def test_a_sweep_taken_while_driving_is_straightened_to_its_stamp():
    cloud, at_stamp = skewed_wall()
    assert np.abs(cloud.points - at_stamp).max() > 0.3
    straight = deskew(cloud, MOUNTING.base_from_lidar, synthetic.odom_from_base)
    # Half a millisecond at 8 m/s is 4 mm, and 4 mm again at 40 m by the turn.
    assert np.abs(straight.points - at_stamp).max() < 0.01
    assert straight.stamp_ns == T0
    np.testing.assert_array_equal(straight.time_ns, cloud.time_ns)


def test_the_assembler_straightens_sweeps_and_counts_those_it_cannot():
    cloud, at_stamp = skewed_wall()
    frame = assembler().assemble(matched(cloud=cloud))
    assert np.abs(frame.cloud.points - at_stamp).max() < 0.01
    work = assembler(transforms(has_odom=False))
    frame = work.assemble(matched(cloud=cloud))
    np.testing.assert_array_equal(frame.cloud.points, cloud.points)
    assert work.counts['not_deskewed'] == 1


@pytest.mark.parametrize('time_ns', [None, np.zeros(500, np.int64)])
def test_a_sweep_without_point_times_is_used_as_it_is(time_ns):
    cloud = replace(synthetic.cloud(T0), time_ns=time_ns)
    assert deskew(cloud, np.eye(4), lambda stamp_ns: 1 / 0) is cloud


def test_a_sweep_of_one_point_is_straightened():
    cloud = PointCloud(
        stamp_ns=T0, frame_id='lidar', points=np.float32([[3, 0, 0]]), time_ns=np.array([20 * MS])
    )
    straight = deskew(cloud, np.eye(4), synthetic.odom_from_base)
    expected = apply(synthetic.odom_from_base(T0 + 20 * MS), np.array([[3.0, 0, 0]]))
    np.testing.assert_allclose(straight.points, expected, atol=0.005)


@pytest.fixture(scope='module')
def drive(tmp_path_factory):
    path = tmp_path_factory.mktemp('bags') / 'drive'
    write_recording(path, synthetic.recording(num_sweeps=5))
    return path


def test_a_bag_gives_every_sweep_as_a_frame_with_its_truth(drive):
    samples = list(frames_from_bag(drive, from_mapping(bag.settings_of(drive))))
    assert [s.frame.stamp_ns for s in samples] == [T0 + i * 100 * MS for i in range(5)]
    for index, sample in enumerate(samples):
        frame, truth = sample.frame, sample.truth
        np.testing.assert_array_equal(
            frame.cloud.points, synthetic.cloud(frame.stamp_ns, seed=index).points
        )
        np.testing.assert_array_equal(
            frame.cameras[0].image.pixels, synthetic.image(0, seed=index).pixels
        )
        np.testing.assert_allclose(
            frame.odom_from_base, synthetic.odom_from_base(frame.stamp_ns), atol=1e-4
        )
        assert frame.cameras[0].is_compensated
        assert truth.kinds == ('van', 'pedestrian') and truth.stamp_ns == frame.stamp_ns
        np.testing.assert_array_equal(truth.ignore_2d['camera'], [[1.5, 2.0, 11.0, 9.25]])
    assert samples[2].frame.gps is not None and samples[2].frame.motion.source == 'tf'


def test_a_bag_without_truth_gives_frames_without_truth(drive, tmp_path):
    with bag.BagWriter(tmp_path / 'x') as writer:
        for topic, type_name, data, log_ns in bag.read_messages(drive):
            if not topic.startswith('/truth'):
                writer.write(topic, type_name, data, log_ns)
    samples = list(frames_from_bag(tmp_path / 'x', CONFIG))
    assert len(samples) == 5 and all(len(sample.truth) == 0 for sample in samples)


def test_a_bag_without_transforms_is_an_error(drive, tmp_path):
    with bag.BagWriter(tmp_path / 'x') as writer:
        for topic, type_name, data, log_ns in bag.read_messages(drive, {'/lidar/points'}):
            writer.write(topic, type_name, data, log_ns)
    with pytest.raises(ValueError, match='neither /tf nor /tf_static'):
        next(frames_from_bag(tmp_path / 'x', CONFIG))
