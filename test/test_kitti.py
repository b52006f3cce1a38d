# SPDX-License-Identifier: Apache-2.0
"""KITTI drives and object folders: small ones made by hand, then the real ones."""

from collections import Counter
import json
import shutil

import cv2
from mmperception.datasets.kitti import KittiDrive, refuse_for_training, training_drives
from mmperception.datasets.kitti_files import read_cloud, rings_in_file_order
from mmperception.datasets.kitti_object import KittiObjectFolder
from mmperception.datatypes import GpsFix, Image, PointCloud, Pose
from mmperception.geometry import apply, box_corners, points_in_boxes, project
from mmperception.recording import Truth
import numpy as np
import pytest

# LiDAR 0.8 m ahead of the IMU, 0.3 m to its right and 0.8 m above it; the camera at the LiDAR.
CALIB_IMU = 'R: 1 0 0 0 1 0 0 0 1\nT: -0.8 0.3 -0.8\n'
CALIB_VELO = 'calib_time: 15-Mar-2012\nR: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 0\n'
CALIB_CAM = (
    'S_rect_02: 60 40\nR_rect_00: 1 0 0 0 1 0 0 0 1\nP_rect_02: 50 0 30 3 0 50 20 0 0 0 1 0\n'
)
OBJECT_CALIB = (
    'P2: 50 0 30 3 0 50 20 0 0 0 1 0\nR0_rect: 1 0 0 0 1 0 0 0 1\n'
    'Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0\nTr_imu_to_velo: 1 0 0 -0.8 0 1 0 0.3 0 0 1 -0.8\n'
)
TRACKLETS = """<boost_serialization><tracklets><count>1</count>
<item><objectType>Van</objectType><h>2</h><w>1.8</w><l>4.4</l><first_frame>3</first_frame>
<poses><item><tx>10</tx><ty>2</ty><tz>-1.7</tz><rz>0.5</rz><occlusion>1</occlusion></item></poses>
</item></tracklets></boost_serialization>"""
# The same van in the rectified camera frame, with occlusion unknown, and a region.
ROW = 'Van 0 3 0 1 2 3 4 2 1.8 4.4 -2 1.7 10 -2.0707963'
DONTCARE = 'DontCare -1 -1 -10 5 6 17 18 -1000 -1000 -1000 -10 -1 -1 -1'
CENTER = (10.8, 1.7, -1.7 + 0.8 + 0.93 + 1.0)
POINTS = np.array([[10, 2, -1, 0.5], [10, 2.1, -1, 0.25], [5, -4, -1.73, 0]], np.float32)


def make_drive(folder, number=3, name='2011_09_26_drive_0009_sync'):
    drive = folder / name
    (drive / 'velodyne_points' / 'data').mkdir(parents=True)
    POINTS.tofile(drive / 'velodyne_points' / 'data' / f'{number:010d}.bin')
    (folder / 'calib_imu_to_velo.txt').write_text(CALIB_IMU)
    (folder / 'calib_velo_to_cam.txt').write_text(CALIB_VELO)
    (folder / 'calib_cam_to_cam.txt').write_text(CALIB_CAM)
    return drive


def add_stamps(drive, sensor, texts):
    (drive / sensor).mkdir(exist_ok=True)
    (drive / sensor / 'timestamps.txt').write_text('\n'.join(texts) + '\n')


def add_oxts(drive, number, **columns):
    values = [0.0] * 30
    values[:2] = 49.0, 8.4
    for name, value in columns.items():
        places = {'pitch': 4, 'yaw': 5, 'vn': 6, 've': 7, 'vf': 8, 'accuracy': 23, 'mode': 27}
        values[places[name]] = value
    (drive / 'oxts' / 'data').mkdir(parents=True, exist_ok=True)
    line = ' '.join(map(str, values))
    (drive / 'oxts' / 'data' / f'{number:010d}.txt').write_text(line)


def make_moving_drive(folder):
    """Two sweeps 100 ms apart, OXTS 20 ms after each, image 10 ms after, 10 m/s to the north."""
    drive = make_drive(folder, 0)
    POINTS.tofile(drive / 'velodyne_points' / 'data' / '0000000001.bin')
    add_stamps(drive, 'velodyne_points', ['2011-09-26 13:00:00.5', '2011-09-26 13:00:00.6'])
    ends = '2011-09-26 13:00:00.550000001\n2011-09-26 13:00:00.65\n'
    (drive / 'velodyne_points' / 'timestamps_end.txt').write_text(ends)
    add_stamps(drive, 'oxts', ['2011-09-26 13:00:00.52', '2011-09-26 13:00:00.62'])
    add_stamps(drive, 'image_02', ['2011-09-26 13:00:00.51', '2011-09-26 13:00:00.61'])
    for number in (0, 1):
        add_oxts(drive, number, yaw=np.pi / 2, vn=10.0, vf=10.0, accuracy=0.5, mode=4)
        path = drive / 'image_02' / 'data' / f'{number:010d}.png'
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.full((40, 60, 3), (0, 0, 200), np.uint8))
    return KittiDrive(drive)


def test_a_new_ring_starts_where_the_azimuth_falls_by_more_than_pi():
    degrees = np.radians([10, 200, 350, 5, 90, 80, 300, 1])
    points = np.stack((np.cos(degrees), np.sin(degrees)), axis=1)
    assert rings_in_file_order(points).tolist() == [0, 0, 0, 1, 1, 1, 1, 2]
    assert rings_in_file_order(np.zeros((0, 4))).tolist() == []


def test_a_file_that_holds_half_a_point_is_named(tmp_path):
    path = tmp_path / '0.bin'
    path.write_bytes(b'\0' * 24)
    with pytest.raises(ValueError, match=r'0\.bin: not a whole number of points'):
        read_cloud(path, 1)


def test_a_tracklet_lies_in_base_link_on_its_bottom(tmp_path):
    drive = make_drive(tmp_path)
    (drive / 'tracklet_labels.xml').write_text(TRACKLETS)
    truth = KittiDrive(drive).truth(0)
    assert np.allclose(truth.center, [CENTER], atol=1e-5)
    assert np.allclose(truth.size, [(4.4, 1.8, 2.0)]) and np.allclose(truth.yaw, 0.5)
    assert truth.kinds == ('van',) and truth.occlusion.tolist() == [1]


def test_a_label_row_of_the_camera_frame_is_the_same_box_as_its_tracklet(tmp_path):
    drive = make_drive(tmp_path)
    (drive / 'label_2').mkdir()
    (drive / 'label_2' / '0000000003.txt').write_text(f'{ROW}\n{DONTCARE}\n')
    truth = KittiDrive(drive).truth(0)
    assert np.allclose(truth.center, [CENTER], atol=1e-5) and np.allclose(truth.yaw, 0.5)
    assert truth.occlusion.tolist() == [-1]
    assert truth.ignore_2d['camera'].tolist() == [[5, 6, 17, 18]]


def test_tracking_rows_keep_the_track_as_the_object(tmp_path):
    drive = make_drive(tmp_path)
    rows = f'2 7 {ROW}\n3 9 {ROW}\n3 -1 {DONTCARE}\n'
    (drive / 'label_02_tracking_0001.txt').write_text(rows)
    truth = KittiDrive(drive).truth(0)
    assert truth.object_id == ('9',) and len(truth.ignore_2d['camera']) == 1


def test_boxes_that_the_labels_lack_are_ignored(tmp_path):
    drive = make_drive(tmp_path)
    (drive / 'tracklet_labels.xml').write_text(TRACKLETS)
    box = {'type': 'Car', 'x': 30, 'y': 5, 'z': -2, 'l': 4, 'w': 2, 'h': 1.5, 'yaw': 0.0,
           'points': 9, 'tracklet': 7}  # fmt: skip
    (drive / 'ignore.json').write_text(json.dumps({'frames': {'3': [box]}}))
    truth = KittiDrive(drive).truth(0)
    assert truth.is_ignored.tolist() == [False, True]
    assert truth.object_id == ('0', 'unlabelled_7') and truth.occlusion[1] == -1


def test_a_drive_without_labels_camera_gps_and_timestamps_says_what_is_missing(tmp_path):
    sample = KittiDrive(make_drive(tmp_path)).sample(0)
    assert sample.frame.stamp_ns == 300_000_000
    assert set(sample.frame.missing) == {'camera', 'gps', 'odom'}
    assert sample.frame.odom_from_base is None and len(sample.truth) == 0
    assert sample.source == '2011_09_26_drive_0009_sync/0000000003'


def test_a_drive_without_gps_is_still_a_recording(tmp_path):
    events = list(KittiDrive(make_drive(tmp_path)).recording().events)
    assert [type(event.value) for event in events] == [PointCloud, Truth]
    assert events[0].log_ns == 350_000_000


def test_the_shift_inside_p_rect_02_is_part_of_the_camera_transform(tmp_path):
    drive = KittiDrive(make_drive(tmp_path))
    point_rect = np.array([[-2.0, 1.7, 10.0]])
    projection = np.array([[50, 0, 30, 3], [0, 50, 20, 0], [0, 0, 1, 0.0]])
    u, v, w = projection @ (*point_rect[0], 1)
    base = apply(np.linalg.inv(drive.calibration.rect_from_base), point_rect)
    pixels, _ = project(
        apply(drive.calibration.camera_from_base, base), drive.calibration.camera_model()
    )
    assert np.allclose(pixels, [(u / w, v / w)], atol=1e-9)
    assert np.isclose(pixels[0, 0], 20.3)


def test_odom_is_base_link_at_the_first_sweep_though_oxts_starts_later(tmp_path):
    drive = make_moving_drive(tmp_path)
    assert np.allclose(drive.sample(0).frame.odom_from_base, np.eye(4))
    assert np.allclose(drive.sample(1).frame.odom_from_base[:3, 3], (1.0, 0, 0))


def test_pitch_is_positive_when_the_front_points_down(tmp_path):
    drive = make_moving_drive(tmp_path)
    add_oxts(drive.path, 1, yaw=np.pi / 2, pitch=0.1, vn=10.0)
    turned = KittiDrive(drive.path).trajectory.at(drive.stamp_ns(1, 'oxts'))
    assert (turned @ (10, 0, 0, 0))[2] == pytest.approx(-10 * np.sin(0.1), abs=1e-6)


def test_the_image_is_projected_from_where_the_car_was_when_it_was_taken(tmp_path):
    view = make_moving_drive(tmp_path).sample(0).frame.cameras[0]
    drive = make_moving_drive(tmp_path / 'again')
    # At 10 m/s the car comes 10 cm closer in the 10 ms from the sweep to the image.
    point = np.array([[20.0, 1.0, 0.5]])
    still, moving = (apply(t, point) for t in (drive.calibration.camera_from_base,
                                               view.camera_from_base))  # fmt: skip
    assert view.is_compensated and np.allclose(moving - still, [(0, 0, -0.1)], atol=1e-9)


def test_events_come_in_log_order_and_sweeps_at_their_end(tmp_path):
    events = list(make_moving_drive(tmp_path).recording().events)
    stamps = [event.log_ns for event in events]
    assert stamps == sorted(stamps)
    clouds = [event for event in events if isinstance(event.value, PointCloud)]
    assert clouds[0].log_ns - clouds[0].value.stamp_ns == 50_000_001
    assert [e.camera for e in events if isinstance(e.value, Image)] == ['camera', 'camera']
    poses = [event.value for event in events if isinstance(event.value, Pose)]
    assert poses[0].stamp_ns == clouds[0].value.stamp_ns
    assert np.allclose(poses[0].odom_from_base, np.eye(4))


def test_images_are_rgb_and_the_fix_carries_its_accuracy(tmp_path):
    frame = make_moving_drive(tmp_path).sample(0).frame
    assert frame.cameras[0].image.pixels[0, 0].tolist() == [200, 0, 0]
    assert isinstance(frame.gps, GpsFix) and frame.gps.status == 2
    assert np.allclose(np.diag(frame.gps.covariance), (0.25, 0.25, 1.0))
    assert frame.motion.speed_mps == 10.0


def test_the_drive_for_figures_is_refused_for_training_also_under_another_name(tmp_path):
    drive = make_drive(tmp_path, name='2011_09_26_drive_0005_sync')
    with pytest.raises(ValueError, match='drive 0005 gives figures only'):
        training_drives(drive)
    renamed = tmp_path / '2011_09_26_drive_0009_sync'
    shutil.move(drive, renamed)
    refuse_for_training(renamed)
    add_stamps(renamed, 'velodyne_points', ['2011-09-26 13:04:32.335337762'])
    with pytest.raises(ValueError, match='figures only'):
        training_drives(tmp_path)


def test_training_opens_the_training_drives_and_no_other(tmp_path):
    for number in ('0005', '0060', '0009'):
        make_drive(tmp_path, name=f'2011_09_26_drive_{number}_sync')
    names = [drive.name for drive in training_drives(tmp_path)]
    assert names == ['2011_09_26_drive_0009_sync', '2011_09_26_drive_0060_sync']
    with pytest.raises(ValueError, match='holds none of the training drives'):
        training_drives(tmp_path / 'nothing')


def test_an_object_folder_gives_frames_with_their_own_calibration(tmp_path):
    for name in ('velodyne', 'calib', 'label_2'):
        (tmp_path / name).mkdir()
    for stem in ('000004', '000011'):
        POINTS.tofile(tmp_path / 'velodyne' / f'{stem}.bin')
        (tmp_path / 'calib' / f'{stem}.txt').write_text(OBJECT_CALIB)
    (tmp_path / 'label_2' / '000004.txt').write_text(f'{ROW}\n')
    first, second = KittiObjectFolder(tmp_path).samples()
    assert np.allclose(first.truth.center, [CENTER], atol=1e-5)
    assert len(second.truth) == 0 and 'camera' in second.frame.missing
    assert 0 < first.frame.stamp_ns < second.frame.stamp_ns


@pytest.mark.parametrize(
    ('number', 'frames', 'boxes'),
    [
        ('0005', 154, {'van': 293, 'car': 248, 'cyclist': 154, 'pedestrian': 22}),
        ('0009', 51, {'car': 386, 'van': 25}),
        ('0052', 4, {'car': 15, 'van': 12, 'truck': 4}),
        ('0048', 10, {'car': 51, 'van': 3}),
        ('0060', 20, {'car': 37, 'pedestrian': 16, 'cyclist': 11}),
    ],
)
def test_the_real_drives_hold_their_boxes_and_points_lie_in_them(real_data, number, frames, boxes):
    drive = KittiDrive(next(real_data.rglob(f'*_drive_{number}_sync')))
    assert drive.num_frames == frames
    kinds = Counter()
    for index in range(frames):
        truth = drive.truth(index)
        kinds.update(k for k, out in zip(truth.kinds, truth.is_ignored, strict=True) if not out)
    assert dict(kinds) == boxes
    sample = drive.sample(frames // 2)
    points = apply(sample.frame.base_from_lidar, sample.frame.cloud.points)
    truth = sample.truth
    inside = points_in_boxes(points, truth.center, truth.size, truth.yaw).sum(axis=1)
    assert (inside >= 1).mean() >= 0.8 and np.median(inside) >= 15
    # Four to nine centimetres above the road, seen across the car's own pitch.
    near = truth.center[np.hypot(*truth.center[:, :2].T) < 20]
    corners = box_corners(near, truth.size[: len(near)], truth.yaw[: len(near)])
    assert len(corners) == 0 or np.abs(np.median(corners[:, :4, 2])) < 0.6
