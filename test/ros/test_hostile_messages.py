# SPDX-License-Identifier: Apache-2.0
"""
Whatever a message says, a converter returns something sane or raises ValueError.

`MMPERCEPTION_FUZZ=100000` gives each converter so many messages; docs/reliability.md has what
was found.
"""

from dataclasses import fields, is_dataclass
import os
import struct
import time

import cv2
import hostile
from hypothesis import given, HealthCheck, settings, strategies
from mmperception.config_sections import LidarConfig
from mmperception.ros import messages
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, CompressedImage

NUM_MESSAGES = int(os.environ.get('MMPERCEPTION_FUZZ', '300'))


def place_of(fix):
    """Return what must be finite in a fix; without one no place is, and altitude never need."""
    place = (fix.latitude_deg, fix.longitude_deg) if fix.status >= 0 else ()
    return (*place, () if fix.covariance is None else fix.covariance)


CONVERTERS = {
    'cloud': (hostile.cloud, lambda msg: messages.cloud_from_msg(msg, LidarConfig())),
    'image': (hostile.image, messages.image_from_msg),
    'compressed': (hostile.compressed, messages.image_from_msg),
    'camera_info raw': (hostile.camera_info, lambda m: messages.camera_model_from_msg(m, False)),
    'camera_info rect': (hostile.camera_info, lambda m: messages.camera_model_from_msg(m, True)),
    'stereo offset': (hostile.camera_info, lambda m: messages.eye_offset_from_msg(m, True)),
    'fix': (hostile.fix, lambda msg: place_of(messages.fix_from_msg(msg))),
    'imu': (hostile.imu, messages.imu_from_msg),
    'pose': (hostile.odometry, messages.pose_from_msg),
    'twist': (hostile.odometry, messages.twist_from_msg),
    'transform': (hostile.transform, messages.transform_from_msg),
    'grid': (hostile.cost_grid, messages.cost_grid_from_msg),
    'detections': (hostile.detections, messages.detections_from_msg),
    'tracks': (hostile.tracks, messages.tracks_from_msg),
}


def numbers_of(value):
    """Yield every number in what a converter returned."""
    if is_dataclass(value):
        for field in fields(value):
            yield from numbers_of(getattr(value, field.name))
    elif isinstance(value, tuple | list):
        for one in value:
            yield from numbers_of(one)
    elif isinstance(value, np.ndarray | float | int):
        yield np.asarray(value, np.float64)


@pytest.mark.parametrize('kind', CONVERTERS)
@pytest.mark.filterwarnings('error::RuntimeWarning')
def test_a_lying_message_is_read_or_refused_and_what_is_read_is_finite(kind):
    make, read = CONVERTERS[kind]
    outcomes = {'read': 0, 'refused': 0}

    @settings(
        max_examples=NUM_MESSAGES, deadline=None, suppress_health_check=list(HealthCheck),
        database=None, derandomize=NUM_MESSAGES < 1000,
    )  # fmt: skip
    @given(strategies.randoms(use_true_random=False))
    def check(random):
        try:
            value = read(make(random))
        except ValueError as error:
            assert str(error), 'an error without a word'
            outcomes['refused'] += 1
            return
        outcomes['read'] += 1
        for numbers in numbers_of(value):
            assert np.isfinite(numbers).all()

    check()
    assert outcomes['read'] and outcomes['refused'], outcomes


def bomb(width, height):
    """Return a PNG of a few hundred bytes that claims this size."""
    _, encoded = cv2.imencode('.png', np.zeros((16, 16, 3), np.uint8))
    data = bytearray(encoded.tobytes())
    data[16:24] = struct.pack('>II', width, height)
    msg = CompressedImage(format='png')
    msg.data = data
    return msg


def test_a_picture_that_claims_gigabytes_is_refused_before_it_is_unpacked():
    began = time.process_time()
    for width, height in ((40_000, 40_000), (2**31 - 1, 1), (2**31 - 1, 2**31 - 1)):
        with pytest.raises(ValueError, match='claims .* pixels, expected 1 to 40000000'):
            messages.image_from_msg(bomb(width, height))
    assert time.process_time() - began < 1.0


def test_the_largest_picture_is_a_parameter():
    with pytest.raises(ValueError, match='expected 1 to 100'):
        messages.image_from_msg(bomb(16, 16), max_pixels=100)


def test_a_camera_matrix_without_inverse_is_refused_not_divided_by():
    msg = CameraInfo(p=[700.0, 0.0, 1.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    with pytest.raises(ValueError, match='P: no camera matrix'):
        messages.eye_offset_from_msg(msg, rectified=True)


def test_a_speed_that_is_no_number_never_reaches_the_motion():
    msg = hostile.Odometry()
    msg.twist.twist.linear.x = float('inf')
    with pytest.raises(ValueError, match='twist: .* not finite'):
        messages.twist_from_msg(msg)
