# SPDX-License-Identifier: Apache-2.0
"""
Detections and tracks to vision_msgs and autoware_perception_msgs, and back.

`class_id` is the class name everywhere, `id` the track. A track's UUID holds its number, so it
is stable and can be read back. Twists of tracks are in the axes of the header's frame.
Source: vision_msgs 4.1, autoware_perception_msgs 1.x.
"""

import re

from autoware_perception_msgs.msg import (
    ObjectClassification,
    Shape,
    TrackedObject,
    TrackedObjectKinematics,
    TrackedObjects,
)
from geometry_msgs.msg import PoseWithCovariance, TwistWithCovariance
from mmperception.datatypes import CLASSES, Detections, Tracks
from mmperception.ros.headers import (
    array_from,
    finite_array,
    header_from,
    ns_from_time,
    pose_from_yaw,
    vector_from,
    yaw_from_quaternion,
)
import numpy as np
from unique_identifier_msgs.msg import UUID
from vision_msgs.msg import (
    BoundingBox3D,
    Detection3D,
    Detection3DArray,
    LabelInfo,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    VisionClass,
)

AUTOWARE_LABELS = (
    ObjectClassification.CAR,
    ObjectClassification.PEDESTRIAN,
    ObjectClassification.BICYCLE,
)
# What another tracker may say, as our classes; anything else counts as a vehicle.
CLASS_OF_AUTOWARE = {
    ObjectClassification.PEDESTRIAN: 'pedestrian',
    ObjectClassification.BICYCLE: 'cyclist',
    ObjectClassification.MOTORCYCLE: 'cyclist',
}
# What fits into 64 bits; `isdigit` would let foreign digits through.
TRACK_NUMBER = re.compile('[0-9]{1,18}')
# Variance of what is not observed (vertical speed, turn rate): large, never 0.
UNOBSERVED = 1e3
# UUID version 8 (RFC 9562, own content): 6 bytes of name, then 7 bytes of track number.
UUID_HEAD = b'mmperc\x80\x00\x80'


def msg_from_detections(detections):
    """Write Detections as a Detection3DArray; an empty one is a message too."""
    header = header_from(detections.stamp_ns, detections.frame_id)
    return Detection3DArray(
        header=header,
        detections=[_detection(detections, i, header) for i in range(len(detections))],
    )


def _detection(detections, i, header):
    hypothesis = ObjectHypothesis(
        class_id=CLASSES[detections.label[i]], score=float(detections.score[i])
    )
    track_id = detections.track_id[i]
    pose = pose_from_yaw(detections.center[i], detections.yaw[i])
    return box_detection(
        header,
        pose,
        detections.size[i],
        [(hypothesis, detections.covariance[i])],
        str(track_id) if track_id >= 0 else '',
    )


def box_detection(header, pose, size, hypotheses, object_id):
    """
    Return one Detection3D whose results repeat the pose of the box.

    Parameters
    ----------
    header : std_msgs.msg.Header
        Of the array that it goes into.
    pose : geometry_msgs.msg.Pose
        Middle of the box.
    size : (3,)
        Length, width, height in metres.
    hypotheses : list of (ObjectHypothesis, (6, 6) covariance)
        Covariance of the pose: x, y, z, roll, pitch, yaw.
    object_id : str
        The track, or empty.

    """
    results = [
        ObjectHypothesisWithPose(
            hypothesis=hypothesis,
            pose=PoseWithCovariance(pose=pose, covariance=covariance.reshape(-1)),
        )
        for hypothesis, covariance in hypotheses
    ]
    return Detection3D(
        header=header,
        results=results,
        bbox=BoundingBox3D(center=pose, size=vector_from(size)),
        id=object_id,
    )


def boxes_from_msgs(messages):
    """
    Return center, size (N, 3) and yaw (N,) float32 of Detection3D messages.

    Raises
    ------
    ValueError
        If a box is not finite.

    """
    center = [array_from(one.bbox.center.position) for one in messages]
    size = [array_from(one.bbox.size) for one in messages]
    yaw = [yaw_from_quaternion(one.bbox.center.orientation) for one in messages]
    return (
        finite_array('bbox.center.position', center, (-1, 3)),
        finite_array('bbox.size', size, (-1, 3)),
        finite_array('bbox.center.orientation', yaw, (-1,)),
    )


def detections_from_msg(msg):
    """
    Read the Detections of a Detection3DArray.

    Raises
    ------
    ValueError
        If a detection has no class of ours, or a number in it is not finite.

    """
    best = []
    for one in msg.detections:
        if not one.results or one.results[0].hypothesis.class_id not in CLASSES:
            name = one.results[0].hypothesis.class_id if one.results else ''
            raise ValueError(f'class_id: {name!r} is none of {", ".join(CLASSES)}')
        best.append(one.results[0])
    center, size, yaw = boxes_from_msgs(msg.detections)
    return Detections(
        stamp_ns=ns_from_time(msg.header.stamp),
        frame_id=msg.header.frame_id,
        center=center,
        size=size,
        yaw=yaw,
        score=finite_array('score', [result.hypothesis.score for result in best], (-1,)),
        label=np.array([CLASSES.index(r.hypothesis.class_id) for r in best], np.int64),
        covariance=finite_array(
            'covariance', [r.pose.covariance for r in best], (-1, 6, 6), np.float64
        ),
        track_id=np.array([_number(one.id) for one in msg.detections], np.int64),
    )


def _number(text):
    return int(text) if TRACK_NUMBER.fullmatch(text) else -1


def uuid_from_track(track_id):
    """Return the UUID message of a track number, the same in every message."""
    number = int(track_id).to_bytes(7, 'big')
    return UUID(uuid=np.frombuffer(UUID_HEAD + number, np.uint8))


def track_from_uuid(uuid):
    """Return the track number of a UUID message (of a foreign one, some stable number)."""
    return int.from_bytes(bytes(uuid.uuid.tobytes())[-7:], 'big')


def msg_from_tracks(tracks):
    """Write Tracks as TrackedObjects; an empty one is a message too."""
    return TrackedObjects(
        header=header_from(tracks.stamp_ns, tracks.frame_id),
        objects=[_tracked_object(tracks, i) for i in range(len(tracks))],
    )


def _tracked_object(tracks, i):
    score = float(tracks.score[i])
    label = AUTOWARE_LABELS[tracks.label[i]]
    return TrackedObject(
        object_id=uuid_from_track(tracks.track_id[i]),
        existence_probability=score,
        classification=[ObjectClassification(label=label, probability=score)],
        kinematics=_kinematics(tracks, i),
        shape=Shape(type=Shape.BOUNDING_BOX, dimensions=vector_from(tracks.size[i])),
    )


def _kinematics(tracks, i):
    twist_covariance = UNOBSERVED * np.eye(6)
    twist_covariance[:2, :2] = tracks.velocity_covariance[i]
    kinematics = TrackedObjectKinematics(
        pose_with_covariance=PoseWithCovariance(
            pose=pose_from_yaw(tracks.center[i], tracks.yaw[i]),
            covariance=tracks.pose_covariance[i].reshape(-1),
        ),
        twist_with_covariance=TwistWithCovariance(covariance=twist_covariance.reshape(-1)),
        orientation_availability=TrackedObjectKinematics.AVAILABLE,
        is_stationary=bool(tracks.is_stationary[i]),
    )
    kinematics.twist_with_covariance.twist.linear = vector_from((*tracks.velocity[i], 0.0))
    kinematics.acceleration_with_covariance.covariance = (UNOBSERVED * np.eye(6)).reshape(-1)
    return kinematics


def tracks_from_msg(msg):
    """
    Read the Tracks of TrackedObjects.

    Raises
    ------
    ValueError
        If a number in them is not finite.

    """
    kinematics = [one.kinematics for one in msg.objects]
    poses = [k.pose_with_covariance for k in kinematics]
    twists = [k.twist_with_covariance for k in kinematics]
    labels = [CLASSES.index(_class_of(one)) for one in msg.objects]
    covariances = [[p.covariance for p in poses], [t.covariance for t in twists]]
    pose_covariance, twist_covariance = (
        finite_array('covariance', one, (-1, 6, 6), np.float64) for one in covariances
    )
    center = [array_from(p.pose.position) for p in poses]
    size = [array_from(one.shape.dimensions) for one in msg.objects]
    yaw = [yaw_from_quaternion(p.pose.orientation) for p in poses]
    velocity = [array_from(t.twist.linear)[:2] for t in twists]
    return Tracks(
        stamp_ns=ns_from_time(msg.header.stamp),
        frame_id=msg.header.frame_id,
        track_id=np.array([track_from_uuid(one.object_id) for one in msg.objects], np.int64),
        center=finite_array('position', center, (-1, 3)),
        size=finite_array('dimensions', size, (-1, 3)),
        yaw=finite_array('orientation', yaw, -1),
        velocity=finite_array('twist', velocity, (-1, 2)),
        score=finite_array(
            'existence_probability', [one.existence_probability for one in msg.objects], -1
        ),
        label=np.array(labels, np.int64),
        pose_covariance=pose_covariance,
        velocity_covariance=np.ascontiguousarray(twist_covariance[:, :2, :2]),
        is_stationary=np.array([k.is_stationary for k in kinematics], np.bool_),
    )


def _class_of(tracked):
    best = max(tracked.classification, key=lambda c: c.probability, default=None)
    return CLASS_OF_AUTOWARE.get(best.label, CLASSES[0]) if best else CLASSES[0]


def msg_from_classes(names, stamp, threshold=0.0):
    """Write which number means which class; `stamp` is a builtin_interfaces/Time."""
    msg = LabelInfo(
        class_map=[VisionClass(class_id=i, class_name=name) for i, name in enumerate(names)],
        threshold=float(threshold),
    )
    msg.header.stamp = stamp
    return msg
