# SPDX-License-Identifier: Apache-2.0
"""
The map of signs as a picture: north up, the way that was driven, each sign and where it looks.

A sign is a dot with a stroke towards those who read it and a circle of twice its accuracy; names
stand beside them where there is room. Written by `replay` as `DIR/signs.png`.
"""

import cv2
from mmperception.canvas import (
    blank,
    draw_path,
    draw_text,
    EGO,
    FAINT_TEXT,
    fill_polygon,
    LINE,
    TEXT,
    text_width,
)
from mmperception.sign_atlas import METRES_PER_DEGREE
import numpy as np

WIDTH_PX, MARGIN_PX, NAME_ROOM_PX = 800, 40, 150
TALLEST_PX, SHORTEST_PX = 800, 240
SIGN_COLOUR, STROKE_PX, LINE_PX, ARROW_PX = (255, 214, 64), 16, 15, 14
# Lengths that a scale bar may have, metres.
BARS_M = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


def sign_chart(signs, way):
    """
    Draw signs and the way.

    Parameters
    ----------
    signs : sequence of MappedSign
        May be empty.
    way : (N, 2) float64
        Latitude and longitude of the robot, degrees, in order of time; N at least 1.

    Returns
    -------
    canvas : (H, W, 3) uint8

    """
    places = np.array([(s.latitude_deg, s.longitude_deg) for s in signs]).reshape(-1, 2)
    middle = np.asarray(way)[len(way) // 2]
    metres = METRES_PER_DEGREE * np.array([1.0, np.cos(np.radians(middle[0]))])
    way_m, signs_m = ((np.asarray(p) - middle) * metres for p in (way, places))
    both = np.concatenate((way_m, signs_m))
    low, high = both.min(0), both.max(0)
    span = np.maximum(high - low, 5.0)
    room = WIDTH_PX - 2 * MARGIN_PX - NAME_ROOM_PX
    scale = min(room / span[1], (TALLEST_PX - 2 * MARGIN_PX) / span[0])  # pixels a metre
    height = int(max(span[0] * scale + 2 * MARGIN_PX, SHORTEST_PX))
    canvas = blank(height, WIDTH_PX)
    corner = np.array([MARGIN_PX, height - MARGIN_PX])

    def pixels(north_east):
        moved = (np.atleast_2d(north_east) - low)[:, ::-1] * scale
        return corner + moved * (1, -1)

    _draw_way(canvas, pixels(way_m))
    _draw_names(canvas, signs, pixels(signs_m), scale)
    _draw_scale(canvas, scale)
    return canvas


def _draw_way(canvas, at):
    draw_path(canvas, at, EGO, 2)
    far = np.flatnonzero(np.hypot(*(at - at[-1]).T) > ARROW_PX)
    if not len(far):
        return  # the robot stood still
    along = at[-1] - at[far[-1]]
    along *= ARROW_PX / np.hypot(*along)
    across = along[::-1] * (-0.5, 0.5)
    fill_polygon(canvas, np.stack((at[-1], at[-1] - along + across, at[-1] - along - across)),
                 EGO, 1.0)  # fmt: skip


def _draw_names(canvas, signs, at, scale):
    taken = []
    for n in np.argsort([-sign.latitude_deg for sign in signs], kind='stable'):
        sign, place = signs[n], at[n]
        radius = int(round(2 * sign.accuracy_m * scale))
        center = tuple(int(v) for v in np.rint(place))
        cv2.circle(canvas, center, radius, LINE, 1, cv2.LINE_AA)
        angle = np.radians(sign.heading_deg)
        end = place + STROKE_PX * np.array([np.sin(angle), -np.cos(angle)])
        draw_path(canvas, np.stack((place, end)), SIGN_COLOUR, 2)
        cv2.circle(canvas, center, 4, SIGN_COLOUR, -1, cv2.LINE_AA)
        text = f'{sign.name}{f" x{sign.passes}" if sign.passes > 1 else ""}'
        column = min(place[0] + 22, canvas.shape[1] - text_width(text, 9) - 4)
        row = place[1] + 4
        while any(abs(row - r) < LINE_PX and abs(column - c) < NAME_ROOM_PX for c, r in taken):
            row += LINE_PX
        taken.append((column, row))
        draw_text(canvas, text, (column, row), TEXT, 9)


def _draw_scale(canvas, scale):
    length_m = max([bar for bar in BARS_M if bar * scale <= 160] or BARS_M[:1])
    row, end = 18, MARGIN_PX + length_m * scale
    draw_path(canvas, np.array([(MARGIN_PX, row), (end, row)]), FAINT_TEXT, 2)
    draw_text(canvas, f'{length_m} m, north is up', (end + 8, row + 4), FAINT_TEXT, 9)
