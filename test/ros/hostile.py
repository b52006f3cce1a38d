# SPDX-License-Identifier: Apache-2.0
"""
Messages that lie: a good one of each kind with a few fields replaced by what nobody expects.

Every maker takes a `random.Random` (hypothesis gives one that it can repeat).
"""

import array

from autoware_perception_msgs.msg import (
    ObjectClassification,
    TrackedObject,
    TrackedObjects,
)
import cv2
from geometry_msgs.msg import TransformStamped
from mmperception.datatypes import PointCloud
from mmperception.ros import messages
from nav_msgs.msg import OccupancyGrid, Odometry
import numpy as np
from sensor_msgs.msg import CompressedImage, Imu, NavSatFix
from tiny_drive import CAMERA
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose

STAMP_NS = 1_700_000_000_123_456_789
SIZES = (0, 1, 2, 3, 4, 5, 7, 8, 12, 16, 32, 255, 256, 65535, 65536, 2**31 - 1, 2**32 - 1)
NUMBERS = (0.0, -0.0, 1.0, -1.0, 90.0, -180.0, 1e-308, 1e20, 1e308, -1e308)
NUMBERS += (float('nan'), float('inf'), -float('inf'))
FLOATS = tuple(number for number in NUMBERS if not 1e38 < abs(number) < float('inf'))
ENCODINGS = ('', 'rgb8', 'bgra8', 'mono16', '16UC1', '32FC1', 'bayer_rggb8', 'bayer_gbrg16')
ENCODINGS += ('yuv422', 'yuv422_yuy2', '8UC4', 'nv12', 'rgb16')
FIELD_NAMES = ('x', 'y', 'z', 't', 'time', 'intensity', 'ring', '')
N = 40


def few(random, choices):
    """Yield one to three of the choices."""
    for _ in range(random.randint(1, 3)):
        yield random.choice(choices)


def fill(random, target, names, values):
    """Set some attributes to values that nobody expects."""
    for name in few(random, names):
        setattr(target, name, random.choice(values))


def data_of(random, typecode, right):
    """Return bytes of a length that is right, or nearly, or not at all."""
    size = random.choice((0, 1, right // 2, right - 1, right, right, right + 1, 2 * right))
    return array.array(typecode, bytes(max(0, size)))


def cloud(random):
    """Return a PointCloud2 with lying sizes, offsets, types, names or bytes."""
    rng = np.random.default_rng(random.randrange(2**32))
    columns = {'intensity': np.float32, 'ring': np.uint16, 'time_ns': np.int64}
    points = rng.normal(0, 20, (N, 3)).astype(np.float32)
    points[random.randrange(N)] = random.choice(FLOATS)
    extra = {name: np.zeros(N, kind) for name, kind in columns.items()}
    msg = messages.msg_from_cloud(
        PointCloud(stamp_ns=STAMP_NS, frame_id='lidar', points=points, **extra)
    )
    for what in few(random, ('size', 'data', 'fields', 'field', 'endian')):
        if what == 'size':
            fill(random, msg, ('width', 'height', 'point_step', 'row_step'), SIZES)
        elif what == 'data':
            msg.data = data_of(random, 'B', len(msg.data))
        elif what == 'fields':
            msg.fields = msg.fields[: random.randint(0, len(msg.fields))]
        elif what == 'endian':
            msg.is_bigendian = True
        elif msg.fields:
            field = random.choice(msg.fields)
            fill(random, field, ('offset', 'count'), SIZES)
            field.datatype = random.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255))
            field.name = random.choice((field.name, *FIELD_NAMES))
    return msg


def image(random):
    """Return an Image with a lying size, step, encoding or bytes."""
    msg = messages.msg_from_image(np.full((8, 12, 3), 7, np.uint8), STAMP_NS, 'camera')
    for what in few(random, ('size', 'data', 'encoding', 'endian')):
        if what == 'size':
            fill(random, msg, ('width', 'height', 'step'), SIZES)
        elif what == 'data':
            msg.data = data_of(random, 'B', len(msg.data))
        elif what == 'encoding':
            msg.encoding = random.choice(ENCODINGS)
        else:
            msg.is_bigendian = 1
    return msg


def compressed(random):
    """Return a CompressedImage with flipped bytes, cut off, or of a wrong name."""
    extension = random.choice(('.jpg', '.png'))
    _, encoded = cv2.imencode(extension, np.full((16, 16, 3), random.randrange(256), np.uint8))
    data = bytearray(encoded.tobytes())
    for _ in range(random.randint(0, 6)):
        data[random.randrange(len(data))] = random.randrange(256)
    if random.random() < 0.3:
        begin = random.randrange(len(data))
        del data[begin:]
    msg = CompressedImage(format=random.choice(('jpeg', 'png', '', 'tiff', 'compressedDepth')))
    msg.data = array.array('B', bytes(data))
    return msg


def camera_info(random):
    """Return a CameraInfo with an absurd matrix, lens, size, binning or region."""
    msg = messages.msg_from_camera_model(CAMERA, STAMP_NS)
    for what in few(random, ('k', 'p', 'd', 'size', 'binning', 'roi', 'model')):
        if what in ('k', 'p'):
            matrix = list(getattr(msg, what))
            matrix[random.randrange(len(matrix))] = random.choice(NUMBERS)
            setattr(msg, what, matrix)
        elif what == 'd':
            msg.d = [random.choice(NUMBERS) for _ in range(random.randint(0, 14))]
        elif what == 'size':
            fill(random, msg, ('width', 'height'), SIZES)
        elif what == 'binning':
            fill(random, msg, ('binning_x', 'binning_y'), SIZES)
        elif what == 'roi':
            fill(random, msg.roi, ('width', 'height', 'x_offset', 'y_offset'), SIZES)
        else:
            msg.distortion_model = random.choice(('', 'plumb_bob', 'equidistant', 'thin_prism'))
    return msg


def fix(random):
    """Return a NavSatFix at the pole, at the date line, or nowhere."""
    msg = NavSatFix(latitude=49.0, longitude=8.4)
    fill(random, msg, ('latitude', 'longitude', 'altitude'), (*NUMBERS, 180.0, -90.0))
    msg.position_covariance = [random.choice(NUMBERS) for _ in range(9)]
    msg.position_covariance_type = random.choice((0, 1, 2, 3, 255))
    msg.status.status = random.choice((-2, -1, 0, 1, 2, 5))
    return msg


def imu(random):
    """Return an Imu with impossible rates, accelerations or orientation."""
    msg = Imu()
    fill(random, msg.orientation, 'xyzw', NUMBERS)
    fill(random, msg.angular_velocity, 'xyz', NUMBERS)
    fill(random, msg.linear_acceleration, 'xyz', NUMBERS)
    msg.orientation_covariance = [random.choice((*NUMBERS, -1.0)) for _ in range(9)]
    return msg


def odometry(random):
    """Return an Odometry that is nowhere, or not turned."""
    msg = Odometry(child_frame_id=random.choice(('', 'base_link', '/base_link')))
    fill(random, msg.pose.pose.position, 'xyz', NUMBERS)
    fill(random, msg.pose.pose.orientation, 'xyzw', NUMBERS)
    fill(random, msg.twist.twist.linear, 'xyz', NUMBERS)
    fill(random, msg.twist.twist.angular, 'xyz', NUMBERS)
    return msg


def transform(random):
    """Return a TransformStamped without frames, rotation or place."""
    msg = TransformStamped(child_frame_id=random.choice(('', 'base_link', 'odom')))
    msg.header.frame_id = random.choice(('', 'odom', '/odom'))
    fill(random, msg.transform.translation, 'xyz', NUMBERS)
    fill(random, msg.transform.rotation, 'xyzw', NUMBERS)
    return msg


def cost_grid(random):
    """Return an OccupancyGrid with a lying size, cell, place or bytes."""
    msg = OccupancyGrid()
    msg.header.frame_id = 'odom'
    fill(random, msg.info, ('width', 'height'), SIZES)
    msg.info.resolution = random.choice((0.0, 0.1, -1.0, float('nan'), float('inf')))
    fill(random, msg.info.origin.position, 'xy', NUMBERS)
    msg.data = data_of(random, 'b', 16)
    return msg


def tracks(random):
    """Return TrackedObjects of another tracker that has lost its senses."""
    msg = TrackedObjects()
    for _ in range(random.randint(0, 3)):
        one = TrackedObject(existence_probability=random.choice(FLOATS))
        pose = one.kinematics.pose_with_covariance
        fill(random, pose.pose.position, 'xyz', NUMBERS)
        fill(random, pose.pose.orientation, 'xyzw', NUMBERS)
        fill(random, one.kinematics.twist_with_covariance.twist.linear, 'xyz', NUMBERS)
        fill(random, one.shape.dimensions, 'xyz', NUMBERS)
        pose.covariance = [random.choice(NUMBERS) for _ in range(36)]
        for _ in range(random.randint(0, 2)):
            probability = random.choice(FLOATS)
            label = random.choice((0, 1, 6, 7, 255))
            one.classification.append(ObjectClassification(label=label, probability=probability))
        msg.objects.append(one)
    return msg


def detections(random):
    """Return a Detection3DArray of unknown classes and impossible boxes."""
    msg = Detection3DArray()
    msg.header.frame_id = random.choice(('', 'base_link'))
    for _ in range(random.randint(0, 3)):
        one = Detection3D(id=random.choice(('', '7', '-1', 'x', '9' * 30)))
        fill(random, one.bbox.size, 'xyz', NUMBERS)
        fill(random, one.bbox.center.position, 'xyz', NUMBERS)
        fill(random, one.bbox.center.orientation, 'xyzw', NUMBERS)
        for _ in range(random.randint(0, 2)):
            result = ObjectHypothesisWithPose()
            result.hypothesis.class_id = random.choice(('vehicle', 'cyclist', '', 'unicorn'))
            result.hypothesis.score = random.choice(NUMBERS)
            result.pose.covariance = [random.choice(NUMBERS) for _ in range(36)]
            one.results.append(result)
        msg.detections.append(one)
    return msg
