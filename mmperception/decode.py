# SPDX-License-Identifier: Apache-2.0
"""
Heads -> Detections: peaks of the heat maps, their boxes, and one detection for each object.

The only decoder, for training, evaluation and the nodes. Peak picking by 3x3 maximum as in
Objects as Points (Zhou et al., 2019); the score joins the class heat with the box's own IoU
estimate (Zheng et al., CIA-SSD, AAAI 2021). Everything here is float32.
"""

from mmperception.datatypes import Detections
from mmperception.network.heads import FOCAL_PX, vertical_focal_px
from mmperception.network.image_check import check_scores, image_rectangles
from mmperception.network.peaks import find_peaks
import numpy as np
import torch

# Weight of the IoU estimate in the score: score = heat ** (1 - a) * iou ** a.
IOU_WEIGHT = 0.25
# Weight of the second stage's quality in the score, in the same way.
QUALITY_WEIGHT = 0.3
# Least score of a box that the first and the second look are worth.
LEAST_OF_LOOK = (0.0, 0.1)
# Of two boxes of one class, the weaker falls when its centre lies in the stronger, grown by this.
OVERLAP_MARGIN_M = 0.2
# How often a box from the image is moved along its ray until it is as high as the image says.
NUM_FITS = 3
# Boxes below this score are never given out; average precision is counted from here on.
MIN_SCORE = 0.05
# Standard deviations that go out as covariance: measured with LiDAR, guessed from size without.
LIDAR_SIGMA_M, CAMERA_SIGMA_PER_M, SIGMA_YAW_RAD = 0.15, 0.1, 0.1


def decode_boxes(heads, batch, max_detections=100):
    """
    Turn the network's raw maps into boxes, one entry for each sample.

    Parameters
    ----------
    heads : Heads
        Heat as logits, on any device.
    batch : Batch
        That the heads answer; a sample without LiDAR is decoded from its cameras.
    max_detections : int
        The best of each sample, after overlapping ones are gone.

    Returns
    -------
    list of dict
        `center` (N, 3), `size` (N, 3), `yaw` (N,), `score` (N,) float32, `label` (N,) int64 and
        `sigma_m` (N,) float32, best first, in the frame of the points.

    """
    values = heads.box.float().split([len(peaks[0]) for peaks in heads.peaks])
    boxes = []
    for b in range(batch.num_samples):
        if batch.lidar_mask[b]:
            found = _decode_bev(heads.peaks[b], values[b], batch.grid.coarser(2))
        else:
            found = _decode_cameras(heads, batch, b)
        boxes.append(_suppress(found, max_detections))
    return boxes


def look_again(refiner, batch, b, boxes):
    """
    Correct the boxes of one sample by the second stage, twice, and rank them anew.

    What the first look brought near enough to its object the second brings nearer.

    Parameters
    ----------
    refiner : SwiftRefiner
        The second stage.
    batch : Batch
        On the CPU.
    b : int
        Sample; one without LiDAR keeps its boxes.
    boxes : dict
        As `decode_boxes` gives them.

    Returns
    -------
    dict

    """
    if not batch.lidar_mask[b]:
        return boxes
    boxes = {**boxes, 'first': boxes['score']}
    for least in LEAST_OF_LOOK:
        number = int((boxes['score'] >= least).sum())  # best first
        boxes, quality = refiner.refine(batch, b, boxes, number)
        known = np.isfinite(quality)
        score = boxes['score'].copy()
        score[known] = boxes['first'][known] ** (1 - QUALITY_WEIGHT)
        score[known] *= quality[known] ** QUALITY_WEIGHT
        order = np.argsort(-score, kind='stable')
        boxes = {name: value[order] for name, value in ({**boxes, 'score': score}).items()}
        boxes = _best_of_each(boxes, len(score))
    del boxes['first']
    return boxes


def hold_against_images(check, heads, batch, b, boxes):
    """
    Rank the boxes of one sample anew by what its images say of each.

    Parameters
    ----------
    check : ImageCheck
        In evaluation mode, on the CPU.
    heads : Heads
        With the cameras' `features` and what their heads say.
    batch : Batch
        On the CPU.
    b : int
        Sample; without LiDAR its boxes come from the images already and are kept.
    boxes : dict
        As `look_again` gives them.

    Returns
    -------
    dict

    """
    if not batch.lidar_mask[b] or not batch.image_mask[b].any() or not len(boxes['score']):
        return boxes
    score = check_scores(check, heads, batch, b, boxes)
    order = np.argsort(-score, kind='stable')
    order = order[score[order] >= MIN_SCORE]
    return {name: value[order] for name, value in ({**boxes, 'score': score}).items()}


def detections_from_boxes(boxes, stamp_ns, frame_id):
    """Build `Detections` from one entry of `decode_boxes`."""
    N = len(boxes['score'])
    covariance = np.zeros((N, 6, 6))
    index = np.arange(3)
    covariance[:, index, index] = boxes['sigma_m'][:, None] ** 2
    # Roll and pitch are not estimated: as unsure as a half turn.
    covariance[:, 3, 3] = covariance[:, 4, 4] = (np.pi / 2) ** 2
    covariance[:, 5, 5] = SIGMA_YAW_RAD**2
    arrays = {name: boxes[name] for name in ('center', 'size', 'yaw', 'score', 'label')}
    return Detections(
        stamp_ns=stamp_ns,
        frame_id=frame_id,
        covariance=covariance,
        track_id=np.full(N, -1, np.int64),
        **arrays,
    )


def heading(double_sine, double_cosine, direction):
    """Return yaw (rad) from sine and cosine of twice the heading and the direction logit."""
    half_turn = torch.atan2(double_sine, double_cosine) / 2  # in (-pi/2, pi/2]
    return torch.where(direction > 0, half_turn, half_turn + torch.pi)


def _decode_bev(peaks, values, grid):
    heat, label, row, column = peaks
    values = values.T  # (10, n)
    x = grid.x_min_m + (column + 0.5 + values[0]) * grid.cell_m
    y = grid.y_min_m + (row + 0.5 + values[1]) * grid.cell_m
    score = heat ** (1 - IOU_WEIGHT) * torch.sigmoid(values[9]) ** IOU_WEIGHT
    return {
        'center': torch.stack((x, y, values[2]), 1),
        'size': values[3:6].clamp(-3, 4).exp().T,
        'yaw': heading(values[6], values[7], values[8]),
        'score': score,
        'label': label,
        'sigma_m': torch.full_like(score, LIDAR_SIGMA_M),
    }


def _decode_cameras(heads, batch, b):
    """Decode every camera of sample `b`; boxes from depth, position from the ray."""
    found = [
        _decode_camera(
            heads.camera_heat[b, k], heads.camera_box[b, k], batch.pixel_from_base[b, k]
        )
        for k in range(batch.image_mask.shape[1])
        if batch.image_mask[b, k]
    ]
    if not found:
        return _empty(heads.box.device)
    return {name: torch.cat([f[name] for f in found]) for name in found[0]}


def _decode_camera(heat, box, pixel_from_base):
    last_row = 4 * heat.shape[1] - 1
    heat, label, row, column = find_peaks(torch.sigmoid(heat.float()), 100)
    values = box.float()[:, row, column]
    # Features sit at a quarter of the image: cell c is centred on pixel 4 c + 1.5.
    pixel = torch.stack((4 * (column + values[0]) + 1.5, 4 * (row + values[1]) + 1.5))
    depth = values[4].clamp(-1, 5).exp() * vertical_focal_px(pixel_from_base) / FOCAL_PX
    turn = torch.atan2(values[8], values[9]) / 2
    size = values[5:8].clamp(-3, 4).exp().T
    ray = torch.cat((pixel, torch.ones_like(pixel[:1])))  # (3, n)
    for _ in range(NUM_FITS):
        center = torch.linalg.solve(pixel_from_base[:, :3], ray * depth - pixel_from_base[:, 3:]).T
        yaw = turn + torch.atan2(center[:, 1], center[:, 0])
        rectangle, _ = image_rectangles(center, size, yaw, pixel_from_base)
        top, bottom = rectangle[:, 1], rectangle[:, 3]
        # A height in the image is seen better than a depth; a box cut by the rim shows none.
        is_whole = (top > 0) & (bottom < last_row)
        factor = (bottom - top) / (4 * values[3].clamp(-1, 5).exp())
        depth = depth * torch.where(is_whole, factor.clamp(0.7, 1.4), 1.0)
    return {
        'center': center,
        'size': size,
        'yaw': yaw,
        'score': heat,
        'label': label,
        'sigma_m': CAMERA_SIGMA_PER_M * depth,
    }


def _empty(device):
    return {
        'center': torch.zeros(0, 3, device=device),
        'size': torch.zeros(0, 3, device=device),
        'yaw': torch.zeros(0, device=device),
        'score': torch.zeros(0, device=device),
        'label': torch.zeros(0, dtype=torch.int64, device=device),
        'sigma_m': torch.zeros(0, device=device),
    }


def _suppress(found, limit):
    """Keep the best box of each object: two objects of one class cannot share their middle."""
    order = torch.argsort(found['score'], descending=True)
    return _best_of_each(
        {name: value[order].cpu().numpy() for name, value in found.items()}, limit
    )


def _best_of_each(boxes, limit):
    boxes['yaw'] = np.mod(boxes['yaw'] + np.pi, 2 * np.pi).astype(np.float32) - np.float32(np.pi)
    is_kept = boxes['score'] >= MIN_SCORE
    is_kept &= np.isfinite(boxes['center']).all(1) & np.isfinite(boxes['size']).all(1)
    boxes = {name: value[is_kept] for name, value in boxes.items()}
    is_same = _cover_each_other(boxes) & (boxes['label'][:, None] == boxes['label'])
    is_free = np.ones(len(boxes['score']), bool)
    # Each covers itself; only those that cover another one have to be asked, best first.
    for i in np.flatnonzero(is_same.sum(1) > 1):
        if is_free[i]:
            is_free &= ~is_same[i]
            is_free[i] = True
    kept = np.flatnonzero(is_free)[:limit]
    return {name: value[kept] for name, value in boxes.items()}


def _cover_each_other(boxes):
    """Return (N, N) bool: one of both has the centre of the other inside."""
    xy = boxes['center'][:, :2]
    covers = _inside(xy[None] - xy[:, None], boxes['yaw'][:, None], boxes['size'][:, None])
    return covers | covers.T


def _inside(delta, yaw, size):
    """Tell which horizontal steps (..., 2) from the middle of a box end inside of it."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    along = np.abs(cos * delta[..., 0] + sin * delta[..., 1])
    across = np.abs(cos * delta[..., 1] - sin * delta[..., 0])
    half = size[..., :2] / 2 + OVERLAP_MARGIN_M
    return (along < half[..., 0]) & (across < half[..., 1])
