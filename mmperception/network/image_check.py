# SPDX-License-Identifier: Apache-2.0
"""
What an image says about a box that is already there: evidence for it or against it.

Beside a LiDAR a network learns to do without its camera, however it is fused. So each box is held
against the image as well: features of the camera's trunk on a grid over the box's place in it
become log odds, which are added to those of its score. Boxes never move by it, and without an
image there is no evidence, exactly. Candidates of two sensors joined at the end: Pang et al.,
CLOCs, IROS 2020; a grid of features in a region: He et al., Mask R-CNN, ICCV 2017.
"""

from itertools import product

from mmperception.network.heads import CAMERA_CHANNELS, FOCAL_PX, vertical_focal_px
import torch
from torch import nn
import torch.nn.functional as F

# Places along and across a region, which is the box's rectangle in the image, grown.
PLACES = 6
REGION_GROWTH, REGION_MARGIN_PX = 1.4, 2.0
# Corners nearer than this to the image plane stand for the near rim of a box beside the camera.
NEAREST_M = 0.5
# Places along and across a box at which the camera's own answer is looked for.
ANSWER_PLACES = 12
NUM_FACTS = 16
# Evidence is worth this much on images never seen, where it was learned from some hundreds: chosen
# on simulated validation (docs/decisions.md).
TRUST = 0.6


class ImageCheck(nn.Module):
    """
    Regions of an image -> log odds for what the LiDAR took them for.

    `slope` and `offset` (classes,) make probabilities of the scores before, as training found
    them; evidence is given in units of those scores.
    """

    def __init__(self, channels, num_classes, width=64):
        super().__init__()
        self.place = nn.Linear(channels, 24)
        self.region = nn.Linear(24 * PLACES**2, width)
        self.facts = nn.Linear(NUM_FACTS + num_classes, width)
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, num_classes)
        self.drop = nn.Dropout(0.2)
        self.slope = nn.Parameter(torch.ones(num_classes))
        self.offset = nn.Parameter(torch.zeros(num_classes))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, read, facts, label):
        """
        Weigh regions.

        Parameters
        ----------
        read : (M, PLACES ** 2, C) float32
            Features at the places of each region.
        facts : (M, NUM_FACTS) float32
            As `region_facts` gives them.
        label : (M,) int64
            Class of each box.

        Returns
        -------
        evidence : (M,)

        """
        kind = F.one_hot(label, len(self.slope)).to(facts.dtype)
        seen = torch.relu(self.place(read)).flatten(1)
        joined = self.region(self.drop(seen)) + self.facts(torch.cat((facts, kind), dim=1))
        hidden = torch.relu(self.hidden(torch.relu(joined)))
        return self.out(hidden).gather(1, label[:, None])[:, 0]


def image_rectangles(center, size, yaw, pixel_from_base):
    """
    Return where boxes are in an image: x1 y1 x2 y2 (M, 4) pixels, and whether all lies ahead.

    Parameters
    ----------
    center, size, yaw : (M, 3), (M, 3), (M,) float32
        base_link metres and radians.
    pixel_from_base : (3, 4) float32
        Of the image.

    Returns
    -------
    rectangle : (M, 4), is_ahead : (M,) bool

    """
    signs = torch.tensor(list(product((-0.5, 0.5), repeat=3)), device=size.device)  # (8, 3)
    x, y, z = (signs * size[:, None]).unbind(-1)  # (M, 8)
    cos, sin = torch.cos(yaw)[:, None], torch.sin(yaw)[:, None]
    corners = torch.stack((cos * x - sin * y, sin * x + cos * y, z), -1) + center[:, None]
    projected = corners @ pixel_from_base[:, :3].T + pixel_from_base[:, 3]
    depth = projected[..., 2]
    pixel = projected[..., :2] / depth.clamp(min=NEAREST_M)[..., None]
    return torch.cat((pixel.amin(1), pixel.amax(1)), dim=1), (depth > NEAREST_M).all(1)


def read_regions(features, rectangle):
    """
    Read the places of regions.

    Parameters
    ----------
    features : (C, h, w) float32
        At a quarter of the image's resolution; zero is read outside.
    rectangle : (M, 4) float32
        As `image_rectangles` gives them.

    Returns
    -------
    read : (M, PLACES ** 2, C), inside : (M,)
        Features, and the share of the places that lie in the image.

    """
    middle = (rectangle[:, :2] + rectangle[:, 2:]) / 2
    half = (rectangle[:, 2:] - rectangle[:, :2]) / 2 * REGION_GROWTH + REGION_MARGIN_PX
    read, is_inside = _read_grid(features, middle, half, PLACES, 'bilinear')
    return read, is_inside.float().mean(1)


def _read_grid(maps, middle, half, places, mode):
    """Return (M, places ** 2, C), zero outside, and which places are inside."""
    _, h, w = maps.shape
    step = (torch.arange(places, device=maps.device) + 0.5) / places * 2 - 1
    down, along = torch.meshgrid(step, step, indexing='ij')
    offset = torch.stack((along.flatten(), down.flatten()), dim=1)  # (places ** 2, 2)
    pixel = middle[:, None] + half[:, None] * offset
    where = (pixel + 0.5) * pixel.new_tensor([2 / (4 * w), 2 / (4 * h)]) - 1  # (M, P, 2)
    read = F.grid_sample(maps[None], where[None], mode=mode, align_corners=False)[0]
    is_inside = (where.abs() < 1).all(-1)
    return read.permute(1, 2, 0) * is_inside[..., None], is_inside


def answer_facts(answers, rectangle, pixel_from_base, boxes):
    """
    Compare boxes with what the camera alone says there.

    Parameters
    ----------
    answers : (classes + CAMERA_CHANNELS, h, w) float32
        Heat and boxes of the camera head.
    rectangle : (M, 4) float32
        As `image_rectangles` gives them.
    pixel_from_base : (3, 4) float32
        Of the image.
    boxes : dict of Tensor
        `center`, `size`, `yaw`, `label` of the M boxes.

    Returns
    -------
    (M, 10)
        Heat of each class at its strongest place in the box; then at that of the box's class how
        depth, height and width in the image, length, width and height differ (logs) and how
        well the heading agrees (cosine of twice the angle).

    """
    num_classes = len(answers) - CAMERA_CHANNELS
    middle = (rectangle[:, :2] + rectangle[:, 2:]) / 2
    half = (rectangle[:, 2:] - rectangle[:, :2]) / 2
    read, is_inside = _read_grid(answers, middle, half, ANSWER_PLACES, 'nearest')
    heat = torch.where(is_inside[..., None], read[..., :num_classes].clamp(-8, 8), -8.0)
    strongest, place = heat.max(dim=1)  # (M, classes)
    own = place.gather(1, boxes['label'][:, None])[..., None]
    value = read.gather(1, own.expand(-1, -1, read.shape[2]))[:, 0, num_classes:]
    depth = boxes['center'] @ pixel_from_base[2, :3] + pixel_from_base[2, 3]
    seen_as = depth.clamp(min=NEAREST_M) * FOCAL_PX / vertical_focal_px(pixel_from_base)
    extent = (2 * half / 4).clamp(min=0.1).log()
    turn = boxes['yaw'] - torch.atan2(boxes['center'][:, 1], boxes['center'][:, 0])
    # In training a scene may be scaled and mirrored beside its image; what is told is the image's.
    linear = pixel_from_base[:, :3]
    turn = turn * torch.linalg.det(linear).sign()
    size = boxes['size'] * linear[2].norm()
    agreement = value[:, 8] * torch.sin(2 * turn) + value[:, 9] * torch.cos(2 * turn)
    expected = torch.cat((extent, seen_as.log()[:, None], size.clamp(min=0.1).log()), dim=1)
    differences = value[:, 2:8] - expected
    return torch.cat(
        (strongest / 4, 3 * differences.clamp(-1, 1), agreement.clamp(-1, 1)[:, None]), dim=1
    )


def region_facts(rectangle, inside, center, score):
    """Return (M, 6): what is known of boxes without looking, scaled to about one."""
    width, height = (rectangle[:, 2:] - rectangle[:, :2]).clamp(1, 2000).log().unbind(1)
    away = torch.hypot(center[:, 0], center[:, 1]) / 50
    return torch.stack(
        (width / 3, height / 3, width - height, inside, away, log_odds(score) / 3), dim=1
    )


def log_odds(score):
    """Return the logit of scores, finite."""
    return torch.logit(score, eps=1e-4)


def seen_regions(features, answers, pixel_from_base, boxes):
    """
    Read the regions of all boxes whose middle one camera sees.

    Parameters
    ----------
    features : (C, h, w) float32
        Of its image.
    answers : (classes + CAMERA_CHANNELS, h, w) float32
        What the camera head says of it: heat, then boxes.
    pixel_from_base : (3, 4) float32
        Of the image.
    boxes : dict of Tensor
        `center`, `size`, `yaw`, `score`, `label`.

    Returns
    -------
    index : (n,) int64, read : (n, PLACES ** 2, C), facts : (n, NUM_FACTS)

    """
    _, h, w = features.shape
    placed = (boxes[name] for name in ('center', 'size', 'yaw'))
    rectangle, is_ahead = image_rectangles(*placed, pixel_from_base)
    middle = (rectangle[:, :2] + rectangle[:, 2:]) / 2
    is_seen = is_ahead & (middle > 0).all(1) & (middle < middle.new_tensor([4 * w, 4 * h])).all(1)
    index = torch.nonzero(is_seen)[:, 0]
    read, inside = read_regions(features, rectangle[index])
    facts = region_facts(rectangle[index], inside, boxes['center'][index], boxes['score'][index])
    told = answer_facts(
        answers, rectangle[index], pixel_from_base, {n: v[index] for n, v in boxes.items()}
    )
    return index, read, torch.cat((told, facts), dim=1)


@torch.inference_mode()
def check_scores(check, heads, batch, b, boxes):
    """
    Weigh the boxes of one sample by what its images say.

    Parameters
    ----------
    check : ImageCheck
        In evaluation mode, on the CPU.
    heads : Heads
        With the cameras' `features` and what their heads say.
    batch : Batch
        On the CPU.
    b : int
        Sample.
    boxes : dict of ndarray
        As `decode.decode_boxes` gives them.

    Returns
    -------
    score : (N,) float32
        The same where no camera sees the middle of a box; where several do, by their mean.

    """
    tensors = {name: torch.from_numpy(value) for name, value in boxes.items()}
    label, score = tensors['label'], tensors['score']
    evidence, number = torch.zeros_like(score), torch.zeros_like(score)
    for k in torch.nonzero(batch.image_mask[b])[:, 0].tolist():
        answers = torch.cat((heads.camera_heat[b, k], heads.camera_box[b, k])).float().cpu()
        index, read, facts = seen_regions(
            heads.features[b, k].float().cpu(), answers, batch.pixel_from_base[b, k], tensors
        )
        if len(index):
            found = TRUST * check(read, facts, label[index]) / check.slope[label[index]]
            evidence.index_add_(0, index, found)
            number[index] += 1
    weighed = torch.sigmoid(log_odds(score) + evidence / number.clamp(min=1))
    return torch.where(number > 0, weighed, score).numpy()
