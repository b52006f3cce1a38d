# SPDX-License-Identifier: Apache-2.0
"""Fills a folder with simulated scenes for training; what is there already is kept."""

from pathlib import Path

from mmperception.simulation.drive import simulate_clip
from mmperception.training.data import CLIP
from mmperception.training.scenes import save_past, save_scene, scene_from_sample


def make_scenes(folder, seeds, with_camera, config):
    """
    Simulate one scene for each seed and write it as .npz.

    Parameters
    ----------
    folder : path
        Made if need be; a scene that is there is not made again.
    seeds : iterable of int
        Each is a street, and part of its file name.
    with_camera : bool
        Images cost about ten times the LiDAR's time.
    config : NetworkConfig
        Its `image_width` is that of the images; for recurrent fusion the sweeps before each scene
        with images are made too.

    Yields
    ------
    path
        Of each scene, as it is finished.

    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        path = folder / f'{"camera" if with_camera else "lidar"}_{seed:07d}.npz'
        if not path.exists():
            # Only evidence from images is remembered.
            length = CLIP if with_camera and config.fusion == 'recurrent' else 1
            clip = simulate_clip(seed, 0, with_camera, length)
            *past, scene = (scene_from_sample(sample, config) for sample in clip)
            if past:
                save_past(path, past)
            save_scene(path, scene)
        yield path
