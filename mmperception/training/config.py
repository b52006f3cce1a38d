# SPDX-License-Identifier: Apache-2.0
"""Settings of a training run: what `mmperception train CONFIG` reads and stores with the run."""

from dataclasses import dataclass, fields

from mmperception.network.config import NetworkConfig
import yaml

BOTH, LIDAR, CAMERA = SENSORS = ('both', 'lidar', 'camera')


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """
    One training run.

    Attributes
    ----------
    fusion : str
        Kind of fusion, see network/config.py.
    sensors : str
        What the network is trained on: `both`, `lidar` or `camera` alone.
    cell_m, range_m : float
        Pillars and reach of the network, see network/config.py.
    data : str
        Folder of the unpacked recordings (`kitti_raw/` inside); empty: MMPERCEPTION_DATA, and
        without that simulation only.
    drives : list of str
        Training drives by number; drive 0005 is refused.
    scenes : str
        Folder of simulated scenes, made by `mmperception train --make-scenes`.
    galleries : str
        Folder of simulated single things for the paste, made by `--make-galleries`.
    real_share : float
        Share of real samples in a batch when there are any.
    start : str
        Weights file to start from; empty: random weights.
    refine : bool
        Train the second stage alone, on what the first stage of `start` proposes; `batch_size`
        is then a number of crops.
    check_images : bool
        Train the image check alone (network/image_check.py), on what `start` finds; `batch_size`
        is then a number of boxes.
    camera_alone : bool
        Train the camera branch alone, on images; the other parts of `start` stay as they are.
    camera_fixed : bool
        The camera branch of `start` stays as it is, and all else learns beside it.
    bank_batches : int
        Batches of four scenes that the network looks at for what is trained on its boxes.
    steps, batch_size : int
    minutes : float
        The run ends, and the rate falls to its end, after so long; 0: by steps alone.
    learning_rate, weight_decay : float
    seed : int
    window_m : list of float
        Depth and width of the training window, metres; multiples of 6.4.
    ahead_only : bool
        The window always lies ahead, instead of in any of four directions.
    camera_batches : float
        Share of the batches in which images are looked at.
    decorrelation : float
        Weight of the loss on what camera and LiDAR features say alike; 0: none.
    workers : int
        Processes that prepare samples.
    bfloat16 : bool
        Convolutions and linear layers in bfloat16.
    threads : int
        CPU threads of the step; 0: all.

    """

    fusion: str = 'attention'
    sensors: str = 'both'
    cell_m: float = 0.2
    range_m: float = 51.2
    data: str = ''
    drives: tuple[str, ...] = ('0009', '0048', '0052', '0060')
    scenes: str = ''
    galleries: str = ''
    real_share: float = 0.5
    start: str = ''
    refine: bool = False
    check_images: bool = False
    camera_alone: bool = False
    camera_fixed: bool = False
    bank_batches: int = 400
    steps: int = 6000
    minutes: float = 0.0
    batch_size: int = 4
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    seed: int = 0
    window_m: tuple[float, ...] = (51.2, 64.0)
    ahead_only: bool = False
    # Images cost half as much again, boxes do not depend on them, and what is pasted is in none.
    camera_batches: float = 0.25
    decorrelation: float = 0.0
    workers: int = 1
    bfloat16: bool = False
    threads: int = 0

    def __post_init__(self):
        if not 0.0 <= self.real_share <= 1.0:
            raise ValueError('real_share: must be 0 to 1')
        if self.sensors not in SENSORS:
            raise ValueError(f'sensors: {self.sensors!r} is none of {", ".join(SENSORS)}')
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError('steps and batch_size: must be at least 1')
        alone = [n for n in ('refine', 'check_images', 'camera_alone') if getattr(self, n)]
        if len(alone) > 1:
            raise ValueError(f'{" and ".join(alone)}: one part is trained alone at a time')
        if self.camera_fixed and alone:
            raise ValueError(f'camera_fixed: {alone[0]} trains one part alone already')
        if self.camera_fixed and not self.start:
            raise ValueError('camera_fixed: needs start, the weights that the branch comes from')
        if self.refine and not self.start:
            raise ValueError('refine: needs start, the weights of the first stage')
        if self.check_images and not self.start:
            raise ValueError('check_images: needs start, the weights whose boxes are looked at')
        if self.check_images and not self.camera_batches:
            raise ValueError('check_images: camera_batches must be above 0')

    @property
    def network(self):
        """Return the shape of the network that is trained."""
        return NetworkConfig(fusion=self.fusion, cell_m=self.cell_m, range_m=self.range_m)


def load(path):
    """
    Read a training YAML.

    Raises
    ------
    ValueError
        If the file cannot be read or holds an unknown setting; names both.

    """
    return read_settings(path, TrainConfig)


def read_mapping(path):
    """Return the mapping of a YAML file; ValueError names one that cannot be read."""
    try:
        with open(path, encoding='utf-8') as file:
            values = yaml.safe_load(file) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f'{path}: cannot be read as YAML: {error}') from error
    if not isinstance(values, dict):
        raise ValueError(f'{path}: expected a mapping of settings')
    return values


def read_settings(path, kind):
    """Return the settings of a YAML file as the dataclass `kind`; errors as `load`."""
    return from_values(read_mapping(path), kind, path)


def from_values(values, kind, path):
    """Return a mapping as the dataclass `kind`; errors name the file that it comes from."""
    known = {f.name for f in fields(kind)}
    if unknown := sorted(set(values) - known):
        raise ValueError(
            f'{path}: unknown setting {unknown[0]}; known are {", ".join(sorted(known))}'
        )
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
