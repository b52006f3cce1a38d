# SPDX-License-Identifier: Apache-2.0
"""
Batches for the sign classifier: crops of 48x48 pixels of the classes and of what to reject.

Rejects are drawn signs outside of the classes, surroundings, badly cut signs and what a detector
took for signs on the training images.
"""

import cv2
from mmperception.network.signs import CROP_PX, REJECT
from mmperception.signs import crop_of
from mmperception.simulation.sign_others import ZONE_RING
from mmperception.training.sign_data import draw_face, mirrored, overlaps
from mmperception.training.sign_pictures import (
    camera_effects,
    paste,
    posed_face,
    weather_face,
)
import numpy as np
import torch

# Shares of a batch; what a run's sources lack goes to the others.
SHARES = {'gtsrb': 0.35, 'gtsdb': 0.2, 'drawn': 0.15, 'reject': 0.3}
# Of the rejects; the rest is surroundings.
MISTAKES, OTHERS, ZONES = 0.5, 0.3, 0.04


class ClassifierBatches(torch.utils.data.Dataset):
    """Item i is the i-th batch: crops (B, 48, 48, 3) uint8 and classes (B,) int64."""

    def __init__(self, train, data):
        self.train, self.data = train, data
        kinds = [name for name in SHARES if name in (*train.sources, 'reject')]
        shares = np.array([SHARES[name] for name in kinds])
        self.makers = [getattr(self, f'_{name}') for name in kinds]
        self.shares = shares / shares.sum()
        self.signs = [(i, j) for i, m in enumerate(data.images) for j in range(len(m.boxes))]
        of_class = {}
        for i, j in self.signs:
            of_class.setdefault(int(data.images[i].class_id[j]), []).append((i, j))
        self.of_class = list(of_class.values())

    def __len__(self):
        return self.train.steps

    def __getitem__(self, index):
        rng = np.random.default_rng((self.train.seed, index))
        kinds = rng.choice(len(self.makers), self.train.batch_size, p=self.shares)
        made = [self.makers[kind](rng) for kind in kinds]
        crops = np.stack([camera_effects(rng, crop) for crop, _ in made])
        labels = np.array([class_id for _, class_id in made], np.int64)
        return torch.from_numpy(crops), torch.from_numpy(labels)

    def _gtsrb(self, rng):
        i = rng.integers(len(self.data.crops))
        pixels, class_id = self.data.crop_pixels[i], self.data.crops[i].class_id
        if rng.random() < 0.5:
            pixels, class_id = mirrored(pixels, class_id)
        return distorted(rng, coarser(rng, np.ascontiguousarray(pixels))), class_id

    def _gtsdb(self, rng):
        """Cut a labelled sign; half of the draws are even over classes."""
        if rng.random() < 0.5:
            own = self.of_class[rng.integers(len(self.of_class))]
            i, j = own[rng.integers(len(own))]
        else:
            i, j = self.signs[rng.integers(len(self.signs))]
        class_id = int(self.data.images[i].class_id[j])
        pixels = self._cut(rng, i, self.data.images[i].boxes[j], 0.05)
        if rng.random() < 0.5:
            pixels, class_id = mirrored(pixels, class_id)
        return distorted(rng, coarser(rng, np.ascontiguousarray(pixels)), 0.5), class_id

    def _cut(self, rng, i, box, spread):
        width = float(np.mean(box[2:] - box[:2]))
        return crop_of(self.data.pixels[i], box + rng.normal(0, spread * width, 4))

    def _drawn(self, rng, other_share=0.0):
        """Put a face before surroundings at the size that a camera sees, then cut it."""
        scene, width = self._scene(rng)
        face, class_id = draw_face(rng, self.data, width, scene.mean(), other_share)
        box = _in_the_middle(scene, face) + rng.normal(0, 0.05 * width, 4)
        return crop_of(scene, box), class_id

    def _scene(self, rng):
        """Return surroundings to put a face in, and the width of that face."""
        i = rng.integers(len(self.data.images))
        height, wide = self.data.pixels[i].shape[:2]
        widest = min(90.0, (min(height, wide) - 6) / 1.7)
        width = np.exp(rng.uniform(np.log(14), np.log(widest)))
        room = int(np.ceil(width * 1.7)) + 4
        x, y = rng.integers(0, wide - room), rng.integers(0, height - room)
        rows, columns = slice(y, y + room), slice(x, x + room)
        return self.data.pixels[i][rows, columns].copy(), width

    def _ring_of_zone(self, rng):
        scene, width = self._scene(rng)
        plate = self.data.zones[rng.integers(len(self.data.zones))]
        face = weather_face(rng, posed_face(rng, plate, width), scene.mean())
        x1, y1, x2, y2 = _in_the_middle(scene, face)
        ring = np.array([x1, y1] * 2) + np.tile((x2 - x1, y2 - y1), 2) * ZONE_RING
        return crop_of(scene, ring + rng.normal(0, 0.03 * width, 4))

    def _reject(self, rng):
        kind = rng.random()
        if self.data.mistakes and kind < MISTAKES:
            crop = self.data.mistakes[rng.integers(len(self.data.mistakes))]
            return distorted(rng, crop), REJECT
        if kind < MISTAKES + OTHERS:
            return self._drawn(rng, 1.0)
        if self.data.zones and kind < MISTAKES + OTHERS + ZONES:
            return self._ring_of_zone(rng), REJECT
        return self._surroundings(rng), REJECT

    def _surroundings(self, rng):
        """Cut a place without a sign, or far too large or beside a labelled one."""
        i = rng.integers(len(self.data.images))
        height, wide = self.data.pixels[i].shape[:2]
        width = np.exp(rng.uniform(np.log(14), np.log(min(120, height, wide))))
        place = rng.uniform(0, 1, 2) * (wide - width, height - width)
        box = np.concatenate((place, place + width))
        boxes = self.data.images[i].boxes
        if len(boxes) and rng.random() < 0.3:
            sign = boxes[rng.integers(len(boxes))]
            width = float(sign[2] - sign[0])
            turn = rng.uniform(0, 2 * np.pi)
            box = sign + np.tile((np.cos(turn), np.sin(turn)), 2) * rng.uniform(0.75, 1.2) * width
        elif any(overlaps(box, sign) for sign in boxes):
            box = np.array([0.0, 0.0, width, width])
        return crop_of(self.data.pixels[i], box)


def _in_the_middle(scene, face):
    """Put a face into the middle of a scene, in place; return its box."""
    height, wide = scene.shape[:2]
    h, w = min(height, face.shape[0]), min(wide, face.shape[1])
    left, top = (wide - w) // 2, (height - h) // 2
    paste(scene, face[:h, :w], left, top)
    return np.array([left, top, left + w, top + h])


def coarser(rng, pixels):
    """Return the crop as a camera further away would have seen it, in a third of the cases."""
    if rng.random() > 0.35:
        return pixels
    size = int(rng.integers(14, 40))
    small = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (CROP_PX, CROP_PX), interpolation=cv2.INTER_LINEAR)


def distorted(rng, pixels, strength=1.0):
    """Return the crop (48, 48, 3) shifted, turned, scaled and tilted a little."""
    h, w = pixels.shape[:2]
    source = np.float32([(0, 0), (w, 0), (w, h), (0, h)])
    target = (source / (w, h) - 0.5) * np.exp(rng.normal(0, 0.07 * strength, 2))
    target += rng.uniform(-0.05, 0.05, (4, 2)) * strength + rng.normal(0, 0.03 * strength, 2)
    angle = np.deg2rad(rng.normal(0, 5 * strength))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    target = ((target @ turn) + 0.5) * CROP_PX
    matrix = cv2.getPerspectiveTransform(source, target.astype(np.float32))
    size = (CROP_PX, CROP_PX)
    return cv2.warpPerspective(pixels, matrix, size, borderMode=cv2.BORDER_REPLICATE)
