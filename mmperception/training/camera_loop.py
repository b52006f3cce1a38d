# SPDX-License-Identifier: Apache-2.0
"""
Training of the camera branch alone, on images: trunk and camera-only head learn, the rest stays.

What masking the LiDAR now and then does not teach (people who tried got half of what was
published, see docs/decisions.md) a phase of its own does: no points are loaded or looked at, so
a step takes a fraction of the time, and every image counts. The weights are then the `start` of a
run that trains all paths together.
"""

from dataclasses import replace

from mmperception.tensors import CameraInput, Inputs, make_batch
from mmperception.training.augment import change_light, move_picture, spoil_picture
from mmperception.training.data import simulated_files
from mmperception.training.loop import Trainer
from mmperception.training.losses import camera_losses, weighted_sum
from mmperception.training.scenes import load_scene
from mmperception.training.targets import stack_targets
import numpy as np
import torch


class PictureBatches(torch.utils.data.Dataset):
    """Item i is the batch of step i of one of several processes: (Batch, Targets), no points."""

    def __init__(self, train, network, real, rank=0, num_processes=1):
        self.train, self.network = train, network
        self.rank, self.num_processes = rank, num_processes
        self.real = [_picture(scene) for scene in real if scene.pixels.size]
        loaded = (load_scene(path) for path in simulated_files(train, 'camera_*.npz'))
        self.simulated = [_picture(scene) for scene in loaded]
        if not self.real and not self.simulated:
            raise ValueError('training: no image, neither in drives (data) nor in scenes')

    def __len__(self):
        return self.train.steps

    def __getitem__(self, index):
        rng = np.random.default_rng((self.train.seed, index * self.num_processes + self.rank))
        scenes = [self._scene(rng) for _ in range(self.train.batch_size)]
        inputs = [_inputs(scene) for scene in scenes]
        grid = self.network.grid.coarser(16)  # nothing is looked for in it
        batch = make_batch(inputs, grid, self.network)
        return batch, stack_targets(scenes, grid, batch.images.shape[-2:], self.network)

    def _scene(self, rng):
        is_real = self.real and (not self.simulated or rng.random() < self.train.real_share)
        among = self.real if is_real else self.simulated
        scene = move_picture(among[rng.integers(len(among))], rng)
        return spoil_picture(change_light(scene, rng), rng)


class CameraTrainer(Trainer):
    """One run of the camera branch in one folder; used like Trainer."""

    batches_kind = PictureBatches

    def trained_parts(self):
        """Return the parts of the network that learn."""
        return [self.network.trunk, self.network.camera_head]

    def one_loss(self, batch, targets):
        """Return the loss of one batch and its parts."""
        batch = batch.to(self.device)
        targets = targets.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.train.bfloat16):
            features = self.network.trunk(
                batch.images[:, 0].contiguous(memory_format=torch.channels_last)
            )
            heat, box = self.network.camera_head(features)
        return weighted_sum(camera_losses(heat, box, targets))

    def settle(self, network):
        """Leave the statistics as trained: a few real images would be too few."""


def _picture(scene):
    """Return a scene without its points: a few hundred images stay in memory."""
    nothing = np.zeros(0, np.float32)
    return replace(
        scene, points=nothing.reshape(0, 3), intensity=nothing, ring=nothing.astype(np.uint16)
    )


def _inputs(scene):
    camera = CameraInput(pixels=scene.pixels, pixel_from_base=scene.pixel_from_base)
    return Inputs(points=None, intensity=None, cameras=(camera,), motion=None)
