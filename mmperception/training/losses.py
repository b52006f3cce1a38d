# SPDX-License-Identifier: Apache-2.0
"""
Losses: a weighted sum over the fused, the LiDAR-only and the camera-only path.

Each path is supervised in every step, so that none is neglected and each works alone (the shared
decoder of MEFormer, masked-modality training of CMT). Heat: penalty-reduced focal loss (Law and
Deng, CornerNet, 2018, eq. 1); boxes: L1 at positive cells; score: IoU of the predicted box.
"""

import torch
import torch.nn.functional as F

WEIGHTS = {'fused': 1.0, 'lidar': 0.5, 'camera': 0.5, 'box': 1.0, 'camera_box': 0.3}
# Of 1 - IoU of the box: the one number that the benchmark asks for.
IOU_WEIGHT = 1.0
# Places from which a correlation of features is estimated.
MIN_PAIRS = 100
# Of the box channels: x and y matter in cells of 0.4 m, so metres weigh more there.
BOX_WEIGHTS = (1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0)


def total_loss(heads, targets, cell_m):
    """
    Return the weighted sum and its parts.

    Parameters
    ----------
    heads : Heads
        Heat as logits.
    targets : Targets
        On the same device; cells that its masks leave out cost nothing.
    cell_m : float
        Cell of the heads' grid.

    Returns
    -------
    loss : scalar tensor
    parts : dict of str to float

    """
    parts = {
        'fused': heat_loss(heads.heat_fused, targets.heat, targets.mask),
        'box': box_loss(heads.box, targets, cell_m),
    }
    # Without a camera both are the same map.
    is_same = heads.heat_lidar is heads.heat_fused
    parts['lidar'] = (
        parts['fused'] if is_same else heat_loss(heads.heat_lidar, targets.heat, targets.mask)
    )
    if heads.camera_heat.shape[1] and targets.camera_mask.any():
        parts |= camera_losses(heads.camera_heat[:, 0], heads.camera_box[:, 0], targets)
    return weighted_sum(parts)


def camera_losses(heat, box, targets):
    """Return the parts of the camera-only path from heat (B, C, h, w) and box (B, 10, h, w)."""
    mask = targets.camera_mask[:, None].expand_as(targets.camera_heat)
    return {
        'camera': heat_loss(heat, targets.camera_heat, mask),
        'camera_box': _camera_box_loss(box, targets),
    }


def weighted_sum(parts):
    """Return the weighted sum of scalar tensors by name, and the parts as numbers."""
    loss = sum(WEIGHTS[name] * value for name, value in parts.items())
    return loss, {name: float(value.detach()) for name, value in parts.items()}


def decorrelation_loss(lidar, camera):
    """
    Return the mean squared correlation between LiDAR and camera features, 0..1.

    Parameters
    ----------
    lidar, camera : (n, C), (n, C') float
        At the same n places; fewer than `MIN_PAIRS` say nothing, and cost nothing.

    Returns
    -------
    scalar tensor

    """
    if len(lidar) < MIN_PAIRS:
        return lidar.new_zeros(())
    unit = [_standardised(features.float()) for features in (lidar, camera)]
    correlation = unit[0].T @ unit[1] / len(lidar)  # (C, C')
    return correlation.square().mean()


def _standardised(features):
    centred = features - features.mean(0)
    # A channel that says the same everywhere correlates with nothing.
    return centred / (centred.square().mean(0) + 1e-4).sqrt()


def heat_loss(logits, heat, mask):
    """Penalty-reduced focal loss over (B, C, Y, X), divided by the number of positives."""
    logits = logits.float()
    positive = heat >= 1.0
    probability = torch.sigmoid(logits)
    # log sigmoid(x) = x - softplus(x) and log sigmoid(-x) = -softplus(x); positives are few.
    chosen = positive & mask
    miss = F.softplus(logits) * probability**2
    miss = (miss * ((1 - heat) ** 4 * (mask & ~positive))).sum()
    few = logits[chosen]
    hit = -(F.logsigmoid(few) * torch.sigmoid(-few) ** 2).sum()
    return (hit + miss) / chosen.sum().clamp(min=1)


def box_loss(box, targets, cell_m):
    """L1 of the box values, direction and IoU score at the positive cells."""
    values = box.float()  # (T, 10)
    count = max(len(values), 1)
    weights = values.new_tensor(BOX_WEIGHTS)
    distance = F.smooth_l1_loss(values[:, :8], targets.box[:, :8], reduction='none', beta=0.1)
    direction = F.binary_cross_entropy_with_logits(
        values[:, 8], targets.box[:, 8], reduction='sum'
    )
    overlap = box_iou(values, targets.box, cell_m)
    score = F.binary_cross_entropy_with_logits(values[:, 9], overlap.detach(), reduction='sum')
    total = (distance * weights).sum() + 0.2 * direction + 0.5 * score
    return (total + IOU_WEIGHT * (1 - overlap).sum()) / count


def box_iou(values, targets, cell_m):
    """
    Approximate 3D IoU of box values (T, 10) at the same cell, as the score's target.

    Both boxes are compared along the target's axes, and a wrong heading costs the squared cosine:
    exact for equal headings, which is what a score has to rank. `cell_m` turns offsets to metres.
    """
    half_turn = torch.atan2(targets[:, 6], targets[:, 7]) / 2
    delta = values[:, :3] - targets[:, :3]
    step = delta * delta.new_tensor((cell_m, cell_m, 1.0))
    size_a, size_b = values[:, 3:6].clamp(-3, 4).exp(), targets[:, 3:6].exp()
    turn = torch.atan2(values[:, 6], values[:, 7]) / 2 - half_turn
    return overlap_along(step, half_turn, size_a, size_b, turn)


def overlap_along(step, yaw, size_a, size_b, turn):
    """
    Return the approximate 3D IoU (T,) of boxes a with boxes b, compared along the axes of b.

    `step` (T, 3) leads from the centre of b to that of a, `yaw` (T,) is the heading of b, sizes
    are (T, 3), and `turn` (T,) is the heading of a less that of b, of which the squared cosine
    is taken off.
    """
    cos, sin = torch.cos(yaw), torch.sin(yaw)
    dx, dy, dz = step.T
    delta = torch.stack((cos * dx + sin * dy, cos * dy - sin * dx, dz), 1)
    overlap = torch.minimum(size_a / 2, delta + size_b / 2)
    overlap = (overlap - torch.maximum(-size_a / 2, delta - size_b / 2)).clamp(min=0)
    shared = overlap.prod(1)
    return shared / (size_a.prod(1) + size_b.prod(1) - shared) * torch.cos(turn) ** 2


def _camera_box_loss(box, targets):
    b, row, column = targets.camera_where.T
    values = box.float()[b, :, row, column]
    distance = F.smooth_l1_loss(values, targets.camera_box, reduction='sum', beta=0.1)
    return distance / max(len(values), 1)
