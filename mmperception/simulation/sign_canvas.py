# SPDX-License-Identifier: Apache-2.0
"""
A small vector canvas, with the strokes that traffic signs are made of.

Coordinates: x to the right and y down, 0..1 over the square. Shapes are drawn four times too
large and averaged, so edges are smooth at any size. Digits and letters are strokes in the manner
of road lettering: even width, straight sides, flat ends.
"""

import cv2
import numpy as np

WHITE, BLACK, GREY = (240, 241, 238), (24, 24, 26), (122, 124, 126)
RED, BLUE, YELLOW = (186, 22, 32), (10, 84, 158), (244, 184, 14)
GREEN, AMBER = (20, 136, 74), (238, 176, 20)
OVERSAMPLING = 4
_SHIFT = 6


class Canvas:
    """A square picture that shapes are painted onto, later ones over earlier ones."""

    def __init__(self, size_px, colour=WHITE):
        self.size_px = size_px
        self.scale = size_px * OVERSAMPLING
        row = np.tile(np.uint8(colour), (1, self.scale, 1))
        self.pixels = np.repeat(row, self.scale, axis=0)

    def _fixed(self, points):
        grid = np.asarray(points, np.float64) * self.scale - 0.5
        return np.round(grid * 2**_SHIFT).astype(np.int32)

    def polygon(self, points, colour):
        cv2.fillPoly(self.pixels, [self._fixed(points)], colour, cv2.LINE_AA, _SHIFT)

    def disc(self, center, radius, colour):
        """Paint an ellipse; `radius` is one number or one along x and one along y."""
        rx, ry = np.broadcast_to(radius, 2)
        self.polygon(arc(center, (rx, ry), 0, 360), colour)

    def ring(self, center, radius, width, colour):
        """Paint a circle line whose middle lies at `radius`."""
        center = np.asarray(center, np.float64)
        outer = arc(center, radius + width / 2, 0, 360)
        inner = arc(center, radius - width / 2, 360, 0)
        self.polygon(np.concatenate((outer, outer[:1], inner, inner[:1])), colour)

    def band(self, points, width, colour):
        """Paint a line of even width with flat ends and mitred corners."""
        left, right = _band_sides(np.asarray(points, np.float64), width)
        # One quad a segment: a line may cross or meet itself, which one polygon would cut out.
        # Without LINE_AA, whose half-covered edges would leave seams between the quads.
        quads = np.stack((left[:-1], left[1:], right[1:], right[:-1]), axis=1)
        for quad in self._fixed(quads):
            cv2.fillConvexPoly(self.pixels, quad, colour, cv2.LINE_8, _SHIFT)

    def limbs(self, points, width, colour):
        """Paint a line of even width with round ends and corners."""
        thickness = max(1, round(width * self.scale))
        line = [self._fixed(points)]
        cv2.polylines(self.pixels, line, False, colour, thickness, cv2.LINE_AA, _SHIFT)

    def rounded(self, points, radius, colour):
        """Paint a convex polygon with its corners cut round; nothing goes beyond its outline."""
        inner = inset(np.asarray(points, np.float64), radius)
        self.polygon(inner, colour)
        self.limbs(np.concatenate((inner, inner[:1])), 2 * radius, colour)

    def arrow_head(self, tip, direction_deg, size, colour):
        """Paint the open, swept-back head of a sign's arrow; 0 deg points right, 90 up."""
        angle = np.deg2rad(direction_deg)
        along = np.array([np.cos(angle), -np.sin(angle)])
        across = np.array([-along[1], along[0]])
        shape = np.array(
            [(0, 0), (-1, -1), (-1, -0.46), (-0.6, 0.0), (-1, 0.46), (-1, 1)], np.float64
        )
        points = np.asarray(tip) + size * (shape[:, :1] * along + shape[:, 1:] * across)
        self.polygon(points, colour)

    def text(self, text, center, height, colour):
        """Paint digits or letters, `height` tall, around `center`."""
        scale = height
        x = center[0] - scale * _text_width(text) / 2
        for glyph in text:
            lines, width = GLYPHS[glyph]
            for line in lines:
                moved = np.asarray(line) * (1 - STROKE) + STROKE / 2
                moved = moved * scale + (x, center[1] - height / 2)
                self.band(moved, STROKE * scale, colour)
            x += scale * (width * (1 - STROKE) + STROKE + GAP)

    def finished(self):
        """Return the picture (S, S, 3) uint8 RGB."""
        size = (self.size_px, self.size_px)
        return cv2.resize(self.pixels, size, interpolation=cv2.INTER_AREA)


def arc(center, radius, start_deg, end_deg):
    """Return points along an ellipse; 0 deg is right, 90 deg up, counter-clockwise positive."""
    steps = max(3, int(abs(end_deg - start_deg) / 6))
    angle = np.deg2rad(np.linspace(start_deg, end_deg, steps + 1))
    rx, ry = np.broadcast_to(radius, 2)
    return np.stack((center[0] + rx * np.cos(angle), center[1] - ry * np.sin(angle)), axis=1)


def inset(points, distance):
    """Return a convex polygon whose sides lie `distance` further in."""
    following = np.roll(points, -1, axis=0)
    edge = following - points
    edge /= np.linalg.norm(edge, axis=1, keepdims=True)
    normal = np.stack((-edge[:, 1], edge[:, 0]), axis=1)
    toward = np.sum(normal * (points.mean(axis=0) - points), axis=1, keepdims=True)
    normal *= np.sign(toward)
    before = np.roll(normal, 1, axis=0)
    corner = normal + before
    return points + distance * 2 * corner / np.sum(corner * corner, axis=1, keepdims=True)


def _band_sides(points, width):
    edge = np.diff(points, axis=0)
    edge /= np.maximum(np.linalg.norm(edge, axis=1, keepdims=True), 1e-12)
    normal = np.stack((-edge[:, 1], edge[:, 0]), axis=1)
    corner = np.concatenate((normal[:1], normal[:-1] + normal[1:], normal[-1:]))
    square = np.sum(corner * corner, axis=1, keepdims=True)
    # A mitre grows without bound as a corner closes: 0.8 keeps it below 1.6 half widths.
    scale = np.where(square > 1.001, 2 / np.maximum(square, 0.8), 1.0)
    offset = corner * scale * width / 2
    return points + offset, points - offset


STROKE, GAP = 0.17, 0.09


def _lines():
    """Return centre lines within x 0..0.5, y 0..1 (y down), and the width of each glyph."""
    r = 0.25
    half = np.array([0.25, 0.25])
    stadium = np.concatenate(
        (arc((r, r), half, 180, 0), arc((r, 1 - r), half, 0, -180), arc((r, r), half, 180, 150))
    )
    loop = arc((r, 0.69), (r, 0.31), 0, 372)
    stem = [(0.40, -0.06), (0.26, 0.1), (0.14, 0.27), (0.045, 0.47), (0.0, 0.69)]
    three = np.concatenate((arc((0.24, 0.25), (0.22, 0.25), 165, -90), [(0.18, 0.5)]))
    lower = np.concatenate(([(0.18, 0.47)], arc((0.24, 0.735), (0.26, 0.265), 90, -160)))
    five = np.concatenate(
        ([(0.48, 0), (0.06, 0), (0.03, 0.46)], arc((0.24, 0.69), (0.26, 0.31), 140, -155))
    )
    two = np.concatenate((arc((r, 0.26), (0.24, 0.26), 170, -35), [(-0.02, 0.98)]))
    foot = [(-0.1, 1.0), (0.56, 1.0)]
    upper_s = arc((r, 0.25), (0.23, 0.25), 20, 250)
    s = np.concatenate((upper_s, arc((r, 0.74), (0.25, 0.26), 75, -160)))
    p = np.concatenate(
        ([(0, 0.0), (0.22, 0.0)], arc((0.22, 0.27), (0.26, 0.27), 90, -90), [(0.0, 0.54)])
    )
    # A nine is a six turned by half.
    nine = [[(0.5 - x, 1.0 - y) for x, y in line] for line in (loop, stem)]
    four = [[(0.56, 0.74), (-0.04, 0.74), (0.32, -0.06)], [(0.37, 0.4), (0.37, 1.1)]]
    return {
        '0': ([stadium], 0.5),
        '1': ([[(0.0, 0.24), (0.26, 0.02)], [(0.26, -0.1), (0.26, 1.1)]], 0.3),
        '2': ([two, foot], 0.52),
        '3': ([three, lower], 0.5),
        '4': (four, 0.5),
        '5': ([five], 0.5),
        '6': ([loop, stem], 0.5),
        '7': ([[(-0.08, 0), (0.47, 0.0), (0.15, 1.1)]], 0.46),
        '8': (
            [arc((r, 0.235), (0.22, 0.235), 0, 366), arc((r, 0.735), (0.26, 0.265), 0, 366)],
            0.5,
        ),
        '9': (nine, 0.5),
        'S': ([s], 0.5),
        'T': ([[(-0.08, 0), (0.56, 0)], [(0.24, 0), (0.24, 1.1)]], 0.48),
        'O': ([stadium], 0.5),
        'Z': ([[(0, 0), (0.5, 0), (0, 1.0), (0.5, 1.0)]], 0.5),
        'N': ([[(0, 1.1), (0, 0), (0.5, 1.0), (0.5, -0.1)]], 0.5),
        'E': ([[(0.5, 0), (0, 0), (0, 1.0), (0.5, 1.0)], [(0, 0.5), (0.42, 0.5)]], 0.5),
        'P': ([[(0, -0.1), (0, 1.1)], p], 0.48),
    }


GLYPHS = _lines()


def _text_width(text):
    widths = [GLYPHS[glyph][1] * (1 - STROKE) + STROKE for glyph in text]
    return sum(widths) + GAP * (len(text) - 1)
