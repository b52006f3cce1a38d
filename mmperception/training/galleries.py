# SPDX-License-Identifier: Apache-2.0
"""
Galleries on disk: simulated single things for the paste, as plain .npz arrays.

Made once (`mmperception train CONFIG --make-galleries FIRST NUMBER`), read by the thousand: a
file holds about thirty things, points in 5 mm steps.
"""

from pathlib import Path

from mmperception.simulation.gallery import make_gallery
from mmperception.training.scenes import IGNORED, LABEL_OF_KIND, STEP_M
import numpy as np

# Label of a thing that has no box: pasted, it is background that must not be taken for an object.
NEGATIVE = -2


def make_galleries(folder, seeds):
    """
    Make one gallery for each seed; those that are there are kept.

    Parameters
    ----------
    folder : path
        Made if need be.
    seeds : iterable of int
        Each is part of a file name.

    Yields
    ------
    path
        Of each gallery, as it is finished.

    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        path = folder / f'gallery_{seed:07d}.npz'
        if not path.exists():
            save_gallery(path, make_gallery(seed))
        yield path


def save_gallery(path, exhibits):
    """Write exhibits, whole or not at all."""
    labels = [LABEL_OF_KIND.get(e.kind, IGNORED) if e.kind else NEGATIVE for e in exhibits]
    partial = path.with_suffix('.partial.npz')
    np.savez(
        partial,
        points=np.round(np.concatenate([e.points for e in exhibits]) / STEP_M).astype(np.int16),
        intensity=np.round(np.concatenate([e.intensity for e in exhibits]) * 255).astype(np.uint8),
        ring=np.concatenate([e.ring for e in exhibits]).astype(np.uint8),
        counts=np.array([len(e.points) for e in exhibits]),
        center=np.array([e.center for e in exhibits], np.float32),
        size=np.array([e.size for e in exhibits], np.float32),
        yaw=np.array([e.yaw for e in exhibits], np.float32),
        label=np.array(labels, np.int64),
    )
    partial.replace(path)


def load_gallery(path):
    """
    Read what `save_gallery` wrote.

    Returns
    -------
    list of dict
        As `augment.cut_objects` gives them, in the frame of the sensor.

    """
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    ends = np.cumsum(arrays['counts'])
    things = []
    for k, (begin, end) in enumerate(zip(ends - arrays['counts'], ends, strict=True)):
        things.append(
            {
                'points': arrays['points'][begin:end].astype(np.float32) * np.float32(STEP_M),
                'intensity': arrays['intensity'][begin:end].astype(np.float32) / 255,
                'ring': arrays['ring'][begin:end].astype(np.uint16),
                'center': arrays['center'][k],
                'size': arrays['size'][k],
                'yaw': arrays['yaw'][k],
                'label': int(arrays['label'][k]),
            }
        )
    return things
