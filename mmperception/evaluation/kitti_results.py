# SPDX-License-Identifier: Apache-2.0
"""
Detections as result files of the KITTI object benchmark, one line each.

`type trunc occ alpha x1 y1 x2 y2 h w l x y z ry score` in the rectified frame of camera 0: what
`predict --format kitti-object` writes. Source: the read-me of the benchmark's devkit.
"""

from mmperception.evaluation.viewpoint import image_boxes, Viewpoint
from mmperception.geometry import apply, invert, transform_boxes, wrap_angle
import numpy as np

TYPE_OF_LABEL = ('Car', 'Pedestrian', 'Cyclist')


def result_lines(detections, calibration, image_size=None):
    """
    Write detections as result lines, best first.

    Parameters
    ----------
    detections : Detections
        In `base_link`.
    calibration : Calibration
        Of the same frame.
    image_size : (int, int), optional
        Width, height; KITTI's usual size by default.

    Returns
    -------
    lines : list of str
        Of those in front of the camera whose projected box meets the image.

    """
    viewpoint = Viewpoint(
        lidar_xy=calibration.base_from_lidar[:2, 3],
        camera_from_base=calibration.camera_from_base,
        model=calibration.camera_model(image_size),
    )
    boxes = (detections.center, detections.size, detections.yaw)
    in_image = image_boxes(boxes, viewpoint)
    bottom, rotation_y = _to_rect(boxes, calibration)
    is_shown = in_image.is_visible & (bottom[:, 2] > 0)
    return [
        _line(
            TYPE_OF_LABEL[detections.label[n]],
            (rotation_y[n] - np.arctan2(bottom[n, 0], bottom[n, 2]), *in_image.clipped[n]),
            (*detections.size[n, ::-1], *bottom[n], rotation_y[n]),
            detections.score[n],
        )
        for n in np.flatnonzero(is_shown)
    ]


def _to_rect(boxes, calibration):
    """Return bottom centres (N, 3) and rotation_y (N,) in the rectified camera-0 frame."""
    center, size, yaw = boxes
    center, yaw = transform_boxes(invert(calibration.base_from_lidar), center, yaw)
    bottom = np.asarray(center, np.float64) - np.outer(np.asarray(size)[:, 2] / 2, (0, 0, 1))
    return apply(calibration.rect_from_velo, bottom), wrap_angle(-yaw - np.pi / 2)


def _line(kind, alpha_and_image_box, box, score):
    alpha, *image_box = alpha_and_image_box
    numbers = [wrap_angle(alpha), *image_box, *box]
    return f'{kind} -1 -1 ' + ' '.join(f'{number:.4f}' for number in numbers) + f' {score:.4f}'
