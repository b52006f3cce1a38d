# SPDX-License-Identifier: Apache-2.0
"""Images of every common encoding arrive as RGB; calibration follows binning and region."""

import array

import cv2
from mmperception.geometry import project
from mmperception.ros.messages import (
    camera_model_from_msg,
    eye_offset_from_msg,
    image_from_msg,
    msg_from_camera_model,
    msg_from_image,
)
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
import synthetic

PIXELS = synthetic.image().pixels
H, W, _ = PIXELS.shape


def image_msg(rows, encoding, width=W, padding=0, is_bigendian=0):
    """Lay out rows (H, bytes) with padding of 0xAA."""
    rows = np.pad(rows.reshape(len(rows), -1), ((0, 0), (0, padding)), constant_values=0xAA)
    msg = Image(
        height=len(rows), width=width, encoding=encoding, step=rows.shape[1],
        is_bigendian=is_bigendian,
    )  # fmt: skip
    msg.header.frame_id = 'camera_optical'
    msg.header.stamp.sec = 12
    msg.data = array.array('B', rows.tobytes())
    return msg


def with_alpha(pixels):
    return np.dstack((pixels, np.full((H, W, 1), 7, np.uint8)))


@pytest.mark.parametrize(
    ('encoding', 'stored'),
    [
        ('rgb8', PIXELS),
        ('bgr8', PIXELS[:, :, ::-1]),
        ('rgba8', with_alpha(PIXELS)),
        ('bgra8', with_alpha(PIXELS[:, :, ::-1])),
    ],
)
@pytest.mark.parametrize('padding', [0, 5])
def test_colours_arrive_in_their_channels(encoding, stored, padding):
    image = image_from_msg(image_msg(stored, encoding, padding=padding))
    np.testing.assert_array_equal(image.pixels, PIXELS)
    assert (image.stamp_ns, image.frame_id) == (12_000_000_000, 'camera_optical')


def test_grey_is_the_same_in_all_channels():
    grey = PIXELS[:, :, 1]
    image = image_from_msg(image_msg(grey, 'mono8', padding=3))
    np.testing.assert_array_equal(image.pixels, np.repeat(grey[:, :, None], 3, axis=2))


@pytest.mark.parametrize(('order', 'is_bigendian'), [('<u2', 0), ('>u2', 1)])
def test_sixteen_bits_become_eight(order, is_bigendian):
    values = np.full((2, 3), 65535, np.uint16)
    values[0, 1], values[1, 2] = 0, 257 * 51
    msg = image_msg(
        values.astype(order).view(np.uint8), 'mono16', width=3, is_bigendian=is_bigendian
    )
    assert image_from_msg(msg).pixels[:, :, 0].tolist() == [[255, 0, 255], [255, 255, 51]]


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_a_red_wall_behind_a_bayer_filter_is_red(pattern):
    mosaic = np.zeros((8, 8), np.uint8)
    for index, letter in enumerate(pattern):
        row, column = divmod(index, 2)
        mosaic[row::2, column::2] = {'r': 240, 'g': 90, 'b': 20}[letter]
    image = image_from_msg(image_msg(mosaic, f'bayer_{pattern}8', width=8))
    np.testing.assert_array_equal(image.pixels[4, 4], (240, 90, 20))


@pytest.mark.parametrize(
    ('encoding', 'order'), [('yuv422', (1, 0, 3, 2)), ('yuv422_yuy2', (0, 1, 2, 3))]
)
def test_yuv_of_a_red_wall_is_red(encoding, order):
    yuyv = np.array([81, 90, 81, 240], np.uint8)  # BT.601 red
    row = np.tile(yuyv[list(order)], 4)
    image = image_from_msg(image_msg(np.tile(row, (2, 1)), encoding, width=8))
    red, green, blue = image.pixels[1, 3].astype(int)
    assert red > 245 and green < 10 and blue < 10


@pytest.mark.parametrize('extension', ['.png', '.jpg'])
def test_compressed_pictures_arrive_as_rgb(extension):
    smooth = np.zeros((H, W, 3), np.uint8)
    middle = W // 2
    smooth[:, :middle], smooth[:, middle:] = (220, 40, 30), (20, 60, 200)
    _, data = cv2.imencode(extension, smooth[:, :, ::-1])
    msg = CompressedImage(format='rgb8; jpeg compressed bgr8', data=data.tobytes())
    pixels = image_from_msg(msg).pixels
    assert np.abs(pixels[:, ::40].astype(int) - smooth[:, ::40]).max() <= 6


@pytest.mark.parametrize('extension', ['.png', '.jpg'])
def test_a_compressed_picture_that_was_cut_off_is_refused(extension):
    _, data = cv2.imencode(extension, PIXELS)
    msg = CompressedImage(format='jpeg', data=data.tobytes()[:-40])
    with pytest.raises(ValueError, match='data: the picture is cut off'):
        image_from_msg(msg)


def test_a_small_file_that_claims_a_huge_picture_is_refused_before_it_is_unpacked():
    data = bytearray(cv2.imencode('.png', PIXELS)[1].tobytes())
    data[16:24] = (2**17).to_bytes(4, 'big') * 2
    with pytest.raises(ValueError, match='data: the picture claims 131072 x 131072 pixels'):
        image_from_msg(CompressedImage(format='png', data=bytes(data)))


@pytest.mark.parametrize('data', [b'', b'\xff\xd8\xff\xd9', b'not a picture at all'])
def test_bytes_that_are_no_picture_are_refused(data):
    with pytest.raises(ValueError, match='data: '):
        image_from_msg(CompressedImage(format='jpeg', data=data))


@pytest.mark.parametrize(
    ('field', 'value', 'message'),
    [
        ('encoding', 'plaid8', "encoding: 'plaid8' is none of"),
        ('width', 100, 'step: 192 bytes are too few for a row of 100 pixels'),
        ('height', 33, 'data: expected height 33 x step 192'),
        ('height', 0, 'width x height: 64 x 0'),
        ('width', 2**30, 'width x height'),
        ('step', 200, 'data: expected height 32 x step 200'),
        ('data', array.array('B'), 'data: .* got 0'),
    ],
)
def test_an_image_that_lies_about_its_size_is_refused_by_name(field, value, message):
    msg = image_msg(PIXELS, 'rgb8')
    setattr(msg, field, value)
    with pytest.raises(ValueError, match=message):
        image_from_msg(msg)


def test_an_image_survives_the_way_through_a_message():
    msg = deserialize_message(serialize_message(msg_from_image(PIXELS, 19, 'cam')), Image)
    np.testing.assert_array_equal(image_from_msg(msg).pixels, PIXELS)


def info_msg(**changes):
    msg = CameraInfo(
        width=640, height=480, distortion_model='plumb_bob', d=[0.1, -0.2, 0.003, 0.004, 0.0],
        k=[400.0, 0, 320, 0, 410, 240, 0, 0, 1], p=[300.0, 0, 310, 0, 0, 305, 250, 0, 0, 0, 1, 0],
    )  # fmt: skip
    msg.header.frame_id = 'front_optical'
    for name, value in changes.items():
        setattr(msg, name, value)
    return msg


def test_a_raw_camera_uses_k_and_d():
    model = camera_model_from_msg(info_msg(), rectified=False)
    assert (model.width, model.height, model.frame_id) == (640, 480, 'front_optical')
    assert model.intrinsics[0].tolist() == [400, 0, 320]
    assert model.intrinsics[1].tolist() == [0, 410, 240]
    assert model.distortion_model == 'plumb_bob'
    assert model.distortion.tolist() == [0.1, -0.2, 0.003, 0.004, 0]


def test_a_rectified_camera_uses_p_and_no_distortion():
    model = camera_model_from_msg(info_msg(), rectified=True)
    assert model.intrinsics[0].tolist() == [300, 0, 310]
    assert model.intrinsics[1].tolist() == [0, 305, 250]
    assert (model.distortion_model, model.distortion.size) == ('none', 0)


def test_a_lens_of_zeros_is_no_lens():
    model = camera_model_from_msg(info_msg(d=[0.0] * 5), rectified=False)
    assert model.distortion_model == 'none'


def test_binning_and_region_of_interest_move_the_pixels():
    msg = info_msg(binning_x=2, binning_y=4)
    msg.roi.x_offset, msg.roi.y_offset, msg.roi.width, msg.roi.height = 40, 80, 400, 320
    msg.d = [0.0] * 5
    model = camera_model_from_msg(msg, rectified=False)
    assert (model.width, model.height) == (200, 80)
    point = np.array([[0.5, -0.3, 2.0]])
    full, _ = project(point, camera_model_from_msg(info_msg(d=[0.0] * 5), rectified=False))
    pixels, _ = project(point, model)
    np.testing.assert_allclose(pixels, (full - (40, 80)) / (2, 4))


def test_a_region_outside_of_the_image_is_refused():
    msg = info_msg()
    msg.roi.x_offset, msg.roi.width = 400, 300
    with pytest.raises(ValueError, match='roi: 300x480 at .400, 0. leaves the image of 640x480'):
        camera_model_from_msg(msg, rectified=False)


@pytest.mark.parametrize('rectified', [True, False])
def test_a_camera_without_focal_length_is_uncalibrated(rectified):
    with pytest.raises(ValueError, match=r'[KP]\[0\] is 0: .*front_optical is uncalibrated'):
        camera_model_from_msg(info_msg(k=[0.0] * 9, p=[0.0] * 12), rectified)


def test_a_lens_that_nobody_knows_is_refused_by_name():
    with pytest.raises(ValueError, match="distortion_model: 'fish'"):
        camera_model_from_msg(info_msg(distortion_model='fish'), rectified=False)


def test_the_second_eye_of_a_stereo_pair_sees_points_shifted():
    msg = info_msg(p=[300.0, 0, 310, -36.0, 0, 305, 250, 0, 0, 0, 1, 0])
    np.testing.assert_allclose(eye_offset_from_msg(msg, rectified=True), [-0.12, 0, 0])
    np.testing.assert_array_equal(eye_offset_from_msg(msg, rectified=False), [0, 0, 0])


@pytest.mark.parametrize('rectified', [True, False])
def test_a_camera_model_survives_the_way_through_a_message(rectified):
    model = synthetic.camera_model()
    msg = deserialize_message(serialize_message(msg_from_camera_model(model, 7)), CameraInfo)
    back = camera_model_from_msg(msg, rectified)
    np.testing.assert_array_equal(back.intrinsics, model.intrinsics)
    assert (back.width, back.height, back.frame_id) == (64, 32, 'camera_optical')
