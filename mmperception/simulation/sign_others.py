# SPDX-License-Identifier: Apache-2.0
"""
Faces of signs outside of the 43 classes, which a reader of signs has to reject.

No parking, zones, other speed limits, weights and heights, information squares, direction boards
and plates, each drawn anew with random marks: what matters is that none shows one of the 43.
"""

from mmperception.simulation import sign_pictograms as pictograms
from mmperception.simulation.sign_canvas import (
    BLACK,
    BLUE,
    Canvas,
    GREEN,
    GREY,
    RED,
    WHITE,
    YELLOW,
)
import numpy as np

SQUARE = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]
# Of a zone's plate, x1, y1, x2, y2 from its upper left corner.
ZONE_RING = np.array([0.17, 0.09, 0.83, 0.75])
TRIANGLE = [(0.0, 0.93), (1.0, 0.93), (0.5, 0.07)]


def other_face(rng, size_px=128):
    """
    Draw a sign that is none of the 43 classes.

    Parameters
    ----------
    rng : numpy Generator
        Chooses the sign and its marks.
    size_px : int
        Side of the square picture.

    Returns
    -------
    face : (S, S, 4) uint8
        RGB and alpha, as `sign_faces.sign_face`.

    """
    canvas, plate = Canvas(size_px), Canvas(size_px, (0, 0, 0))
    draw = DRAWERS[rng.integers(len(DRAWERS))]
    outline = draw(canvas, rng)
    if outline == 'disc':
        plate.disc((0.5, 0.5), 0.5, (255, 255, 255))
    else:
        plate.polygon(outline, (255, 255, 255))
    return np.dstack((canvas.finished(), plate.finished()[:, :, 0]))


def _no_parking(canvas, rng):
    canvas.disc((0.5, 0.5), 0.49, RED)
    canvas.disc((0.5, 0.5), 0.40, BLUE)
    canvas.band([(0.2, 0.2), (0.8, 0.8)], 0.09, RED)
    if rng.random() < 0.5:
        canvas.band([(0.8, 0.2), (0.2, 0.8)], 0.09, RED)
    return 'disc'


def _prohibition(canvas, rng):
    """Paint a red ring around something that the 43 classes do not forbid."""
    canvas.disc((0.5, 0.5), 0.488, RED)
    canvas.disc((0.5, 0.5), 0.375, WHITE)
    kind = rng.integers(5)
    if kind == 0:
        canvas.text(str(rng.choice(['5', '10', '40', '90', '15', '130'])), (0.5, 0.5), 0.36, BLACK)
    elif kind == 1:
        canvas.text(str(rng.choice(['2', '3', '6', '7', '9'])), (0.42, 0.5), 0.36, BLACK)
        canvas.text('T', (0.65, 0.53), 0.24, BLACK)
    elif kind == 2:
        pictograms.bicycle(canvas)
    elif kind == 3:
        pictograms.person(canvas, (0.5, 0.76), 0.46, 1)
    else:
        canvas.band([(0.5, 0.75), (0.5, 0.35)], 0.09, BLACK)
        canvas.arrow_head((0.72, 0.38), rng.choice([0, 180]), 0.2, BLACK)
        canvas.band([(0.24, 0.24), (0.76, 0.76)], 0.07, RED)
    return 'disc'


def _path(canvas, rng):
    """Paint a blue disc for people or bicycles."""
    canvas.disc((0.5, 0.5), 0.49, BLUE)
    if rng.random() < 0.5:
        pictograms.person(canvas, (0.5, 0.78), 0.52, 1)
    else:
        canvas.ring((0.33, 0.6), 0.12, 0.04, WHITE)
        canvas.ring((0.67, 0.6), 0.12, 0.04, WHITE)
        canvas.limbs([(0.33, 0.6), (0.45, 0.4), (0.6, 0.4), (0.67, 0.6)], 0.035, WHITE)
    return 'disc'


def _square(canvas, rng):
    """Paint an information square: parking, crossing, one way, a marked area."""
    canvas.polygon(SQUARE, WHITE)
    canvas.rounded([(0.03, 0.03), (0.97, 0.03), (0.97, 0.97), (0.03, 0.97)], 0.05, BLUE)
    kind = rng.integers(4)
    if kind == 0:
        canvas.text('P', (0.5, 0.5), 0.6, WHITE)
    elif kind == 1:
        canvas.polygon([(0.14, 0.85), (0.86, 0.85), (0.5, 0.15)], WHITE)
        pictograms.person(canvas, (0.5, 0.8), 0.42, 1)
    elif kind == 2:
        canvas.band([(0.1, 0.5), (0.8, 0.5)], 0.16, WHITE)
        canvas.arrow_head((0.9, 0.5), rng.choice([0, 180]), 0.24, WHITE)
    else:
        canvas.band([(0.5, 0.9), (0.5, 0.3)], 0.16, WHITE)
        canvas.band([(0.25, 0.3), (0.75, 0.3)], 0.16, RED)
    return SQUARE


def _board(canvas, rng):
    """Paint a direction board or an advertisement: a plate with lines of writing."""
    ground = [YELLOW, WHITE, BLUE, GREEN, RED][rng.integers(5)]
    ink = BLACK if ground in (YELLOW, WHITE) else WHITE
    top = rng.uniform(0.0, 0.3)
    outline = [(0.0, top), (1.0, top), (1.0, 1 - top), (0.0, 1 - top)]
    canvas.polygon(outline, ground)
    for y in np.arange(top + 0.15, 0.92 - top, rng.uniform(0.15, 0.3)):
        x = np.sort(rng.uniform(0.06, 0.94, 2))
        canvas.band([(x[0], y), (x[1] + 0.03, y)], rng.uniform(0.04, 0.1), ink)
    return outline


def _chevron(canvas, rng):
    """Paint the red and white arrows of a bend or the stripes of a beacon."""
    canvas.polygon(SQUARE, WHITE)
    slope, step = rng.choice([-1, 1]) * rng.uniform(0.5, 1.0), rng.uniform(0.35, 0.5)
    for x in np.arange(-1.0, 2.0, step):
        canvas.polygon([(x, 0), (x + step / 2, 0), (x + step / 2 + slope, 1), (x + slope, 1)], RED)
    return SQUARE


def _zone(canvas, rng):
    canvas.polygon(SQUARE, WHITE)
    middle = (ZONE_RING[:2] + ZONE_RING[2:]) / 2
    radius = (ZONE_RING[2] - ZONE_RING[0]) / 2
    is_end = rng.random() < 0.3
    canvas.ring(middle, 0.87 * radius, 0.26 * radius, GREY if is_end else RED)
    number = str(rng.choice(['10', '20', '30', '30', '30']))
    canvas.text(number, middle, 0.8 * radius, GREY if is_end else BLACK)
    canvas.text('ZONE', (0.5, 0.87), 0.17, GREY if is_end else BLACK)
    if is_end:
        canvas.band([(0.05, 0.95), (0.95, 0.05)], 0.05, BLACK)
    return SQUARE


def zone_face(rng, size_px=128):
    """
    Draw the plate of a zone: a ring like that of a limit, in a square that says otherwise.

    Its `ZONE_RING` alone looks like one of the 43 classes; what tells it is the white around.

    Parameters
    ----------
    rng : numpy Generator
        Chooses its marks.
    size_px : int
        Side of the square picture.

    Returns
    -------
    face : (S, S, 4) uint8
        RGB and alpha, as `other_face`.

    """
    canvas = Canvas(size_px)
    _zone(canvas, rng)
    return np.dstack((canvas.finished(), np.full((size_px, size_px), 255, np.uint8)))


def _danger(canvas, rng):
    """Paint a warning of something that the 43 classes do not warn of."""
    canvas.polygon(TRIANGLE, RED)
    canvas.rounded([(0.16, 0.85), (0.84, 0.85), (0.5, 0.24)], 0.015, WHITE)
    kind = rng.integers(3)
    if kind == 0:
        canvas.band([(0.5, 0.8), (0.5, 0.42)], 0.07, BLACK)
        canvas.band([(0.34, 0.6), (0.66, 0.6)], 0.07, BLACK)
    elif kind == 1:
        for x in (0.36, 0.46, 0.56, 0.66):
            canvas.band([(x, 0.8), (x, 0.6)], 0.05, BLACK)
        canvas.band([(0.32, 0.68), (0.68, 0.68)], 0.04, BLACK)
    else:
        canvas.band([(0.42, 0.8), (0.42, 0.5)], 0.05, BLACK)
        canvas.band([(0.58, 0.8), (0.58, 0.5)], 0.05, BLACK)
        canvas.arrow_head((0.42, 0.42), 90, 0.1, BLACK)
        canvas.arrow_head((0.58, 0.82), 270, 0.1, BLACK)
    return TRIANGLE


def _bus_stop(canvas, rng):
    canvas.disc((0.5, 0.5), 0.49, GREEN)
    canvas.disc((0.5, 0.5), rng.uniform(0.36, 0.42), YELLOW)
    canvas.band([(0.38, 0.72), (0.38, 0.28)], 0.09, GREEN)
    canvas.band([(0.62, 0.72), (0.62, 0.28)], 0.09, GREEN)
    canvas.band([(0.38, 0.5), (0.62, 0.5)], 0.09, GREEN)
    return 'disc'


def _end_of_priority(canvas, rng):
    pictograms.priority(canvas)
    for offset in np.linspace(-0.06, 0.06, 3):
        canvas.band([(0.2 + offset, 0.8 + offset), (0.8 + offset, 0.2 + offset)], 0.03, BLACK)
    return [(1.0, 0.5), (0.5, 1.0), (0.0, 0.5), (0.5, 0.0)]


DRAWERS = (
    _no_parking,
    _prohibition,
    _path,
    _square,
    _board,
    _chevron,
    _zone,
    _danger,
    _bus_stop,
    _end_of_priority,
)
