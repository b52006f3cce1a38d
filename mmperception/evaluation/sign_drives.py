# SPDX-License-Identifier: Apache-2.0
"""
Signs of a recorded drive: which listed ones became a track, were read, and what is false.

The list (docs/sign_truth.csv) was written by eye before any tuning: some boxes of every sign,
class -1 for a sign outside of the 43 classes; between its boxes a sign is where they lead to. A
sign is found when a confirmed track overlaps it at IoU 0.3; a confirmed track that overlaps no
listed sign is false, and so is one that reads a sign outside of the classes as one of them.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from mmperception.evaluation.metrics import Metric
from mmperception.sign_classes import UNREAD
from mmperception.signs import box_ious
import numpy as np

MIN_IOU = 0.3
SIGN_TRUTH_FORM = 'drive;sign;class;frame;x1;y1;x2;y2'
# So long before its first and after its last listed box a sign is taken to be there.
FRAMES_AROUND = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ListedSign:
    """One sign of a drive: `class_id`, and `boxes` (K, 4) px at `frames` (K,)."""

    name: str
    class_id: int
    frames: np.ndarray
    boxes: np.ndarray

    def box_at(self, frame):
        """Return its box at a frame number, None when it is out of view."""
        if not self.frames[0] - FRAMES_AROUND <= frame <= self.frames[-1] + FRAMES_AROUND:
            return None
        return np.array([np.interp(frame, self.frames, edge) for edge in self.boxes.T])


def read_sign_truth(path, drive):
    """
    Return the ListedSigns of a drive.

    Parameters
    ----------
    path : path
        Of the list, `drive;sign;class;frame;x1;y1;x2;y2`.
    drive : str
        Number, as `0009`; one without signs has no line.

    Raises
    ------
    ValueError
        If a line is not as expected.

    """
    found = {}
    with Path(path).open(newline='', encoding='utf-8') as file:
        for row in csv.DictReader(file, delimiter=';'):
            try:
                values = [float(row[key]) for key in ('frame', 'x1', 'y1', 'x2', 'y2')]
                key = row['drive'], row['sign'], int(row['class'])
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f'{path}: a line is not {SIGN_TRUTH_FORM}') from error
            found.setdefault(key, []).append(values)
    return [
        ListedSign(
            name=f'{number}/{name}',
            class_id=class_id,
            frames=np.array(rows)[:, 0],
            boxes=np.array(rows)[:, 1:],
        )
        for (number, name, class_id), rows in found.items()
        if number == drive
    ]


def follow_signs(samples, stage):
    """
    Run the sign stage over a drive.

    Parameters
    ----------
    samples : iterable of Sample
        In order of time; `source` ends with the frame number.
    stage : SignStage
        Fresh: it has seen nothing yet.

    Returns
    -------
    boxes : dict of int to list of (frame, box)
        By confirmed track.
    classes : dict of int to int
        What each confirmed track was read as in the end.

    """
    boxes, classes = {}, {}
    for sample in samples:
        signs, in_images = stage.look(sample.frame)
        frame = int(sample.source.rsplit('/', 1)[-1])
        classes.update(zip(signs.track_id.tolist(), signs.class_id.tolist(), strict=True))
        for found in in_images.values():
            for track, box in zip(found.track_id.tolist(), found.boxes, strict=True):
                boxes.setdefault(track, []).append((frame, box))
    return {track: boxes.get(track, []) for track in classes}, classes


def drive_metrics(listed, boxes, classes):
    """
    Count found, read and false signs.

    Parameters
    ----------
    listed : sequence of ListedSign
        Of the drive.
    boxes, classes : dicts
        Of `follow_signs`.

    Returns
    -------
    dict of str to Metric

    """
    sign_of = {track: _overlapping(seen, listed) for track, seen in boxes.items()}
    asked = [sign for sign in listed if sign.class_id != UNREAD]
    metrics = {'sign_tracks': Metric(value=len(classes), count=len(classes))}
    found = [sign for sign in asked if any(sign in own for own in sign_of.values())]
    read = [
        sign
        for sign in asked
        if any(sign in sign_of[t] and classes[t] == sign.class_id for t in classes)
    ]
    others = [sign for sign in listed if sign.class_id == UNREAD]
    obeyed = [t for t in classes if classes[t] != UNREAD and any(s in sign_of[t] for s in others)]
    metrics['signs_found'] = Metric(value=len(found), count=len(asked))
    metrics['signs_read'] = Metric(value=len(read), count=len(asked))
    metrics['false_tracks'] = Metric(
        value=sum(not own for own in sign_of.values()), count=len(classes)
    )
    metrics['others_read_as_a_class'] = Metric(value=len(obeyed), count=len(others))
    for sign in asked:
        metrics[f'sign_{sign.name}_found'] = Metric(value=int(sign in found), count=1)
    return metrics


def _overlapping(seen, listed):
    own = []
    for sign in listed:
        for frame, box in seen:
            place = sign.box_at(frame)
            if place is not None and box_ious(place, box[None])[0] >= MIN_IOU:
                own.append(sign)
                break
    return own
