# SPDX-License-Identifier: Apache-2.0
"""
A bank of boxes for the image check: what the images show there, and how well the box fits.

The whole network, both stages, runs over augmented scenes with images; each box that it gives is
kept with the features at its place in the image and its overlap with a true box of its class.
"""

from dataclasses import dataclass

from mmperception.decode import decode_boxes, look_again
from mmperception.evaluation.overlap import iou_3d
from mmperception.network.image_check import seen_regions
from mmperception.network.swift_refine import SwiftRefiner
from mmperception.training.bank import BankRows
from mmperception.training.refine_bank import is_open
from mmperception.training.scenes import IGNORED
from mmperception.training.targets import stack_targets
import numpy as np
import torch

# Of boxes that overlap one true box by more than this the best counts, others are left out.
SAME_OBJECT_IOU = 0.2


@dataclass(slots=True, kw_only=True, eq=False)
class Regions(BankRows):
    """
    Boxes in images.

    Attributes
    ----------
    read : (M, places, C) float16
    facts : (M, NUM_FACTS) float32
    label : (M,) int64
    score : (M,) float32
        As the network gives it without the check.
    overlap : (M,) float32
        Intersection over union with a true box of the class, in space.

    """

    read: torch.Tensor
    facts: torch.Tensor
    label: torch.Tensor
    score: torch.Tensor
    overlap: torch.Tensor


@torch.inference_mode()
def make_bank(network, batches, steps):
    """
    Run the network over batches and yield the `Regions` of each.

    Parameters
    ----------
    network : PerceptionNetwork
        In evaluation mode; with its second stage, if there is one.
    batches : SceneBatches
        Whose scenes are looked at; those without an image give nothing.
    steps : iterable of int
        Which of them.

    """
    refiner = None if network.refiner is None else SwiftRefiner(network.refiner)
    for step in steps:
        scenes, (*_, batch), grid = batches.draw(step)
        heads = network(batch)
        found = decode_boxes(heads, batch)
        mask = stack_targets(scenes, grid, (0, 0), network.config).mask.numpy()
        for b, (scene, boxes, open_cells) in enumerate(zip(scenes, found, mask, strict=True)):
            if not batch.image_mask[b].any() or not len(boxes['score']):
                continue
            if refiner is not None:
                boxes = look_again(refiner, batch, b, boxes)
            answers = torch.cat((heads.camera_heat[b, 0], heads.camera_box[b, 0]))
            regions = _regions(scene, boxes, heads.features[b], answers, batch.pixel_from_base[b])
            boxes = {name: value[regions[0]] for name, value in boxes.items()}
            kept = torch.from_numpy(_are_open(boxes, open_cells, grid.coarser(2)))
            kept &= regions[1].overlap >= 0
            yield regions[1].at(kept)


def _regions(scene, boxes, features, answers, matrices):
    """Return which boxes the first camera sees (n,), and their Regions."""
    tensors = {name: torch.from_numpy(value) for name, value in boxes.items()}
    index, read, facts = seen_regions(features[0], answers, matrices[0], tensors)
    overlap = torch.from_numpy(overlaps(scene, boxes))
    rows = Regions(
        read=read.half(),
        facts=facts,
        label=tensors['label'][index],
        score=tensors['score'][index],
        overlap=overlap[index],
    )
    return index.numpy(), rows


def overlaps(scene, boxes):
    """Return (N,) float32: overlap with a true box of the class, -1 for all but its best."""
    is_true = scene.label != IGNORED
    true = scene.center[is_true], scene.size[is_true], scene.yaw[is_true]
    mine = boxes['center'], boxes['size'], boxes['yaw']
    iou = iou_3d(mine, true) * (boxes['label'][:, None] == scene.label[is_true])
    overlap = iou.max(axis=1, initial=0.0).astype(np.float32)
    for column in iou.T:
        rivals = np.flatnonzero(column > SAME_OBJECT_IOU)  # best score first
        overlap[rivals[1:]] = -1.0
    return overlap


def _are_open(boxes, open_cells, grid):
    names = ('center', 'label')
    rows = ({name: boxes[name][n] for name in names} for n in range(len(boxes['label'])))
    return np.array([is_open(row, open_cells, grid) for row in rows], bool)
