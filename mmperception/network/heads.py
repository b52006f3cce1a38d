# SPDX-License-Identifier: Apache-2.0
"""
Heads: features -> heat maps and boxes, as raw maps; `decode.py` turns them into detections.

Centre heat maps: Zhou et al., Objects as Points, 2019, in bird's-eye view as in CenterPoint
(Yin et al., CVPR 2021). Boxes come from LiDAR features alone, the class from the fused ones as a
residual on the heat that starts at zero: images move classes, never box edges (DAL, ECCV 2024).
"""

from dataclasses import dataclass

from mmperception.network.blocks import conv_block, upsample
from mmperception.network.peaks import cells_of, strongest_peaks
import torch
from torch import nn

# Channels of the box map: offset x y (cells), z (m), log length width height, sine and cosine of
# twice the heading, logit of "heading within +-90 degrees", logit of the box's own IoU.
BOX_CHANNELS = 10
# Channels of the camera box map: centre offset column row (cells), log width height (cells) of the
# image box, log depth (m, as a lens of `FOCAL_PX` would show it: what makes things look as large),
# log length width height, sine and cosine of twice the angle of view.
CAMERA_CHANNELS = 10
FOCAL_PX = 370.0
# How far from its peak the middle of an object may lie, cells.
MAX_STEP_CELLS = 6
# Heat starts at this probability, so that the first steps are not spent on empty cells.
HEAT_PRIOR_LOGIT = -4.6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Heads:
    """
    Raw network output.

    `heat_lidar`, `heat_fused` (B, classes, Y, X) logits on the coarse grid; `peaks` what
    `find_peaks` gave for the fused heat of each sample, and `box` (T, 10) the boxes of all of them
    (in training no peaks, and boxes of the cells asked for); `camera_heat` (B, K, classes, h, w)
    and `camera_box` (B, K, 10, h, w) at a quarter of the network's image. `memory` (B, C, Y, X) is
    what the next sweep remembers, None for kinds without memory; `pairs` two (n, C) of LiDAR and
    camera features at the same pillars, when they were asked for; `features` (B, K, C, h, w) the
    maps of the camera trunk.
    """

    heat_lidar: torch.Tensor
    heat_fused: torch.Tensor
    peaks: list[tuple] | None
    box: torch.Tensor
    camera_heat: torch.Tensor
    camera_box: torch.Tensor
    memory: torch.Tensor | None = None
    pairs: tuple[torch.Tensor, torch.Tensor] | None = None
    features: torch.Tensor | None = None


def _output(channels_in, channels_out):
    return nn.Sequential(
        conv_block(channels_in, channels_in), nn.Conv2d(channels_in, channels_out, 1)
    )


class BoxHead(nn.Module):
    """
    Boxes at single cells from what lies around them: (T, 3) cells -> (T, 10) values.

    Boxes are read at a few hundred cells only, so a wide layer there costs next to nothing, where
    a convolution over the whole map would be the dearest of the network. Each cell sees 3x3 cells
    of the fine map and 3x3 of the middle one, which reaches as far as a car.
    """

    def __init__(self, fine_channels, middle_channels, width=192):
        super().__init__()
        self.fine = nn.Linear(9 * fine_channels, width)
        self.middle = nn.Linear(9 * middle_channels, width)
        self.layers = nn.Sequential(
            nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, BOX_CHANNELS)
        )
        # Which quarter of a middle cell the fine cell is.
        self.quarter = nn.Embedding(4, width)

    def forward(self, fine, middle, cells):
        b, row, column = cells.unbind(1)
        # bfloat16 would round places to centimetres.
        with torch.autocast(fine.device.type, enabled=False):
            around = self.fine(_patches(fine, b, row, column).float())
            around = around + self.middle(_patches(middle, b, row // 2, column // 2).float())
            return self.layers(around + self.quarter(row % 2 * 2 + column % 2))


def _patches(maps, b, row, column):
    """Return (T, 9 C): the 3x3 cells around each place, zero beyond the rim."""
    rows = maps.permute(0, 2, 3, 1)  # (B, Y, X, C)
    _, Y, X, C = rows.shape
    step = torch.arange(-1, 2, device=row.device)
    around_row = (row[:, None] + step)[:, :, None].expand(-1, 3, 3)
    around_column = (column[:, None] + step)[:, None, :].expand(-1, 3, 3)
    is_inside = (around_row >= 0) & (around_row < Y) & (around_column >= 0) & (around_column < X)
    flat = (b[:, None, None] * Y + around_row.clamp(0, Y - 1)) * X + around_column.clamp(0, X - 1)
    found = rows.reshape(-1, C).index_select(0, flat.flatten()).view(*flat.shape, C)
    return (found * is_inside[..., None]).flatten(1)


class BevHead(nn.Module):
    """
    LiDAR features and camera evidence on the coarse grid -> heat, and boxes at its peaks.

    Evidence sits where points are, on the hull of an object, but the heat belongs to its middle:
    the join works at half the resolution, so that it reaches two metres.
    """

    def __init__(self, channels, middle_channels, evidence_channels, num_classes):
        super().__init__()
        self.heat = _output(channels, num_classes)
        self.box = BoxHead(channels, middle_channels)
        self.join = nn.Sequential(
            conv_block(channels + evidence_channels, channels, 2), conv_block(channels, channels)
        )
        self.residual = nn.Conv2d(channels, num_classes, 1)
        nn.init.constant_(self.heat[-1].bias, HEAT_PRIOR_LOGIT)
        nn.init.zeros_(self.residual.weight)
        nn.init.zeros_(self.residual.bias)

    def forward(self, fine, middle, evidence, has_evidence, cells=None):
        """
        Return LiDAR heat, fused heat, its peaks and their boxes, by the names of `Heads`.

        `has_evidence` (B,) bool: without any camera the fused heat is the LiDAR's, exactly.
        With `cells` (T, 3) boxes are those of these cells, and peaks None.
        """
        heat = fused = self.heat(fine)
        if has_evidence.any():
            # Of one type, or the join would be made in float32 and turned back.
            joined = self.join(torch.cat((fine, evidence.to(fine.dtype)), dim=1))
            residual = upsample(self.residual(joined))
            fused = heat + residual * has_evidence[:, None, None, None]
        heats = {'heat_lidar': heat, 'heat_fused': fused}
        if cells is not None:
            return {**heats, 'peaks': None, 'box': self.box(fine, middle, cells)}
        peaks = [strongest_peaks(logits) for logits in fused]
        return {**heats, 'peaks': peaks, 'box': self.boxes_at(fine, middle, cells_of(peaks))}

    def boxes_at(self, fine, middle, cells):
        """
        Return the boxes (T, 10) of peaks (T, 3).

        Asks twice: at the peak, and at the cell where the first answer puts the middle. Peaks
        lean towards the visible side of an object; boxes are learned about its middle. Offsets
        stay relative to the peak.
        """
        _, _, Y, X = fine.shape
        first = self.box(fine, middle, cells)
        steps = first[:, :2].clamp(-MAX_STEP_CELLS, MAX_STEP_CELLS).round().long()  # x, y
        column = (cells[:, 2] + steps[:, 0]).clamp(0, X - 1)
        row = (cells[:, 1] + steps[:, 1]).clamp(0, Y - 1)
        moved = torch.stack((cells[:, 0], row, column), dim=1)
        second = self.box(fine, middle, moved)
        gap = torch.stack((column - cells[:, 2], row - cells[:, 1]), dim=1)
        return torch.cat((second[:, :2] + gap, second[:, 2:]), dim=1)


def vertical_focal_px(pixel_from_base):
    """Return the focal length along image columns of (..., 3, 4) matrices, pixels."""
    down, ahead = pixel_from_base[..., 1, :3], pixel_from_base[..., 2, :3]
    length = torch.linalg.vector_norm(ahead, dim=-1, keepdim=True)
    off_axis = (down * ahead / length).sum(-1, keepdim=True) * ahead / length
    return torch.linalg.vector_norm(down - off_axis, dim=-1) / length[..., 0]


class CameraHead(nn.Module):
    """Image features -> objects in the image, with depth: what is left without LiDAR."""

    def __init__(self, channels, num_classes):
        super().__init__()
        self.heat = _output(channels, num_classes)
        self.box = _output(channels, CAMERA_CHANNELS)
        nn.init.constant_(self.heat[-1].bias, HEAT_PRIOR_LOGIT)

    def forward(self, features):
        return self.heat(features), self.box(features)
