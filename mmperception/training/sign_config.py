# SPDX-License-Identifier: Apache-2.0
"""Settings of a sign network's training run: `mmperception train` reads and stores them."""

from dataclasses import dataclass

from mmperception.network.signs import CLASSIFIER, DETECTOR
from mmperception.training.config import read_settings

SOURCES = ('gtsdb', 'gtsrb', 'drawn')


@dataclass(frozen=True, slots=True, kw_only=True)
class SignTrainConfig:
    """
    One training run of a sign network.

    Attributes
    ----------
    network : str
        `sign_detector` or `sign_classifier`.
    data : str
        Folder with `gtsdb/` and `gtsrb/`; empty: MMPERCEPTION_DATA.
    sources : tuple of str
        Of gtsdb, gtsrb and drawn.
    streets : int
        Simulated pictures that serve as surroundings, in place of all photographs; 0: those of
        GTSDB and KITTI serve.
    gtsdb_fold, gtsrb_fold : int
        The fold 0..4 that is left out for measuring; -1: none is.
    detector : str
        Weights of a detector whose mistakes on the training images the classifier learns to
        reject; empty: none.
    start : str
        Weights file to start from; empty: random weights.
    crop_px : int
        Side of the detector's training crops, a multiple of 16.
    steps, batch_size : int
    minutes : float
        The run ends, and the rate falls to its end, after so long; 0: by steps alone.
    learning_rate, weight_decay : float
    seed : int
    workers : int
        Processes that prepare samples.
    bfloat16 : bool
        Convolutions and linear layers in bfloat16.
    threads : int
        CPU threads of the step; 0: all.

    """

    network: str = DETECTOR
    data: str = ''
    sources: tuple[str, ...] = SOURCES
    streets: int = 0
    gtsdb_fold: int = -1
    gtsrb_fold: int = -1
    detector: str = ''
    start: str = ''
    crop_px: int = 256
    steps: int = 4000
    minutes: float = 0.0
    batch_size: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    seed: int = 0
    workers: int = 1
    bfloat16: bool = False
    threads: int = 0

    def __post_init__(self):
        if self.network not in (DETECTOR, CLASSIFIER):
            raise ValueError(f'network: {self.network!r} is none of {DETECTOR}, {CLASSIFIER}')
        if unknown := sorted(set(self.sources) - set(SOURCES)):
            raise ValueError(f'sources: {unknown[0]} is none of {", ".join(SOURCES)}')
        if self.streets < 0 or (self.streets and tuple(self.sources) != ('drawn',)):
            raise ValueError('streets: must be positive, and then sources: [drawn]')
        if not -1 <= self.gtsdb_fold <= 4 or not -1 <= self.gtsrb_fold <= 4:
            raise ValueError('gtsdb_fold and gtsrb_fold: must be -1 to 4')
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError('steps and batch_size: must be at least 1')
        if self.crop_px < 64 or self.crop_px % 16:
            raise ValueError('crop_px: must be a multiple of 16 and at least 64')


def load(path):
    """
    Read a training YAML of a sign network.

    Raises
    ------
    ValueError
        If the file cannot be read or holds an unknown setting; names both.

    """
    return read_settings(path, SignTrainConfig)
