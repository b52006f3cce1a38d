# SPDX-License-Identifier: Apache-2.0
"""
Truth to vision_msgs and back, as bags hold it.

`truth/detections`: results[0] is the kind with score 1, results[1] is `occlusion` with its level
as score, and a box that counts neither as hit nor as miss has results[2] `ignored`.
`truth/ignore_2d`: boxes of one image in which detections are not counted.
"""

from mmperception.recording import Truth
from mmperception.ros.headers import header_from, ns_from_time, pose_from_yaw
from mmperception.ros.object_messages import box_detection, boxes_from_msgs
import numpy as np
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    Detection3DArray,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
)

OCCLUSION, IGNORED, DONT_CARE = 'occlusion', 'ignored', 'dontcare'


def msg_from_truth(truth, frame_id='base_link'):
    """Write the labelled boxes of one sweep as a Detection3DArray."""
    header = header_from(truth.stamp_ns, frame_id)
    return Detection3DArray(
        header=header,
        detections=[_labelled_box(truth, i, header) for i in range(len(truth))],
    )


def _labelled_box(truth, i, header):
    facts = [(truth.kinds[i], 1.0), (OCCLUSION, float(truth.occlusion[i]))]
    if truth.is_ignored[i]:
        facts.append((IGNORED, 1.0))
    hypotheses = [
        (ObjectHypothesis(class_id=name, score=score), np.zeros((6, 6))) for name, score in facts
    ]
    pose = pose_from_yaw(truth.center[i], truth.yaw[i])
    return box_detection(header, pose, truth.size[i], hypotheses, truth.object_id[i])


def msg_from_ignore_2d(boxes, stamp_ns, frame_id):
    """
    Write DontCare boxes as a Detection2DArray.

    Parameters
    ----------
    boxes : (M, 4) float32
        x1 y1 x2 y2, pixels.
    stamp_ns : int
        Of the image.
    frame_id : str
        The camera's optical frame.

    """
    header = header_from(stamp_ns, frame_id)
    return Detection2DArray(
        header=header, detections=[_ignored_box(box, header) for box in np.asarray(boxes, float)]
    )


def _ignored_box(box, header):
    x1, y1, x2, y2 = box
    area = BoundingBox2D(size_x=x2 - x1, size_y=y2 - y1)
    area.center.position.x, area.center.position.y = (x1 + x2) / 2, (y1 + y2) / 2
    hypothesis = ObjectHypothesis(class_id=DONT_CARE, score=1.0)
    return Detection2D(
        header=header, results=[ObjectHypothesisWithPose(hypothesis=hypothesis)], bbox=area
    )


def ignore_2d_from_msg(msg):
    """Return the (M, 4) float32 boxes x1 y1 x2 y2 of a Detection2DArray."""
    boxes = [
        (
            one.bbox.center.position.x - one.bbox.size_x / 2,
            one.bbox.center.position.y - one.bbox.size_y / 2,
            one.bbox.center.position.x + one.bbox.size_x / 2,
            one.bbox.center.position.y + one.bbox.size_y / 2,
        )
        for one in msg.detections
    ]
    return np.array(boxes, np.float32).reshape(-1, 4)


def truth_from_msgs(detections, ignore_2d=None):
    """
    Read the truth of one sweep.

    Parameters
    ----------
    detections : vision_msgs.msg.Detection3DArray
        As `truth/detections` holds them.
    ignore_2d : dict of str to Detection2DArray, optional
        By camera name.

    Raises
    ------
    ValueError
        If a box has no kind.

    """
    facts = [_facts(one) for one in detections.detections]
    center, size, yaw = boxes_from_msgs(detections.detections)
    return Truth(
        stamp_ns=ns_from_time(detections.header.stamp),
        center=center,
        size=size,
        yaw=yaw,
        kinds=tuple(kind for kind, _ in facts),
        occlusion=np.array([fact.get(OCCLUSION, -1) for _, fact in facts], np.int64),
        object_id=tuple(one.id for one in detections.detections),
        is_ignored=np.array([IGNORED in fact for _, fact in facts], np.bool_),
        ignore_2d={name: ignore_2d_from_msg(msg) for name, msg in (ignore_2d or {}).items()},
    )


def _facts(detection):
    """Return the kind of a labelled box and {name: score} of the rest."""
    if not detection.results:
        raise ValueError(f'results: the truth box {detection.id!r} has no kind')
    kind, *rest = (result.hypothesis for result in detection.results)
    return kind.class_id, {one.class_id: one.score for one in rest}
