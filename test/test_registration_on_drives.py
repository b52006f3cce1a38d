# SPDX-License-Identifier: Apache-2.0
"""Whether two real sweeps lie on each other by the velocities or by the satellite positions."""

from mmperception.datasets.kitti import KittiDrive
from mmperception.geodesy import LocalEnu
from mmperception.geometry import apply, rotation_about
import numpy as np

CELL_M, FIRST, SECOND = 0.2, 60, 80


def slide_in_odom(drive, index):
    """Return (3,): how far position and integrated velocities are apart at a sweep, in odom."""
    records = [drive.records[number] for number in drive.frames]
    enu = LocalEnu(*(getattr(records[0], f'{name}_{unit}') for name, unit in
                     (('latitude', 'deg'), ('longitude', 'deg'), ('altitude', 'm'))))  # fmt: skip
    places = enu.enu_from_geodetic(
        np.array([record.latitude_deg for record in records]),
        np.array([record.longitude_deg for record in records]),
        np.array([record.altitude_m for record in records]),
    )
    stamps = np.array([record.stamp_ns - records[0].stamp_ns for record in records])
    velocity = np.array([record.velocity_enu for record in records])
    steps = (velocity[1:] + velocity[:-1]) / 2 * (np.diff(stamps) * 1e-9)[:, None]
    slide = places - np.concatenate((np.zeros((1, 3)), np.cumsum(steps, axis=0)))
    stamp_ns = drive.stamp_ns(drive.frames[index]) - records[0].stamp_ns
    at_sweep = np.array([np.interp(stamp_ns, stamps, axis) for axis in slide.T])
    return rotation_about((0, 0, 1), -records[0].roll_pitch_yaw[2]) @ at_sweep


def cells_of_sweep(drive, index, shift):
    """Return the cells of odom with points of walls, poles and cars, as a set of (x, y)."""
    frame = drive.sample(index).frame
    points = apply(frame.base_from_lidar, frame.cloud.points)
    is_upright = (points[:, 2] > 0.8) & (points[:, 2] < 3.0)
    is_near = np.hypot(points[:, 0], points[:, 1]) < 40
    places = apply(frame.odom_from_base, points[is_upright & is_near]) + shift
    return {*map(tuple, np.floor(places[:, :2] / CELL_M).astype(int))}


def shared_percent(drive, has_positions):
    """Return how many cells of the smaller of both sweeps the other one has too."""
    first, second = (
        cells_of_sweep(drive, index, slide_in_odom(drive, index) if has_positions else 0.0)
        for index in (FIRST, SECOND)
    )
    return 100 * len(first & second) / min(len(first), len(second))


def test_sweeps_of_0005_lie_on_each_other_by_velocities_and_not_by_positions(real_data):
    drive = KittiDrive(real_data / 'kitti_raw/2011_09_26/2011_09_26_drive_0005_sync')
    by_velocities, by_positions = shared_percent(drive, False), shared_percent(drive, True)
    apart = slide_in_odom(drive, SECOND) - slide_in_odom(drive, FIRST)
    print(
        f'0005, sweeps {FIRST} and {SECOND}: {by_velocities:.0f} percent of cells shared by '
        f'velocities, {by_positions:.0f} by positions, {np.hypot(*apart[:2]):.2f} m apart'
    )
    assert by_velocities > 2 * by_positions
