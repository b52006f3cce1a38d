# SPDX-License-Identifier: Apache-2.0
"""
Batches for the sign detector: crops of whole images, with further signs pasted in.

Half of the crops lie around a sign, small ones more often than their share, and large ones shrunk
to small ones: far signs are the hard ones. Signs outside of the classes are pasted too and cost
nothing where they stand: whether they are signs is the classifier's question.
"""

from dataclasses import dataclass

from mmperception.network.signs import REJECT, STRIDE
from mmperception.sign_classes import SIGN_CLASSES
from mmperception.training.sign_data import draw_face, free_place, warped
from mmperception.training.sign_pictures import camera_effects, paste
import numpy as np
import torch

AROUND_SIGN, PASTE = 0.5, 0.5
PASTE_ALONE = 0.85  # where no photographed sign is learned
SMALLEST_PX, LARGEST_PX = 12, 135
# Of the crops around a sign, that shrink it to a width between the smallest and its own.
SHRUNK, FURTHEST = 0.4, 0.25


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetectorTargets:
    """
    Targets of one batch.

    `heat`, `mask` (B, 1, h, w); `where` (T, 3) sample, row, column; `box` (T, 4) in cells: x1,
    y1, x2, y2 relative to the middle of the cell.
    """

    heat: torch.Tensor
    mask: torch.Tensor
    where: torch.Tensor
    box: torch.Tensor


class DetectorBatches(torch.utils.data.Dataset):
    """Item i is the i-th batch: images (B, S, S, 3) uint8 and DetectorTargets."""

    def __init__(self, train, data):
        self.train, self.data = train, data
        use = 'gtsdb' in train.sources
        self.signs = [
            (i, j) for i, image in enumerate(data.images) for j in range(len(image.boxes)) if use
        ]
        widths = np.array([np.ptp(data.images[i].boxes[j][[0, 2]]) for i, j in self.signs])
        self.weights = 1 / widths / max((1 / widths).sum(), 1e-9)

    def __len__(self):
        return self.train.steps

    def __getitem__(self, index):
        rng = np.random.default_rng((self.train.seed, index))
        made = [self.sample(rng) for _ in range(self.train.batch_size)]
        images = torch.from_numpy(np.stack([pixels for pixels, _, _ in made]))
        return images, stack_targets([m[1:] for m in made], self.train.crop_px)

    def sample(self, rng):
        """Return a crop (S, S, 3) uint8, boxes (N, 4) and boxes of no matter (M, 4)."""
        size = self.train.crop_px
        i, matrix, flips = self._view(rng)
        image = self.data.images[i]
        pixels = warped(self.data.pixels[i], matrix, size)
        boxes, ignored = visible_boxes(image.boxes, matrix, size)
        shown = image.class_id[[*boxes, *ignored]] if len(image.boxes) else []
        boxes, ignored = list(boxes.values()), list(ignored.values())
        if flips and all(SIGN_CLASSES[c].mirrored is not None for c in shown):
            pixels = np.ascontiguousarray(pixels[:, ::-1])
            turn = np.array([size, 0, size, 0])
            boxes = [np.abs(turn - box[[2, 1, 0, 3]]) for box in boxes]
            ignored = [np.abs(turn - box[[2, 1, 0, 3]]) for box in ignored]
        if 'gtsdb' not in self.train.sources:
            # Without them the photographs serve as surroundings only.
            boxes, ignored = [], boxes + ignored
        if self.data.crops or self.data.faces:
            self._paste(rng, pixels, boxes, ignored)
        return camera_effects(rng, pixels), boxes, ignored

    def _view(self, rng):
        """Return image index, map from image to crop and whether to mirror it."""
        size = self.train.crop_px
        scale = np.exp(rng.uniform(np.log(0.7), np.log(1.5)))
        if self.signs and rng.random() < AROUND_SIGN:
            i, j = self.signs[rng.choice(len(self.signs), p=self.weights)]
            box = self.data.images[i].boxes[j]
            width = box[2] - box[0]
            if rng.random() < SHRUNK:
                scale = np.exp(rng.uniform(np.log(max(SMALLEST_PX / width, FURTHEST)), 0.0))
            scale = np.clip(scale, SMALLEST_PX / width, LARGEST_PX / width)
            place = (box[:2] + box[2:]) / 2
            room = max(size / 2 - width * scale / 2 - 2, 1)
            target = size / 2 + rng.uniform(-room, room, 2)
        else:
            i = rng.integers(len(self.data.images))
            height, width = self.data.pixels[i].shape[:2]
            place = rng.uniform(0, 1, 2) * (width, height)
            target = np.full(2, size / 2)
            # Mostly inside, so that little of the crop is repeated edge.
            half = size / 2 / scale
            place = np.clip(place, half * 0.8, np.maximum((width, height) - half * 0.8, 1))
        angle = np.deg2rad(rng.normal(0, 2.5))
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = np.concatenate((turn, (target - turn @ place)[:, None]), axis=1)
        return i, matrix, rng.random() < 0.5

    def _paste(self, rng, pixels, boxes, ignored):
        if rng.random() > (PASTE if self.signs else PASTE_ALONE):
            return
        for _ in range(rng.integers(1, 4)):
            width = np.exp(rng.uniform(np.log(SMALLEST_PX), np.log(LARGEST_PX * 0.8)))
            brightness = pixels[::8, ::8].mean()
            face, class_id = draw_face(rng, self.data, width, brightness, 0.15)
            h, w = face.shape[:2]
            if h >= len(pixels) or w >= len(pixels):
                continue
            place = free_place(rng, (w, h), pixels.shape, [*boxes, *ignored])
            if place is None:
                continue
            paste(pixels, face, *place)
            box = np.array([*place, place[0] + w, place[1] + h], np.float32)
            (ignored if class_id == REJECT else boxes).append(box)


def visible_boxes(boxes, matrix, size):
    """
    Move boxes into a crop.

    Returns
    -------
    visible, ignored : dict of index to (4,) float32
        At least three quarters inside and not too small or large; the others that are seen.

    """
    visible, ignored = {}, {}
    scale = float(np.hypot(*matrix[:, 0]))
    for i, box in enumerate(boxes):
        middle = matrix[:, :2] @ ((box[:2] + box[2:]) / 2) + matrix[:, 2]
        half = (box[2:] - box[:2]) / 2 * scale
        moved = np.concatenate((middle - half, middle + half)).astype(np.float32)
        clipped = np.clip(moved, 0, size)
        shown = np.prod(np.maximum(clipped[2:] - clipped[:2], 0)) / np.prod(2 * half)
        fits = 2 * half[0] >= 0.8 * SMALLEST_PX and 2 * half[0] <= 1.2 * LARGEST_PX
        if shown > 0.75 and fits:
            visible[i] = clipped
        elif shown > 0:
            ignored[i] = clipped
    return visible, ignored


def stack_targets(samples, size):
    """Return DetectorTargets of samples (boxes, ignored) with images of `size` pixels."""
    cells = size // STRIDE
    heat = np.zeros((len(samples), 1, cells, cells), np.float32)
    mask = np.ones_like(heat, dtype=bool)
    where, box = [np.zeros((0, 3), np.int64)], [np.zeros((0, 4), np.float32)]
    middles = np.arange(cells) + 0.5
    for b, (boxes, ignored) in enumerate(samples):
        for x1, y1, x2, y2 in np.reshape(ignored, (-1, 4)) / STRIDE:
            inside = (middles > y1 - 1)[:, None] & (middles < y2 + 1)[:, None]
            mask[b, 0] &= ~(inside & (middles > x1 - 1) & (middles < x2 + 1))
        for x1, y1, x2, y2 in np.reshape(boxes, (-1, 4)) / STRIDE:
            x, y = (x1 + x2) / 2, (y1 + y2) / 2
            row, column = min(int(y), cells - 1), min(int(x), cells - 1)
            sigma = np.clip((x2 - x1) / 6, 0.6, 4.0), np.clip((y2 - y1) / 6, 0.6, 4.0)
            away = ((middles - x) / sigma[0]) ** 2 + ((middles - y)[:, None] / sigma[1]) ** 2
            blob = np.exp(-away / 2).astype(np.float32)
            blob[row, column] = 1.0
            np.maximum(heat[b, 0], blob, out=heat[b, 0])
            # The boxes of all cells near the middle are learned: any of them may be the peak.
            rows, columns = np.nonzero(blob > 0.45)
            where.append(np.stack((np.full(len(rows), b), rows, columns), axis=1))
            edges = np.array([x1, y1, x2, y2]) - np.stack(
                (columns, rows, columns, rows), axis=1
            ) - 0.5  # fmt: skip
            box.append(edges.astype(np.float32))
    return DetectorTargets(
        heat=torch.from_numpy(heat),
        mask=torch.from_numpy(mask),
        where=torch.from_numpy(np.concatenate(where).astype(np.int64)),
        box=torch.from_numpy(np.concatenate(box)),
    )
