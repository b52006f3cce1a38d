# SPDX-License-Identifier: Apache-2.0
"""
Batches for training: real and simulated scenes, augmented, as network input and targets.

Every sample is a function of (seed, index), so a run that was killed goes on with the samples it
would have seen. Whether the camera or the motion is masked is drawn independently of the drive:
one drive has no camera and stands still, and a network would learn that as a class.
"""

import copy
from dataclasses import replace
from pathlib import Path

from mmperception.datasets.kitti import training_drives
from mmperception.geometry import rotation_about, transform_from_yaw
from mmperception.grid import BevGrid
from mmperception.tensors import CameraInput, Inputs, make_batch
from mmperception.training.augment import (
    change_light,
    crop_to_view,
    draw_turn,
    look_aside,
    move_picture,
    spoil_picture,
    thin_points,
    turn_scene,
)
from mmperception.training.galleries import load_gallery
from mmperception.training.paste import about_sensor, cut_objects, paste_objects
from mmperception.training.scenes import load_past, load_scene, scene_from_sample, SENSOR_M
from mmperception.training.targets import stack_targets
import numpy as np
import torch

# Pixels of the rectified image in whose view the drives are labelled.
LABELLED_VIEW = (1242, 375)
# How often, and by how much, the camera is not quite where it is said to be.
MISCALIBRATED, SLIP_DEG, SLIP_M = 0.3, 0.7, 0.03
MOTION_DROP, INTENSITY_DROP, PASTE = 0.3, 0.5, 0.9
# Directions of the window: most of what users and benchmarks look at lies ahead.
QUADRANT_SHARES = (0.55, 0.15, 0.15, 0.15)
MAX_CUT_OBJECTS, GALLERY_OBJECTS = 5, (5, 13)
# Sweeps of a clip; how often the memory is lost between two, and how wrong the motion is.
CLIP, MEMORY_RESET = 4, 0.2
POSE_NOISE_M, POSE_NOISE_DEG = 0.1, 0.5
LONGEST_STEP_NS = 150_000_000


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


def simulated_files(train, pattern):
    """Return the files of simulated scenes that a run looks at."""
    return sorted(Path(train.scenes).glob(pattern)) if train.scenes else []


class SceneBatches(torch.utils.data.Dataset):
    """
    Item i is the batch of step i of one of several processes: (Batch, Targets).

    With a network that remembers, it is (list of Batch, Targets): clips, the last of which the
    targets belong to. That last batch is the same as without memory.
    """

    # How often an image is left out where batches have them.
    camera_drop = 0.3

    def __init__(self, train, network, real, rank=0, num_processes=1):
        self.train, self.network, self.real = train, network, real
        self.rank, self.num_processes = rank, num_processes
        self.has_memory = network.fusion == 'recurrent'
        self.simulated = simulated_files(train, '*.npz')
        if not self.real and not self.simulated:
            raise ValueError('training: neither real drives (data) nor simulated scenes (scenes)')
        self.galleries = sorted(Path(train.galleries).glob('*.npz')) if train.galleries else []
        self.objects = [about_sensor(found) for scene in real for found in cut_objects(scene)]

    def __len__(self):
        return self.train.steps

    def __getitem__(self, index):
        scenes, batches, grid = self.draw(index)
        shape = batches[-1].images.shape[-2:] if batches[-1].images.shape[1] else (0, 0)
        targets = stack_targets(scenes, grid, shape, self.network)
        return batches if self.has_memory else batches[-1], targets

    def draw(self, index):
        """Return the augmented scenes of a step, their batch for each sweep, and its window."""
        rng = np.random.default_rng((self.train.seed, index * self.num_processes + self.rank))
        quadrant = int(rng.choice(4, p=QUADRANT_SHARES))
        quadrant = 0 if self.train.ahead_only else quadrant
        with_camera = bool(rng.random() < self.train.camera_batches)
        clips = [self._clip(rng, quadrant, with_camera) for _ in range(self.train.batch_size)]
        scenes = [clip[-1] for clip in clips]
        grid = self.window(quadrant)
        # A generator of its own, so that the samples are those of a network without memory.
        chance = np.random.default_rng((self.train.seed, index, self.rank, 1))
        sweeps = [clip_inputs(clip, rng, chance) for clip in clips]
        batches = [make_batch(inputs, grid, self.network) for inputs in side_by_side(sweeps)]
        return scenes, batches, grid

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

    def _clip(self, rng, quadrant, with_camera):
        """Draw a scene and, for a network that remembers, the sweeps before it; oldest first."""
        is_real = bool(self.real) and (not self.simulated or rng.random() < self.train.real_share)
        if is_real:
            number = rng.integers(len(self.real))
            scene, past = self.real[number], self._past_of(number)
        else:
            path = self.simulated[rng.integers(len(self.simulated))]
            scene, past = load_scene(path), load_past(path) if self.has_memory else []
        if not with_camera:
            past = []  # evidence comes from images only
            scene = without_camera(scene) if is_real else look_aside(scene, rng)
            if rng.random() < PASTE:
                scene = paste_objects(scene, self._objects(rng, is_real), rng)
        elif rng.random() < self.camera_drop:
            scene = without_camera(scene)
        # The same beams and the same light in all sweeps of a clip.
        past = [_degraded(earlier, copy.deepcopy(rng)) for earlier in past]
        clip = [*past, _degraded(scene, rng)]
        turn = draw_turn(rng, quadrant)
        return [turn_scene(each, turn) for each in clip]

    def _past_of(self, number):
        """Return the real sweeps just before one, as far as they follow each other."""
        first = number
        while self.has_memory and first > max(0, number - CLIP + 1):
            if not follows(self.real[first - 1], self.real[first]):
                break
            first -= 1
        return self.real[first:number]

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


def _degraded(scene, rng):
    # Points last: how much is drawn for them depends on their number, which differs in a clip.
    scene = spoil_picture(change_light(move_picture(scene, rng), rng), rng)
    return thin_points(scene, rng)


def clip_inputs(clip, rng, chance):
    """
    Return the Inputs of a clip, oldest first; the last alone draws from `rng`.

    `chance` decides where the memory is lost and how wrong the motion in between is.
    """
    inputs, before = [], None
    for scene in clip:
        is_last = scene is clip[-1]
        sweep = _inputs(scene, rng if is_last else copy.deepcopy(rng))
        moved = None
        if before is not None and follows(before, scene) and chance.random() >= MEMORY_RESET:
            # Turned and scaled scenes make this no rigid transform.
            moved = np.linalg.inv(before.odom_from_base) @ scene.odom_from_base @ _wrong(chance)
        inputs.append(replace(sweep, previous_from_base=moved))
        before = scene
    return inputs


def _inputs(scene, rng):
    has_motion = np.isfinite(scene.motion).all() and rng.random() >= MOTION_DROP
    camera = CameraInput(pixels=scene.pixels, pixel_from_base=_miscalibrated(scene, rng))
    return Inputs(
        points=scene.points,
        intensity=None if rng.random() < INTENSITY_DROP else scene.intensity,
        cameras=(camera,) if scene.pixels.size else (),
        motion=tuple(float(v) for v in scene.motion) if has_motion else None,
    )


def _miscalibrated(scene, rng):
    """Return `pixel_from_base`, now and then a little wrong: about the sensor, as mounts slip."""
    if not scene.pixels.size or rng.random() >= MISCALIBRATED:
        return scene.pixel_from_base
    axis = rng.standard_normal(3)
    turn = rotation_about(axis, np.radians(rng.normal(0, SLIP_DEG)))
    shift = SENSOR_M - turn @ SENSOR_M + rng.normal(0, SLIP_M, 3)
    slip = np.eye(4)
    slip[:3, :3], slip[:3, 3] = turn, shift
    return scene.pixel_from_base @ slip


def side_by_side(sweeps):
    """
    Return lists of Inputs, one of each clip, oldest first; the last sweeps of all are together.

    `sweeps` has a list of Inputs for each clip; shorter clips begin with sweeps of nothing.
    """
    length = max(len(clip) for clip in sweeps)
    nothing = Inputs(points=None, intensity=None, cameras=(), motion=None)
    padded = [[nothing] * (length - len(clip)) + clip for clip in sweeps]
    return [list(together) for together in zip(*padded, strict=True)]


def follows(before, scene):
    """Tell whether a scene is the next sweep after another, with known motion in between."""
    is_known = np.isfinite(before.odom_from_base).all() and np.isfinite(scene.odom_from_base).all()
    return bool(is_known and 0 < scene.stamp_ns - before.stamp_ns <= LONGEST_STEP_NS)


def _wrong(chance):
    """Return a small error of pose (4, 4), as GPS and odometry have."""
    x, y = chance.normal(0, POSE_NOISE_M, 2)
    return transform_from_yaw((x, y, 0.0), np.radians(chance.normal(0, POSE_NOISE_DEG)))
