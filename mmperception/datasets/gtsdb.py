# SPDX-License-Identifier: Apache-2.0
"""
GTSDB: whole images with the boxes of their traffic signs, and five folds of them.

`gt.txt` holds `file;x1;y1;x2;y2;class`. The data set was cut from drives: images of one place
look alike, so folds are made of groups of look-alikes (correlation of 34x20 grey thumbnails).
Source: Houben et al., IJCNN 2013.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
from mmperception.datasets.gtsrb import NUM_FOLDS, read_picture
from mmperception.sign_classes import NUM_SIGN_CLASSES
import numpy as np

PICTURES = ('.ppm', '.png', '.jpg', '.jpeg', '.bmp')
ALIKE = 0.93
THUMBNAIL = (34, 20)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SignImage:
    """One image: `file` relative to the folder, `path`, `boxes` (N, 4) px, `class_id` (N,)."""

    file: str
    path: Path
    boxes: np.ndarray
    class_id: np.ndarray

    def pixels(self):
        """Return the image, (H, W, 3) uint8 RGB."""
        return read_picture(self.path)


def list_pictures(folder):
    """
    Return the picture files below a folder, relative to it, sorted.

    Raises
    ------
    ValueError
        If there is none.

    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f'{folder}: no such folder')
    found = (path for path in folder.rglob('*') if path.suffix.lower() in PICTURES)
    files = sorted(path.relative_to(folder) for path in found if path.is_file())
    if not files:
        raise ValueError(f'{folder}: holds no picture ({", ".join(PICTURES)})')
    return files


def read_gtsdb(folder):
    """
    List the images of a GTSDB folder with their boxes.

    Parameters
    ----------
    folder : path
        With `gt.txt`; the suffix of a listed file may differ from that on disk.

    Returns
    -------
    list of SignImage
        Sorted by file; those without signs, too.

    Raises
    ------
    ValueError
        If a line is not as expected or its image is missing; names file and line.

    """
    folder = Path(folder)
    truth = _read_truth(folder / 'gt.txt')
    files = {path.with_suffix('').as_posix(): path for path in list_pictures(folder)}
    if missing := sorted(set(truth) - set(files)):
        raise ValueError(f'{folder / "gt.txt"}: image {missing[0]} is not in the folder')
    images = []
    for stem, file in files.items():
        rows = np.array(truth.get(stem, np.zeros((0, 5))), np.int64).reshape(-1, 5)
        images.append(
            SignImage(
                file=file.as_posix(),
                path=folder / file,
                boxes=rows[:, :4].astype(np.float32),
                class_id=rows[:, 4],
            )
        )
    return images


def _read_truth(path):
    truth = {}
    for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
        if not line.strip():
            continue
        name, *values = line.strip().split(';')
        try:
            row = [int(value) for value in values]
            if len(row) != 5 or not 0 <= row[4] < NUM_SIGN_CLASSES:
                raise ValueError(line)
        except ValueError as error:
            raise ValueError(f'{path}: line {number} is not file;x1;y1;x2;y2;class') from error
        truth.setdefault(Path(name).with_suffix('').as_posix(), []).append(row)
    return truth


def gtsdb_folds(pictures):
    """
    Return the fold 0..4 of every image, look-alikes together.

    Parameters
    ----------
    pictures : sequence of (H, W, 3) uint8
        In the order of the images; may be a generator.

    Returns
    -------
    folds : (N,) int64

    """
    group = _groups(np.stack([_thumbnail(pixels) for pixels in pictures]))
    names, sizes = np.unique(group, return_counts=True)
    folds, filled = np.zeros(len(group), np.int64), np.zeros(NUM_FOLDS, np.int64)
    for name in names[np.argsort(-sizes, kind='stable')]:
        fold = int(np.argmin(filled))
        folds[group == name] = fold
        filled[fold] += (group == name).sum()
    return folds


def _thumbnail(pixels):
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float64).ravel()
    small -= small.mean()
    return small / max(np.linalg.norm(small), 1e-9)


def _groups(thumbnails):
    """Return a group number for each thumbnail: those alike, and whom they are alike, share it."""
    is_alike = thumbnails @ thumbnails.T > ALIKE
    group = np.arange(len(thumbnails))
    while True:
        lowest = np.where(is_alike | np.eye(len(group), dtype=bool), group[None], len(group))
        joined = lowest.min(axis=1)
        if (joined == group).all():
            return group
        group = joined
