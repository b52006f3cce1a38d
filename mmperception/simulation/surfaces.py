# SPDX-License-Identifier: Apache-2.0
"""
Procedural pictures of ground, plants, walls and other surfaces that tile without a seam.

Each painter takes a random generator and returns (H, W, 4) float32: sRGB 0..1 and gloss 0..1
(the share of the sky that the surface mirrors). Row 0 is the lower edge (v grows with the row).
Noise is made in the frequency domain, so that it wraps around.
"""

import cv2
import numpy as np


def noise(rng, shape, exponent=1.0, stretch=(1.0, 1.0), coarsest_px=None):
    """
    Return noise that wraps around: (H, W) float32 with mean 0 and deviation 1.

    `exponent` 0 is white, 1 cloudy, 2 smooth; `stretch` lengthens features along y and x;
    `coarsest_px` takes away features larger than that.
    """
    H, W = shape
    fy = np.fft.fftfreq(H)[:, None].astype(np.float32) * np.float32(H * stretch[0])
    fx = np.fft.rfftfreq(W)[None].astype(np.float32) * np.float32(W * stretch[1])
    square = fy * fy + fx * fx
    square[0, 0] = 1
    gain = square ** np.float32(-exponent / 2)
    if coarsest_px is not None:
        gain *= 1 - np.exp(-square * np.float32((coarsest_px * 2 / max(shape)) ** 2))
    gain[0, 0] = 0
    parts = rng.standard_normal((2, *gain.shape), np.float32)
    field = np.fft.irfft2((parts[0] + 1j * parts[1]) * gain, s=shape)
    return (field / max(field.std(), 1e-9)).astype(np.float32)


def fine_noise(rng, shape, coarsest_px, exponent=1.0):
    """Return wrapping noise without features larger than `coarsest_px`."""
    return noise(rng, shape, exponent, coarsest_px=coarsest_px)


def plain(shape, colour, gloss=0.0):
    """Return a picture of one sRGB 0..1 colour."""
    picture = np.empty((*shape, 4), np.float32)
    picture[:] = (*colour, gloss)
    return picture


def shade(picture, field, amount):
    """Lighten and darken a picture in place by a field of deviation 1."""
    picture[:, :, :3] *= 1 + amount * field[:, :, None]
    return picture


def _wrapped_line(mask, points, thickness):
    """Draw a line on a mask so that it continues at the opposite edge."""
    H, W = mask.shape
    for dy in (-H, 0, H):
        for dx in (-W, 0, W):
            moved = np.round(points + (dx, dy)).astype(np.int32)
            cv2.polylines(mask, [moved], False, 1.0, thickness, cv2.LINE_AA)


def _cracks(rng, shape, num):
    mask = np.zeros(shape, np.float32)
    for _ in range(num):
        steps = rng.integers(20, 70)
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.35, steps))
        walk = np.cumsum(np.stack((np.cos(heading), np.sin(heading)), axis=1) * 7, axis=0)
        _wrapped_line(mask, walk + rng.uniform(0, shape[0], 2), 1)
    return mask


def asphalt(rng, tone=0.40, num_cracks=10, has_patches=False):
    """Return 10 m x 10 m of asphalt."""
    shape = (1024, 1024)
    picture = plain(shape, (tone, tone * 1.0, tone * 1.005))
    shade(picture, fine_noise(rng, shape, 6, 0.3), 0.12)
    shade(picture, noise(rng, shape, 1.3), 0.045)
    # Light stones and tar spots of the wearing course.
    speckle = rng.random(shape)
    picture[speckle > 0.992, :3] += 0.12
    picture[speckle < 0.006, :3] -= 0.10
    if has_patches:
        for _ in range(3):
            y, x = rng.integers(60, 700, 2)
            h, w = rng.integers(60, 260, 2)
            bottom, right = y + h, x + w
            picture[y:bottom, x:right, :3] *= rng.uniform(0.84, 0.93)
            cv2.rectangle(picture, (int(x), int(y)), (int(right), int(bottom)), (0.2,) * 3, 2)
    cracks = cv2.GaussianBlur(_cracks(rng, shape, num_cracks), (0, 0), 0.8)
    picture[:, :, :3] *= 1 - 0.5 * cracks[:, :, None]
    picture[:, :, 3] = 0.04
    return picture


def marking(rng):
    """Return 4 m x 4 m of white road paint, worn here and there."""
    shape = (512, 512)
    picture = plain(shape, (0.86, 0.86, 0.83))
    shade(picture, noise(rng, shape, 1.2), 0.03)
    wear = np.clip(fine_noise(rng, shape, 60, 0.8) - 1.0, 0, 1)[:, :, None]
    picture[:, :, :3] = picture[:, :, :3] * (1 - 0.75 * wear) + 0.42 * 0.75 * wear
    return picture


def _stones(rng, shape, cell, colour, spread):
    """
    Return paving of stones in rows, every other row shifted by half a stone.

    `cell` is rows and columns of a stone in pixels; both divide the shape (rows evenly).
    """
    H, W = shape
    rows, columns = H // cell[0], W // cell[1]
    tone = 1 + spread * rng.standard_normal((rows, columns, 1)).astype(np.float32)
    tint = 1 + 0.25 * spread * rng.standard_normal((rows, columns, 3)).astype(np.float32)
    stones = np.repeat(tone * tint, cell[1], axis=1)
    joint = np.ones(cell, np.float32)
    joint[0], joint[:, 0] = 0.55, 0.55
    joint[1], joint[:, 1] = 0.85, 0.85
    joint[-1], joint[:, -1] = 0.92, 0.92
    joints = np.tile(joint, (1, columns))
    picture = plain(shape, colour)
    for row in range(rows):
        shift = (row % 2) * cell[1] // 2
        strip = np.roll(stones[row] * np.ones((cell[0], 1, 1)), shift, axis=1)
        strip = strip * np.roll(joints, shift, axis=1)[:, :, None]
        course = slice(row * cell[0], (row + 1) * cell[0])
        picture[course, :, :3] *= strip
    return picture


def paving(rng, cell, colour, spread=0.05):
    """Return a pavement of slabs or small stones; 512 pixels."""
    shape = (512, 512)
    picture = _stones(rng, shape, cell, colour, spread)
    shade(picture, fine_noise(rng, shape, 8, 0.3), 0.05)
    shade(picture, noise(rng, shape, 1.4), 0.05)
    spots = rng.random(shape) > 0.9994
    dots = cv2.dilate(spots.astype(np.uint8), np.ones((3, 3))) > 0
    picture[dots, :3] *= 0.72  # chewing gum
    return picture


def kerb(rng):
    """Return 4 m x 4 m of granite kerb stones with a joint every metre along u."""
    shape = (256, 512)
    picture = plain(shape, (0.60, 0.595, 0.58))
    shade(picture, fine_noise(rng, shape, 5, 0.2), 0.10)
    shade(picture, noise(rng, shape, 1.2), 0.05)
    for stone in np.split(picture, 4, axis=1):  # views
        stone[:, :, :3] *= 1 + rng.normal(0, 0.04)
        stone[:, :2, :3] *= 0.55
    return picture


def grass(rng, colour=(0.33, 0.42, 0.18), dryness=0.3):
    """Return 4 m x 4 m of mown grass."""
    shape = (512, 512)
    picture = plain(shape, colour)
    dry = np.clip(0.5 * noise(rng, shape, 1.2) + dryness, 0, 1)[:, :, None]
    picture[:, :, :3] = picture[:, :, :3] * (1 - dry) + np.float32((0.50, 0.47, 0.27)) * dry
    shade(picture, fine_noise(rng, shape, 10, 0.4), 0.20)
    shade(picture, fine_noise(rng, shape, 60, 1.0), 0.08)
    return np.clip(picture, 0, 1)


def _wrapped_places(x, y, reach, size=512):
    """Return a place and those a whole tile away from which it reaches into the tile."""
    xs = [x + shift for shift in (-size, 0, size) if -reach < x + shift < size + reach]
    ys = [y + shift for shift in (-size, 0, size) if -reach < y + shift < size + reach]
    return [(a, b) for a in xs for b in ys]


def leaves(rng, colours, size_px, num):
    """Return 2 m x 2 m of leaves, dark gaps between them; `colours` (K, 3) to choose from."""
    shape = (512, 512)
    picture = plain(shape, np.asarray(colours).mean(axis=0) * 0.30)
    clumps = noise(rng, shape, 1.5)
    for depth in np.sort(rng.random(num)):  # later leaves lie on top and are lighter
        x, y = rng.integers(0, 512, 2)
        light = 0.42 + 0.50 * depth + 0.10 * clumps[y, x] + rng.normal(0, 0.07)
        colour = np.asarray(colours[rng.integers(len(colours))]) * max(light, 0.15)
        axes = (int(size_px * rng.uniform(0.7, 1.3)), int(size_px * rng.uniform(0.3, 0.6)))
        angle = rng.integers(360)
        for where in _wrapped_places(int(x), int(y), axes[0]):
            cv2.ellipse(picture, where, axes, angle, 0, 360, (*colour, 0.0), -1)
    return shade(picture, fine_noise(rng, shape, 4, 0.2), 0.05)


def roof(rng, colour):
    """Return 4 m x 4 m of roof tiles, v up the slope."""
    shape = (512, 512)
    picture = _stones(rng, shape, (32, 32), colour, 0.06)
    x = np.arange(512) % 32 / 32
    y = np.arange(512) % 32 / 32
    rounded = 0.82 + 0.22 * np.sin(np.pi * x)
    lip = np.where(y < 0.14, 0.62, 0.92 + 0.10 * y)
    picture[:, :, :3] *= (rounded[None] * lip[:, None])[:, :, None]
    return shade(picture, noise(rng, shape, 1.3), 0.07)


def bark(rng):
    """Return 1 m x 2 m of bark with ridges along v."""
    shape = (512, 256)
    picture = plain(shape, (0.40, 0.35, 0.29))
    ridges = noise(rng, shape, 0.9, stretch=(7.0, 1.0))
    shade(picture, np.clip(ridges, -1.8, 1.8), 0.24)
    return shade(picture, fine_noise(rng, shape, 6, 0.3), 0.10)


def bricks(rng, colour=(0.56, 0.33, 0.26)):
    """Return 2.56 m x 2.56 m of brick wall with light mortar."""
    shape = (512, 512)
    picture = _stones(rng, shape, (16, 64), colour, 0.12)
    y, x = np.arange(512) % 16, np.arange(512)
    row = np.arange(512) // 16
    offset = (x[None] - (row % 2)[:, None] * 32) % 64
    is_mortar = (y[:, None] < 2) | (offset < 2)
    picture[is_mortar, :3] = (0.66, 0.63, 0.58)
    return shade(picture, fine_noise(rng, shape, 8, 0.3), 0.07)


def planks(rng):
    """Return 2 m x 2 m of upright wooden boards."""
    shape = (512, 512)
    picture = _stones(rng, shape, (512, 32), (0.50, 0.37, 0.24), 0.09)
    return shade(picture, noise(rng, shape, 0.9, stretch=(12.0, 1.0)), 0.09)


def cloth(rng, kind=0):
    """Return 1 m x 1 m of neutral fabric with folds; kind 1 is striped, 2 a quilted jacket."""
    shape = (256, 256)
    picture = plain(shape, (1.0, 1.0, 1.0))
    folds = noise(rng, shape, 1.6, stretch=(0.6, 1.2))
    shade(picture, np.clip(folds, -2, 2), 0.13)
    shade(picture, fine_noise(rng, shape, 4, 0.2), 0.03)
    y = np.arange(256)
    if kind == 1:
        picture[(y // 12) % 3 == 0, :, :3] *= 0.62
    elif kind == 2:
        picture[:, :, :3] *= (0.86 + 0.16 * np.sin(np.pi * (y % 26) / 26))[:, None, None]
    return np.clip(picture * 0.92, 0, 1)


def smooth(rng, colour, gloss, grain=0.03, cloud=0.03):
    """Return a nearly even surface: paint, metal, plastic, skin, hair."""
    shape = (128, 128)
    picture = plain(shape, colour, gloss)
    shade(picture, fine_noise(rng, shape, 5, 0.3), grain)
    return shade(picture, noise(rng, shape, 1.5), cloud)


def streaked(rng, colour, gloss):
    """Return a weathered metal surface with faint streaks along v."""
    shape = (256, 128)
    picture = plain(shape, colour, gloss)
    return shade(picture, noise(rng, shape, 1.0, stretch=(6.0, 1.0)), 0.06)


def pane(rng):
    """Return car glass: dark within, the mirrored sky broken by what stands around."""
    shape = (128, 128)
    picture = plain(shape, (0.11, 0.12, 0.125))
    shade(picture, noise(rng, shape, 1.6), 0.25)
    cloudy = noise(rng, shape, 2.1, stretch=(1.6, 1.0))
    picture[:, :, 3] = np.clip(0.48 + 0.17 * cloudy, 0.12, 0.8)
    return np.clip(picture, 0, 1)
