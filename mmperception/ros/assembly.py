# SPDX-License-Identifier: Apache-2.0
"""
Matched messages to a Frame: decode, place in space, place in time.

Used by the live node and by offline runs alike. A camera that cannot be used (no calibration, no
transform, a broken picture) is masked and its reason named in `Frame.missing`; a sweep that
cannot be placed is an error that names the frames. Payloads are messages or their bytes.
"""

from collections import Counter
import logging
import threading

from mmperception.datatypes import CameraView, Frame
from mmperception.geometry import invert, transform_from
from mmperception.ros.deskew import deskew
from mmperception.ros.ego_motion import EgoMotion
from mmperception.ros.messages import (
    camera_model_from_msg,
    cloud_from_msg,
    eye_offset_from_msg,
    image_from_msg,
)
from mmperception.synchronizer import InputSpec, Synchronizer
from nav_msgs.msg import Odometry
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu, NavSatFix, PointCloud2

logger = logging.getLogger(__name__)

LIDAR = 'lidar'
# Mode replay: a camera's first camera_info may be on its way while its image is worked on.
INFO_WAIT_S = 0.5


def make_synchronizer(config, mode=None):
    """
    Return the Synchronizer of a configuration: input `lidar` and every camera by name.

    Parameters
    ----------
    config : Config
        Its cameras, offsets, tolerances and waits.
    mode : str, optional
        `live` or `replay`; `config.mode` when absent.

    """
    sync = config.sync
    min_period_ns = int(sync.min_period_ms * 1e6)
    cameras = tuple(
        InputSpec(
            name=name,
            offset_ns=round(config.camera(name).offset_ms * 1e6),
            tolerance_ns=round(config.camera(name).tolerance_ms * 1e6),
            required=config.camera(name).required,
            min_period_ns=min_period_ns,
        )
        for name in config.camera_names
    )
    return Synchronizer(
        InputSpec(name=LIDAR),
        cameras,
        mode=mode or config.mode,
        max_wait_ns=int(sync.max_wait_ms * 1e6),
        buffer=sync.buffer,
        fallback_pivot=config.camera_names[0] if config.camera_names else None,
        fallback_after_ns=int(sync.lidar_timeout_ms * 1e6),
    )


class FrameAssembler:
    """
    Builds frames; `observe` may be called from other threads than `assemble`.

    Parameters
    ----------
    config : Config
    transforms : TransformBuffer

    Attributes
    ----------
    counts : collections.Counter
        `frames`, `uncompensated` (images placed without odometry), `not_deskewed` (sweeps with
        point times but without odometry), `no_point_times`, and `masked.CAMERA`.

    """

    def __init__(self, config, transforms):
        self.config, self.transforms = config, transforms
        self.ego = EgoMotion(config, transforms)
        self.counts = Counter()
        self._infos, self._info_came = {}, threading.Condition()
        self._awaited = set()
        self._said = {}

    def observe(self, name, message):
        """
        Take a message that belongs to no single frame.

        Parameters
        ----------
        name : str
            `gps`, `imu`, `odom` or `CAMERA/camera_info`.
        message : message or bytes
            Bytes are deserialised here.

        Raises
        ------
        ValueError, LookupError
            If it cannot be used; it is left out.

        """
        if name == 'gps':
            self.ego.add_fix(_message(message, NavSatFix))
        elif name == 'imu':
            self.ego.add_imu(_message(message, Imu))
        elif name == 'odom':
            self.ego.add_odometry(_message(message, Odometry))
        elif name.endswith('/camera_info'):
            with self._info_came:
                self._infos[name.removesuffix('/camera_info')] = message
                self._info_came.notify_all()
        else:
            raise LookupError(f'{name!r} is nothing that can be observed')

    def reset(self):
        """Forget the motion: time has jumped. Calibration stays."""
        self.ego.clear()

    def assemble(self, matched):
        """
        Return the Frame of a MatchedSet.

        Raises
        ------
        ValueError
            If the sweep is broken, or nothing at all can be used.
        LookupError
            If the LiDAR's place on the robot is not known.

        """
        stamp_ns, missing = matched.stamp_ns, dict(matched.missing)
        for name in ('gps', 'imu', 'odom'):
            if matched.members.get(name) is not None:
                self.observe(name, matched.members[name].payload)
        odom_from_base = self._pose(stamp_ns, missing)
        cloud = base_from_lidar = None
        if matched.payload is not None:
            cloud, base_from_lidar = self._sweep(matched.payload, odom_from_base)
        gps = self.ego.fix(stamp_ns)
        if gps is None:
            missing.setdefault('gps', 'no fix near this stamp')
        cameras = self._cameras(matched, odom_from_base, missing)
        if cloud is None and not cameras:
            reasons = '; '.join(f'{name}: {reason}' for name, reason in missing.items())
            raise ValueError(f'nothing to see with: {reasons}')
        self.counts['frames'] += 1
        return Frame(
            stamp_ns=stamp_ns,
            cloud=cloud,
            base_from_lidar=base_from_lidar,
            cameras=cameras,
            odom_from_base=odom_from_base,
            gps=gps,
            motion=self.ego.motion(stamp_ns),
            missing=missing,
        )

    def _pose(self, stamp_ns, missing):
        try:
            return self.ego.odom_from_base(stamp_ns)
        except LookupError as error:
            missing['odom'] = str(error)
            return None

    def _sweep(self, payload, odom_from_base):
        """Return the deskewed cloud and base_from_lidar."""
        cloud = cloud_from_msg(_message(payload, PointCloud2), self.config.lidar)
        base_from_lidar = self._extrinsic(self.config.base_frame, cloud.frame_id, cloud.stamp_ns)
        if cloud.time_ns is None:
            self.counts['no_point_times'] += 1
            self._say('lidar', 'sweeps have no point times: used without deskew', logging.INFO)
            return cloud, base_from_lidar
        try:
            if odom_from_base is None:
                raise LookupError('no odometry')
            return deskew(cloud, base_from_lidar, self.ego.odom_from_base), base_from_lidar
        except LookupError as error:
            self.counts['not_deskewed'] += 1
            self._say('lidar', f'sweeps are not deskewed: {error}')
            return cloud, base_from_lidar

    def _extrinsic(self, target, source, stamp_ns):
        tolerance_ns = int(self.config.sync.odom_tolerance_ms * 1e6)
        return self.transforms.lookup(target, source, stamp_ns, tolerance_ns)

    def _cameras(self, matched, odom_from_base, missing):
        views = []
        for name in self.config.camera_names:
            stamped = matched.members.get(name)
            if stamped is None:
                missing.setdefault(name, 'no image')
                continue
            try:
                views.append(self._view(name, stamped.payload, matched.stamp_ns, odom_from_base))
            except (ValueError, LookupError) as error:
                missing[name] = str(error)
                self.counts[f'masked.{name}'] += 1
                self._say(name, f'camera {name} is masked: {error}')
        return tuple(views)

    def _view(self, name, payload, stamp_ns, odom_from_base):
        settings = self.config.camera(name)
        kind = Image if settings.transport == 'raw' else CompressedImage
        info = self._info(name)
        model = camera_model_from_msg(info, settings.rectified)
        image = image_from_msg(_message(payload, kind), settings.max_pixels)
        camera_from_base = transform_from(eye_offset_from_msg(info, settings.rectified))
        camera_from_base = camera_from_base @ self._extrinsic(
            model.frame_id, self.config.base_frame, image.stamp_ns
        )
        motion = self._motion_between(image.stamp_ns, odom_from_base)
        if motion is None:
            self.counts['uncompensated'] += 1
        else:
            camera_from_base = camera_from_base @ motion
        return CameraView(
            name=name,
            image=image,
            model=model,
            camera_from_base=camera_from_base,
            is_compensated=motion is not None,
        )

    def _motion_between(self, image_ns, odom_from_base):
        """Return base at the image's stamp from base at the frame's; None when unknown."""
        if odom_from_base is None:
            return None
        try:
            return invert(self.ego.odom_from_base(image_ns)) @ odom_from_base
        except LookupError:
            return None

    def _info(self, name):
        with self._info_came:
            may_come = self.config.mode == 'replay' and name not in self._awaited
            if name not in self._infos and may_come:
                self._awaited.add(name)
                self._info_came.wait_for(lambda: name in self._infos, INFO_WAIT_S)
            info = self._infos.get(name)
        if info is None:
            raise LookupError(f'no camera_info on {name}/camera_info: publish its calibration')
        return _message(info, CameraInfo)

    def _say(self, subject, sentence, level=logging.WARNING):
        """Log a sentence once, and again when it has changed."""
        if self._said.get(subject) != sentence:
            self._said[subject] = sentence
            logger.log(level, '%s', sentence)


def _message(payload, kind):
    """Return a message; bytes are deserialised now, not before they were matched."""
    if not isinstance(payload, bytes | bytearray | memoryview):
        return payload
    try:
        return deserialize_message(bytes(payload), kind)
    except RuntimeError as error:  # rclpy's own exception type is private
        raise ValueError(f'{len(payload)} bytes are no {kind.__name__}: cut off?') from error
