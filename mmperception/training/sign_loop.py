# SPDX-License-Identifier: Apache-2.0
"""
Training of the sign networks: the loop of loop.py with networks, losses and data of their own.

Detector: penalty-reduced focal loss of the heat (CornerNet, eq. 1) and 1 - GIoU of the boxes
(Rezatofighi et al., CVPR 2019). Classifier: cross entropy, labels smoothed by 5 percent.
"""

from dataclasses import asdict
import json
from pathlib import Path

from mmperception.checkpoint import save_network
from mmperception.network.signs import (
    build_sign_network,
    default_config,
    DETECTOR,
    fold_pixels,
    scale_pixels,
)
from mmperception.sign_weights import load_sign_network
from mmperception.signs import edges_from_values, SignReader
from mmperception.training.loop import check_torch, Trainer
from mmperception.training.losses import heat_loss
from mmperception.training.sign_crops import ClassifierBatches
from mmperception.training.sign_data import load_sign_data
from mmperception.training.sign_scenes import DetectorBatches, DetectorTargets
import torch
import torch.nn.functional as F

SMOOTHING = 0.05


class SignTrainer(Trainer):
    """One run of a sign network in one folder; used like Trainer."""

    def __init__(self, train, out, root, device='cpu'):
        check_torch()
        self.is_detector = train.network == DETECTOR
        torch.manual_seed(train.seed)
        network = build_sign_network(default_config(train.network))
        if train.start:
            network = load_sign_network(train.start, train.network)[0]
        finder = None
        if train.detector:
            finder = SignReader(load_sign_network(train.detector, DETECTOR)[0])
        data = load_sign_data(train, root, finder)
        self.facts = {
            'images': str(len({image.path for image in data.images})),
            'crops': str(len(data.crops)),
            'mistakes': str(len(data.mistakes)),
        }
        batches = (DetectorBatches if self.is_detector else ClassifierBatches)(train, data)
        network.to(memory_format=torch.channels_last)
        self.assemble(train, out, network, batches, device)

    def one_loss(self, batch, targets):
        """Return the loss of one batch and its parts."""
        pixels = batch.to(self.device)
        device_type, is_half = self.device.type, self.train.bfloat16
        if self.is_detector:
            with torch.autocast(device_type, torch.bfloat16, enabled=is_half):
                heat, box = self.network(fold_pixels(pixels))
            targets = DetectorTargets(
                **{n: getattr(targets, n).to(self.device) for n in targets.__slots__}
            )
            return detector_loss(heat.float(), box.float(), targets)
        targets = targets.to(self.device)
        crops = scale_pixels(pixels).permute(0, 3, 1, 2)
        with torch.autocast(device_type, torch.bfloat16, enabled=is_half):
            logits = self.network(crops)
        loss = F.cross_entropy(logits.float(), targets, label_smoothing=SMOOTHING)
        right = (logits.argmax(1) == targets).float().mean()
        return loss, {'loss': float(loss.detach()), 'right': float(right)}

    def write_weights(self, path, **metadata):
        """Write the averaged network, with what it was trained on."""
        network = build_sign_network(self.network.config)
        network.load_state_dict({n: t.cpu() for n, t in self.average.items()})
        train = asdict(self.train)
        train |= {name: Path(train[name]).name for name in ('data', 'detector', 'start')}
        samples = self.step * self.train.batch_size
        facts = {'samples': str(samples), 'train': json.dumps(train), **self.facts, **metadata}
        save_network(path, network, facts)


def detector_loss(heat, box, targets):
    """
    Return the weighted sum and its parts.

    Parameters
    ----------
    heat : (B, 1, h, w) float32
        Logits.
    box : (B, 4, h, w) float32
        As `SignDetector` gives them.
    targets : DetectorTargets
        On the same device.

    Returns
    -------
    loss : scalar tensor
    parts : dict of str to float

    """
    heat_part = heat_loss(heat, targets.heat, targets.mask)
    b, row, column = targets.where.T
    edges = edges_from_values(box[b, :, row, column])
    box_part = (1 - generalised_iou(edges, targets.box)).sum() / max(len(edges), 1)
    parts = {'heat': float(heat_part.detach()), 'box': float(box_part.detach())}
    return heat_part + box_part, parts


def generalised_iou(a, b):
    """Return GIoU (T,) of boxes (T, 4) x1, y1, x2, y2."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    shared = (high - low).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    hull = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    hull = hull.prod(1).clamp(min=1e-6)
    return shared / union.clamp(min=1e-6) - (hull - union) / hull
