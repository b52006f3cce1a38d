# SPDX-License-Identifier: Apache-2.0
"""
Batch-norm statistics of the finished network, from real training frames as they are.

While training, the running statistics follow moving weights and a mixture of simulated, pasted
and thinned scenes. What the averaged weights meet on a robot is a plain sweep: the statistics are
taken again from real scenes in the training window, where the network learned its answers.
"""

from mmperception.tensors import CameraInput, Inputs, make_batch
import torch
from torch import nn

MAX_SCENES, SCENES_PER_BATCH = 64, 4


@torch.no_grad()
def settle_batch_norm(network, scenes, grid, fixed=()):
    """
    Take the statistics of all batch norms again; weights stay as they are.

    Parameters
    ----------
    network : PerceptionNetwork
        Changed in place; left in evaluation mode.
    scenes : sequence of Scene
        Real ones, not augmented; at most `MAX_SCENES`, evenly drawn. None: nothing happens.
    grid : BevGrid
        The training window ahead.
    fixed : sequence of nn.Module
        Parts of it whose statistics stay.

    """
    network.eval()
    if not scenes:
        return
    kept = {module for part in fixed for module in part.modules()}
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    norms = [m for m in network.modules() if isinstance(m, kinds) and m not in kept]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over batches
        norm.train()
    step = max(1, -(-len(scenes) // MAX_SCENES))
    chosen = scenes[::step]
    for begin in range(0, len(chosen), SCENES_PER_BATCH):
        end = begin + SCENES_PER_BATCH
        inputs = [_inputs(scene) for scene in chosen[begin:end]]
        network(make_batch(inputs, grid, network.config))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


def _inputs(scene):
    camera = CameraInput(pixels=scene.pixels, pixel_from_base=scene.pixel_from_base)
    is_known = bool(torch.isfinite(torch.from_numpy(scene.motion)).all())
    return Inputs(
        points=scene.points,
        intensity=scene.intensity,
        cameras=(camera,) if scene.pixels.size else (),
        motion=tuple(float(value) for value in scene.motion) if is_known else None,
    )
