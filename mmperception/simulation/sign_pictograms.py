# SPDX-License-Identifier: Apache-2.0
"""
The pictograms of traffic signs, as polygons and lines on a `Canvas`.

Each function paints one symbol at the place where its sign shows it (x right, y down, 0..1).
Drawn after the look of German signs in the GTSRB and GTSDB training photographs.
"""

from mmperception.simulation.sign_canvas import AMBER, arc, BLACK, BLUE, GREEN, RED, WHITE
import numpy as np


def car(canvas, x, y, width, colour):
    """Paint a car seen from behind; (x, y) is the middle of its wheels' foot line."""
    w = width / 2
    roof = [(-0.55, -0.95), (0.55, -0.95), (0.72, -0.55), (1, -0.45), (1, -0.1), (-1, -0.1)]
    body = np.array([*roof, (-1, -0.45), (-0.72, -0.55)])
    canvas.polygon(body * w + (x, y), colour)
    canvas.polygon(
        np.array([(-0.45, -0.84), (0.45, -0.84), (0.56, -0.57), (-0.56, -0.57)]) * w + (x, y),
        WHITE,
    )
    for side in (-0.7, 0.7):
        wheel = np.array([(-0.2, -0.12), (0.2, -0.12), (0.2, 0.1), (-0.2, 0.1)])
        canvas.polygon((wheel + (side, 0)) * w + (x, y), colour)


def truck_rear(canvas, x, y, width, colour):
    """Paint a lorry seen from behind."""
    w = width / 2
    box = np.array([(-1, -1.75), (1, -1.75), (1, -0.2), (-1, -0.2)])
    canvas.polygon(box * w + (x, y), colour)
    for side in (-0.62, 0.62):
        wheel = np.array([(-0.25, -0.25), (0.25, -0.25), (0.25, 0.1), (-0.25, 0.1)])
        canvas.polygon((wheel + (side, 0)) * w + (x, y), colour)


def truck_side(canvas, colour=BLACK):
    """Paint a lorry that drives to the left."""
    canvas.polygon([(0.395, 0.37), (0.79, 0.37), (0.79, 0.565), (0.395, 0.565)], colour)
    cab = [(0.385, 0.44), (0.30, 0.44), (0.255, 0.51), (0.20, 0.53), (0.20, 0.60), (0.385, 0.60)]
    canvas.polygon(cab, colour)
    canvas.polygon([(0.37, 0.462), (0.312, 0.462), (0.283, 0.51), (0.37, 0.51)], WHITE)
    canvas.polygon([(0.2, 0.565), (0.79, 0.565), (0.79, 0.6), (0.2, 0.6)], colour)
    for x in (0.275, 0.68):
        canvas.disc((x, 0.615), 0.052, WHITE)
        canvas.disc((x, 0.615), 0.044, colour)
        canvas.disc((x, 0.615), 0.014, WHITE)


def right_of_way(canvas):
    """Paint a broad road ahead, forked at its end, crossed by a thin one."""
    ahead = [
        (0.5, 0.41),
        (0.585, 0.52),
        (0.585, 0.81),
        (0.5, 0.74),
        (0.415, 0.81),
        (0.415, 0.52),
    ]
    canvas.polygon([(0.345, 0.60), (0.655, 0.60), (0.655, 0.655), (0.345, 0.655)], BLACK)
    canvas.polygon(ahead[:4], BLACK)
    canvas.polygon([*ahead[3:], ahead[0]], BLACK)


def caution(canvas):
    wedge = [(0.455, 0.40), (0.545, 0.40), (0.525, 0.69), (0.475, 0.69)]
    canvas.polygon(wedge, BLACK)
    canvas.disc((0.5, 0.40), 0.045, BLACK)
    canvas.disc((0.5, 0.775), 0.047, BLACK)


def curve(canvas, side):
    """Paint a bend; `side` -1 to the left, 1 to the right."""
    x = 0.5 + side * np.array([-0.075, -0.075, -0.055, 0.0, 0.05])
    y = np.array([0.82, 0.68, 0.60, 0.555, 0.55])
    canvas.band(np.stack((x, y), axis=1), 0.09, BLACK)
    tip = 0.5 + side * np.array([0.03, 0.03, 0.17])
    canvas.polygon(np.stack((tip, (0.47, 0.63, 0.55)), axis=1), BLACK)


def double_curve(canvas):
    canvas.band([(0.57, 0.83), (0.57, 0.625), (0.445, 0.69), (0.445, 0.49)], 0.085, BLACK)
    canvas.polygon([(0.385, 0.50), (0.505, 0.50), (0.445, 0.42)], BLACK)


def bumps(canvas):
    """Paint two humps on a road."""
    canvas.polygon([(0.30, 0.76), (0.70, 0.76), (0.70, 0.81), (0.30, 0.81)], BLACK)
    for x in (0.395, 0.605):
        canvas.polygon(arc((x, 0.775), (0.085, 0.10), 0, 180), BLACK)


def slippery(canvas):
    """Paint a car in a skid with two winding tracks."""
    turn = np.deg2rad(10)
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    body = [
        (-0.15, -0.01),
        (-0.13, -0.055),
        (-0.085, -0.06),
        (-0.06, -0.115),
        (0.05, -0.115),
        (0.085, -0.06),
        (0.14, -0.05),
        (0.15, 0.0),
    ]
    glass = [(-0.045, -0.098), (0.04, -0.098), (0.06, -0.062), (-0.06, -0.062)]
    center = np.array([0.5, 0.62])
    canvas.polygon(np.array(body) @ matrix + center, BLACK)
    canvas.polygon(np.array(glass) @ matrix + center, WHITE)
    for x in (-0.09, 0.09):
        canvas.disc(np.array([x, 0.0]) @ matrix + center, 0.034, BLACK)
    for x in (0.42, 0.56):
        y = np.linspace(0.69, 0.83, 15)
        wave = 0.022 * np.sin((y - 0.69) * 55)
        canvas.limbs(np.stack((x + wave, y), axis=1), 0.02, BLACK)


def road_narrows(canvas):
    """Paint a lane whose right edge steps in."""
    canvas.band([(0.425, 0.82), (0.425, 0.44)], 0.05, BLACK)
    canvas.band([(0.59, 0.82), (0.59, 0.68), (0.53, 0.57), (0.53, 0.44)], 0.05, BLACK)


def worker(canvas):
    """Paint a man with a shovel before a heap."""
    canvas.polygon([(0.57, 0.83), (0.66, 0.71), (0.70, 0.71), (0.77, 0.83)], BLACK)
    canvas.disc((0.475, 0.435), 0.036, BLACK)
    canvas.polygon([(0.42, 0.475), (0.475, 0.485), (0.475, 0.63), (0.39, 0.63)], BLACK)
    canvas.limbs([(0.455, 0.51), (0.53, 0.60), (0.575, 0.64)], 0.036, BLACK)
    canvas.limbs([(0.435, 0.51), (0.44, 0.60), (0.50, 0.64)], 0.034, BLACK)
    canvas.limbs([(0.45, 0.62), (0.49, 0.71), (0.485, 0.815)], 0.046, BLACK)
    canvas.limbs([(0.41, 0.62), (0.385, 0.72), (0.32, 0.815)], 0.046, BLACK)
    canvas.limbs([(0.43, 0.61), (0.64, 0.695)], 0.017, BLACK)


def traffic_light(canvas):
    for y, colour in ((0.455, RED), (0.605, AMBER), (0.755, GREEN)):
        canvas.disc((0.5, y), 0.062, colour)


def person(canvas, place, height, lean):
    """Paint a walking figure; `place` is the foot, `lean` -1 walks left, 1 right."""
    to = lambda points: np.asarray(points) * (lean * height, height) + place  # noqa: E731
    canvas.disc(to([(0.04, -0.92)])[0], 0.075 * height, BLACK)
    canvas.polygon(to([(-0.09, -0.80), (0.10, -0.80), (0.09, -0.42), (-0.09, -0.42)]), BLACK)
    canvas.limbs(to([(0.03, -0.45), (0.10, -0.24), (0.20, -0.03)]), 0.105 * height, BLACK)
    canvas.limbs(to([(-0.03, -0.45), (-0.08, -0.24), (-0.20, -0.03)]), 0.105 * height, BLACK)
    canvas.limbs(to([(0.07, -0.76), (0.17, -0.60), (0.25, -0.50)]), 0.07 * height, BLACK)
    canvas.limbs(to([(-0.07, -0.76), (-0.17, -0.60), (-0.18, -0.46)]), 0.07 * height, BLACK)


def children(canvas):
    """Paint two children hand in hand, running to the left."""
    person(canvas, (0.415, 0.825), 0.30, -1)
    person(canvas, (0.575, 0.825), 0.38, -1)
    canvas.limbs([(0.445, 0.62), (0.52, 0.605)], 0.024, BLACK)


def bicycle(canvas):
    for x in (0.385, 0.615):
        canvas.ring((x, 0.735), 0.082, 0.022, BLACK)
    frame = [(0.385, 0.735), (0.445, 0.61), (0.58, 0.61), (0.50, 0.735), (0.385, 0.735)]
    canvas.limbs(frame, 0.02, BLACK)
    canvas.limbs([(0.50, 0.735), (0.435, 0.57)], 0.02, BLACK)
    canvas.limbs([(0.615, 0.735), (0.57, 0.56), (0.615, 0.545)], 0.02, BLACK)
    canvas.limbs([(0.405, 0.565), (0.465, 0.565)], 0.026, BLACK)


def snowflake(canvas):
    center = np.array([0.5, 0.655])
    for angle in np.deg2rad(np.arange(30, 390, 60)):
        along = np.array([np.cos(angle), np.sin(angle)])
        canvas.limbs([center, center + 0.165 * along], 0.03, BLACK)
        for turn in (-0.8, 0.8):
            branch = np.array([np.cos(angle + turn), np.sin(angle + turn)])
            start = center + 0.085 * along
            canvas.limbs([start, start + 0.065 * branch], 0.022, BLACK)


def deer(canvas):
    """Paint a stag leaping to the left."""
    body = [
        (0.42, 0.55),
        (0.475, 0.575),
        (0.60, 0.62),
        (0.645, 0.665),
        (0.655, 0.72),
        (0.59, 0.715),
        (0.51, 0.69),
        (0.44, 0.665),
        (0.405, 0.60),
    ]
    canvas.polygon(body, BLACK)
    neck = [(0.40, 0.47), (0.445, 0.48), (0.475, 0.58), (0.42, 0.63), (0.405, 0.54)]
    canvas.polygon(neck, BLACK)
    canvas.polygon(
        [(0.345, 0.525), (0.405, 0.465), (0.44, 0.49), (0.415, 0.52), (0.36, 0.545)], BLACK
    )
    canvas.limbs([(0.425, 0.475), (0.455, 0.41), (0.44, 0.365)], 0.017, BLACK)
    canvas.limbs([(0.447, 0.43), (0.50, 0.395)], 0.015, BLACK)
    canvas.limbs([(0.43, 0.64), (0.375, 0.70), (0.315, 0.70)], 0.025, BLACK)
    canvas.limbs([(0.45, 0.66), (0.40, 0.745), (0.35, 0.765)], 0.025, BLACK)
    canvas.limbs([(0.625, 0.69), (0.665, 0.765), (0.735, 0.80)], 0.03, BLACK)
    canvas.limbs([(0.60, 0.70), (0.635, 0.785), (0.68, 0.835)], 0.03, BLACK)


def turn_ahead(canvas, side):
    """Paint an arrow that goes up and turns; `side` -1 to the left, 1 to the right."""
    bend = arc((0.5, 0.5), 0.13, 180, 90)
    line = np.concatenate(([(0.37, 0.80)], bend, [(0.72, 0.37)]))
    line[:, 0] = 0.5 + side * (line[:, 0] - 0.5)
    canvas.band(line, 0.105, WHITE)
    canvas.arrow_head((0.5 + side * 0.32, 0.37), 90 - side * 90, 0.19, WHITE)


def ahead(canvas):
    canvas.band([(0.5, 0.84), (0.5, 0.24)], 0.12, WHITE)
    canvas.arrow_head((0.5, 0.13), 90, 0.24, WHITE)


def ahead_or_turn(canvas, side):
    """Paint an arrow ahead with a branch; `side` -1 to the left, 1 to the right."""
    x = 0.5 - side * 0.06
    canvas.band([(x, 0.85), (x, 0.20)], 0.095, WHITE)
    canvas.arrow_head((x, 0.12), 90, 0.165, WHITE)
    bend = arc((0.57, 0.69), 0.13, 180, 90)
    line = np.concatenate(([(0.44, 0.80)], bend, [(0.80, 0.56)]))
    line[:, 0] = 0.5 + side * (line[:, 0] - 0.5)
    canvas.band(line, 0.095, WHITE)
    canvas.arrow_head((0.5 + side * 0.385, 0.56), 90 - side * 90, 0.165, WHITE)


def keep(canvas, side):
    """Paint an arrow that points down; `side` -1 to the left, 1 to the right."""
    line = np.array([(-0.27, -0.27), (0.2, 0.2)]) * (side, 1) + 0.5
    canvas.band(line, 0.13, WHITE)
    tip = np.array([0.29 * side, 0.29]) + 0.5
    canvas.arrow_head(tip, -45 if side > 0 else -135, 0.255, WHITE)


def roundabout(canvas):
    """Paint three arrows that chase each other counter-clockwise."""
    for start in (10, 130, 250):
        canvas.band(arc((0.5, 0.5), 0.265, start, start + 72), 0.085, WHITE)
        end = np.deg2rad(start + 72)
        tip_angle = np.deg2rad(start + 104)
        base = np.array([0.5 + 0.265 * np.cos(end), 0.5 - 0.265 * np.sin(end)])
        outward = np.array([np.cos(end), -np.sin(end)])
        tip = np.array([0.5 + 0.265 * np.cos(tip_angle), 0.5 - 0.265 * np.sin(tip_angle)])
        canvas.polygon([base + 0.105 * outward, base - 0.105 * outward, tip], WHITE)


def priority(canvas):
    diamond = np.array([(0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5)])
    canvas.rounded((diamond - 0.5) * 0.985 + 0.5, 0.03, BLACK)
    canvas.rounded((diamond - 0.5) * 0.96 + 0.5, 0.03, WHITE)
    canvas.rounded((diamond - 0.5) * 0.66 + 0.5, 0.025, BLACK)
    canvas.rounded((diamond - 0.5) * 0.64 + 0.5, 0.025, (244, 184, 14))


def end_bars(canvas, colour):
    """Paint the five diagonal lines of an end-of sign."""
    along, across = np.array([0.354, -0.354]) * 0.97, np.array([0.7071, 0.7071])
    for offset in np.linspace(-0.085, 0.085, 5):
        # Ends follow the rim of the disc.
        reach = np.sqrt(max(0.0, 1 - (offset / 0.5) ** 2))
        middle = 0.5 + offset * across
        canvas.band([middle - along * reach, middle + along * reach], 0.024, colour)


def blue_disc(canvas):
    canvas.disc((0.5, 0.5), 0.485, BLUE)
