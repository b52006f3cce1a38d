# SPDX-License-Identifier: Apache-2.0
"""
The whole network in one visible assembly: Batch -> Heads.

    points -> pillars -> stem -> bird's-eye backbone ----------------> boxes, LiDAR heat
                 |                                                       |
    images -> trunk -> fusion on occupied pillars -> camera evidence -> fused heat
                 |         (recurrent: with the evidence of the sweeps before)
                 +-> camera-only head
"""

import copy

from mmperception.network.camera import ImageTrunk
from mmperception.network.fusion import features_at_pillars, make_fusion
from mmperception.network.heads import BevHead, CAMERA_CHANNELS, CameraHead, Heads
from mmperception.network.image_check import ImageCheck
from mmperception.network.lidar import (
    BevBackbone,
    coarse_cells,
    PillarEncoder,
    scatter_sum,
    SparseStem,
)
from mmperception.network.motion import MotionEncoder
from mmperception.network.refine import BoxRefiner
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

# Names of what looks at decoded boxes and is trained afterwards begin so.
ADDED_PARTS = ('refiner.', 'image_check.')


class PerceptionNetwork(nn.Module):
    """Camera, LiDAR and motion to object maps; the kind of fusion is `config.fusion`."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        channels, num_classes = config.bev_channels[0], len(config.classes)
        self.pillars = PillarEncoder(config.pillar_channels)
        self.stem = SparseStem(config.pillar_channels, channels)
        self.backbone = BevBackbone(config.bev_channels)
        self.trunk = ImageTrunk(config.image_channels, config.feature_channels)
        self.motion = MotionEncoder(config.pillar_channels)
        self.fusion = make_fusion(config)
        self.bev_head = BevHead(
            channels, config.bev_channels[1], config.pillar_channels, num_classes
        )
        self.camera_head = CameraHead(config.feature_channels, num_classes)
        # Not part of `forward`: they look at decoded boxes.
        self.refiner = BoxRefiner(num_classes) if config.refine else None
        self.image_check = None
        if config.check_images:
            self.image_check = ImageCheck(config.feature_channels, num_classes)

    def forward(self, batch, cells=None, memory=None, with_pairs=False):
        """
        Run the network on a `Batch`, on the device of the weights; return its `Heads`.

        Boxes are given at `cells` (T, 3) of sample, row, column; at the heat's peaks when None.
        `memory` is that of the sweep before, from its `Heads`; kinds without one ignore it.
        """
        features, camera_heat, camera_box = self._cameras(batch)  # (B, K, C, h / 4, w / 4)
        pillars = self.pillars(batch)  # (P, C)
        dense = self.stem(pillars, batch.pillar_cell, batch.num_samples, batch.grid)
        fine, middle = self.backbone(dense)
        evidence, has_evidence = self._evidence(pillars, batch, features, memory)
        return Heads(
            **self.bev_head(fine, middle, evidence, has_evidence, cells),
            camera_heat=camera_heat,
            camera_box=camera_box,
            memory=evidence if self.fusion.has_memory else None,
            pairs=features_at_pillars(pillars, batch, features) if with_pairs else None,
            features=features,
        )

    def remember(self, batch, memory=None):
        """Return the memory after a sweep of which nobody needs the heads."""
        features, _, _ = self._cameras(batch)
        return self._evidence(self.pillars(batch), batch, features, memory)[0]

    def _cameras(self, batch):
        """Run the camera branch on the images that are there; the others' maps stay zero."""
        B, K, _, h, w = batch.images.shape
        seen = torch.nonzero(batch.image_mask.flatten())[:, 0]
        images = batch.images.flatten(0, 1)[seen].contiguous(memory_format=torch.channels_last)
        shape = (h // self.trunk.stride, w // self.trunk.stride)
        channels = self.config.feature_channels, len(self.config.classes), CAMERA_CHANNELS
        maps = [batch.images.new_zeros(B * K, c, *shape) for c in channels]
        if len(seen):
            found = self.trunk(images)
            found = (found, *self.camera_head(found))
            maps = [m.index_copy(0, seen, f.to(m.dtype)) for m, f in zip(maps, found, strict=True)]
        return [m.view(B, K, *m.shape[1:]) for m in maps]

    def _evidence(self, pillars, batch, features, memory):
        """
        Sum camera evidence over the pillars of each coarse cell.

        Returns (B, C, Y / 2, X / 2), None when there is none at all, and which samples have some
        (B,) bool: from an image of their own, or from the memory.
        """
        has_evidence = batch.image_mask.any(1)
        if self.fusion.has_memory and memory is not None:
            has_evidence = has_evidence | (batch.previous_from_base[:, 3, 3] > 0)
        if not has_evidence.any():
            return None, has_evidence
        found = self.fusion(pillars, batch, features, self.motion(batch.motion))
        cells, _ = coarse_cells(batch.pillar_cell, batch.grid)
        dense = scatter_sum(found, cells, batch.num_samples, batch.grid.coarser(2))
        return self.fusion.recall(dense, memory, batch), has_evidence


def fold_batch_norm(network):
    """
    Return a copy for inference with batch norm folded into convolutions and linear layers.

    Same answers up to rounding, a quarter less time: the norm is otherwise a pass over memory of
    its own after every convolution.
    """
    folded = fold_conv_norms(network)
    for part in (folded.trunk, folded.backbone, folded.bev_head, folded.camera_head):
        part.to(memory_format=torch.channels_last)
    encoder = folded.pillars
    encoder.linear, encoder.norm = fuse_linear_bn_eval(encoder.linear, encoder.norm), nn.Identity()
    return folded


def fold_conv_norms(network):
    """Return a copy for inference with each norm that follows a convolution folded into it."""
    folded = copy.deepcopy(network).eval()
    for block in folded.modules():
        kinds = [type(layer) for layer in block] if isinstance(block, nn.Sequential) else []
        if kinds[:2] == [nn.Conv2d, nn.BatchNorm2d]:
            block[0], block[1] = fuse_conv_bn_eval(block[0], block[1]), nn.Identity()
    return folded
