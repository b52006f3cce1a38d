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
    look_aside,
    thin_points,
    turn_scene,
)
from mmperception.training.galleries import load_gallery
from mmperception.training.paste import about_sensor, cut_objects, paste_objects
from mmperception.training.scenes import load_scene, scene_from_sample
from mmperception.training.targets import stack_targets
import numpy as np
import torch

# Pixels of the rectified image in whose view the drives are labelled.
LABELLED_VIEW = (1242, 375)
CAMERA_DROP, MOTION_DROP, INTENSITY_DROP, PASTE = 0.3, 0.3, 0.5, 0.9
# Share of the batches in which images are looked at: they cost half as much again, the boxes do
# not depend on them, and what is pasted is in no image.
CAMERA_BATCHES = 0.25
# Directions of the window: most of what users and benchmarks look at lies ahead.
QUADRANT_SHARES = (0.55, 0.15, 0.15, 0.15)
MAX_CUT_OBJECTS, GALLERY_OBJECTS = 5, (5, 13)


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
    """Item i is the batch of step i of one of several processes: (Batch, Targets)."""

    def __init__(self, train, network, real, rank=0, num_processes=1):
        self.train, self.network, self.real = train, network, real
        self.rank, self.num_processes = rank, num_processes
        self.simulated = sorted(Path(train.scenes).glob('*.npz')) if train.scenes else []
        if not self.real and not self.simulated:
            raise ValueError('training: neither real drives (data) nor simulated scenes (scenes)')
        self.galleries = sorted(Path(train.galleries).glob('*.npz')) if train.galleries else []
        self.objects = [about_sensor(found) for scene in real for found in cut_objects(scene)]

    def __len__(self):
        return self.train.steps

    def __getitem__(self, index):
        scenes, batch, grid = self.draw(index)
        shape = batch.images.shape[-2:] if batch.images.shape[1] else (0, 0)
        return batch, stack_targets(scenes, grid, shape, self.network)

    def draw(self, index):
        """Return the augmented scenes of a step, the batch of them and its pillar window."""
        rng = np.random.default_rng((self.train.seed, index * self.num_processes + self.rank))
        quadrant = int(rng.choice(4, p=QUADRANT_SHARES))
        with_camera = bool(rng.random() < CAMERA_BATCHES)
        scenes = [self._scene(rng, quadrant, with_camera) for _ in range(self.train.batch_size)]
        grid = self.window(quadrant)
        return scenes, make_batch([_inputs(s, rng) for s in scenes], grid, self.network), grid

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

    def _scene(self, rng, quadrant, with_camera):
        is_real = bool(self.real) and (not self.simulated or rng.random() < self.train.real_share)
        if is_real:
            scene = self.real[rng.integers(len(self.real))]
        else:
            scene = load_scene(self.simulated[rng.integers(len(self.simulated))])
        if not with_camera:
            scene = without_camera(scene) if is_real else look_aside(scene, rng)
            if rng.random() < PASTE:
                scene = paste_objects(scene, self._objects(rng, is_real), rng)
        elif rng.random() < CAMERA_DROP:
            scene = without_camera(scene)
        scene = change_light(thin_points(scene, rng), rng)
        return turn_scene(scene, rng, quadrant)

    def _objects(self, rng, is_real):
        """Draw what to paste: objects cut from real sweeps, and things from a gallery."""
        objects = []
        if self.objects and is_real:
            chosen = rng.integers(0, len(self.objects), rng.integers(MAX_CUT_OBJECTS + 1))
            objects = [self.objects[i] for i in chosen]
        if self.galleries:
            things = load_gallery(self.galleries[rng.integers(len(self.galleries))])
            number = int(rng.integers(*GALLERY_OBJECTS))
            order = rng.permutation(len(things))[:number]
            objects += [things[i] for i in order]
        return objects


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
