# SPDX-License-Identifier: Apache-2.0
"""
Messages to the package's types and back, nothing else: the one door for all converters.

Here are GPS, IMU, poses and the cost grid; clouds, images, objects, markers and truth have
files of their own and are passed on. Nothing is ever guessed: what a message does not know
becomes None.
Source: sensor_msgs, nav_msgs, tf2_msgs.
"""

from geometry_msgs.msg import TransformStamped
from mmperception.datatypes import CostGrid, GpsFix, ImuSample, Pose
from mmperception.ros.cloud_messages import cloud_from_msg, msg_from_cloud, msg_from_points
from mmperception.ros.headers import (
    array_from,
    big_field,
    header_from,
    ns_from_time,
    point_from,
    quaternion_array,
    quaternion_from,
    time_from_ns,
    transform_array,
    transform_message,
    vector_from,
)
from mmperception.ros.image_messages import (
    camera_model_from_msg,
    eye_offset_from_msg,
    image_from_msg,
    msg_from_camera_model,
    msg_from_image,
)
from mmperception.ros.marker_messages import msg_from_markers
from mmperception.ros.object_messages import (
    detections_from_msg,
    msg_from_classes,
    msg_from_detections,
    msg_from_tracks,
    tracks_from_msg,
    uuid_from_track,
)
from mmperception.ros.truth_messages import (
    ignore_2d_from_msg,
    msg_from_ignore_2d,
    msg_from_truth,
    truth_from_msgs,
)
from nav_msgs.msg import OccupancyGrid
import numpy as np
from sensor_msgs.msg import Imu, NavSatFix, NavSatStatus
from tf2_msgs.msg import TFMessage

__all__ = [
    'camera_model_from_msg',
    'cloud_from_msg',
    'cost_grid_from_msg',
    'detections_from_msg',
    'eye_offset_from_msg',
    'fix_from_msg',
    'header_from',
    'ignore_2d_from_msg',
    'image_from_msg',
    'imu_from_msg',
    'msg_from_camera_model',
    'msg_from_classes',
    'msg_from_cloud',
    'msg_from_cost_grid',
    'msg_from_detections',
    'msg_from_fix',
    'msg_from_ignore_2d',
    'msg_from_image',
    'msg_from_imu',
    'msg_from_markers',
    'msg_from_points',
    'msg_from_tracks',
    'msg_from_transforms',
    'msg_from_truth',
    'ns_from_time',
    'pose_from_msg',
    'time_from_ns',
    'tracks_from_msg',
    'transform_from_msg',
    'truth_from_msgs',
    'twist_from_msg',
    'uuid_from_track',
]


def fix_from_msg(msg):
    """
    Read a NavSatFix.

    A covariance of unknown type, of zeros or with an impossible value is unknown, never perfect.

    Raises
    ------
    ValueError
        If latitude or longitude is no place on Earth (NaN without a fix).

    """
    covariance = np.array(msg.position_covariance, np.float64).reshape(3, 3)
    is_known = (
        msg.position_covariance_type != NavSatFix.COVARIANCE_TYPE_UNKNOWN
        and np.isfinite(covariance).all()
        and (np.diag(covariance) > 0).all()
    )
    return GpsFix(
        stamp_ns=ns_from_time(msg.header.stamp),
        frame_id=msg.header.frame_id,
        latitude_deg=msg.latitude,
        longitude_deg=msg.longitude,
        altitude_m=msg.altitude,
        status=msg.status.status,
        covariance=covariance if is_known else None,
    )


def msg_from_fix(fix):
    """Write a NavSatFix; without a covariance its type is unknown."""
    msg = NavSatFix(
        header=header_from(fix.stamp_ns, fix.frame_id),
        status=NavSatStatus(status=int(fix.status), service=NavSatStatus.SERVICE_GPS),
        latitude=float(fix.latitude_deg),
        longitude=float(fix.longitude_deg),
        altitude=float(fix.altitude_m),
    )
    if fix.covariance is not None:
        is_diagonal = not (fix.covariance - np.diag(np.diag(fix.covariance))).any()
        msg.position_covariance = fix.covariance.reshape(-1)
        msg.position_covariance_type = (
            NavSatFix.COVARIANCE_TYPE_DIAGONAL_KNOWN
            if is_diagonal
            else NavSatFix.COVARIANCE_TYPE_KNOWN
        )
    return msg


def imu_from_msg(msg):
    """
    Read an Imu; an orientation that is not given (REP 145), or is none, is None.

    Raises
    ------
    ValueError
        If a rate or acceleration is not finite.

    """
    orientation = quaternion_array(msg.orientation)
    is_given = msg.orientation_covariance[0] != -1 and is_rotation(orientation)
    rate, acceleration = array_from(msg.angular_velocity), array_from(msg.linear_acceleration)
    for name, value in (('angular_velocity', rate), ('linear_acceleration', acceleration)):
        if not np.isfinite(value).all():
            raise ValueError(f'{name}: {value.tolist()} is not finite')
    return ImuSample(
        stamp_ns=ns_from_time(msg.header.stamp),
        frame_id=msg.header.frame_id,
        angular_velocity=rate,
        linear_acceleration=acceleration,
        orientation=orientation if is_given else None,
    )


def is_rotation(quaternion):
    """Tell whether four numbers are near enough to a unit quaternion to be meant as one."""
    if not (np.abs(quaternion) <= 2).all():  # NaN and infinity too
        return False
    return abs(np.linalg.norm(quaternion) - 1) < 0.5


def msg_from_imu(sample):
    """Write an Imu; without an orientation its covariance says so."""
    msg = Imu(
        header=header_from(sample.stamp_ns, sample.frame_id),
        angular_velocity=vector_from(sample.angular_velocity),
        linear_acceleration=vector_from(sample.linear_acceleration),
    )
    if sample.orientation is None:
        msg.orientation_covariance[0] = -1.0
    else:
        msg.orientation = quaternion_from(sample.orientation)
    return msg


def pose_from_msg(msg):
    """
    Read the Pose of an Odometry message, whose child frame is taken as the robot's.

    Raises
    ------
    ValueError
        If the pose is not finite or has no orientation.

    """
    pose = msg.pose.pose
    return Pose(
        stamp_ns=ns_from_time(msg.header.stamp),
        odom_from_base=transform_array(pose.position, pose.orientation),
    )


def twist_from_msg(msg):
    """
    Return forward speed (m/s) and yaw rate (rad/s) of an Odometry message.

    Raises
    ------
    ValueError
        If one of them is not finite.

    """
    twist = msg.twist.twist.linear.x, msg.twist.twist.angular.z
    if not np.isfinite(twist).all():
        raise ValueError(f'twist: {twist} is not finite')
    return twist


def msg_from_transforms(transforms):
    """Write a TFMessage of (parent, child, stamp_ns, parent_from_child) entries."""
    return TFMessage(
        transforms=[
            TransformStamped(
                header=header_from(stamp_ns, parent),
                child_frame_id=child,
                transform=transform_message(parent_from_child),
            )
            for parent, child, stamp_ns, parent_from_child in transforms
        ]
    )


def transform_from_msg(msg):
    """
    Return (parent, child, stamp_ns, parent_from_child) of a TransformStamped.

    Raises
    ------
    ValueError
        If it is not finite, has no rotation, or lacks a frame; names the frames.

    """
    parent, child = msg.header.frame_id.lstrip('/'), msg.child_frame_id.lstrip('/')
    try:
        transform = transform_array(msg.transform.translation, msg.transform.rotation)
    except ValueError as error:
        raise ValueError(f'transform from {child} to {parent}: {error}') from error
    if not np.isfinite(transform).all():
        raise ValueError(f'transform from {child} to {parent}: translation is not finite')
    if not parent or not child or parent == child:
        raise ValueError(f'transform from {child!r} to {parent!r}: two different frames needed')
    return parent, child, ns_from_time(msg.header.stamp), transform


def msg_from_cost_grid(grid):
    """Write a CostGrid as an OccupancyGrid."""
    height, width = grid.data.shape
    msg = OccupancyGrid(header=header_from(grid.stamp_ns, grid.frame_id))
    msg.info.map_load_time = msg.header.stamp
    msg.info.resolution = float(grid.resolution_m)
    msg.info.width, msg.info.height = width, height
    msg.info.origin.position = point_from((*grid.origin_xy_m, 0.0))
    msg.data = big_field(grid.data, 'b')
    return msg


def cost_grid_from_msg(msg):
    """
    Read an OccupancyGrid.

    Raises
    ------
    ValueError
        If it holds another number of cells than it says, or its geometry is none.

    """
    shape = msg.info.height, msg.info.width
    data = np.frombuffer(msg.data, np.int8)
    if data.size != shape[0] * shape[1]:
        raise ValueError(f'data: expected {shape[0]} x {shape[1]} cells, got {data.size}')
    return CostGrid(
        stamp_ns=ns_from_time(msg.header.stamp),
        frame_id=msg.header.frame_id,
        resolution_m=round(float(msg.info.resolution), 7),  # the message's float32
        origin_xy_m=(msg.info.origin.position.x, msg.info.origin.position.y),
        data=data.reshape(shape).copy(),
    )
