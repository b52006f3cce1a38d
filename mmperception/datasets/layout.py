# SPDX-License-Identifier: Apache-2.0
"""Which data set a path holds, recognised by its files."""

from pathlib import Path

from mmperception.datasets.kitti import is_drive
from mmperception.datasets.kitti_object import is_object_folder

BAG, KITTI_DRIVE, KITTI_OBJECTS = 'bag', 'KITTI drive', 'KITTI object folder'
GTSDB, GTSRB = 'GTSDB folder', 'GTSRB folder'


def layout_of(path):
    """
    Recognise what `path` holds.

    Returns
    -------
    str
        `BAG`, `KITTI_DRIVE`, `KITTI_OBJECTS`, `GTSDB` or `GTSRB`.

    Raises
    ------
    ValueError
        If there is nothing at `path`, or nothing that is known.

    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f'{path}: no such file or folder')
    if path.suffix in ('.mcap', '.db3') or (path / 'metadata.yaml').is_file():
        return BAG
    if is_drive(path):
        return KITTI_DRIVE
    if is_object_folder(path):
        return KITTI_OBJECTS
    if (path / 'gt.txt').is_file():
        return GTSDB
    if (path / 'Train.csv').is_file():
        return GTSRB
    if any(path.glob('*.mcap')) or any(path.glob('*.db3')):
        return BAG
    raise ValueError(
        f'{path}: holds neither a bag (metadata.yaml), a KITTI drive (velodyne_points/data), '
        'a KITTI object folder (velodyne, calib), GTSDB (gt.txt) nor GTSRB (Train.csv)'
    )
