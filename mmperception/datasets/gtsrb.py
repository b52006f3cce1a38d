# SPDX-License-Identifier: Apache-2.0
"""
GTSRB: crops of single traffic signs, in tracks of one physical sign each.

`Train.csv` names every crop, its class and where the sign lies in it. Crops of one track (the
first two parts of the file name) are near-duplicates, so folds are made of tracks.
Source: Stallkamp et al., Neural Networks 32, 2012.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
from mmperception.sign_classes import NUM_SIGN_CLASSES
import numpy as np

NUM_FOLDS = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SignCrop:
    """One crop: `file` as listed, `path`, `roi` (x1, y1, x2, y2) px, class and track."""

    file: str
    path: Path
    roi: tuple
    class_id: int
    track: str

    def pixels(self):
        """Return the crop, (H, W, 3) uint8 RGB."""
        return read_picture(self.path)


def read_picture(path):
    """
    Read a picture file.

    Returns
    -------
    pixels : (H, W, 3) uint8
        RGB; grey and transparent pictures are converted.

    Raises
    ------
    ValueError
        If it is no picture, or a broken one; names the file.

    """
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError(f'{path}: cannot be read as a picture')
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def read_gtsrb(folder):
    """
    List the crops of a GTSRB folder.

    Parameters
    ----------
    folder : path
        With `Train.csv`.

    Returns
    -------
    list of SignCrop
        In the order of the file.

    Raises
    ------
    ValueError
        If a line is not as expected; names file and line.

    """
    path = Path(folder) / 'Train.csv'
    crops = []
    with path.open(newline='', encoding='utf-8') as file:
        for row in csv.DictReader(file):
            try:
                crops.append(_crop(Path(folder), row))
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f'{path}: line {len(crops) + 2} is not of GTSRB') from error
    return crops


def _crop(folder, row):
    class_id, name = int(row['ClassId']), row['Path']
    if not 0 <= class_id < NUM_SIGN_CLASSES:
        raise ValueError(f'ClassId {class_id}')
    roi = tuple(int(row[f'Roi.{key}']) for key in ('X1', 'Y1', 'X2', 'Y2'))
    track = '_'.join(Path(name).stem.split('_')[:2])
    # Track numbers begin anew in every class.
    return SignCrop(
        file=name, path=folder / name, roi=roi, class_id=class_id, track=f'{class_id}/{track}'
    )


def gtsrb_folds(crops, seed=0):
    """Return the fold 0..4 of every crop, (N,) int64: whole tracks, every class in every fold."""
    tracks = sorted({crop.track for crop in crops})
    rng = np.random.default_rng(seed)
    fold_of = {}
    for class_id in range(NUM_SIGN_CLASSES):
        own = [track for track in tracks if track.startswith(f'{class_id}/')]
        for place, index in enumerate(rng.permutation(len(own))):
            fold_of[own[index]] = (place + class_id) % NUM_FOLDS
    return np.array([fold_of[crop.track] for crop in crops], np.int64)
