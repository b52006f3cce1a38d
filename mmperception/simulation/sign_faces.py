# SPDX-License-Identifier: Apache-2.0
"""
Faces of the 43 traffic-sign classes of GTSRB and GTSDB, drawn as vectors.

The simulator puts them on sign plates and the sign classifier is trained on them. Classes and
shapes are those of the data set's class list; the drawings follow German signs.
"""

from functools import lru_cache

from mmperception.sign_classes import NUM_SIGN_CLASSES, SIGN_CLASSES, SPEEDS_KMH
from mmperception.simulation import sign_pictograms as pictograms
from mmperception.simulation.sign_canvas import BLACK, Canvas, GREY, inset, RED, WHITE
import numpy as np

NUM_CLASSES = NUM_SIGN_CLASSES


def sign_shape(class_id):
    """Return circle, triangle_up, triangle_down, diamond or octagon."""
    if not 0 <= class_id < NUM_CLASSES:
        raise ValueError(f'class_id: expected 0..{NUM_CLASSES - 1}, got {class_id}')
    return SIGN_CLASSES[class_id].shape


def sign_outline(class_id):
    """
    Return the outline of a sign's plate in its texture.

    Returns
    -------
    outline : (K, 2) float64
        Corners in 0..1, u to the right and v upwards as seen by the reader, counter-clockwise,
        convex; the (0.5, 0.5) centre is inside.

    """
    shape = sign_shape(class_id)
    if shape == 'circle':
        angle = np.arange(24) * np.pi / 12
        return 0.5 + 0.5 * np.stack((np.cos(angle), np.sin(angle)), axis=1)
    if shape == 'octagon':
        angle = (np.arange(8) + 0.5) * np.pi / 4
        return 0.5 + 0.5 / np.cos(np.pi / 8) * np.stack((np.cos(angle), np.sin(angle)), axis=1)
    if shape == 'diamond':
        return np.array([[1.0, 0.5], [0.5, 1.0], [0.0, 0.5], [0.5, 0.0]])
    corners = _triangle() if shape == 'triangle_up' else 1 - _triangle()
    following = np.roll(corners, -1, axis=0)
    cut = np.stack((0.96 * corners + 0.04 * following, 0.04 * corners + 0.96 * following), axis=1)
    return cut.reshape(-1, 2)


def _triangle():
    """Return an equilateral triangle of side 1 in the middle of the texture, v upwards."""
    height = np.sqrt(3) / 2
    low = (1 - height) / 2
    return np.array([[0.0, low], [1.0, low], [0.5, low + height]])


def _outline_down(class_id):
    """Return the outline with y down, as the canvas wants it."""
    return sign_outline(class_id) * (1, -1) + (0, 1)


def _triangle_down_axis(class_id):
    corners = _triangle() if sign_shape(class_id) == 'triangle_up' else 1 - _triangle()
    return corners * (1, -1) + (0, 1)


def _draw_plate(canvas, class_id):
    """Paint what all signs of a group share: rim and ground."""
    shape = sign_shape(class_id)
    if shape.startswith('triangle'):
        corners = _triangle_down_axis(class_id)
        band = 0.118 if shape == 'triangle_down' else 0.105
        canvas.rounded(inset(corners, 0.014), 0.03, RED)
        canvas.rounded(inset(corners, band), 0.012, WHITE)
    elif shape == 'octagon':
        canvas.polygon(inset(_outline_down(class_id), 0.022), RED)
    elif class_id == 17:
        canvas.disc((0.5, 0.5), 0.485, RED)
    elif 33 <= class_id <= 40:
        pictograms.blue_disc(canvas)
    elif class_id in (6, 32, 41, 42):
        canvas.disc((0.5, 0.5), 0.495, BLACK)
        canvas.disc((0.5, 0.5), 0.48, WHITE)
    elif shape == 'circle':
        canvas.disc((0.5, 0.5), 0.488, RED)
        canvas.disc((0.5, 0.5), 0.375, WHITE)


def _draw_speed(canvas, speed_kmh, colour=BLACK):
    is_long = speed_kmh >= 100
    canvas.text(str(speed_kmh), (0.5, 0.5), 0.33 if is_long else 0.40, colour)


def _draw_stop(canvas):
    canvas.text('STOP', (0.5, 0.5), 0.325, WHITE)


def _draw_no_entry(canvas):
    canvas.polygon([(0.11, 0.41), (0.89, 0.41), (0.89, 0.59), (0.11, 0.59)], WHITE)


def _draw_no_passing(canvas, left, colour):
    """Paint two vehicles side by side; `left` draws the one on the left."""
    if left is pictograms.car:
        pictograms.car(canvas, 0.325, 0.585, 0.29, colour)
        pictograms.car(canvas, 0.675, 0.585, 0.29, BLACK if colour == RED else GREY)
    else:
        left(canvas, 0.335, 0.60, 0.27, colour)
        pictograms.car(canvas, 0.685, 0.60, 0.24, BLACK if colour == RED else GREY)


def _draw_end(canvas, class_id):
    if class_id == 6:
        _draw_speed(canvas, 80, GREY)
    elif class_id == 41:
        _draw_no_passing(canvas, pictograms.car, GREY)
    elif class_id == 42:
        _draw_no_passing(canvas, pictograms.truck_rear, GREY)
    pictograms.end_bars(canvas, BLACK if class_id == 32 else (58, 60, 62))


DRAWERS = {
    9: lambda canvas: _draw_no_passing(canvas, pictograms.car, RED),
    10: lambda canvas: _draw_no_passing(canvas, pictograms.truck_rear, RED),
    11: pictograms.right_of_way,
    12: pictograms.priority,
    14: _draw_stop,
    16: pictograms.truck_side,
    17: _draw_no_entry,
    18: pictograms.caution,
    19: lambda canvas: pictograms.curve(canvas, -1),
    20: lambda canvas: pictograms.curve(canvas, 1),
    21: pictograms.double_curve,
    22: pictograms.bumps,
    23: pictograms.slippery,
    24: pictograms.road_narrows,
    25: pictograms.worker,
    26: pictograms.traffic_light,
    27: lambda canvas: pictograms.person(canvas, (0.5, 0.835), 0.44, -1),
    28: pictograms.children,
    29: pictograms.bicycle,
    30: pictograms.snowflake,
    31: pictograms.deer,
    33: lambda canvas: pictograms.turn_ahead(canvas, 1),
    34: lambda canvas: pictograms.turn_ahead(canvas, -1),
    35: pictograms.ahead,
    36: lambda canvas: pictograms.ahead_or_turn(canvas, 1),
    37: lambda canvas: pictograms.ahead_or_turn(canvas, -1),
    38: lambda canvas: pictograms.keep(canvas, 1),
    39: lambda canvas: pictograms.keep(canvas, -1),
    40: pictograms.roundabout,
}


def _alpha(class_id, size_px):
    canvas = Canvas(size_px, (0, 0, 0))
    shape = sign_shape(class_id)
    if shape == 'circle':
        canvas.disc((0.5, 0.5), 0.5, (255, 255, 255))
    elif shape.startswith('triangle'):
        canvas.rounded(_triangle_down_axis(class_id), 0.035, (255, 255, 255))
    else:
        canvas.polygon(_outline_down(class_id), (255, 255, 255))
    return canvas.finished()[:, :, 0]


@lru_cache(maxsize=128)
def _face(class_id, size_px):
    canvas = Canvas(size_px)
    _draw_plate(canvas, class_id)
    if class_id in SPEEDS_KMH:
        _draw_speed(canvas, SPEEDS_KMH[class_id])
    elif class_id in (6, 32, 41, 42):
        _draw_end(canvas, class_id)
    elif class_id in DRAWERS:
        DRAWERS[class_id](canvas)
    return np.dstack((canvas.finished(), _alpha(class_id, size_px)))


def sign_face(class_id, size_px=256):
    """
    Draw the face of a traffic sign.

    Parameters
    ----------
    class_id : int
        GTSRB class, 0..42.
    size_px : int
        Side of the square picture.

    Returns
    -------
    face : (S, S, 4) uint8
        RGB and alpha; alpha is 255 on the plate and 0 outside it. Row 0 is the upper edge.

    Raises
    ------
    ValueError
        If there is no such class.

    """
    sign_shape(class_id)
    return _face(class_id, size_px).copy()
