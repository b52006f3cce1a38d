# SPDX-License-Identifier: Apache-2.0
"""
A Recording (simulated or KITTI) as a bag like one from a robot, with truth beside it.

Topics are absolute. Motion is in /tf alone; the sensors' places are in /tf_static, camera_info
goes with every image. Truth has topics of its own, which the nodes never read.
"""

from dataclasses import dataclass, field

from mmperception.datatypes import GpsFix, Image, ImuSample, PointCloud, Pose
from mmperception.recording import Truth
from mmperception.ros.bag import BagWriter
from mmperception.ros.messages import (
    msg_from_camera_model,
    msg_from_cloud,
    msg_from_fix,
    msg_from_ignore_2d,
    msg_from_image,
    msg_from_imu,
    msg_from_transforms,
    msg_from_truth,
)

ODOM, BASE, LIDAR, IMU, GPS = 'odom', 'base_link', 'lidar', 'imu_link', 'gps_link'


def write_recording(path, recording, force=False):
    """
    Write a Recording as a bag.

    Parameters
    ----------
    path : path
        Folder of the bag; it appears when everything is written.
    recording : Recording
        Its events in log order.
    force : bool
        Replace a bag that is there.

    Raises
    ------
    ValueError
        If there is something at `path`, or the recording holds nothing.

    """
    with BagWriter(path, force) as bag:
        writer = _RecordingWriter(bag=bag, mounting=recording.mounting)
        for event in recording.events:
            writer.write(event)
        writer.finish()
        bag.write_settings({**_settings(recording.mounting), **recording.settings})


def _settings(mounting):
    """Return what the nodes must know: sweeps stamped in the middle, rectified images."""
    cameras = {
        name: {'rectified': True}
        for name, model in mounting.camera_models.items()
        if model.distortion_model == 'none'
    }
    names = list(mounting.camera_models)
    return {'lidar': {'stamp': 'middle'}, 'camera_names': names, 'cameras': cameras}


@dataclass(slots=True, kw_only=True, eq=False)
class _RecordingWriter:
    """Writes events as they come; boxes of an image wait until its stamp is known."""

    bag: BagWriter
    mounting: object
    has_begun: bool = False
    image_stamps: dict = field(default_factory=dict)  # camera: stamps
    ignored: list = field(default_factory=list)  # (log_ns, Truth)

    def write(self, event):
        """Write one event."""
        if not self.has_begun:
            self.has_begun = True
            self._write_mounting(event.log_ns)
        value, log_ns = event.value, event.log_ns
        if isinstance(value, Image):
            self._write_image(event.camera, value, log_ns)
        elif isinstance(value, Truth):
            self.bag.write_message('/truth/detections', msg_from_truth(value, BASE), log_ns)
            self.ignored.append((log_ns, value))
        else:
            topic, message = _message_of(value)
            self.bag.write_message(topic, message, log_ns)

    def finish(self):
        """Write what had to wait for the last image."""
        if not self.has_begun:
            raise ValueError('the recording holds no events: nothing to write')
        for log_ns, truth in self.ignored:
            for camera, boxes in truth.ignore_2d.items():
                self._write_ignored(camera, boxes, truth.stamp_ns, log_ns)

    def _write_mounting(self, log_ns):
        mounting = self.mounting
        places = {
            LIDAR: mounting.base_from_lidar,
            IMU: mounting.base_from_imu,
            GPS: mounting.base_from_gps,
        }
        for camera, base_from_camera in mounting.base_from_camera.items():
            places[mounting.camera_models[camera].frame_id] = base_from_camera
        known = [(BASE, child, log_ns, at) for child, at in places.items() if at is not None]
        self.bag.write_message('/tf_static', msg_from_transforms(known), log_ns)

    def _write_image(self, camera, image, log_ns):
        model = self.mounting.camera_models[camera]
        info = msg_from_camera_model(model, image.stamp_ns)
        picture = msg_from_image(image.pixels, image.stamp_ns, model.frame_id)
        picture_size = (picture.width, picture.height)
        if picture_size != (model.width, model.height):
            raise ValueError(
                f'camera {camera}: the image is {picture_size} but its model says '
                f'{(model.width, model.height)}'
            )
        self.bag.write_message(f'/{camera}/camera_info', info, log_ns)
        self.bag.write_message(f'/{camera}/image_raw', picture, log_ns)
        self.image_stamps.setdefault(camera, []).append(image.stamp_ns)

    def _write_ignored(self, camera, boxes, stamp_ns, log_ns):
        stamps = self.image_stamps.get(camera, [])
        nearest_ns = min(stamps, key=lambda stamp: abs(stamp - stamp_ns), default=stamp_ns)
        frame_id = self.mounting.camera_models[camera].frame_id
        message = msg_from_ignore_2d(boxes, nearest_ns, frame_id)
        self.bag.write_message('/truth/ignore_2d', message, log_ns)


def _message_of(value):
    """Return topic and message of a sensor's value."""
    if isinstance(value, PointCloud):
        return '/lidar/points', msg_from_cloud(value)
    if isinstance(value, Pose):
        return '/tf', msg_from_transforms([(ODOM, BASE, value.stamp_ns, value.odom_from_base)])
    if isinstance(value, GpsFix):
        return '/gps/fix', msg_from_fix(value)
    if isinstance(value, ImuSample):
        return '/imu/data', msg_from_imu(value)
    raise ValueError(f'events: {type(value).__name__} is not what a recording holds')
