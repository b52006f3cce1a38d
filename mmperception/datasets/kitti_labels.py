# SPDX-License-Identifier: Apache-2.0
"""
The three label formats of KITTI, brought into one: boxes in the LiDAR frame.

Tracklets (XML, LiDAR frame), tracking rows (label_02) and object rows (label_2), both in the
rectified frame of camera 0. `truth_from_labels` turns those of one frame into a `Truth`.
Source: the data set's own format descriptions (Geiger et al., IJRR 2013).
"""

from dataclasses import dataclass
import json
from pathlib import Path
import xml.etree.ElementTree as ElementTree

from mmperception.datasets.kitti_calibration import CAMERA
from mmperception.geometry import apply, invert, transform_boxes
from mmperception.recording import Truth
import numpy as np

# Ids of boxes that somebody else added because the labels lack them: neither hit nor miss.
UNLABELLED_PREFIX = 'unlabelled_'


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Label:
    """
    One box in the LiDAR frame.

    `bottom` is the centre of its lower face, `size` length, width, height. DontCare regions have
    no box: their `image_box` x1 y1 x2 y2 is all there is.
    """

    kind: str
    bottom: tuple[float, float, float] = (0.0, 0.0, 0.0)
    size: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw_rad: float = 0.0
    occlusion: int = -1
    object_id: str = ''
    is_ignored: bool = False
    image_box: tuple[float, float, float, float] | None = None


def read_tracklets(path):
    """Read tracklet_labels.xml; return {frame number: [Label]}."""
    labels = {}
    items = ElementTree.parse(path).getroot().findall('tracklets/item')
    for index, item in enumerate(items):
        first = int(item.findtext('first_frame'))
        size = tuple(float(item.findtext(name)) for name in 'lwh')
        for step, pose in enumerate(item.findall('poses/item')):
            label = Label(
                kind=_kind(item.findtext('objectType')),
                bottom=tuple(float(pose.findtext(name)) for name in ('tx', 'ty', 'tz')),
                size=size,
                yaw_rad=float(pose.findtext('rz')),
                occlusion=int(pose.findtext('occlusion')),
                object_id=str(index),
            )
            labels.setdefault(first + step, []).append(label)
    return labels


def read_tracking_rows(path, rect_from_velo):
    """Read a tracking label file (frame and track id lead each row): {frame: [Label]}."""
    labels = {}
    for row in _rows(path):
        label = _label_from_row(row[2:], rect_from_velo, object_id=row[1])
        labels.setdefault(int(row[0]), []).append(label)
    return labels


def read_object_rows(path, rect_from_velo):
    """Read one label_2 file; its boxes are not followed over time, so ids say frame and row."""
    stem = Path(path).stem
    return [
        _label_from_row(row, rect_from_velo, object_id=f'{stem}_{index}')
        for index, row in enumerate(_rows(path))
    ]


def read_unlabelled(path):
    """Read an ignore.json beside a drive: boxes which its labels lack, {frame: [Label]}."""
    frames = json.loads(Path(path).read_text(encoding='utf-8'))['frames']
    return {
        int(frame): [_label_from_json(box) for box in boxes] for frame, boxes in frames.items()
    }


def truth_from_labels(stamp_ns, labels, base_from_lidar):
    """
    Bring the labels of one sweep into `base_link`.

    Parameters
    ----------
    stamp_ns : int
        Of the sweep on which the boxes were drawn.
    labels : sequence of Label
        In the LiDAR frame, with the DontCare regions.
    base_from_lidar : (4, 4) float64
        Maps LiDAR coordinates to `base_link`; headings turn with it.

    Returns
    -------
    truth : Truth
        DontCare regions in `ignore_2d['camera']`.

    """
    boxes = [label for label in labels if label.kind != 'dontcare']
    regions = [label.image_box for label in labels if label.kind == 'dontcare']
    size = np.array([label.size for label in boxes], np.float32).reshape(-1, 3)
    center = np.array([label.bottom for label in boxes], np.float64).reshape(-1, 3)
    center[:, 2] += size[:, 2] / 2
    yaw = np.array([label.yaw_rad for label in boxes], np.float64)
    center, yaw = transform_boxes(base_from_lidar, center, yaw)
    return Truth(
        stamp_ns=stamp_ns,
        center=center,
        size=size,
        yaw=yaw,
        kinds=tuple(label.kind for label in boxes),
        occlusion=np.array([label.occlusion for label in boxes], np.int64),
        object_id=tuple(label.object_id for label in boxes),
        is_ignored=np.array([label.is_ignored for label in boxes], bool),
        ignore_2d={CAMERA: np.array(regions, np.float32).reshape(-1, 4)},
    )


def _rows(path):
    lines = Path(path).read_text(encoding='ascii').splitlines()
    return [line.split() for line in lines if line.strip()]


def _kind(name):
    return {'person (sitting)': 'person_sitting'}.get(name.lower(), name.lower())


def _label_from_row(row, rect_from_velo, object_id):
    """Turn one row (type trunc occ alpha box h w l x y z ry [score]) into a LiDAR-frame box."""
    if len(row) < 15:
        raise ValueError(f'label row of {len(row)} columns, expected 15: {" ".join(row)}')
    kind, values = _kind(row[0]), [float(value) for value in row[1:15]]
    if kind == 'dontcare':
        return Label(kind=kind, image_box=tuple(values[3:7]))
    height, width, length = values[7:10]
    # The tilt of the camera against the LiDAR (under a degree) turns no box.
    bottom = apply(invert(rect_from_velo), np.array(values[10:13]))
    return Label(
        kind=kind,
        bottom=tuple(bottom),
        size=(length, width, height),
        yaw_rad=-values[13] - np.pi / 2,
        # KITTI writes 3 for unknown.
        occlusion=int(values[1]) if 0 <= values[1] <= 2 else -1,
        object_id=object_id,
        image_box=tuple(values[3:7]),
    )


def _label_from_json(box):
    return Label(
        kind=_kind(box['type']),
        bottom=(box['x'], box['y'], box['z']),
        size=(box['l'], box['w'], box['h']),
        yaw_rad=box['yaw'],
        object_id=f'{UNLABELLED_PREFIX}{box["tracklet"]}',
        is_ignored=True,
    )
