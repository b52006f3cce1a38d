# SPDX-License-Identifier: Apache-2.0
"""
What was found as markers, which RViz and Foxglove draw without a plugin.

A marker keeps the number of its track; each message clears the former ones, and what a silent
node has left goes after a second. Colours and words are those of the overlay and the overview.
Source: visualization_msgs/MarkerArray.
"""

from builtin_interfaces.msg import Duration
from mmperception.canvas import CLASS_COLOURS
from mmperception.geometry import box_corners
from mmperception.image_view import box_title
from mmperception.ros.headers import header_from, point_from, pose_from_yaw, vector_from
import numpy as np
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

# Far longer than a frame takes: what a node that fell silent has left must go.
MARKER_LIFETIME = Duration(sec=1)
BOX_ALPHA = 0.45
NAME_HEIGHT_M = 0.6
LINE_WIDTH_M = 0.08
ARROW_M = (0.12, 0.4, 0.5)  # shaft, head, length of the head


def msg_from_markers(detections, tracks):
    """
    Write what was found as markers that RViz and Foxglove draw; the old ones go.

    Parameters
    ----------
    detections : Detections
        Boxes with their names (`boxes`, `names`) and a line on the roof to the front
        (`headings`), in the frame of the detections.
    tracks : Tracks
        Arrows (`motion`) in the frame of the tracks: where what moves is in one second.

    Returns
    -------
    msg : visualization_msgs.msg.MarkerArray

    """
    header = header_from(detections.stamp_ns, detections.frame_id)
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    for i in range(len(detections)):
        markers += [_box_marker(detections, i, header), _name_marker(detections, i, header)]
    if len(detections):
        markers.append(_heading_marker(detections, header))
    header = header_from(tracks.stamp_ns, tracks.frame_id)
    markers += [_motion_marker(tracks, i, header) for i in np.flatnonzero(~tracks.is_stationary)]
    return MarkerArray(markers=markers)


def _marker(header, namespace, number, kind, scale):
    return Marker(
        header=header,
        ns=namespace,
        id=number,
        type=kind,
        action=Marker.ADD,
        pose=pose_from_yaw((0, 0, 0), 0.0),
        scale=vector_from(scale),
        lifetime=MARKER_LIFETIME,
    )


def _box_marker(detections, i, header):
    size = np.maximum(detections.size[i], 1e-3)
    marker = _marker(header, 'boxes', _marker_id(detections, i), Marker.CUBE, size)
    marker.pose = pose_from_yaw(detections.center[i], detections.yaw[i])
    marker.color = _class_colour(detections.label[i], BOX_ALPHA)
    return marker


def _name_marker(detections, i, header):
    scale, number = (0, 0, NAME_HEIGHT_M), _marker_id(detections, i)
    marker = _marker(header, 'names', number, Marker.TEXT_VIEW_FACING, scale)
    above_m = 0.5 * detections.size[i][2] + NAME_HEIGHT_M
    marker.pose = pose_from_yaw(detections.center[i] + (0, 0, above_m), 0.0)
    marker.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    marker.text = box_title(detections, i)
    return marker


def _heading_marker(detections, header):
    """Draw all headings as one list of lines: from the middle of a roof to its front edge."""
    marker = _marker(header, 'headings', 0, Marker.LINE_LIST, (LINE_WIDTH_M, 0, 0))
    marker.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    roofs = box_corners(detections.center, detections.size, detections.yaw)[:, 4:]
    for roof, label in zip(roofs, detections.label, strict=True):
        marker.points += [point_from(roof.mean(axis=0)), point_from(roof[[0, 3]].mean(axis=0))]
        marker.colors += [_class_colour(label)] * 2
    return marker


def _motion_marker(tracks, i, header):
    marker = _marker(header, 'motion', _marker_id(tracks, i), Marker.ARROW, ARROW_M)
    marker.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    roof = tracks.center[i] + (0, 0, 0.5 * tracks.size[i][2])
    marker.points = [point_from(roof), point_from(roof + (*tracks.velocity[i], 0))]
    return marker


def _marker_id(objects, i):
    """Return the track's number; without one a negative number that no other box has."""
    track_id = int(objects.track_id[i])
    return track_id % 2**31 if track_id >= 0 else -1 - i


def _class_colour(label, alpha=1.0):
    red, green, blue = (value / 255 for value in CLASS_COLOURS[label])
    return ColorRGBA(r=red, g=green, b=blue, a=alpha)
