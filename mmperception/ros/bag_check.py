# SPDX-License-Identifier: Apache-2.0
"""
What is wrong with a bag, before anybody runs a network on it.

Three questions: is everything there, does the calibration fit (camera_info, image sizes, frames),
does the time line up (order, gaps, camera against sweep). Findings are sentences that say what
to change; an `error` is what the nodes cannot do without.
"""

from collections import Counter
from dataclasses import dataclass, field
import re

from mmperception.ros.bag import contents_of, read_messages
from mmperception.ros.messages import (
    camera_model_from_msg,
    cloud_from_msg,
    image_from_msg,
)
from mmperception.ros.stamps import stamp_of
from mmperception.ros.transforms import take_message, TransformBuffer
import numpy as np
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from tf2_msgs.msg import TFMessage

ERROR, WARNING, NOTE = 'error', 'warning', 'note'
# Types whose first field is a header.
STAMPED = {
    'nav_msgs/msg/Odometry',
    'sensor_msgs/msg/CameraInfo',
    'sensor_msgs/msg/CompressedImage',
    'sensor_msgs/msg/Image',
    'sensor_msgs/msg/Imu',
    'sensor_msgs/msg/NavSatFix',
    'sensor_msgs/msg/PointCloud2',
}
OPTIONAL = {
    '/gps/fix': 'no GPS: geo-references and GPS motion are not there',
    '/imu/data': 'no IMU: motion comes from TF or odometry alone',
}
# With this much extrapolation any motion reaches this stamp.
FAR_NS = 2**62
# Wider than this many usual periods is a gap.
GAP_PERIODS = 2.5


@dataclass(slots=True, kw_only=True, eq=False)
class Stream:
    """The header stamps and log times of one topic, in log order."""

    type_name: str
    count: int
    stamps: list = field(default_factory=list)
    logs: list = field(default_factory=list)
    first: bytes | None = None

    def rate_hz(self):
        """Return messages per second by header stamp, else by log time; 0 when unknown."""
        times = sorted(self.stamps or self.logs)
        span_s = (times[-1] - times[0]) / 1e9 if len(times) > 1 else 0.0
        return (len(times) - 1) / span_s if span_s > 0 else 0.0

    def faults(self):
        """Return {sentence part: number} of what is wrong with the stamps."""
        stamps = np.array(self.stamps, np.int64)
        steps = np.diff(stamps)
        usual = np.median(steps[steps > 0]) if (steps > 0).any() else np.inf
        counts = {
            'without a stamp': int((stamps == 0).sum()),
            'with the stamp of the one before': int((steps == 0).sum()),
            'older than the one before': int((steps < 0).sum()),
            'after a gap': int((steps > GAP_PERIODS * usual).sum()),
        }
        return {what: number for what, number in counts.items() if number}

    def delay_ms(self):
        """Return the median of log time minus header stamp; None without stamps."""
        if not self.stamps:
            return None
        return float(np.median(np.array(self.logs) - np.array(self.stamps))) / 1e6


class BagCheck:
    """
    Looks through one bag when it is made.

    Parameters
    ----------
    path : path
    config : Config

    Attributes
    ----------
    contents : BagContents
    streams : dict of str to Stream
    findings : list of (level, sentence)

    """

    def __init__(self, path, config):
        self.config, self.findings = config, []
        self.contents = contents_of(path, config.odom_frame)
        self.transforms = TransformBuffer(history_ns=2**62)
        self.streams = {
            topic: Stream(type_name=type_name, count=self.contents.counts[topic])
            for topic, type_name in sorted(self.contents.topics.items())
        }
        self._models, self._cloud = {}, None
        self._read(path)
        self._check_presence()
        self._check_cameras()
        self._check_lidar()
        self._check_frames()
        self._check_time()

    @property
    def has_errors(self):
        """Tell whether something is missing that the nodes cannot do without."""
        return any(level == ERROR for level, _ in self.findings)

    def _read(self, path):
        for topic, type_name, data, log_ns in read_messages(path):
            stream = self.streams[topic]
            stream.logs.append(log_ns)
            stream.first = stream.first or data
            if type_name in STAMPED:
                stream.stamps.append(stamp_of(data))
            elif type_name == 'tf2_msgs/msg/TFMessage':
                is_static = topic.endswith('tf_static')
                take_message(self.transforms, deserialize_message(data, TFMessage), is_static)

    def _find(self, level, sentence):
        self.findings.append((level, sentence))

    def _has(self, topic):
        return topic in self.streams and self.streams[topic].count > 0

    def _image_topic(self, name):
        raw, compressed = f'/{name}/image_raw', f'/{name}/image_raw/compressed'
        return raw if self.config.camera(name).transport == 'raw' else compressed

    def _check_presence(self):
        has_lidar = self._has('/lidar/points')
        cameras = [n for n in self.config.camera_names if self._has(self._image_topic(n))]
        if not has_lidar:
            level = WARNING if cameras else ERROR
            self._find(level, f'no sweeps on /lidar/points{self._elsewhere("PointCloud2")}')
        for name in set(self.config.camera_names) - set(cameras):
            elsewhere = self._elsewhere('Image') or self._elsewhere('CompressedImage')
            self._find(WARNING, f'no images on {self._image_topic(name)}{elsewhere}')
        for topic, sentence in OPTIONAL.items():
            if not self._has(topic):
                self._find(NOTE, f'{topic}: {sentence}')
        if not self._has('/tf') and not self._has('/tf_static'):
            self._find(ERROR, 'neither /tf nor /tf_static: record them, nothing can be placed')
        elif self._has('/tf_static') and '/tf_static' not in self.contents.latched:
            self._find(NOTE, '/tf_static was not recorded as transient local: late nodes miss it')

    def _elsewhere(self, kind):
        """Return where messages of a type are, when not where they are looked for."""
        wanted = f'sensor_msgs/msg/{kind}'
        topics = [t for t, s in self.streams.items() if s.type_name == wanted and s.count]
        known = {'/lidar/points', *(self._image_topic(n) for n in self.config.camera_names)}
        topics = [topic for topic in topics if topic not in known]
        if not topics:
            return ''
        names = [m[1] for t in topics if (m := re.fullmatch(r'/(.+?)/image_raw(/compressed)?', t))]
        hint = f'set camera_names: [{", ".join(names)}]' if names else 'remap it'
        return f'; there is {", ".join(topics)}: {hint}'

    def _check_cameras(self):
        for name in self.config.camera_names:
            if self._has(self._image_topic(name)):
                try:
                    self._check_camera(name)
                except ValueError as error:
                    self._find(WARNING, f'camera {name} will be masked: {error}')

    def _check_camera(self, name):
        topic, info_topic = self._image_topic(name), f'/{name}/camera_info'
        if not self._has(info_topic):
            raise ValueError(f'no calibration on {info_topic}')
        info = deserialize_message(self.streams[info_topic].first, CameraInfo)
        settings = self.config.camera(name)
        model = camera_model_from_msg(info, settings.rectified)
        self._models[name] = model
        kind = Image if settings.transport == 'raw' else CompressedImage
        msg = deserialize_message(self.streams[topic].first, kind)
        height, width, _ = image_from_msg(msg, settings.max_pixels).pixels.shape
        if (width, height) != (model.width, model.height):
            raise ValueError(
                f'the image is {width}x{height} but camera_info says {model.width}x{model.height}'
            )
        lens = 'rectified' if model.distortion_model == 'none' else model.distortion_model
        focal_px = model.intrinsics[0, 0]
        self._find(NOTE, f'camera {name}: {width}x{height}, focal {focal_px:.0f} px, {lens}')

    def _check_lidar(self):
        if not self._has('/lidar/points'):
            return
        msg = deserialize_message(self.streams['/lidar/points'].first, PointCloud2)
        try:
            self._cloud = cloud = cloud_from_msg(msg, self.config.lidar)
        except ValueError as error:
            self._find(ERROR, f'sweeps on /lidar/points cannot be read: {error}')
            return
        self._find(NOTE, f'lidar: {len(cloud.points)} points in the first sweep')
        if not len(cloud.points):
            self._find(WARNING, 'the first sweep is empty')
        if cloud.intensity is None:
            self._find(WARNING, 'sweeps have no intensity: detection is weaker')
        if cloud.time_ns is None:
            self._find(NOTE, 'sweeps have no point times: used without deskew')

    def _check_frames(self):
        base, odom = self.config.base_frame, self.config.odom_frame
        sensors = {f'camera {name}': model.frame_id for name, model in self._models.items()}
        if self._cloud is not None:
            sensors['lidar'] = self._cloud.frame_id
        if not self.transforms.frames():
            return
        for sensor, frame in sensors.items():
            is_essential = sensor == 'lidar' or self._cloud is None
            self._check_connected(base, frame, ERROR if is_essential else WARNING, sensor)
        self._check_connected(odom, base, WARNING, 'odometry (without it there is no path_cost)')

    def _check_connected(self, target, source, level, what):
        try:
            self.transforms.lookup(target, source, FAR_NS, extrapolate_ns=FAR_NS)
        except LookupError as error:
            self._find(level, f'{what}: {error}')

    def _check_time(self):
        for topic, stream in self.streams.items():
            if stream.type_name in STAMPED and not topic.startswith('/truth'):
                for what, number in stream.faults().items():
                    self._find(WARNING, f'{topic}: {number} of {stream.count} messages {what}')
        sweeps = np.array(self.streams['/lidar/points'].stamps) if self._cloud else np.zeros(0)
        if not len(sweeps):
            return
        for name in self.config.camera_names:
            topic = self._image_topic(name)
            if self._has(topic):
                self._check_offset(name, sweeps, np.array(self.streams[topic].stamps))
        self._check_odometry_span(sweeps)

    def _check_offset(self, name, sweeps, images):
        """Compare each sweep with its nearest image."""
        images = np.sort(images)
        after = np.clip(np.searchsorted(images, sweeps), 1, max(1, len(images) - 1))
        near = np.stack((images[after - 1], images[np.minimum(after, len(images) - 1)]))
        offsets = near - sweeps
        best = np.take_along_axis(offsets, np.abs(offsets).argmin(axis=0)[None], axis=0)[0] / 1e6
        tolerance_ms = self.config.camera(name).tolerance_ms
        share = float((np.abs(best) > tolerance_ms).mean())
        sentence = f'camera {name} is {np.median(best):+.1f} ms from the sweep (median)'
        self._find(NOTE, sentence)
        if share > 0.05:
            self._find(
                WARNING,
                f'camera {name}: {share:.0%} of the sweeps have no image within '
                f'{tolerance_ms:g} ms; look at cameras.{name}.offset_ms and tolerance_ms',
            )

    def _check_odometry_span(self, sweeps):
        tolerance_ns = int(self.config.sync.odom_tolerance_ms * 1e6)
        outside = Counter()
        for stamp_ns in sweeps:
            try:
                self.transforms.lookup(
                    self.config.odom_frame, self.config.base_frame, int(stamp_ns), tolerance_ns
                )
            except LookupError:
                outside['sweeps'] += 1
        if self.contents.has_odom and outside:
            self._find(
                WARNING, f'{outside["sweeps"]} of {len(sweeps)} sweeps lie outside the odometry'
            )
