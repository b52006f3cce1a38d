# SPDX-License-Identifier: Apache-2.0
"""
Memory of the recurrent fusion: evidence of the sweeps before, moved along with the robot.

It lies on the heads' grid. Before each sweep it is turned and shifted by the robot's own motion,
then a gate decides for every cell and channel how much of the present replaces it: the update of
a gated recurrent unit (Cho et al., EMNLP 2014) as a convolution (Ballas et al., ICLR 2016), with
the evidence itself as its candidate.
"""

import torch
from torch import nn
import torch.nn.functional as F

# The gate begins half open towards the present (a probability of 0.73).
START_LOGIT = 1.0


class EvidenceMemory(nn.Module):
    """Evidence (B, C, Y, X) of now and the memory, aligned -> the memory from now on."""

    def __init__(self, channels):
        super().__init__()
        self.gate = nn.Conv2d(2 * channels, channels, 3, 1, 1)
        nn.init.constant_(self.gate.bias, START_LOGIT)

    def forward(self, evidence, memory):
        """Where the memory holds nothing the present is taken as it is, exactly."""
        gate = torch.sigmoid(self.gate(torch.cat((evidence, memory), dim=1)))
        is_empty = (memory == 0).all(1, keepdim=True)
        return torch.where(is_empty, evidence, memory + gate * (evidence - memory))


def align_memory(memory, previous_from_base, grid):
    """
    Move a memory from where the robot was to where it is.

    Parameters
    ----------
    memory : (B, C, Y, X) float
        On `grid`, about the robot at the sweep before.
    previous_from_base : (B, 4, 4) float32
        Maps `base_link` of now to that of the sweep before; all zero where that is not known:
        then nothing is remembered.
    grid : BevGrid
        Of the memory.

    Returns
    -------
    (B, C, Y, X) float32
        Zero where the memory does not reach.

    """
    device = memory.device
    x = grid.x_min_m + (torch.arange(grid.num_x, device=device) + 0.5) * grid.cell_m
    y = grid.y_min_m + (torch.arange(grid.num_y, device=device) + 0.5) * grid.cell_m
    place = torch.stack(
        (x.expand(grid.num_y, -1), y[:, None].expand(-1, grid.num_x)), dim=-1
    )  # (Y, X, 2)
    linear, shift = previous_from_base[:, :2, :2], previous_from_base[:, :2, 3]
    with torch.autocast(device.type, enabled=False):  # bfloat16 would miss by cells
        before = torch.einsum('bij,yxj->byxi', linear, place) + shift[:, None, None]
        corner = before.new_tensor((grid.x_min_m, grid.y_min_m))
        extent = before.new_tensor((grid.num_x, grid.num_y)) * grid.cell_m
        where = (before - corner) / extent * 2.0 - 1.0
        moved = F.grid_sample(memory.float(), where, mode='bilinear', align_corners=False)
    return moved * previous_from_base[:, 3, 3, None, None, None]
