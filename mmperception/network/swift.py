# SPDX-License-Identifier: Apache-2.0
"""
One frame through the network on a CPU: the answers of model.py in half the time.

Same weights, same sums, other order: convolution and ReLU in one pass, layers of bfloat16 held in
bfloat16, empty places filled instead of computed (swift_lidar.py, swift_fusion.py), and nothing
that the decoder would not read. Training, several samples at once, GPUs, memories and whoever
looks inside use model.py; `test_swift.py` holds both together.
"""

from mmperception.network.heads import CAMERA_CHANNELS, Heads
from mmperception.network.peaks import cells_of, strongest_peaks
from mmperception.network.swift_conv import chain, Grow, run_chain, SwiftConv
from mmperception.network.swift_fusion import make_reader, SparseJoin
from mmperception.network.swift_lidar import Occupancy, SwiftEncoder, SwiftStem
import torch
from torch import nn

# Logit of the camera heat where it is not computed: nothing is there.
NO_HEAT = -100.0


class SwiftNetwork:
    """
    Calls like `PerceptionNetwork`, for batches of one sample on the CPU.

    `network` comes from `model.fold_batch_norm` and has no memory; with `is_half` convolutions
    are computed in bfloat16, all else in float32.
    """

    def __init__(self, network, is_half=False):
        if network.fusion.has_memory:
            raise ValueError('fusion: kinds with a memory have no swift network')
        self.network = network
        self.dtype = torch.bfloat16 if is_half else torch.float32
        self.encoder = SwiftEncoder(network.pillars)
        self.stem = SwiftStem(network.stem, self.dtype)
        self.reader = make_reader(network.fusion)
        self.trunk = _Trunk(network.trunk, self.dtype)
        self.backbone = _Backbone(network.backbone, self.dtype)
        self.head = _BevHead(network.bev_head, self.dtype)
        self.camera_heat = chain(network.camera_head.heat, self.dtype)
        self.camera_box = chain(network.camera_head.box, self.dtype)

    @torch.inference_mode()
    def read_images(self, images, image_mask, has_lidar):
        """
        Return what the images give by themselves: features, heat and boxes, as in `Heads`.

        The camera heads are computed only where they are read: without LiDAR by the decoder,
        with it by the image check.
        """
        _, K, _, h, w = images.shape
        h, w = h // self.network.trunk.stride, w // self.network.trunk.stride
        config = self.network.config
        features = torch.zeros(1, K, config.feature_channels, h, w)
        heat = torch.full((1, K, len(config.classes), h, w), NO_HEAT)
        box = torch.zeros(1, K, CAMERA_CHANNELS, h, w)
        if image_mask.any():
            seen = self.trunk(images[0, image_mask[0]])
            features[image_mask] = seen.float()
            if self.network.image_check is not None or not has_lidar:
                heat[image_mask] = run_chain(self.camera_heat, seen).float()
                box[image_mask] = run_chain(self.camera_box, seen).float()
        return features, heat, box

    @torch.inference_mode()
    def read_points(self, batch):
        """Return what the points give by themselves: pillar features (P, C)."""
        return self.encoder(batch)

    @torch.inference_mode()
    def __call__(self, batch, seen=None, pillars=None):
        """
        Return the `Heads` of a batch of one.

        `seen` and `pillars` are what `read_images` and `read_points` gave, where they were asked
        before: neither needs the other, so that two threads can do it.
        """
        if batch.num_samples != 1:
            raise ValueError(f'expected a batch of 1, got {batch.num_samples}')
        if seen is None:
            seen = self.read_images(batch.images, batch.image_mask, bool(batch.lidar_mask[0]))
        features, camera_heat, camera_box = seen
        pillars = self.encoder(batch) if pillars is None else pillars
        occupancy = Occupancy(batch.pillar_cell, batch.grid)
        fine, middle = self.backbone(self.stem(pillars, occupancy))
        evidence = None
        if batch.image_mask.any():
            motion = self.network.motion(batch.motion)
            evidence = self.reader(pillars, batch, features, motion, occupancy)
        found = self.head(fine, middle, evidence)
        return Heads(**found, camera_heat=camera_heat, camera_box=camera_box, features=features)


class _Trunk:
    """As `camera.ImageTrunk`."""

    def __init__(self, trunk, dtype):
        parts = ('stem', 'quarter', 'eighth', 'sixteenth', 'merge_eighth', 'merge_quarter')
        self.layers = {name: chain(getattr(trunk, name), dtype) for name in parts}
        self.grow_to_eighth, self.grow_to_quarter = Grow(), Grow()
        self.from_sixteenth = SwiftConv(trunk.from_sixteenth, dtype)
        self.from_eighth = SwiftConv(trunk.from_eighth, dtype)

    def __call__(self, images):
        layers = self.layers
        quarter = run_chain(layers['quarter'], run_chain(layers['stem'], images))
        eighth = run_chain(layers['eighth'], quarter)
        sixteenth = run_chain(layers['sixteenth'], eighth)
        eighth = self.grow_to_eighth(self.from_sixteenth(sixteenth), eighth)
        eighth = run_chain(layers['merge_eighth'], eighth)
        quarter = self.grow_to_quarter(self.from_eighth(eighth), quarter)
        return run_chain(layers['merge_quarter'], quarter)


class _Backbone:
    """As `lidar.BevBackbone`."""

    def __init__(self, backbone, dtype):
        parts = ('scale2', 'scale3', 'merge2', 'merge1')
        self.layers = {name: chain(getattr(backbone, name), dtype) for name in parts}
        self.grow2, self.grow1 = Grow(), Grow()
        self.lateral2 = SwiftConv(backbone.lateral2, dtype)
        self.lateral3 = SwiftConv(backbone.lateral3, dtype)

    def __call__(self, bev):
        second = run_chain(self.layers['scale2'], bev)
        third = run_chain(self.layers['scale3'], second)
        second = run_chain(self.layers['merge2'], self.grow2(self.lateral3(third), second))
        return run_chain(self.layers['merge1'], self.grow1(self.lateral2(second), bev)), second


class _BevHead:
    """As `heads.BevHead`, for evidence on few cells."""

    def __init__(self, head, dtype):
        self.head = head
        self.heat = chain(head.heat, dtype)
        self.join = SparseJoin(head.join[0], dtype)
        self.joined = chain(head.join[1], dtype)
        self.residual = SwiftConv(head.residual, dtype)

    def __call__(self, fine, middle, evidence):
        heat = fused = run_chain(self.heat, fine).float().contiguous()
        if evidence is not None:
            joined = run_chain(self.joined, self.join(fine, evidence))
            residual = self.residual(joined).float().contiguous()
            fused = nn.functional.interpolate(residual, scale_factor=2, mode='bilinear')
            fused += heat
        peaks = [strongest_peaks(fused[0])]
        box = self.head.boxes_at(fine, middle, cells_of(peaks))
        return {'heat_lidar': heat, 'heat_fused': fused, 'peaks': peaks, 'box': box}
