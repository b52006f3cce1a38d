# SPDX-License-Identifier: Apache-2.0
"""
Fusion: what occupied pillars learn from the images, behind one interface for all kinds.

    fusion(pillars, batch, features, motion) -> (P, C)
    fusion.recall(evidence map, memory, batch) -> evidence map

gives each pillar a vector of camera evidence, zero where no camera sees it, so that a missing
camera is exact, not approximate. It works on occupied pillars only: a dense map costs 44 ms on
two CPU cores for nothing. Sampling at projected points: Vora et al., PointPainting, CVPR 2020;
learned offsets: Zhu et al., Deformable DETR, ICLR 2021; gate: trust of each pillar in the image.
"""

from mmperception.network.blocks import conv_block
from mmperception.network.lidar import scatter_sum
from mmperception.network.memory import align_memory, EvidenceMemory
import torch
from torch import nn
import torch.nn.functional as F

# Heights (m above base_link) at which a pillar looks besides its mean point: bumper and chest.
FIXED_HEIGHTS_M = (0.4, 1.4)
# Learned offsets stay within this many network-image pixels of the projection.
MAX_OFFSET_PX = 24.0


def project_pillars(points, matrices, size):
    """
    Project points into their sample's image.

    Parameters
    ----------
    points : (P, S, 3) float32
        base_link metres, S per pillar.
    matrices : (P, 3, 4) float32
        `pixel_from_base` of each pillar's sample and one camera.
    size : (h, w)
        Pixels of the network's image.

    Returns
    -------
    where : (P, S, 2) float32
        -1..1 over the image as grid_sample takes it (align_corners False).
    is_seen : (P, S) bool

    """
    with torch.autocast(points.device.type, enabled=False):  # bfloat16 would miss by pixels
        homogeneous = points @ matrices[:, :, :3].transpose(1, 2) + matrices[:, None, :, 3]
    depth = homogeneous[..., 2]
    pixels = homogeneous[..., :2] / depth.clamp(min=0.1)[..., None]
    h, w = size
    where = (pixels + 0.5) * pixels.new_tensor([2.0 / w, 2.0 / h]) - 1.0
    return where, (depth > 0.5) & (where.abs() < 1.0).all(-1)


def sample_features(features, sample, where):
    """
    Read image features at (P, S, 2) places of each pillar's own sample.

    `features` (B, C, h, w), `sample` (P,) int64 -> (P, S, C). One grid_sample per sample of the
    batch: pillars are ordered by sample, so each call gets a contiguous run.
    """
    counts = torch.bincount(sample, minlength=len(features)).tolist()
    runs = torch.split(where, counts)
    read = [
        F.grid_sample(maps, run[None], mode='bilinear', align_corners=False)[0]
        for maps, run in zip(torch.split(features, 1), runs, strict=True)
    ]
    return torch.cat(read, dim=1).permute(1, 2, 0)  # (C, P, S) -> (P, S, C)


def sample_points(pillar_mean):
    """Return (P, 3, 3): the mean point and the two fixed heights above each pillar."""
    points = pillar_mean[:, None].repeat(1, 1 + len(FIXED_HEIGHTS_M), 1)
    for s, height in enumerate(FIXED_HEIGHTS_M):
        points[:, 1 + s, 2] = height
    return points


def features_at_pillars(pillars, batch, features):
    """
    Return LiDAR and camera features (n, C), (n, C') of the pillars whose mean point a camera sees.

    Before any fusion: what both encoders say of the same place. A pillar that two cameras see
    comes twice.
    """
    sample = batch.pillar_cell // (batch.grid.num_y * batch.grid.num_x)
    size, points = batch.images.shape[-2:], batch.pillar_mean[:, None]
    found = [(pillars[:0], features.new_zeros(0, features.shape[2]))]
    for k in range(batch.images.shape[1]):
        where, is_seen = project_pillars(points, batch.pixel_from_base[sample, k], size)
        index = torch.nonzero(is_seen[:, 0] & batch.image_mask[sample, k])[:, 0]
        if len(index):
            read = sample_features(features[:, k], sample[index], where[index])[:, 0]
            found.append((pillars[index], read))
    return tuple(torch.cat(part) for part in zip(*found, strict=True))


class CameraReader(nn.Module):
    """
    Picks the pillars that a camera sees and hands them to `attend`, camera by camera.

    The base of all kinds: they differ in `attend`, and one in what it recalls.
    """

    has_memory = False

    def __init__(self, config):
        super().__init__()
        self.channels = config.pillar_channels
        self.max_pillars = config.max_fused_pillars

    def forward(self, pillars, batch, features, motion):
        evidence = pillars.new_zeros(len(pillars), self.channels)
        sample = batch.pillar_cell // (batch.grid.num_y * batch.grid.num_x)
        size = batch.images.shape[-2:]
        for k in range(batch.images.shape[1]):
            matrices = batch.pixel_from_base[sample, k]
            _, is_seen = project_pillars(batch.pillar_mean[:, None], matrices, size)
            index = self._choose(is_seen[:, 0] & batch.image_mask[sample, k], batch)
            if len(index):
                points = sample_points(batch.pillar_mean[index])
                where, is_seen = project_pillars(points, matrices[index], size)
                found = self.attend(
                    pillars[index],
                    features[:, k],
                    sample[index],
                    where,
                    is_seen,
                    motion[sample[index]],
                )
                evidence = evidence.index_add(0, index, found.float())
                if getattr(self, 'trace', None):
                    self.trace[-1] |= {'camera': k, 'pillar': index}
        return evidence

    def recall(self, evidence, memory, batch):
        """Return the evidence map (B, C, Y, X) that the heads get: without memory, the present."""
        return evidence

    def _choose(self, is_in_view, batch):
        """Return rows of the in-view pillars; the nearest when they are too many."""
        index = torch.nonzero(is_in_view)[:, 0]
        limit = self.max_pillars * batch.num_samples
        if len(index) > limit:
            distance = torch.linalg.vector_norm(batch.pillar_mean[index, :2], dim=1)
            index = index[torch.topk(distance, limit, largest=False).indices.sort().values]
        return index


class ConcatFusion(CameraReader):
    """Reads the three fixed places, concatenates them with the pillar, one hidden layer."""

    def __init__(self, config):
        super().__init__(config)
        C, places = config.feature_channels, 1 + len(FIXED_HEIGHTS_M)
        self.layers = nn.Sequential(
            nn.Linear(self.channels * 2 + C * places, 64), nn.ReLU(), nn.Linear(64, self.channels)
        )

    def attend(self, pillars, features, sample, where, is_seen, motion):
        read = sample_features(features, sample, where) * is_seen[..., None]
        return self.layers(torch.cat((pillars, motion, read.flatten(1)), dim=1))


class AttentionFusion(CameraReader):
    """
    Each pillar attends to a few sampled image positions and a motion token, with a gate.

    Positions: its mean point and two fixed heights, each as projected and once more moved by a
    learned offset, which makes up for small calibration and timing errors.
    """

    num_heads = 4

    def __init__(self, config):
        super().__init__(config)
        C, D = config.feature_channels, self.channels
        self.num_places = 1 + len(FIXED_HEIGHTS_M)
        # A list while somebody wants to see where pillars look: `explain` sets it.
        self.trace = None
        self.query = nn.Linear(D, D)
        self.key, self.value = nn.Linear(C, D), nn.Linear(C, D)
        self.offset = nn.Linear(D, 2 * self.num_places)
        self.place = nn.Parameter(torch.zeros(2 * self.num_places, D))
        self.motion_key, self.motion_value = nn.Linear(D, D), nn.Linear(D, D)
        self.out = nn.Sequential(nn.Linear(D, 64), nn.ReLU(), nn.Linear(64, D))
        self.gate = nn.Linear(2 * D, D)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)
        nn.init.normal_(self.place, std=0.2)

    def attend(self, pillars, features, sample, where, is_seen, motion):
        P, D, heads = len(pillars), self.channels, self.num_heads
        size = features.shape[-2:]
        step = pillars.new_tensor([0.5 * MAX_OFFSET_PX / size[1], 0.5 * MAX_OFFSET_PX / size[0]])
        moved = where + torch.tanh(self.offset(pillars)).view(P, -1, 2) * step
        places = torch.cat((where, moved), dim=1)  # (P, 2S, 2)
        read = sample_features(features, sample, places)  # (P, 2S, C)
        keys = torch.cat((self.key(read) + self.place, self.motion_key(motion)[:, None]), dim=1)
        values = torch.cat((self.value(read), self.motion_value(motion)[:, None]), dim=1)
        query = self.query(pillars).view(P, 1, heads, D // heads)
        score = (query * keys.view(P, -1, heads, D // heads)).sum(-1) * (heads / D) ** 0.5
        visible = torch.cat((is_seen, is_seen, is_seen.new_ones(P, 1)), dim=1)
        weight = score.masked_fill(~visible[..., None], -1e4).softmax(dim=1)  # (P, 2S + 1, heads)
        found = (weight[..., None] * values.view(P, -1, heads, D // heads)).sum(1).reshape(P, D)
        gate = torch.sigmoid(self.gate(torch.cat((pillars, found), dim=1)))
        if self.trace is not None:
            self.trace.append({'places': places, 'weight': weight.mean(2), 'gate': gate.mean(1)})
        return gate * self.out(found)


class ConvFusion(ConcatFusion):
    """
    A small fusion network: what pillars read is spread over their neighbours, then read back.

    As in BEVFusion (Liang et al., NeurIPS 2022) two convolutions join both sensors, but at 0.8 m,
    where the dense map is cheap, and only what in-view pillars gave enters it.
    """

    def __init__(self, config):
        super().__init__(config)
        self.spread = nn.Sequential(
            conv_block(self.channels, self.channels), conv_block(self.channels, self.channels)
        )

    def forward(self, pillars, batch, features, motion):
        evidence = super().forward(pillars, batch, features, motion)
        is_seen = (evidence != 0).any(1, keepdim=True)
        cells = _quarter_cells(batch.pillar_cell, batch.grid)
        dense = scatter_sum(evidence, cells, batch.num_samples, batch.grid.coarser(4))
        spread = self.spread(dense).permute(0, 2, 3, 1).flatten(0, 2)[cells]
        # Zero where no camera sees the pillar, so that a missing camera stays exact.
        return (evidence + spread) * is_seen


def _quarter_cells(cells, grid):
    """Return the flat cell of `grid.coarser(4)` of each pillar cell, samples stacked."""
    column, row = cells % grid.num_x, cells // grid.num_x
    return (row // 4) * (grid.num_x // 4) + column // 4


class RecurrentFusion(ConcatFusion):
    """Concat on each sweep, and a gated memory of the sweeps before; empty, it is concat."""

    has_memory = True

    def __init__(self, config):
        super().__init__(config)
        self.memory = EvidenceMemory(self.channels)

    def recall(self, evidence, memory, batch):
        if memory is None:
            return evidence
        grid = batch.grid.coarser(2)
        return self.memory(evidence, align_memory(memory, batch.previous_from_base, grid))


def make_fusion(config):
    """Return the fusion that `config.fusion` names."""
    if config.fusion == 'attention':
        return AttentionFusion(config)
    if config.fusion == 'recurrent':
        return RecurrentFusion(config)
    return ConvFusion(config) if config.fusion == 'conv' else ConcatFusion(config)
