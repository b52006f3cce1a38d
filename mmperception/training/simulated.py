# SPDX-License-Identifier: Apache-2.0
"""Fills a folder with simulated scenes for training; what is there already is kept."""

from pathlib import Path

from mmperception.simulation.drive import simulate_samples
from mmperception.training.scenes import save_scene, scene_from_sample


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
        Its `image_width` is that of the images.

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
            for sample in simulate_samples(seed, with_camera=with_camera, num=1):
                save_scene(path, scene_from_sample(sample, config))
        yield path
