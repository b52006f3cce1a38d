# SPDX-License-Identifier: Apache-2.0
"""
Frames with truth straight from a bag: the nodes' synchroniser and assembler, without DDS.

For evaluation, benchmarks and pictures. Messages come in the order in which `replay` plays them,
so that both see the same frames. A frame that cannot be assembled is left out with a warning.
"""

from collections import defaultdict
from dataclasses import replace
import logging
from pathlib import Path

from mmperception.recording import Sample, Truth
from mmperception.ros.assembly import FrameAssembler, LIDAR, make_synchronizer
from mmperception.ros.bag import contents_of, read_messages
from mmperception.ros.messages import ns_from_time, truth_from_msgs
from mmperception.ros.player import AHEAD_NS, in_play_order
from mmperception.ros.stamps import stamp_of
from mmperception.ros.transforms import take_message, TransformBuffer
import numpy as np
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray, Detection3DArray

logger = logging.getLogger(__name__)

# A DontCare box belongs to the sweep if its image is this near.
IGNORE_TOLERANCE_NS = 60_000_000


def frames_from_bag(path, config):
    """
    Yield a Sample for every pivot of a bag, in order; its truth is empty where there is none.

    Parameters
    ----------
    path : path
        Bag folder or file.
    config : Config
        Topics are those of the nodes without a namespace.

    Raises
    ------
    ValueError
        If the bag cannot be read or has no transforms.

    """
    if not {'/tf', '/tf_static'} & set(contents_of(path).topics):
        raise ValueError(f'{path}: neither /tf nor /tf_static is in it: nothing can be placed')
    truths = _Truths(path, config)
    for frame in _frames(path, config):
        source = f'{Path(path).name}/{frame.stamp_ns}'
        yield Sample(frame=frame, truth=truths.at(frame.stamp_ns), source=source)


def _frames(path, config):
    transforms = TransformBuffer()
    # Mode live: nothing comes from another thread here, so nothing is worth waiting for.
    assembler = FrameAssembler(replace(config, mode='live'), transforms)
    synchronizer = make_synchronizer(config, mode='replay')
    matched_topics, observed_topics = _topics(config)
    topics = {'/tf', '/tf_static', *matched_topics, *observed_topics}
    now_ns = 0
    for topic, _, data, log_ns in in_play_order(read_messages(path, topics), AHEAD_NS):
        now_ns = log_ns
        if topic in ('/tf', '/tf_static'):
            take_message(transforms, deserialize_message(data, TFMessage), topic == '/tf_static')
        elif topic in observed_topics:
            _observe(assembler, observed_topics[topic], data)
        else:
            sets = synchronizer.add(matched_topics[topic], stamp_of(data), data, now_ns)
            yield from _assembled(assembler, sets)
    yield from _assembled(assembler, synchronizer.flush(now_ns))


def _topics(config):
    """Return {topic: input} of what is matched and of what is observed."""
    matched = {'/lidar/points': LIDAR}
    observed = {'/gps/fix': 'gps', '/imu/data': 'imu', '/odom': 'odom'}
    for name in config.camera_names:
        is_raw = config.camera(name).transport == 'raw'
        matched[f'/{name}/image_raw' if is_raw else f'/{name}/image_raw/compressed'] = name
        observed[f'/{name}/camera_info'] = f'{name}/camera_info'
    return matched, observed


def _observe(assembler, name, data):
    try:
        assembler.observe(name, data)
    except (ValueError, LookupError) as error:
        logger.warning('%s left out: %s', name, error)


def _assembled(assembler, sets):
    for matched in sets:
        try:
            yield assembler.assemble(matched)
        except (ValueError, LookupError) as error:
            logger.warning('frame %d left out: %s', matched.stamp_ns, error)


class _Truths:
    """The labelled boxes of a bag by sweep stamp."""

    def __init__(self, path, config):
        self._boxes, self._ignored = {}, defaultdict(list)
        self._cameras = {}  # optical frame: camera name
        infos = {f'/{name}/camera_info': name for name in config.camera_names}
        topics = {'/truth/detections', '/truth/ignore_2d', *infos}
        for topic, _, data, _ in read_messages(path, topics):
            if topic in infos:
                frame_id = deserialize_message(data, CameraInfo).header.frame_id
                self._cameras[frame_id] = infos[topic]
            elif topic == '/truth/detections':
                self._boxes[stamp_of(data)] = deserialize_message(data, Detection3DArray)
            else:
                message = deserialize_message(data, Detection2DArray)
                self._ignored[message.header.frame_id].append(message)

    def at(self, stamp_ns):
        """Return the Truth of a sweep."""
        if stamp_ns not in self._boxes:
            return _no_truth(stamp_ns)
        ignored = {}
        for frame_id, messages in self._ignored.items():
            nearest = min(messages, key=lambda m: abs(ns_from_time(m.header.stamp) - stamp_ns))
            is_near = abs(ns_from_time(nearest.header.stamp) - stamp_ns) <= IGNORE_TOLERANCE_NS
            if is_near and frame_id in self._cameras:
                ignored[self._cameras[frame_id]] = nearest
        return truth_from_msgs(self._boxes[stamp_ns], ignored)


def _no_truth(stamp_ns):
    return Truth(
        stamp_ns=stamp_ns,
        center=np.zeros((0, 3), np.float32),
        size=np.zeros((0, 3), np.float32),
        yaw=np.zeros(0, np.float32),
        kinds=(),
        occlusion=np.zeros(0, np.int64),
        object_id=(),
        is_ignored=np.zeros(0, np.bool_),
    )
