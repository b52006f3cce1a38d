# SPDX-License-Identifier: Apache-2.0
"""
LiDAR against image, and poses against positions and velocities, on two real drives.

The objects were found with the LiDAR; their image edges were then read by eye from enlarged
pictures without it, and lie within a pixel of the strongest grey-level step.
"""

from dataclasses import dataclass, replace

from mmperception.datasets.kitti import KittiDrive
from mmperception.geodesy import LocalEnu
from mmperception.geometry import apply, invert, project, transform_from_yaw
import numpy as np
import pytest


@dataclass(frozen=True)
class Edge:
    """
    An object's outline: columns of its left and right rim (None: not to be seen).

    A rim is one column, or [(row, column), ...] where it leans; it is compared in `rows`. The
    object's points lie between `depth_m` before the camera.
    """

    drive: str
    frame: int
    what: str
    rows: tuple
    depth_m: tuple
    left: object
    right: object


EDGES = (
    Edge('0009', 0, 'trunk on the left', (178, 202), (18.5, 21), 370.4, 385.5),
    Edge('0009', 10, 'trunk of the far left', (168, 192), (29, 32), 448.1, 455.3),
    Edge('0009', 10, 'trunk on the right', (173, 197), (12.3, 13.6), 777.7, 796.0),
    Edge('0009', 20, 'trunk on the left', (188, 202), (18, 20.5), 358.9, 367.4),
    Edge('0009', 20, 'pole before the wall', (188, 212), (18.5, 21), 219.4, 226.4),
    Edge('0009', 25, 'trunk before the blue car', (178, 202), (17.8, 18.8), 726.0, 732.8),
    Edge('0009', 30, 'post on the lawn', (175, 199), (17.3, 19), 833.7, 840.3),
    Edge('0009', 30, 'far trunk on the left', (163, 187), (23, 25.5), None, 417.5),
    Edge('0009', 40, 'trunk on the left', (173, 197), (11.8, 13.8), 238.4, 248.1),
    Edge('0009', 48, 'trunk on the right', (180, 204), (23, 25), 681.8, 697.5),
    Edge('0005', 0, 'lamp post', (178, 202), (17.4, 18.5), 607.5, 610.4),
    Edge('0005', 0, 'post of the lights', (195, 210), (14, 16), 959.7, 966.4),
    Edge('0005', 0, 'van, rear right', (188, 212), (11.3, 13), None,
         [(188, 442.0), (200, 444.7), (212, 447.4)]),
    Edge('0005', 20, 'trunk on the left', (173, 197), (19.5, 21.5), 491.4, 497.4),
    Edge('0005', 20, 'post on the right', (188, 212), (10.2, 12), 857.2, 861.8),
    Edge('0005', 40, 'dark post', (173, 197), (25, 29.5), 253.5, 258.4),
    Edge('0005', 60, 'trunk before the pharmacy', (173, 197), (20.2, 22.5), None, 443.7),
    Edge('0005', 60, 'trunk by the bicycles', (178, 202), (18.3, 20), 546.4, 549.4),
    Edge('0005', 60, 'van, rear left', (173, 197), (16.5, 17.9),
         [(173, 851.0), (185, 849.3), (190, 847.3), (197, 847.0)], None),
    Edge('0005', 60, 'trunk beside the kiosk', (148, 172), (22, 23.6), 674.7, 681.8),
    Edge('0005', 60, 'van, front', (185, 197), (17.8, 19.4), None,
         [(185, 977.5), (191, 981.5), (197, 984.8)]),
    Edge('0005', 80, 'trunk on the left', (198, 222), (9.5, 10.8), 304.4, 311.0),
    Edge('0005', 80, 'trunk before the window', (178, 202), (14, 15.3), 543.3, 553.3),
    Edge('0005', 100, 'bollard', (233, 257), (10, 11), 571.9, 576.7),
    Edge('0005', 120, 'parked car, rear left', (204, 224), (15, 16.2),
         [(204, 787.0), (210, 785.0), (213, 780.0), (220, 777.7), (224, 777.7)], None),
)  # fmt: skip


@pytest.fixture(scope='module')
def drives(real_data):
    return {
        number: KittiDrive(next(real_data.rglob(f'*_drive_{number}_sync')))
        for number in ('0005', '0009')
    }


def offset_px(edge, frame):
    """
    Return LiDAR outline minus image outline in columns, None without LiDAR rims.

    With both sides it is that of the middle: a beam is two pixels wide and widens both sides.
    """
    sides = [
        np.median(offsets)
        for rim, is_left in ((edge.left, True), (edge.right, False))
        if rim is not None and (offsets := rim_offsets_px(edge, frame, rim, is_left))
    ]
    return float(np.mean(sides)) if sides else None


def rim_offsets_px(edge, frame, rim, is_left):
    """
    Return LiDAR rim minus image rim for each ring that crosses it.

    A rim lies half way between the last point on the object and the next one behind it.
    """
    view, cloud = frame.cameras[0], frame.cloud
    points = apply(view.camera_from_base @ frame.base_from_lidar, cloud.points)
    pixels, depth_m = project(points, view.model)
    near = (depth_m > 1) & (pixels[:, 1] > edge.rows[0]) & (pixels[:, 1] < edge.rows[1])
    near &= np.abs(pixels[:, 0] - column_at(rim, np.mean(edge.rows))) < 25
    offsets = []
    for ring in np.unique(cloud.ring[near]):
        index = np.flatnonzero(near & (cloud.ring == ring))
        index = index[np.argsort(pixels[index, 0])]
        (u, v), depth = pixels[index].T, depth_m[index]
        is_object = (depth > edge.depth_m[0]) & (depth < edge.depth_m[1])
        is_behind = depth > edge.depth_m[1]
        first, second = (is_behind, is_object) if is_left else (is_object, is_behind)
        for k in np.flatnonzero(first[:-1] & second[1:] & (np.diff(u) < 8)):
            offsets.append((u[k] + u[k + 1]) / 2 - column_at(rim, v[k]))
    return [offset for offset in offsets if abs(offset) < 12]


def column_at(rim, row):
    return np.interp(row, *zip(*rim, strict=True)) if np.ndim(rim) else rim


def offsets_of_all(drives, lidar_yaw_deg=0.0):
    turn = transform_from_yaw((0, 0, 0), np.radians(lidar_yaw_deg))
    offsets = []
    for edge in EDGES:
        frame = drives[edge.drive].sample(edge.frame).frame
        frame = replace(frame, base_from_lidar=frame.base_from_lidar @ turn)
        offset = offset_px(edge, frame)
        if offset is not None:
            offsets.append(offset)
    return offsets


def test_lidar_edges_lie_on_the_image_edges_of_poles_and_cars(drives):
    offsets = offsets_of_all(drives)
    assert len(offsets) == len(EDGES)
    for edge, offset in zip(EDGES, offsets, strict=True):
        print(f'{edge.drive} {edge.frame:3d} {edge.what:28s} {offset:+5.1f} px')
    size = np.abs(offsets)
    print(f'{len(size)} objects: median {np.median(size):.2f} px, largest {size.max():.1f} px')
    print(f'signed median {np.median(offsets):+.2f} px')
    # Neighbouring points of a ring lie two pixels apart.
    assert np.median(size) <= 2.0


def test_half_a_degree_of_misalignment_would_be_seen(drives):
    assert np.median(np.abs(offsets_of_all(drives, lidar_yaw_deg=0.5))) > 3.5


def test_ten_milliseconds_of_motion_are_pixels_at_the_sides_of_the_image(drives):
    drive = drives['0009']
    view = drive.sample(30).frame.cameras[0]
    # A pole 20 m ahead and 8 m to the right comes 10 cm nearer between sweep and image.
    point = np.array([[20.0, -8.0, 1.0]])
    still = project(apply(drive.calibration.camera_from_base, point), view.model)[0]
    moving = project(apply(view.camera_from_base, point), view.model)[0]
    assert view.is_compensated and 1.0 < moving[0, 0] - still[0, 0] < 3.0


@pytest.mark.parametrize('number', ['0005', '0009'])
def test_odom_follows_the_integrated_velocities(drives, number):
    drive = drives[number]
    records = [drive.records[frame] for frame in drive.frames]
    poses = [drive.trajectory.at(record.stamp_ns) for record in records]
    seconds = np.diff([record.stamp_ns for record in records]) * 1e-9
    forward = np.array([record.forward_mps for record in records])
    # Forward speed alone, an independent column of the records, gives the way driven.
    driven = float(((forward[1:] + forward[:-1]) / 2 * seconds).sum())
    way = np.linalg.norm(np.diff([pose[:2, 3] for pose in poses], axis=0), axis=1).sum()
    assert way == pytest.approx(driven, rel=0.01)
    # The car drives where it looks: in each pose the next one lies ahead.
    for pose, following in zip(poses[:-1], poses[1:], strict=True):
        step = invert(pose) @ following[:, 3]
        assert abs(step[1]) < 0.12 * step[0] + 0.01


def test_the_local_plane_agrees_with_the_integrated_velocities(drives):
    """
    Compare satellite positions in the local plane with the integral of the velocities.

    Only 0009 is asserted: the positions of 0005 slide by 2.9 m against its velocities while the
    scans register by the velocities (docs/data.md).
    """
    ratios = {}
    for number, drive in drives.items():
        records = [drive.records[frame] for frame in drive.frames]
        first = records[0]
        enu = LocalEnu(first.latitude_deg, first.longitude_deg, first.altitude_m)
        places = enu.enu_from_geodetic(*(
            np.array([getattr(record, name) for record in records])
            for name in ('latitude_deg', 'longitude_deg', 'altitude_m')
        ))  # fmt: skip
        seconds = np.diff([record.stamp_ns for record in records]) * 1e-9
        velocity = np.array([record.velocity_enu for record in records])
        integral = ((velocity[1:] + velocity[:-1]) / 2 * seconds[:, None]).sum(axis=0)
        shift = places[-1] - places[0]
        ratios[number] = np.linalg.norm(shift[:2]) / np.linalg.norm(integral[:2])
        gap = np.linalg.norm((shift - integral)[:2]) / np.linalg.norm(integral[:2])
        print(f'{number}: {np.linalg.norm(shift[:2]):.2f} m by satellite, length ratio '
              f'{ratios[number]:.4f}, gap {100 * gap:.1f} percent')  # fmt: skip
    assert ratios['0009'] == pytest.approx(1.0, abs=0.01)
