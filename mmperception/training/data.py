# SPDX-License-Identifier: Apache-2.0
"""
Batches for training: real and simulated scenes, augmented, as network input and targets.

Every sample is a function of (seed, index), so a run that was killed goes on with the samples it
would have seen. Whether the camera or the motion is masked is drawn independently of the drive:
one drive has no camera and stands still, and a network would learn that as a class.
"""

from dataclasses import replace
from pathlib import Path

from mmperception.datasets.kitti import training_drives
from mmperception.grid import BevGrid
from mmperception.tensors import CameraInput, Inputs, make_batch
from mmperception.training.augment import (
    change_light,
    crop_to_view,
    cut_objects,
    paste_objects,
    thin_points,
    turn_scene,
)
from mmperception.training.scenes import load_scene, scene_from_sample
from mmperception.training.targets import stack_targets
import numpy as np
import torch

# Pixels of the rectified image in whose view the drives are labelled.
LABELLED_VIEW = (1242, 375)
CAMERA_DROP, MOTION_DROP, INTENSITY_DROP, PASTE = 0.3, 0.3, 0.5, 0.5


def real_scenes(root, drives, config):
    """
    Load the labelled frames of the training drives.

    Parameters
    ----------
    root : path
        With `kitti_raw/` inside.
    drives : sequence of str
        Numbers to use.
    config : NetworkConfig
        Its `image_width` is that of the images.

    Returns
    -------
    list of Scene

    """
    scenes = []
    for drive in training_drives(root):
        if not any(f'drive_{number}' in drive.name for number in drives):
            continue
        # Labels cover the camera's view also in the frames that have no image.
        calibration = drive.calibration
        view = calibration.camera_model(LABELLED_VIEW), calibration.camera_from_base
        loaded = (scene_from_sample(sample, config, view) for sample in drive.samples())
        scenes += [crop_to_view(scene) for scene in loaded]
    return scenes


class SceneBatches(torch.utils.data.Dataset):
    """Item i is the i-th batch of a run: (Batch, Targets)."""

    def __init__(self, train, network, real):
        self.train, self.network, self.real = train, network, real
        self.simulated = sorted(Path(train.scenes).glob('*.npz')) if train.scenes else []
        if not self.real and not self.simulated:
            raise ValueError('training: neither real drives (data) nor simulated scenes (scenes)')
        self.objects = [found for scene in real for found in cut_objects(scene)]

    def __len__(self):
        return self.train.steps

    def __getitem__(self, index):
        rng = np.random.default_rng((self.train.seed, index))
        quadrant = int(rng.integers(4))
        scenes = [self._scene(rng, quadrant) for _ in range(self.train.batch_size)]
        grid = self.window(quadrant)
        batch = make_batch([_inputs(s, rng) for s in scenes], grid, self.network)
        shape = batch.images.shape[-2:] if batch.images.shape[1] else (0, 0)
        return batch, stack_targets(scenes, grid, shape, self.network)

    def window(self, quadrant):
        """Return the pillar window that lies in one of the four directions."""
        depth, width = self.train.window_m
        x, y = [(0, -width / 2), (-width / 2, 0), (-depth, -width / 2), (-width / 2, -depth)][
            quadrant
        ]
        size = (depth, width) if quadrant % 2 == 0 else (width, depth)
        cell_m = self.network.cell_m
        return BevGrid(
            x_min_m=x,
            y_min_m=y,
            cell_m=cell_m,
            num_x=round(size[0] / cell_m),
            num_y=round(size[1] / cell_m),
        )

    def _scene(self, rng, quadrant):
        is_real = bool(self.real) and (not self.simulated or rng.random() < self.train.real_share)
        if is_real:
            scene = self.real[rng.integers(len(self.real))]
        else:
            scene = load_scene(self.simulated[rng.integers(len(self.simulated))])
        if rng.random() < PASTE:
            scene = self._paste(scene, rng)
        if rng.random() < CAMERA_DROP:
            scene = without_camera(scene)
        scene = change_light(thin_points(scene, rng), rng)
        return turn_scene(scene, rng, quadrant)

    def _paste(self, scene, rng):
        """Add objects; the camera did not see them, so it is masked."""
        objects = []
        if self.objects:
            objects = [self.objects[i] for i in rng.integers(0, len(self.objects), 8)]
        if self.simulated:
            other = load_scene(self.simulated[rng.integers(len(self.simulated))])
            small = [found for found in cut_objects(other) if found['label'] > 0]
            objects += small[:6]
        pasted = paste_objects(scene, objects, rng)
        return without_camera(pasted)


def without_camera(scene):
    """Return the scene as a robot with a dead camera sees it."""
    return replace(scene, pixels=np.zeros((0, 0, 3), np.uint8))


def _inputs(scene, rng):
    has_motion = np.isfinite(scene.motion).all() and rng.random() >= MOTION_DROP
    camera = CameraInput(pixels=scene.pixels, pixel_from_base=scene.pixel_from_base)
    return Inputs(
        points=scene.points,
        intensity=None if rng.random() < INTENSITY_DROP else scene.intensity,
        cameras=(camera,) if scene.pixels.size else (),
        motion=tuple(float(v) for v in scene.motion) if has_motion else None,
    )
