# SPDX-License-Identifier: Apache-2.0
"""
The subscriptions of the perception node and the synchroniser behind them.

A callback reads the stamp out of the serialised header and stores the bytes; sweeps and images
that are never matched are never deserialised. What belongs to no single frame (calibration,
fixes, inertial samples, odometry) goes to the assembler at once.
"""

from collections import namedtuple
from functools import partial

from mmperception.ros import qos
from mmperception.ros.assembly import LIDAR, make_synchronizer
from mmperception.ros.lifecycle import sentence_of
from mmperception.ros.meter import Meter
from mmperception.ros.stamps import stamp_of
from mmperception.ros.working_node import LOG_PERIOD_S
from mmperception.stamp_watch import StampWatch
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu, NavSatFix, PointCloud2

# `name` is the synchroniser's for matched inputs, the assembler's for the others.
Input = namedtuple('Input', 'name topic type depth is_matched')
OPTIONAL = ('imu', 'odom')


def inputs_of(config):
    """Return every Input of a configuration."""
    result = [
        Input(LIDAR, 'lidar/points', PointCloud2, qos.LIDAR_DEPTH, True),
        Input('gps', 'gps/fix', NavSatFix, qos.GPS_DEPTH, False),
        Input('imu', 'imu/data', Imu, qos.MOTION_DEPTH, False),
        Input('odom', 'odom', Odometry, qos.MOTION_DEPTH, False),
    ]
    for name in config.camera_names:
        is_raw = config.camera(name).transport == 'raw'
        topic = f'{name}/image_raw' if is_raw else f'{name}/image_raw/compressed'
        kind = Image if is_raw else CompressedImage
        info = f'{name}/camera_info'
        result.append(Input(name, topic, kind, qos.IMAGE_DEPTH, True))
        result.append(Input(info, info, CameraInfo, qos.IMAGE_DEPTH, False))
    return result


class Inputs:
    """
    What the perception node hears.

    Parameters
    ----------
    node : WorkingNode
    assembler : FrameAssembler
    put : callable
        Takes each MatchedSet.

    """

    def __init__(self, node, assembler, put):
        self.node, self.assembler, self.put = node, assembler, put
        self.inputs = inputs_of(node.config)
        self.synchronizer = make_synchronizer(node.config)
        self.meters = {one.name: self._meter(one) for one in self.inputs}
        self._subscriptions = [self._subscribe(one) for one in self.inputs]

    def _meter(self, one):
        """Return the meter of an input; what is not matched is watched here."""
        may_rest = one.name.endswith('/camera_info')
        watch = None if one.is_matched or may_rest else StampWatch()
        return Meter(self.node.config, watch, may_rest, may_lack=one.name in OPTIONAL)

    def destroy(self):
        """Give the subscriptions back."""
        for subscription in self._subscriptions:
            self.node.destroy_subscription(subscription)

    def settle(self, now_ns):
        """Hand over the sets whose wait is over."""
        self._hand_over(self.synchronizer.poll(now_ns))

    def reset(self, reason):
        """Forget everything that was received."""
        self.synchronizer.reset(reason)
        for meter in self.meters.values():
            meter.start_over()

    def note(self, frame):
        """Take from a frame what the report says about its inputs."""
        if frame.cloud is not None and not len(frame.cloud.points):
            self.meters[LIDAR].faults.note('empty')
        if frame.gps is not None:
            accuracy_m = accuracy_of(frame.gps)
            self.meters['gps'].extra['accuracy_m'] = accuracy_m or 'unknown'
        for name in self.node.config.camera_names:
            masked = self.assembler.counts[f'masked.{name}']
            if masked:
                self.meters[name].extra['dropped.masked'] = masked
                self.meters[name].extra['reason'] = frame.missing.get(name, '')

    def _subscribe(self, one):
        take = self._store if one.is_matched else self._observe
        return self.node.create_subscription(
            one.type,
            one.topic,
            partial(self._receive, take, one.name),
            qos.sensor(one.depth, self.node.config.mode),
            qos_overriding_options=qos.overridable(),
            raw=True,
        )

    def _receive(self, take, name, data):
        try:
            take(name, stamp_of(data), data)
        except (ValueError, LookupError) as error:
            self.meters[name].refuse('bad_message')
            self.node.get_logger().warning(
                f'{name} left out: {sentence_of(error)}', throttle_duration_sec=LOG_PERIOD_S
            )

    def _store(self, name, stamp_ns, data):
        moment = self.node.moment()
        self.meters[name].add(stamp_ns, moment)
        self._hand_over(self.synchronizer.add(name, stamp_ns, data, moment.steady_ns))

    def _hand_over(self, sets):
        for matched in sets:
            self.put(matched)

    def _observe(self, name, stamp_ns, data):
        verdict = self.meters[name].add(stamp_ns, self.node.moment())
        if verdict == 'jump':
            self.assembler.reset()
        elif verdict != 'keep':
            return
        self.assembler.observe(name, data)

    def report(self):
        """Return one DiagnosticStatus for each input."""
        statistics, faults = self.synchronizer.statistics(), self.synchronizer.faults()
        moment = self.node.moment()
        self._suggest_offsets(statistics)
        return [
            self.meters[one.name].report(
                f'{self.node.get_name()}: {one.topic}',
                moment,
                statistics.get(one.name),
                faults.get(one.name),
            )
            for one in self.inputs
        ]

    def _suggest_offsets(self, statistics):
        """Say by which setting a camera whose stamps are always off would be mended."""
        for name in self.node.config.camera_names:
            skew_ns, meter = statistics[name]['constant_skew_ns'], self.meters[name]
            if skew_ns is None:
                meter.extra.pop('suggested', None)
                continue
            if 'suggested' not in meter.extra:
                meter.faults.note('constant_skew', skew_ns)
            offset_ms = self.node.config.camera(name).offset_ms - skew_ns / 1e6
            meter.extra['suggested'] = f'cameras.{name}.offset_ms: {offset_ms:.1f}'


def accuracy_of(fix):
    """Return the horizontal standard deviation of a fix in metres; None when unknown."""
    if fix.covariance is None:
        return None
    return float(max(fix.covariance[0, 0], fix.covariance[1, 1]) ** 0.5)
