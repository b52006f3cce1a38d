# SPDX-License-Identifier: Apache-2.0
"""A labelled scene for tests of training: flat ground, a car, a pedestrian, a hidden van."""

from mmperception.grid import BevGrid
from mmperception.network.config import NetworkConfig
from mmperception.network.peaks import cells_of
from mmperception.training.scenes import Scene
import numpy as np
import torch

CONFIG = NetworkConfig()
GRID = BevGrid(x_min_m=0.0, y_min_m=-12.8, cell_m=0.2, num_x=128, num_y=128)
PIXEL_FROM_BASE = np.array([[320.0, -300, 0, 0], [48, 0, -300, 450], [1, 0, 0, 0]])


def make_scene(with_pixels=True, view=True):
    """Return flat ground, one car at (12, 3), one pedestrian at (8, -2), a hidden van."""
    rng = np.random.default_rng(0)
    center = np.array([[12, 3, 0.8], [8, -2, 0.9], [22, 8, 1.0]], np.float32)
    size = np.array([[4.2, 1.7, 1.5], [0.6, 0.6, 1.7], [5, 2, 2]], np.float32)
    yaw = np.array([0.5, -2.0, 1.0], np.float32)
    ground = rng.uniform((-25, -25, -0.02), (25, 25, 0.02), (10_000, 3))
    cos, sin = np.cos(yaw[:2]), np.sin(yaw[:2])
    blocks = [ground]
    for m, count in ((0, 300), (1, 80)):
        local = rng.uniform(-0.48, 0.48, (count, 3)) * size[m]
        turned = np.stack(
            (cos[m] * local[:, 0] - sin[m] * local[:, 1],
             sin[m] * local[:, 0] + cos[m] * local[:, 1], local[:, 2]), axis=1,
        )  # fmt: skip
        blocks.append(center[m] + turned)
    points = np.concatenate(blocks).astype(np.float32)
    pixels = rng.integers(0, 255, (96, 640, 3), dtype=np.uint8)
    return Scene(
        points=points,
        intensity=rng.random(len(points)).astype(np.float32),
        ring=rng.integers(0, 64, len(points)).astype(np.uint16),
        pixels=pixels if with_pixels else pixels[:0, :0],
        pixel_from_base=PIXEL_FROM_BASE,
        view_size=np.array([96, 640] if view else [0, 0]),
        center=center,
        size=size,
        yaw=yaw,
        label=np.array([0, 1, 0]),
        num_points=np.array([300, 80, 0]),
        ignore_2d=np.zeros((0, 4), np.float32),
        motion=np.array([4.0, 0.1], np.float32),
    )


def box_map(heads):
    """Return the boxes of `Heads` at their peaks as a map (B, Y, X, 10), zero elsewhere."""
    B, _, Y, X = heads.heat_fused.shape
    boxes = torch.zeros(B, Y, X, heads.box.shape[1])
    b, row, column = cells_of(heads.peaks).unbind(1)
    boxes[b, row, column] = heads.box
    return boxes
