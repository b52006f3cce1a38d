# SPDX-License-Identifier: Apache-2.0
"""
The pictures of a replay, and the inputs that belong beside its recorded output.

Frames come from the bag once more, without DDS; what the nodes said is read back from the output.
Camera images go into the output as JPEG, a tenth of their size.
"""

from collections import defaultdict
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import cv2
from mmperception.config_sections import LidarConfig
from mmperception.drawing import Moment, overview, VideoWriter, write_png
from mmperception.geometry import apply
from mmperception.ros import bag, messages
from mmperception.ros.offline import frames_from_bag
from mmperception.ros.player import message_class
from mmperception.ros.stamps import stamp_of
import numpy as np
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image

NUM_MOMENTS = 6
JPEG_QUALITY = 85
IMAGE_TYPE = 'sensor_msgs/msg/Image'
PASSED_ON = {
    'sensor_msgs/msg/CameraInfo',
    'sensor_msgs/msg/CompressedImage',
    'sensor_msgs/msg/NavSatFix',
    'tf2_msgs/msg/TFMessage',
}
DRAWN = ('/detections', '/tracks', '/path_cost', '/obstacle_points')
# Results of a stamp are complete when results of one this much later have come.
SETTLED_NS = 2_000_000_000


def record_inputs(plan, contents, writer):
    """
    Add to the output what is needed to look at it: images, calibration, transforms, fixes.

    Parameters
    ----------
    plan : ReplayPlan
        Its sensors that were withheld are left out.
    contents : BagContents
        Of the bag that was played.
    writer : BagWriter
        Of the output, still open.

    """
    kinds = PASSED_ON | {IMAGE_TYPE}
    wanted = {topic for topic, kind in contents.topics.items() if kind in kinds}
    for topic, type_name, data, log_ns in bag.read_messages(plan.bag, wanted):
        since_s = (log_ns - contents.begin_ns) / 1e9
        if any(drop.hides(topic, since_s) for drop in plan.drops):
            continue
        if type_name == IMAGE_TYPE:
            topic, type_name = f'{topic}/compressed', 'sensor_msgs/msg/CompressedImage'
            data = _jpeg(data)
        if data is not None:
            writer.write(topic, type_name, data, log_ns)


def _jpeg(data):
    """Return a serialised Image as a serialised CompressedImage; None when it is unreadable."""
    msg = deserialize_message(data, Image)
    try:
        pixels = messages.image_from_msg(msg, max_pixels=len(msg.data)).pixels
    except ValueError:
        return None
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    _, jpeg = cv2.imencode('.jpg', cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    compressed = CompressedImage(header=msg.header, format='rgb8; jpeg compressed bgr8')
    compressed.data = jpeg.tobytes()
    return serialize_message(compressed)


def draw(plan, stamps):
    """
    Write `overview.png` and, where asked for, `overview.mp4`.

    Parameters
    ----------
    plan : ReplayPlan
        Its output has been written.
    stamps : sequence of int
        Of the frames that were processed.

    """
    stamps = sorted(stamps)
    places = np.linspace(0, len(stamps) - 1, min(NUM_MOMENTS, len(stamps))).round().astype(int)
    chosen = {stamps[place] for place in places}
    wanted = set(stamps) if plan.has_video else chosen
    moments, driven = [], []
    video = VideoWriter(plan.out / 'overview.mp4') if plan.has_video else nullcontext()
    with video:
        for moment in moments_of(plan, wanted, driven):
            if plan.has_video:
                video.write(moment)
            if moment.frame.stamp_ns in chosen:
                moments.append(moment)
    if driven:
        moments = [replace(moment, driven_odom=np.array(driven)) for moment in moments]
    title = f'{plan.bag.name}, weights {Path(plan.config.weights).stem}'
    write_png(plan.out / 'overview.png', overview(moments, title))


def moments_of(plan, wanted, driven=None):
    """Yield the Moment of every wanted stamp, in order; add to `driven` where the robot was."""
    if not wanted:
        return
    results = results_by_stamp(plan.out / 'output', wanted)
    stamp_ns, parts = next(results, (None, {}))
    begin_ns, last_ns = min(wanted), max(wanted)
    for sample in frames_from_bag(plan.bag, plan.config):
        frame = sample.frame
        if driven is not None and frame.odom_from_base is not None:
            driven.append(frame.odom_from_base[:3, 3])
        while stamp_ns is not None and stamp_ns < frame.stamp_ns:
            stamp_ns, parts = next(results, (None, {}))
        if stamp_ns == frame.stamp_ns:
            yield _moment(sample, parts, begin_ns)
        if stamp_ns is None or frame.stamp_ns >= last_ns:
            return


def results_by_stamp(path, wanted):
    """Yield (stamp, {topic: message}) of recorded results, in order of the stamp."""
    waiting = defaultdict(dict)
    for topic, type_name, data, _ in bag.read_messages(path, DRAWN):
        stamp_ns = stamp_of(data)
        if stamp_ns not in wanted:
            continue
        waiting[stamp_ns][topic] = deserialize_message(data, message_class(type_name))
        while min(waiting) < stamp_ns - SETTLED_NS:
            oldest = min(waiting)
            yield oldest, waiting.pop(oldest)
    for stamp_ns in sorted(waiting):
        yield stamp_ns, waiting[stamp_ns]


def _moment(sample, parts, begin_ns):
    """Return what is drawn of one frame; the nodes' answers may be absent."""
    frame = sample.frame
    detections, tracks = parts.get('/detections'), parts.get('/tracks')
    grid = parts.get('/path_cost')
    seconds = (frame.stamp_ns - begin_ns) / 1e9
    return Moment(
        frame=frame,
        detections=detections and messages.detections_from_msg(detections),
        tracks=tracks and messages.tracks_from_msg(tracks),
        grid=grid and messages.cost_grid_from_msg(grid),
        obstacle_points_odom=_obstacles(parts.get('/obstacle_points'), frame),
        truth=sample.truth if sample.truth is not None and len(sample.truth) else None,
        caption=f'{seconds:.1f} s',
    )


def _obstacles(msg, frame):
    """Return obstacle points in the odometry frame; None where that is unknown."""
    if msg is None or frame.odom_from_base is None or frame.base_from_lidar is None:
        return None
    points = messages.cloud_from_msg(msg, LidarConfig()).points
    return apply(frame.odom_from_base @ frame.base_from_lidar, points)
