# SPDX-License-Identifier: Apache-2.0
"""
sensor_msgs/Image, CompressedImage and CameraInfo to Image and CameraModel, and back.

Pixels leave as RGB, 8 bit; the common encodings are views and channel swaps, the others go
through OpenCV. Sizes are checked before memory is taken, also that of a compressed picture.
Source: sensor_msgs/image_encodings.hpp; binning and region of interest as in image_geometry.
"""

import struct

import cv2
from mmperception.config_sections import CameraConfig
from mmperception.datatypes import CameraModel, Image
from mmperception.ros.headers import big_field, header_from, ns_from_time
import numpy as np
from sensor_msgs.msg import CameraInfo
from sensor_msgs.msg import Image as ImageMsg

MAX_PIXELS = CameraConfig().max_pixels
# No two cameras of a rig are that far apart.
FAR_M = 1000.0
# encoding: (channels as they lie in memory, bytes of one, OpenCV conversion to RGB)
ENCODINGS = {
    'rgb8': (3, 1, None),
    'bgr8': (3, 1, cv2.COLOR_BGR2RGB),
    '8UC3': (3, 1, cv2.COLOR_BGR2RGB),
    'rgba8': (4, 1, cv2.COLOR_RGBA2RGB),
    'bgra8': (4, 1, cv2.COLOR_BGRA2RGB),
    '8UC4': (4, 1, cv2.COLOR_BGRA2RGB),
    'mono8': (1, 1, cv2.COLOR_GRAY2RGB),
    '8UC1': (1, 1, cv2.COLOR_GRAY2RGB),
    'rgb16': (3, 2, None),
    'bgr16': (3, 2, cv2.COLOR_BGR2RGB),
    'rgba16': (4, 2, cv2.COLOR_RGBA2RGB),
    'bgra16': (4, 2, cv2.COLOR_BGRA2RGB),
    'mono16': (1, 2, cv2.COLOR_GRAY2RGB),
    # ROS names a pattern by its first row, OpenCV by the second and third pixel of its second.
    'bayer_rggb8': (1, 1, cv2.COLOR_BayerBG2RGB),
    'bayer_bggr8': (1, 1, cv2.COLOR_BayerRG2RGB),
    'bayer_gbrg8': (1, 1, cv2.COLOR_BayerGR2RGB),
    'bayer_grbg8': (1, 1, cv2.COLOR_BayerGB2RGB),
    'bayer_rggb16': (1, 2, cv2.COLOR_BayerBG2RGB),
    'bayer_bggr16': (1, 2, cv2.COLOR_BayerRG2RGB),
    'bayer_gbrg16': (1, 2, cv2.COLOR_BayerGR2RGB),
    'bayer_grbg16': (1, 2, cv2.COLOR_BayerGB2RGB),
    'yuv422': (2, 1, cv2.COLOR_YUV2RGB_UYVY),
    'uyvy': (2, 1, cv2.COLOR_YUV2RGB_UYVY),
    'yuv422_yuy2': (2, 1, cv2.COLOR_YUV2RGB_YUYV),
    'yuyv': (2, 1, cv2.COLOR_YUV2RGB_YUYV),
}
JPEG_BEGIN, JPEG_END = b'\xff\xd8', b'\xff\xd9'
PNG_BEGIN, PNG_END = b'\x89PNG\r\n\x1a\n', b'IEND\xaeB`\x82'
# The markers of a JPEG that hold its size (SOF0 to SOF15 without DHT, JPG and DAC).
JPEG_SIZE_MARKERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def image_from_msg(msg, max_pixels=MAX_PIXELS):
    """
    Read an Image or CompressedImage.

    Parameters
    ----------
    msg : sensor_msgs.msg.Image or sensor_msgs.msg.CompressedImage
        Raw, JPEG or PNG.
    max_pixels : int
        What claims to be larger is refused before memory is taken.

    Raises
    ------
    ValueError
        If the encoding is unknown or the picture is not what it says; names the field.

    """
    pixels = (_decompress if hasattr(msg, 'format') else _unpack)(msg, max_pixels)
    return Image(
        stamp_ns=ns_from_time(msg.header.stamp), frame_id=msg.header.frame_id, pixels=pixels
    )


def _unpack(msg, max_pixels):
    if msg.encoding not in ENCODINGS:
        raise ValueError(f'encoding: {msg.encoding!r} is none of {", ".join(ENCODINGS)}')
    channels, size, conversion = ENCODINGS[msg.encoding]
    H, W = msg.height, msg.width
    if not 0 < H * W <= max_pixels:
        raise ValueError(f'width x height: {W} x {H} pixels, expected 1 to {max_pixels}')
    if msg.step < W * channels * size:
        raise ValueError(
            f'step: {msg.step} bytes are too few for a row of {W} pixels {msg.encoding}'
        )
    data = np.frombuffer(msg.data, np.uint8)
    if data.size != H * msg.step:
        raise ValueError(
            f'data: expected height {H} x step {msg.step} = {H * msg.step} bytes, got {data.size}'
        )
    rows = data.reshape(H, msg.step)[:, : W * channels * size]
    if size == 2:
        kind = '>u2' if msg.is_bigendian else '<u2'
        rows = _to_eight_bits(np.ascontiguousarray(rows).view(kind))
    pixels = np.ascontiguousarray(rows.reshape(H, W, channels))
    return pixels if conversion is None else _convert(pixels, conversion, msg)


def _to_eight_bits(values):
    return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _convert(pixels, conversion, msg):
    try:
        return cv2.cvtColor(pixels, conversion)
    except cv2.error as error:
        raise ValueError(
            f'data: {msg.width} x {msg.height} {msg.encoding} cannot be converted: {error.err}'
        ) from error


def _decompress(msg, max_pixels):
    data = bytes(msg.data)
    width, height = _size_of(data, msg.format)
    if not 0 < width * height <= max_pixels:
        raise ValueError(
            f'data: the picture claims {width} x {height} pixels, expected 1 to {max_pixels}'
        )
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise ValueError(f'data: {len(data)} bytes of format {msg.format!r} cannot be decoded')
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _size_of(data, format_name):
    """Return width and height that a JPEG or PNG claims, without unpacking it."""
    if data.startswith(JPEG_BEGIN):
        _require_end(data, JPEG_END)
        return _jpeg_size(data)
    if data.startswith(PNG_BEGIN) and len(data) >= 24:
        _require_end(data, PNG_END)
        return struct.unpack_from('>II', data, 16)
    raise ValueError(f'data: format {format_name!r}, but the bytes are neither JPEG nor PNG')


def _require_end(data, end):
    # Some drivers pad to a multiple of a block.
    if not data.rstrip(b'\0').endswith(end) and not data.endswith(end):
        raise ValueError(f'data: the picture is cut off after {len(data)} bytes')


def _jpeg_size(data):
    position = 2
    while position + 9 <= len(data):
        if data[position] != 0xFF:
            break
        marker = data[position + 1]
        if marker in JPEG_SIZE_MARKERS:
            height, width = struct.unpack_from('>HH', data, position + 5)
            return width, height
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        position += 2 + struct.unpack_from('>H', data, position + 2)[0]
    raise ValueError('data: the JPEG does not say its size')


def msg_from_image(pixels, stamp_ns, frame_id):
    """Write (H, W, 3) uint8 RGB as an Image `rgb8`."""
    height, width, _ = pixels.shape
    msg = ImageMsg(
        header=header_from(stamp_ns, frame_id),
        height=height,
        width=width,
        encoding='rgb8',
        is_bigendian=0,
        step=3 * width,
    )
    msg.data = big_field(pixels)
    return msg


def camera_model_from_msg(msg, rectified):
    """
    Read a CameraInfo.

    Parameters
    ----------
    msg : sensor_msgs.msg.CameraInfo
        Of the full sensor; binning and region of interest are honoured.
    rectified : bool
        True: the image is rectified, use P and no distortion; False: K and D.

    Returns
    -------
    CameraModel
        For the pixels of the image after binning and region of interest.

    Raises
    ------
    ValueError
        If the camera is uncalibrated, or a field is out of range.

    """
    name = 'P' if rectified else 'K'
    matrix = np.array(msg.p).reshape(3, 4)[:, :3] if rectified else np.array(msg.k).reshape(3, 3)
    if not matrix[0, 0]:
        raise ValueError(
            f'{name}[0] is 0: the camera {msg.header.frame_id} is uncalibrated; publish a '
            'camera_info with its calibration'
        )
    model, distortion = ('none', np.zeros(0)) if rectified else _distortion(msg)
    intrinsics, width, height = _of_published_pixels(msg, matrix)
    return CameraModel(
        width=width,
        height=height,
        intrinsics=intrinsics,
        distortion=distortion,
        distortion_model=model,
        frame_id=msg.header.frame_id,
    )


def _distortion(msg):
    coefficients = np.array(msg.d, np.float64)
    if not coefficients.any():
        return 'none', np.zeros(0)
    if not np.isfinite(coefficients).all():
        raise ValueError(f'D: holds values that are not finite: {coefficients.tolist()}')
    if coefficients[8:].any():
        raise ValueError(f'D: more than 8 coefficients are not supported, got {len(msg.d)}')
    return msg.distortion_model, coefficients[:8]


def _of_published_pixels(msg, matrix):
    """Return intrinsics, width and height after region of interest and binning."""
    roi = msg.roi
    width, height = roi.width or msg.width, roi.height or msg.height
    if roi.x_offset + width > msg.width or roi.y_offset + height > msg.height:
        raise ValueError(
            f'roi: {width}x{height} at ({roi.x_offset}, {roi.y_offset}) leaves the image of '
            f'{msg.width}x{msg.height}'
        )
    binning_x, binning_y = max(1, msg.binning_x), max(1, msg.binning_y)
    intrinsics = matrix.astype(np.float64)
    intrinsics[0, 2] -= roi.x_offset
    intrinsics[1, 2] -= roi.y_offset
    intrinsics[0] /= binning_x
    intrinsics[1] /= binning_y
    return intrinsics, width // binning_x, height // binning_y


def eye_offset_from_msg(msg, rectified):
    """
    Return (3,) metres by which a rectified camera's P shifts points before projection.

    The second camera of a stereo pair has it (P[3] = -focal x baseline); 0 for all others.

    Raises
    ------
    ValueError
        If P cannot be inverted or is not finite.

    """
    P = np.array(msg.p).reshape(3, 4)
    if not rectified or not P[0, 0]:
        return np.zeros(3)
    try:
        with np.errstate(all='ignore'):
            offset_m = np.linalg.solve(P[:, :3], P[:, 3])
    except np.linalg.LinAlgError:
        offset_m = np.full(3, np.nan)
    if not (np.abs(offset_m) < FAR_M).all():
        raise ValueError(f'P: no camera matrix: {P.tolist()}')
    return offset_m


def msg_from_camera_model(model, stamp_ns):
    """Write a CameraInfo: K, D, R = I, P = [K | 0]."""
    K, lens = model.intrinsics, model.distortion_model
    return CameraInfo(
        header=header_from(stamp_ns, model.frame_id),
        height=model.height,
        width=model.width,
        distortion_model='plumb_bob' if lens == 'none' else lens,
        d=model.distortion.tolist() or [0.0] * 5,
        k=K.reshape(-1),
        r=np.eye(3).reshape(-1),
        p=np.hstack((K, np.zeros((3, 1)))).reshape(-1),
    )
