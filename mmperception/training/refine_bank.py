# SPDX-License-Identifier: Apache-2.0
"""
A bank of crops for the second stage: what the first stage proposes, and what is really there.

The first stage runs over augmented scenes (real ones with pasted objects, simulated ones) and each
of its proposals is kept with the points around it and the nearest true box of its class. True
boxes are kept as well, to be pushed about while training. A crop is a few hundred points, so the
whole bank stays in memory and an epoch over it takes seconds.
"""

from dataclasses import dataclass

from mmperception.decode import decode_boxes
from mmperception.network.crops import chosen, in_box_axes, lots
from mmperception.training.bank import BankRows
from mmperception.training.scenes import IGNORED
from mmperception.training.targets import MIN_POINTS, stack_targets
import numpy as np
import torch

# Points kept of a crop, and how far around the proposal: it is moved about while training.
STORED_POINTS, REACH_M = 384, 1.6
# A true box further from the proposal than this is another object.
MAX_GAP_M = 3.0
MAX_PROPOSALS, MIN_TRUE_POINTS = 50, 5


@dataclass(slots=True, kw_only=True, eq=False)
class Crops(BankRows):
    """
    Crops as tensors, all in the axes of their proposal, from its centre.

    Attributes
    ----------
    points : (M, STORED_POINTS, 3) float16
    count : (M,) int32
        Points that there are; of more than are stored some are.
    center, size, yaw : (M, 3), (M, 3), (M,) float32
        The proposal in `base_link`.
    label : (M,) int64
    true_center, true_size, true_yaw : (M, 3), (M, 3), (M,) float32
        The nearest true box of the class in the proposal's axes; size 0 where there is none.
    is_drawn : (M,) bool
        The proposal is a true box itself, to be pushed about.

    """

    points: torch.Tensor
    count: torch.Tensor
    center: torch.Tensor
    size: torch.Tensor
    yaw: torch.Tensor
    label: torch.Tensor
    true_center: torch.Tensor
    true_size: torch.Tensor
    true_yaw: torch.Tensor
    is_drawn: torch.Tensor


def make_bank(network, batches, steps):
    """
    Run the first stage over batches and gather its proposals.

    Parameters
    ----------
    network : PerceptionNetwork
        In evaluation mode.
    batches : SceneBatches
        Whose scenes are looked at.
    steps : iterable of int
        Which of them.

    Yields
    ------
    Crops
        Of one batch.

    """
    for step in steps:
        scenes, (*_, batch), grid = batches.draw(step)
        with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16, enabled=False):
            found = decode_boxes(network(batch), batch, MAX_PROPOSALS)
        mask = stack_targets(scenes, grid, (0, 0), network.config).mask.numpy()
        rows = [
            row
            for scene, boxes, open_cells in zip(scenes, found, mask, strict=True)
            for row in _rows(scene, boxes, open_cells, grid.coarser(2))
        ]
        if rows:
            yield Crops.of(rows)


def _rows(scene, boxes, open_cells, grid):
    """Yield the crops of one scene: its proposals, then its true boxes."""
    is_true = (scene.label != IGNORED) & (scene.num_points >= MIN_POINTS)
    for n in range(len(boxes['score'])):
        proposal = {k: boxes[k][n] for k in ('center', 'size', 'yaw', 'label')}
        if not is_open(proposal, open_cells, grid):
            continue
        mine = np.flatnonzero(is_true & (scene.label == proposal['label']))
        gap = np.hypot(*(scene.center[mine, :2] - proposal['center'][:2]).T)
        nearest = mine[gap.argmin()] if len(mine) and gap.min() < MAX_GAP_M else None
        yield _row(scene, proposal, nearest, is_drawn=False)
    for m in np.flatnonzero(is_true & (scene.num_points >= MIN_TRUE_POINTS)):
        proposal = {k: getattr(scene, k)[m] for k in ('center', 'size', 'yaw', 'label')}
        if is_open(proposal, open_cells, grid):
            yield _row(scene, proposal, m, is_drawn=True)


def is_open(proposal, open_cells, grid):
    """Tell whether labels say what is there: in the labelled view and not left open."""
    column = int((proposal['center'][0] - grid.x_min_m) // grid.cell_m)
    row = int((proposal['center'][1] - grid.y_min_m) // grid.cell_m)
    if not (0 <= column < grid.num_x and 0 <= row < grid.num_y):
        return False
    return bool(open_cells[proposal['label'], row, column])


def _row(scene, proposal, nearest, is_drawn):
    center, size, yaw = (np.float32(proposal[k]) for k in ('center', 'size', 'yaw'))
    half = size / 2 + REACH_M
    reach = np.hypot(half[0], half[1])
    near = scene.points[(np.abs(scene.points[:, :2] - center[:2]) < reach).all(1)]
    local = in_box_axes(near, center, yaw)
    local = local[(np.abs(local) < half).all(1)]
    points = np.zeros((STORED_POINTS, 3), np.float16)
    if len(local):
        points[:] = local[chosen(lots(np.arange(len(local))), STORED_POINTS)]
    true = np.zeros(3, np.float32), np.zeros(3, np.float32), np.float32(0)
    if nearest is not None:
        true_center = in_box_axes(scene.center[nearest][None], center, yaw)[0]
        true = true_center, scene.size[nearest], np.float32(scene.yaw[nearest] - yaw)
    return {
        'points': points,
        'count': np.int32(len(local)),
        'center': center,
        'size': size,
        'yaw': np.float32(yaw),
        'label': np.int64(proposal['label']),
        'true_center': true[0].astype(np.float32),
        'true_size': true[1].astype(np.float32),
        'true_yaw': true[2],
        'is_drawn': np.bool_(is_drawn),
    }
