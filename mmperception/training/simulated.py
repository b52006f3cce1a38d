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
    seeds : iterable of int
    with_camera : bool
        Images cost about ten times the LiDAR's time.
    config : NetworkConfig

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
