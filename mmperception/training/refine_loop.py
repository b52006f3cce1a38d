# SPDX-License-Identifier: Apache-2.0
"""
Training of the second stage on a bank of crops; the first stage stays as it is.

Proposals are pushed about, mirrored, stretched and thinned out anew in every step. Loss: smooth
L1 and 1 - IoU of the corrected box, and the quality as binary cross entropy against the IoU that
the corrected box reaches (nothing there: 0).
"""

from dataclasses import replace

from mmperception.network.crops import MARGIN_M, MARGIN_Z_M, MAX_POINTS
from mmperception.network.refine import changed_boxes, MIN_POINTS
from mmperception.training.added_part import AddedPartTrainer
from mmperception.training.losses import overlap_along
from mmperception.training.refine_bank import Crops, make_bank
import torch
import torch.nn.functional as F

# Standard deviations of the push: along and across, up (m), log of the size, turn (rad). True
# boxes are pushed further than proposals, which are wrong already.
PUSH_DRAWN = (0.35, 0.12, 0.12, 0.14)
PUSH_FOUND = (0.12, 0.05, 0.04, 0.05)
STRETCH = (0.06, 0.04, 0.05)
# IoU at which the quality begins to rise, and where it is full, by class.
QUALITY_FROM, QUALITY_TO = (0.3, 0.15, 0.15), (0.85, 0.7, 0.7)
# A true box that overlaps less than this is not what the proposal means.
MIN_OVERLAP = 0.1
BOX_WEIGHTS = (2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 3.0)


def augment(crops, generator):
    """Return the crops mirrored, stretched, and with their proposals pushed about."""
    return _push(_stretch(_mirror(crops, generator), generator), generator)


def _mirror(crops, generator):
    """Mirror half of them across their length, and half across their width."""
    M = len(crops)
    sign = torch.ones(M, 3)
    sign[:, :2] = torch.randint(0, 2, (M, 2), generator=generator) * 2.0 - 1.0
    flip = sign[:, 0] * sign[:, 1]
    # The sensor moves along: seen from the box it stands on the mirrored side.
    bearing = torch.atan2(crops.center[:, 1], crops.center[:, 0]) - crops.yaw
    seen_x, seen_y = torch.cos(bearing) * sign[:, 0], torch.sin(bearing) * sign[:, 1]
    reach = torch.hypot(crops.center[:, 0], crops.center[:, 1])
    return replace(
        crops,
        points=crops.points * sign[:, None].to(crops.points.dtype),
        true_center=crops.true_center * sign,
        true_yaw=crops.true_yaw * flip,
        center=torch.stack((reach * seen_x, reach * seen_y, crops.center[:, 2]), 1),
        yaw=torch.zeros(M),
    )


def _stretch(crops, generator):
    """Stretch what is seen along the proposal's axes: real vehicles differ more than ours."""
    M = len(crops)
    factor = torch.randn(M, 3, generator=generator).clamp(-2, 2) * torch.tensor(STRETCH) + 1
    return replace(
        crops,
        points=(crops.points * factor[:, None]).to(crops.points.dtype),
        size=crops.size * factor,
        true_center=crops.true_center * factor,
        true_size=crops.true_size * factor,
    )


def _push(crops, generator):
    """Move, turn and resize the proposals; everything is then told in the axes of the new ones."""
    M = len(crops)
    noise = torch.randn(M, 7, generator=generator).clamp(-2.5, 2.5)
    wide = torch.rand(M, 1, generator=generator)  # some far, most near
    drawn, found = (_spread(p) for p in (PUSH_DRAWN, PUSH_FOUND))
    noise = noise * wide * 2 * torch.where(crops.is_drawn[:, None], drawn, found)
    # A metre is much for a person: pushes go with the size.
    noise[:, :2] *= (crops.size[:, :2].mean(1, keepdim=True) / 3).clamp(0.3, 1.2)
    shift, turn = noise[:, :3], noise[:, 6]
    cos, sin = torch.cos(turn), torch.sin(turn)

    def seen(places):
        rest = places - shift.view(M, *[1] * (places.dim() - 2), 3)
        c, s = (v.view(M, *[1] * (places.dim() - 2)) for v in (cos, sin))
        x, y = rest[..., 0], rest[..., 1]
        return torch.stack((c * x + s * y, c * y - s * x, rest[..., 2]), -1)

    return replace(
        crops,
        points=seen(crops.points.float()),
        true_center=seen(crops.true_center),
        true_yaw=crops.true_yaw - turn,
        size=crops.size * noise[:, 3:6].exp(),
        yaw=crops.yaw + turn,
    )


def _spread(push):
    return torch.tensor([push[0], push[0], push[1], *[push[2]] * 3, push[3]])


def choose_points(crops, generator):
    """
    Draw `MAX_POINTS` of the points in the grown proposal, now and then from a thinner scan.

    Returns
    -------
    points : (M, MAX_POINTS, 3) float32
    count : (M,) float32
        Points there would be in all.

    """
    M, K, _ = crops.points.shape
    half = crops.size[:, None] / 2 + torch.tensor([MARGIN_M, MARGIN_M, MARGIN_Z_M])
    is_inside = (crops.points.abs() < half).all(2)
    stored = crops.count.clamp(max=K)
    is_inside &= torch.arange(K) < stored[:, None]
    share = torch.rand(M, 1, generator=generator).mul(1.4).clamp(0.15, 1.0)
    is_inside &= torch.rand(M, K, generator=generator) < share
    order = torch.rand(M, K, generator=generator) + 2.0 * ~is_inside
    rank = torch.topk(order, MAX_POINTS, dim=1, largest=False).indices
    number = is_inside.sum(1)
    # Fewer are repeated, as at inference.
    place = torch.arange(MAX_POINTS) % number.clamp(1, MAX_POINTS)[:, None]
    points = torch.gather(
        crops.points, 1, torch.gather(rank, 1, place)[..., None].expand(-1, -1, 3)
    )
    return points, number * (crops.count / stored.clamp(min=1))


def refine_loss(refiner, crops, generator, is_half=False):
    """Return the loss of augmented crops and its parts; `is_half`: layers in bfloat16."""
    crops = augment(crops, generator)
    points, count = choose_points(crops, generator)
    kept = count >= MIN_POINTS
    crops, points, count = crops.at(kept), points[kept], count[kept]
    with torch.autocast('cpu', torch.bfloat16, enabled=is_half):
        change, quality = refiner(points, count, crops.center, crops.size, crops.yaw, crops.label)
    change, quality = change.float(), quality.float()
    zero = torch.zeros_like(crops.center)
    moved, size, turn = changed_boxes(change, zero, crops.size, zero[:, 0])
    # A heading and its opposite are the same outline: the nearer of both is the answer.
    away = torch.remainder(crops.true_yaw + torch.pi / 2, torch.pi) - torch.pi / 2
    has_true = crops.true_size[:, 0] > 0
    true_size = torch.where(has_true[:, None], crops.true_size, torch.ones_like(zero))
    given = moved - crops.true_center, away, size, true_size, turn - away
    overlap = overlap_along(*given)
    before = overlap_along(-crops.true_center, away, crops.size, true_size, -away)
    is_mine = has_true & (before > MIN_OVERLAP)
    # Persons have no heading that a sweep shows: their turn is not asked for.
    weights = change.new_tensor(BOX_WEIGHTS).expand(len(change), -1).clone()
    weights[crops.label == 1, 6] = 0.0
    wanted = torch.cat((crops.true_center, (true_size / crops.size).log(), away[:, None]), 1)
    distance = F.smooth_l1_loss(change, wanted, reduction='none', beta=0.05)
    number = is_mine.sum().clamp(min=1)
    box = ((distance * weights).sum(1) * is_mine).sum() / number
    iou = ((1 - overlap) * is_mine).sum() / number
    low, high = (change.new_tensor(v)[crops.label] for v in (QUALITY_FROM, QUALITY_TO))
    target = ((overlap.detach() - low) / (high - low)).clamp(0, 1) * has_true
    score = F.binary_cross_entropy_with_logits(quality, target)
    parts = {'box': box, 'iou': iou, 'quality': score}
    return box + iou + score, {name: float(value.detach()) for name, value in parts.items()}


class RefineTrainer(AddedPartTrainer):
    """One run of the second stage in one folder; used like Trainer."""

    part, flag, rows_kind = 'refiner', 'refine', Crops
    make_bank = staticmethod(make_bank)

    def one_loss(self, batch, targets):
        """Return the loss of one batch of crops and its parts; `targets` is the seed."""
        generator = torch.Generator().manual_seed(targets + 1)
        return refine_loss(self.network, batch, generator, self.train.bfloat16)
