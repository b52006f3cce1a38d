# SPDX-License-Identifier: Apache-2.0
"""
House fronts: plaster or brick, windows with frames and curtains, doors, shop fronts.

A facade picture is four bays of 3 m wide (it repeats along the wall) and a ground floor plus two
storeys high; walls higher than that repeat the two storeys. Pictures as in `surfaces`: (H, W, 4)
float32, sRGB 0..1 and gloss, row 0 at the foot of the wall.
"""

from dataclasses import dataclass

import cv2
from mmperception.simulation.surfaces import bricks, fine_noise, noise, plain, shade
import numpy as np

PX_PER_M = 80
BAY_M, NUM_BAYS = 3.0, 4
WIDTH_M = BAY_M * NUM_BAYS
GROUND_FLOOR_M, STOREY_M = 3.4, 3.0
HEIGHT_M = GROUND_FLOOR_M + 2 * STOREY_M
SHAPE = (round(HEIGHT_M * PX_PER_M), round(WIDTH_M * PX_PER_M))

SHOP_NAMES = ('APOTHEKE', 'CAFE', 'FRISEUR', 'BLUMEN', 'OPTIK', 'BUECHER', 'SCHUHE', 'KIOSK')


@dataclass(frozen=True, slots=True, kw_only=True)
class FacadeStyle:
    """How one kind of house looks; colours are sRGB 0..1, lengths metres."""

    wall: tuple
    trim: tuple
    window: tuple = (1.15, 1.45)
    ground_floor: str = 'flats'  # flats, shops or garages
    is_brick: bool = False
    has_shutters: bool = False
    has_bands: bool = False


WHITE = (0.90, 0.89, 0.86)
SANDSTONE = (0.72, 0.62, 0.52)
STYLES = (
    FacadeStyle(wall=(0.86, 0.80, 0.66), trim=WHITE),
    FacadeStyle(wall=(0.82, 0.82, 0.80), trim=(0.72, 0.71, 0.69), ground_floor='shops'),
    FacadeStyle(wall=(0.58, 0.34, 0.27), trim=WHITE, is_brick=True),
    FacadeStyle(wall=(0.83, 0.70, 0.47), trim=WHITE, has_shutters=True),
    FacadeStyle(wall=(0.74, 0.60, 0.53), trim=SANDSTONE, has_bands=True, window=(1.05, 1.75)),
    FacadeStyle(wall=(0.66, 0.70, 0.70), trim=WHITE, window=(1.8, 1.4)),
    FacadeStyle(wall=(0.76, 0.79, 0.68), trim=WHITE, ground_floor='garages'),
    FacadeStyle(wall=(0.80, 0.72, 0.60), trim=SANDSTONE, has_bands=True, ground_floor='shops'),
    FacadeStyle(wall=(0.47, 0.30, 0.24), trim=(0.66, 0.64, 0.6), is_brick=True, window=(1.6, 1.4)),
    FacadeStyle(wall=(0.88, 0.86, 0.80), trim=(0.42, 0.33, 0.26), has_shutters=True),
    FacadeStyle(wall=(0.62, 0.60, 0.57), trim=(0.80, 0.78, 0.74), window=(2.1, 1.5)),
    FacadeStyle(wall=(0.78, 0.58, 0.42), trim=WHITE, has_bands=True, window=(1.1, 1.6)),
)


class Wall:
    """A wall being painted: rectangles in metres, u to the right and v up from the foot."""

    def __init__(self, picture):
        self.picture = picture

    def box(self, left, low, right, high):
        """Return the pixels of a rectangle, as a view."""
        u0, u1 = (round(u * PX_PER_M) for u in (left, right))
        v0, v1 = (round(v * PX_PER_M) for v in (low, high))
        rows, columns = slice(max(v0, 0), v1), slice(max(u0, 0), u1)
        return self.picture[rows, columns]

    def paint(self, left, low, right, high, colour, gloss=0.0):
        self.box(left, low, right, high)[:] = (*colour, gloss)

    def darken(self, left, low, right, high, factor):
        self.box(left, low, right, high)[:, :, :3] *= factor

    def text(self, words, center, height, colour):
        """Write words, `height` tall, around `center`."""
        font, scale = cv2.FONT_HERSHEY_DUPLEX, height * PX_PER_M / 22
        (w, h), _ = cv2.getTextSize(words, font, scale, 2)
        label = np.zeros((h + 8, w + 8), np.float32)
        cv2.putText(label, words, (4, h + 3), font, scale, 1.0, 2, cv2.LINE_AA)
        u0, v0 = round(center[0] * PX_PER_M - w / 2), round(center[1] * PX_PER_M - h / 2)
        rows, columns = slice(v0, v0 + h + 8), slice(u0, u0 + w + 8)
        place = self.picture[rows, columns, :3]
        ink = label[::-1][: place.shape[0], : place.shape[1], None]
        place[:] = place * (1 - ink) + np.float32(colour) * ink


def _glass(wall, rng, left, low, right, high):
    """Paint a window pane: dark room, curtains or a blind, a mirror of the sky."""
    box = wall.box(left, low, right, high)
    H, W, _ = box.shape
    room = rng.uniform(0.10, 0.20)
    depth = np.linspace(1.25, 0.75, H, dtype=np.float32)[:, None, None]
    box[:, :, :3] = room * depth * np.float32((0.92, 1.0, 1.06))
    box[:, :, 3] = 0.55
    kind = rng.random()
    if kind < 0.40:
        wave = 1 + 0.10 * np.sin(np.arange(W) * 0.7)[None, :, None]
        curtain = np.float32(rng.uniform(0.55, 0.8)) * np.float32((1, 0.98, 0.93)) * wave
        side = max(1, int(W * rng.uniform(0.14, 0.28)))
        box[:, :side, :3] = curtain[:, :side]
        box[:, -side:, :3] = curtain[:, -side:]
        box[:, :side, 3] = box[:, -side:, 3] = 0.3
    elif kind < 0.62:
        drop = int(H * (1 - rng.uniform(0.15, 0.9)))
        slats = 0.62 + 0.06 * (np.arange(H) % 4 < 2)
        box[drop:, :, :3] = slats[drop:, None, None] * np.float32((0.98, 0.97, 0.93))
        box[drop:, :, 3] = 0.1


def _window(wall, rng, center, low, style):
    width, height = style.window
    left, right, high = center - width / 2, center + width / 2, low + height
    if style.has_bands or not style.is_brick:
        wall.paint(left - 0.12, low - 0.04, right + 0.12, high + 0.12, style.trim)
    else:
        wall.darken(left - 0.06, high, right + 0.06, high + 0.14, 0.8)
    frame = (0.90, 0.90, 0.88) if rng.random() < 0.85 else (0.38, 0.28, 0.2)
    wall.paint(left, low, right, high, frame, 0.05)
    num_panes = 2 if width < 1.7 else 3
    pane = (width - 0.06) / num_panes
    for index in range(num_panes):
        pane_left = left + 0.06 + index * pane
        _glass(wall, rng, pane_left, low + 0.06, pane_left + pane - 0.06, high - 0.06)
    wall.darken(left, high - 0.10, right, high, 0.55)  # the reveal's shadow
    wall.darken(left, low, left + 0.04, high, 0.7)
    wall.paint(left - 0.14, low - 0.08, right + 0.14, low, (0.74, 0.73, 0.71))
    wall.darken(left - 0.12, low - 0.20, right + 0.12, low - 0.08, 0.80)
    if style.has_shutters:
        for side in (left - 0.50, right + 0.12):
            wall.paint(side, low - 0.02, side + 0.38, high + 0.02, (0.24, 0.36, 0.28))
            for slat in np.arange(low + 0.05, high - 0.05, 0.10):
                wall.darken(side + 0.04, slat, side + 0.34, slat + 0.03, 0.75)


def _door(wall, rng, center, low=0.12):
    colour = ((0.30, 0.20, 0.14), (0.16, 0.26, 0.22), (0.45, 0.12, 0.11), (0.75, 0.75, 0.74))[
        rng.integers(4)
    ]
    left, right, high = center - 0.55, center + 0.55, 2.35
    wall.paint(left - 0.14, 0, right + 0.14, high + 0.45, (0.70, 0.67, 0.62))
    wall.paint(left, low, right, high, colour, 0.08)
    _glass(wall, rng, left + 0.08, high + 0.05, right - 0.08, high + 0.36)
    _glass(wall, rng, left + 0.34, low + 1.05, right - 0.34, high - 0.2)
    wall.darken(left, high - 0.14, right, high, 0.6)
    wall.paint(left + 0.10, low + 0.95, left + 0.14, low + 1.15, (0.8, 0.8, 0.78), 0.4)
    wall.paint(left - 0.25, 0.0, right + 0.25, low, (0.58, 0.57, 0.55))


def _shop(wall, rng, bay):
    left, right = bay * BAY_M + 0.18, (bay + 1) * BAY_M - 0.18
    wall.paint(left, 0.0, right, 3.15, (0.24, 0.24, 0.25), 0.1)
    box = wall.box(left + 0.08, 0.45, right - 0.08, 2.45)
    box[:, :, 3] = 0.5
    glow = noise(rng, box.shape[:2], 1.0)[:, :, None]
    box[:, :, :3] = np.clip(0.26 + 0.12 * glow, 0.08, 0.7) * np.float32((1.0, 0.92, 0.78))
    for _ in range(9):  # what lies in the window
        u, w = rng.uniform(left + 0.1, right - 0.6), rng.uniform(0.12, 0.45)
        low, h = 0.5 + rng.uniform(0, 0.9), rng.uniform(0.15, 0.6)
        wall.paint(u, low, u + w, low + h, rng.uniform(0.15, 0.85, 3), 0.45)
    colour = rng.uniform(0.08, 0.62, 3)
    wall.paint(left, 2.5, right, 3.1, colour, 0.05)
    ink = (0.95, 0.94, 0.90) if colour.mean() < 0.45 else (0.1, 0.1, 0.12)
    wall.text(SHOP_NAMES[rng.integers(len(SHOP_NAMES))], ((left + right) / 2, 2.8), 0.26, ink)
    wall.darken(left, 2.28, right, 2.5, 0.55)
    wall.paint((left + right) / 2 - 0.03, 0.45, (left + right) / 2 + 0.03, 2.45, (0.3, 0.3, 0.3))


def _garage(wall, rng, bay):
    left, right = bay * BAY_M + 0.25, (bay + 1) * BAY_M - 0.25
    tone = rng.uniform(0.5, 0.85)
    wall.paint(left, 0.0, right, 2.2, (tone, tone, tone * 0.97), 0.05)
    for low in np.arange(0.05, 2.15, 0.36):
        wall.darken(left, low, right, low + 0.03, 0.75)
    wall.darken(left, 2.05, right, 2.2, 0.6)


def _draw_ground_floor(wall, rng, style):
    door_bay = rng.integers(NUM_BAYS)
    for bay in range(NUM_BAYS):
        center = (bay + 0.5) * BAY_M
        if bay == door_bay:
            _door(wall, rng, center)
        elif style.ground_floor == 'shops':
            _shop(wall, rng, bay)
        elif style.ground_floor == 'garages' and bay % 2 == 0:
            _garage(wall, rng, bay)
        else:
            _window(wall, rng, center, 1.15, style)


def _ground(rng, style):
    """Return the bare wall: plaster with stains or bricks, with a darker plinth."""
    H, W = SHAPE
    if style.is_brick:
        tile = bricks(rng, style.wall)
        size = round(2.56 * PX_PER_M)
        tile = cv2.resize(tile, (size, size), interpolation=cv2.INTER_AREA)
        picture = np.tile(tile, (H // size + 1, W // size + 1, 1))[:H, :W].copy()
    else:
        picture = plain(SHAPE, style.wall)
        shade(picture, fine_noise(rng, SHAPE, 4, 0.2), 0.025)
    shade(picture, noise(rng, SHAPE, 1.3), 0.03)
    streaks = np.clip(noise(rng, SHAPE, 1.0, stretch=(8.0, 1.0)), 0, 2)
    return shade(picture, streaks, -0.035)


def facade(rng, style):
    """
    Paint one facade.

    Returns
    -------
    picture : (H, W, 4) float32
        `HEIGHT_M` by `WIDTH_M` at `PX_PER_M`; row 0 is the foot of the wall.

    """
    wall = Wall(_ground(rng, style))
    wall.darken(0, 0, WIDTH_M, 0.45, 0.74)
    if style.has_bands:
        for low in (GROUND_FLOOR_M - 0.1, GROUND_FLOOR_M + STOREY_M - 0.1):
            wall.paint(0, low, WIDTH_M, low + 0.16, style.trim)
            wall.darken(0, low - 0.08, WIDTH_M, low, 0.75)
    for storey in range(2):
        low = GROUND_FLOOR_M + storey * STOREY_M + 0.9
        for bay in range(NUM_BAYS):
            _window(wall, rng, (bay + 0.5) * BAY_M, low, style)
    _draw_ground_floor(wall, rng, style)
    return np.clip(wall.picture, 0, 1)
