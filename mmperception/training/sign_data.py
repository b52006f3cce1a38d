# SPDX-License-Identifier: Apache-2.0
"""
Batches for the sign networks: photographed and drawn signs in photographed surroundings.

Every sample is a function of (seed, index), so a run that was killed goes on with the samples it
would have seen. Mirror images are made only where the class table says what they show.
"""

from dataclasses import dataclass, field
from pathlib import Path

import cv2
from mmperception.datasets.gtsdb import gtsdb_folds, read_gtsdb, SignImage
from mmperception.datasets.gtsrb import gtsrb_folds, read_gtsrb
from mmperception.datasets.kitti import training_drives
from mmperception.network.signs import DETECTOR, REJECT
from mmperception.sign_classes import NUM_SIGN_CLASSES, SIGN_CLASSES
from mmperception.signs import crop_of
from mmperception.simulation.sign_faces import sign_face
from mmperception.simulation.sign_others import other_face, zone_face
from mmperception.simulation.sign_plates import picture_with_plates
from mmperception.training.sign_pictures import face_of_crop, posed_face, weather_face
import numpy as np

NUM_OTHERS, NUM_ZONES = 400, 60
# Places of an image that a classifier's run keeps, and their size.
PLACES, PLACE_PX = 5, 200
# Every so many images are searched for mistakes of a detector.
MISTAKES_STEP = 2
STREETS_SEED = 4300
# Consecutive frames of a drive are near-duplicates.
KITTI_STEP = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SignData:
    """
    What a run is trained on, in memory.

    Attributes
    ----------
    images, pixels : lists
        SignImage of GTSDB and its (H, W, 3) uint8 pixels.
    crops, crop_pixels : lists
        SignCrop of GTSRB and its (h, w, 3) uint8 pixels.
    faces : list of (S, S, 4) uint8
        Drawn signs by class; empty without them.
    others : list of (S, S, 4) uint8
        Drawn signs outside of the classes.
    zones : list of (S, S, 4) uint8
        Drawn plates of zones, whose ring alone would be a class.
    mistakes : list of (48, 48, 3) uint8
        What a detector took for signs on these images.

    """

    images: list
    pixels: list
    crops: list
    crop_pixels: list
    faces: list
    others: list
    zones: list = field(default_factory=list)
    mistakes: list = field(default_factory=list)


def load_sign_data(train, root, finder=None):
    """
    Load what a run may see: the left-out folds are dropped here.

    Parameters
    ----------
    train : SignTrainConfig
        Its network, sources, folds and seed count.
    root : path
        With `gtsdb/`, `gtsrb/` and `kitti_raw/`.
    finder : SignReader, optional
        Its mistakes on these images are kept.

    Returns
    -------
    SignData
        Whole images for a detector; for a classifier pieces of them, a tenth of the memory.

    """
    rng = np.random.default_rng(train.seed)
    images, pixels, mistakes = [], [], []
    for number, (image, whole) in enumerate(_surroundings(train, root)):
        if finder is not None and number % MISTAKES_STEP == 0:
            mistakes += find_mistakes(image, whole, finder)
        is_whole = train.network == DETECTOR
        pieces = [(image, whole)] if is_whole else pieces_of(rng, image, whole, not train.streets)
        for piece, shown in pieces:
            images.append(piece)
            pixels.append(shown)
    crops = read_gtsrb(Path(root) / 'gtsrb') if 'gtsrb' in train.sources else []
    seen = np.flatnonzero(gtsrb_folds(crops) != train.gtsrb_fold) if crops else []
    is_drawn = 'drawn' in train.sources
    return SignData(
        images=images,
        pixels=pixels,
        crops=[crops[i] for i in seen],
        crop_pixels=[crops[i].pixels() for i in seen],
        faces=[sign_face(c, 160) for c in range(NUM_SIGN_CLASSES)] if is_drawn else [],
        others=[other_face(rng, 96) for _ in range(NUM_OTHERS)],
        zones=[zone_face(rng, 128) for _ in range(NUM_ZONES)],
        mistakes=mistakes,
    )


def _surroundings(train, root):
    """Yield each SignImage with its pixels: photographs, or simulated streets in their place."""
    for number in range(train.streets):
        pixels, boxes, class_id = picture_with_plates(STREETS_SEED, number)
        name = f'simulated/{number}'
        yield SignImage(file=name, path=Path(name), boxes=boxes, class_id=class_id), pixels
    for image in [] if train.streets else _listed(train, Path(root)):
        yield image, image.pixels()


def _listed(train, root):
    """Return the images of GTSDB outside of the fold, and surroundings without such signs."""
    # None of these images shows a sign of the 43 classes.
    folders = [drive.path / 'image_02' / 'data' for drive in training_drives(root)]
    paths = [path for folder in folders for path in sorted(folder.glob('*.png'))[::KITTI_STEP]]
    nothing = {'boxes': np.zeros((0, 4), np.float32), 'class_id': np.zeros(0, np.int64)}
    images = [SignImage(file=path.name, path=path, **nothing) for path in paths]
    if 'gtsdb' in train.sources:
        listed = read_gtsdb(root / 'gtsdb')
        folds = gtsdb_folds(image.pixels() for image in listed)
        images += [listed[i] for i in np.flatnonzero(folds != train.gtsdb_fold)]
    return images


def pieces_of(rng, image, pixels, with_signs=True):
    """
    Cut an image into what a classifier needs: signs with their surroundings, and other places.

    Plates of simulated streets may be hidden or tiny: no piece is cut for them.

    Returns
    -------
    list of (SignImage, pixels)
        With the boxes that each piece shows.

    """
    windows = []
    for box in image.boxes if with_signs else ():
        margin = np.maximum(box[2:] - box[:2], 16) * 1.3
        windows.append(np.concatenate((box[:2] - margin, box[2:] + margin)))
    limit = np.array([pixels.shape[1], pixels.shape[0]])
    for _ in range(PLACES):
        corner = rng.uniform(0, 1, 2) * np.maximum(limit - PLACE_PX, 0)
        windows.append(np.concatenate((corner, corner + PLACE_PX)))
    return [_piece(image, pixels, window, limit) for window in windows]


def _piece(image, pixels, window, limit):
    x1, y1 = np.maximum(window[:2], 0).astype(int)
    x2, y2 = np.minimum(window[2:], limit).astype(int)
    boxes = image.boxes - np.array([x1, y1, x1, y1], np.float32)
    whole = (boxes[:, :2] >= 0).all(1) & (boxes[:, 2:] <= (x2 - x1, y2 - y1)).all(1)
    piece = SignImage(
        file=image.file, path=image.path, boxes=boxes[whole], class_id=image.class_id[whole]
    )
    return piece, pixels[y1:y2, x1:x2].copy()


def find_mistakes(image, pixels, finder, min_score=0.1):
    """Return crops (48, 48, 3) of what a detector wrongly takes for signs in an image."""
    boxes, scores = finder.detect(pixels)
    return [
        crop_of(pixels, box)
        for box in boxes[scores >= min_score]
        if not any(overlaps(box, sign) for sign in image.boxes)
    ]


def overlaps(a, b):
    """Return whether two boxes share a point."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def draw_face(rng, data, width_px, brightness, other_share=0.0):
    """
    Draw a sign, photographed or drawn, as a face in its light.

    Returns
    -------
    face : (h, w, 4) float32
        RGB 0..255 and alpha.
    class_id : int
        `REJECT` for a sign outside of the classes, in `other_share` of the cases.

    """
    if rng.random() < other_share:
        face, class_id = data.others[rng.integers(len(data.others))], REJECT
    elif data.crops and (not data.faces or rng.random() < 0.6):
        index = rng.integers(len(data.crops))
        crop, class_id = data.crops[index], data.crops[index].class_id
        face = face_of_crop(data.crop_pixels[index], crop.roi, class_id)
    elif data.faces:
        class_id = int(rng.integers(NUM_SIGN_CLASSES))
        face = data.faces[class_id]
    else:
        raise ValueError('sources: neither gtsrb nor drawn, so there is no sign to draw')
    if class_id != REJECT and rng.random() < 0.5:
        face, class_id = mirrored(face, class_id)
    return weather_face(rng, posed_face(rng, face, width_px), brightness), class_id


def mirrored(picture, class_id):
    """Return the mirror image and its class where the table has one, else both as they were."""
    other = SIGN_CLASSES[class_id].mirrored
    return (picture, class_id) if other is None else (picture[:, ::-1], other)


def free_place(rng, size, shape, taken):
    """Return a random upper left corner for (w, h) in (H, W) off the boxes, None when full."""
    w, h = size
    for _ in range(8):
        x, y = rng.integers(0, shape[1] - w), rng.integers(0, shape[0] - h)
        box = np.array([x, y, x + w, y + h])
        if not any(_meets(box, other) for other in taken):
            return int(x), int(y)
    return None


def _meets(a, b):
    return a[0] < b[2] + 2 and b[0] < a[2] + 2 and a[1] < b[3] + 2 and b[1] < a[3] + 2


def warped(pixels, matrix, size):
    """
    Return `pixels` through an affine map, edges repeated.

    Parameters
    ----------
    pixels : (H, W, 3) uint8
        The source.
    matrix : (2, 3) float64
        From source to target, both counted from the outer edge of the first pixel.
    size : int
        Side of the target.

    Returns
    -------
    target : (size, size, 3) uint8

    """
    # A map that shrinks much would skip pixels: it is drawn some times as large first.
    finer = int(np.clip(np.ceil(0.8 / np.hypot(*matrix[:, 0])), 1, 4))
    turn, shift = finer * matrix[:, :2], finer * matrix[:, 2]
    # OpenCV counts from the middle of the first pixel, boxes count from its edge.
    shift = shift + (turn.sum(1) - 1) / 2
    large = cv2.warpAffine(
        pixels,
        np.column_stack((turn, shift)),
        (size * finer, size * finer),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if finer == 1:
        return large
    return cv2.resize(large, (size, size), interpolation=cv2.INTER_AREA)
