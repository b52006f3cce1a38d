# SPDX-License-Identifier: Apache-2.0
"""
Signs to vision_msgs and back.

`results[0]` holds the class name and the score, `results[1]` says where the position comes from:
`range_from_lidar`, `range_from_size` or `range_from_track`. The pose looks where the face does;
one that was not measured looks back at the robot, and the variance of its yaw says so.
Source: vision_msgs 4.1.
"""

from mmperception.ros.headers import (
    array_from,
    header_from,
    ns_from_time,
    pose_from_yaw,
    yaw_from_quaternion,
)
from mmperception.ros.object_messages import box_detection
from mmperception.sign_classes import SIGN_CLASSES, sign_name
from mmperception.sign_facing import Facing
from mmperception.speed_limit import SignSighting
import numpy as np
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    Detection3DArray,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
)

PLATE_THICKNESS_M = 0.05
SOURCE_PREFIX = 'range_from_'
# Variance of an angle that is not measured.
UNOBSERVED = 1e3
CLASS_OF_NAME = {sign.name: class_id for class_id, sign in enumerate(SIGN_CLASSES)}


def msg_from_signs(signs):
    """Write Signs as a Detection3DArray; an empty one is a message too."""
    header = header_from(signs.stamp_ns, signs.frame_id)
    return Detection3DArray(
        header=header, detections=[_sign(signs, i, header) for i in range(len(signs))]
    )


def _sign(signs, i, header):
    x, y, _ = signs.position[i]
    facing = signs.facing[i] if signs.facing else Facing()
    yaw = facing.yaw_rad if facing.is_known else float(np.arctan2(-y, -x))
    pose = pose_from_yaw(signs.position[i], yaw)
    yaw_variance = facing.sigma_rad**2 if facing.is_known else UNOBSERVED
    covariance = np.diag([0.0, 0.0, 0.0, UNOBSERVED, UNOBSERVED, yaw_variance])
    covariance[:3, :3] = signs.covariance[i]
    hypotheses = [
        ObjectHypothesis(class_id=sign_name(signs.class_id[i]), score=float(signs.score[i])),
        ObjectHypothesis(class_id=SOURCE_PREFIX + signs.source[i], score=1.0),
    ]
    width_m = signs.width_m[i]
    return box_detection(
        header,
        pose,
        (PLATE_THICKNESS_M, width_m, width_m),
        [(hypothesis, covariance) for hypothesis in hypotheses],
        str(signs.track_id[i]),
    )


def msg_from_image_signs(found, stamp_ns, frame_id):
    """Write ImageSigns (None: none) as the Detection2DArray of one image."""
    header = header_from(stamp_ns, frame_id)
    number = 0 if found is None else len(found)
    return Detection2DArray(
        header=header, detections=[_image_sign(found, i, header) for i in range(number)]
    )


def _image_sign(found, i, header):
    x1, y1, x2, y2 = found.boxes[i].astype(float)
    area = BoundingBox2D(size_x=x2 - x1, size_y=y2 - y1)
    area.center.position.x, area.center.position.y = (x1 + x2) / 2, (y1 + y2) / 2
    hypothesis = ObjectHypothesis(
        class_id=sign_name(found.class_id[i]), score=float(found.score[i])
    )
    return Detection2D(
        header=header,
        results=[ObjectHypothesisWithPose(hypothesis=hypothesis)],
        bbox=area,
        id=str(found.track_id[i]),
    )


def facing_from_msg(detection):
    """Return the Facing of a Detection3D; unknown where its yaw has no or too large a variance."""
    if not detection.results:
        return Facing()
    pose = detection.results[0].pose
    variance, yaw = float(pose.covariance[35]), yaw_from_quaternion(pose.pose.orientation)
    # Zero means that nobody filled it in: unknown, never perfect.
    if not (0 < variance < UNOBSERVED and np.isfinite(yaw)):
        return Facing()
    return Facing(yaw, variance**0.5)


def sightings_from_msg(msg, base_frame):
    """
    Read what the speed limit needs from a `signs` message.

    Returns
    -------
    stamp_ns : int
    sightings : list of SignSighting
        Signs that were read; positions that are not finite are left out.

    Raises
    ------
    ValueError
        If the message is not in `base_frame`.

    """
    if msg.header.frame_id != base_frame:
        raise ValueError(f'signs in {msg.header.frame_id!r}, expected {base_frame!r}')
    sightings = []
    for one in msg.detections:
        name = one.results[0].hypothesis.class_id if one.results else ''
        position = array_from(one.bbox.center.position)
        if name in CLASS_OF_NAME and np.isfinite(position).all():
            sightings.append(
                SignSighting(
                    track=one.id,
                    class_id=CLASS_OF_NAME[name],
                    position=np.asarray(position, np.float64),
                    width_m=float(one.bbox.size.y),
                    facing=facing_from_msg(one),
                )
            )
    return ns_from_time(msg.header.stamp), sightings
