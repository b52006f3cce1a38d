# SPDX-License-Identifier: Apache-2.0
"""
What every picture is made of: colours, text, tags, translucent shapes, and files.

OpenCV and NumPy only. Pixels are (H, W, 3) uint8 RGB; functions that take a `canvas` draw into
it. Class colours are those of Okabe and Ito (2008, readable with every kind of colour vision),
lightened for dark ground; every colour that carries meaning has a word or a shape beside it.
"""

from functools import lru_cache
import pathlib

import cv2
import numpy as np

CLASS_COLOURS = ((255, 170, 20), (86, 190, 255), (255, 128, 200))  # in the order of CLASSES
BACKGROUND, PANEL, LINE = (14, 17, 22), (22, 27, 34), (52, 61, 72)
TEXT, FAINT_TEXT, WARNING = (232, 236, 240), (150, 160, 172), (255, 110, 90)
TRUTH, OBSTACLE, EGO = (245, 245, 245), (255, 236, 90), (120, 230, 190)
# Text is drawn this many times larger and averaged down: the stroke fonts look coarse otherwise.
_SUPERSAMPLE = 4
_CAP_HEIGHT = 22.0  # pixels of a capital letter of this font at scale 1


def blank(height, width, colour=PANEL):
    """Return a canvas of one colour."""
    return np.full((height, width, 3), colour, np.uint8)


@lru_cache(maxsize=1024)
def _text_mask(string, cap_px):
    scale = _SUPERSAMPLE * cap_px / _CAP_HEIGHT
    weight = max(1, round(1.15 * scale))
    (width, height), below = cv2.getTextSize(string, cv2.FONT_HERSHEY_DUPLEX, scale, weight)
    pad = _SUPERSAMPLE
    H = -(-(height + below + 2 * pad) // _SUPERSAMPLE) * _SUPERSAMPLE
    W = -(-(width + 2 * pad) // _SUPERSAMPLE) * _SUPERSAMPLE
    mask = np.zeros((H, W), np.uint8)
    at = (pad, pad + height)
    cv2.putText(mask, string, at, cv2.FONT_HERSHEY_DUPLEX, scale, 255, weight, cv2.LINE_AA)
    small = cv2.resize(mask, (W // _SUPERSAMPLE, H // _SUPERSAMPLE), interpolation=cv2.INTER_AREA)
    return small, round((pad + height) / _SUPERSAMPLE)


def text_width(string, cap_px=11):
    """Return how wide `draw_text` makes a string."""
    return _text_mask(string, cap_px)[0].shape[1]


def draw_text(canvas, string, at, colour=TEXT, cap_px=11):
    """Write a line of text; `at` is the column and row of its baseline's left end."""
    mask, baseline = _text_mask(string, cap_px)
    column, row = int(at[0]), int(at[1]) - baseline
    _blend(canvas, mask, column, row, colour)


def _blend(canvas, mask, column, row, colour):
    """Blend a colour through a mask (h, w) uint8 whose corner may lie outside the canvas."""
    H, W = canvas.shape[:2]
    top, left = max(0, row), max(0, column)
    bottom, right = min(H, row + mask.shape[0]), min(W, column + mask.shape[1])
    if top >= bottom or left >= right:
        return
    rows, columns = slice(top - row, bottom - row), slice(left - column, right - column)
    part = mask[rows, columns, None] / 255.0
    area = canvas[top:bottom, left:right]
    area[:] = np.rint(area * (1 - part) + np.array(colour) * part).astype(np.uint8)


def draw_tag(canvas, string, at, colour, cap_px=10):
    """Write dark text on a filled tag whose lower left corner is `at`; return its rectangle."""
    W, H = text_width(string, cap_px) + 6, cap_px + 8
    column = int(np.clip(at[0], 0, max(0, canvas.shape[1] - W)))
    row = int(np.clip(at[1] - H, 0, max(0, canvas.shape[0] - H)))
    cv2.rectangle(canvas, (column, row), (column + W - 1, row + H - 1), colour, -1)
    draw_text(canvas, string, (column + 2, row + cap_px + 4), (12, 14, 18), cap_px)
    return column, row, W, H


def fill_polygon(canvas, points, colour, alpha):
    """Fill a polygon (M, 2), column and row, translucently."""
    points = np.clip(np.rint(points), -30_000, 30_000).astype(np.int32)
    column, row, W, H = cv2.boundingRect(points)
    top, left = max(0, row), max(0, column)
    bottom, right = max(0, row + H), max(0, column + W)
    area = canvas[top:bottom, left:right]
    if area.size == 0:
        return
    filled = area.copy()
    cv2.fillPoly(filled, [points - (left, top)], colour, cv2.LINE_AA)
    area[:] = cv2.addWeighted(filled, alpha, area, 1 - alpha, 0)


def draw_path(canvas, points, colour, thickness=1, is_closed=False):
    """Draw a smooth line through points (M, 2), column and row, with parts of a pixel."""
    fixed = np.clip(np.asarray(points, np.float64) * 16, -3e7, 3e7)
    fixed = np.rint(fixed).astype(np.int32)
    cv2.polylines(canvas, [fixed], is_closed, colour, thickness, cv2.LINE_AA, shift=4)


def fit(pixels, height, width):
    """Scale an image into a box of this size, keeping its shape, centred on panel colour."""
    scale = min(height / pixels.shape[0], width / pixels.shape[1])
    H, W = max(1, round(pixels.shape[0] * scale)), max(1, round(pixels.shape[1] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    canvas = blank(height, width)
    top, left = (height - H) // 2, (width - W) // 2
    bottom, right = top + H, left + W
    resized = pixels if scale == 1 else cv2.resize(pixels, (W, H), interpolation=method)
    canvas[top:bottom, left:right] = resized
    return canvas


def write_png(path, pixels):
    """
    Write an RGB image.

    Raises
    ------
    OSError
        If the file cannot be written.

    """
    is_made, buffer = cv2.imencode('.png', cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    if not is_made:
        raise OSError(f'{path}: the image could not be encoded')
    pathlib.Path(path).write_bytes(buffer.tobytes())
