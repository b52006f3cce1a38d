# SPDX-License-Identifier: Apache-2.0
"""
Cars, vans, trucks and motorcycles, standing at the origin and facing +x.

A body is lofted from a side profile whose outer loops are drawn in, so that edges are round; the
cabin above the belt line has glass on all sides and seats inside, so that a beam through a window
meets what it would meet. Sizes follow European registrations and the habit of KITTI's labels.
"""

from dataclasses import dataclass

from mmperception.simulation.materials import (
    CLOTH_BOTTOM,
    code,
    GLASS,
    LIGHT_FRONT,
    LIGHT_REAR,
    METAL,
    PAINT,
    PLATE,
    TYRE,
)
from mmperception.simulation.mesh import merge
from mmperception.simulation.shapes import ball, box, disc, loft, panel, polygon, tube
import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """
    Proportions of a car or van.

    Shares of the length from the front: `hood` (where the windscreen begins), `roof_front`,
    `roof_rear`, `deck` (where the rear window ends). Shares of the height: `nose` (hood at the
    bumper), `cowl` (hood at the windscreen), `belt` (foot of the windows), `tail` (boot edge).
    `panes`: how far back the side windows reach, as a share of the cabin.
    """

    hood: float
    roof_front: float
    roof_rear: float
    deck: float
    nose: float
    cowl: float
    belt: float
    tail: float
    panes: float = 1.0


CAR_SHAPES = {
    'hatchback': Shape(hood=0.25, roof_front=0.43, roof_rear=0.84, deck=0.965,
                       nose=0.46, cowl=0.61, belt=0.62, tail=0.64),
    'sedan': Shape(hood=0.27, roof_front=0.44, roof_rear=0.68, deck=0.83,
                   nose=0.45, cowl=0.62, belt=0.63, tail=0.66),
    'estate': Shape(hood=0.25, roof_front=0.42, roof_rear=0.89, deck=0.975,
                    nose=0.46, cowl=0.62, belt=0.63, tail=0.64),
    'suv': Shape(hood=0.25, roof_front=0.41, roof_rear=0.87, deck=0.965,
                 nose=0.52, cowl=0.63, belt=0.64, tail=0.66),
    'minivan': Shape(hood=0.17, roof_front=0.39, roof_rear=0.90, deck=0.975,
                     nose=0.45, cowl=0.57, belt=0.58, tail=0.60),
}  # fmt: skip
VAN_SHAPES = {
    'panel_van': Shape(hood=0.13, roof_front=0.29, roof_rear=0.975, deck=0.99,
                       nose=0.38, cowl=0.50, belt=0.52, tail=0.52, panes=0.24),
    'minibus': Shape(hood=0.13, roof_front=0.28, roof_rear=0.96, deck=0.985,
                     nose=0.38, cowl=0.50, belt=0.52, tail=0.52),
    'box_car': Shape(hood=0.20, roof_front=0.36, roof_rear=0.97, deck=0.985,
                     nose=0.42, cowl=0.55, belt=0.56, tail=0.56, panes=0.40),
}  # fmt: skip
# Length, width, height of a car: mean and spread.
CAR_SIZES = {
    'hatchback': ((3.75, 1.63, 1.48), (0.25, 0.06, 0.05)),
    'sedan': ((4.35, 1.71, 1.44), (0.22, 0.06, 0.04)),
    'estate': ((4.28, 1.70, 1.48), (0.22, 0.05, 0.04)),
    'suv': ((4.20, 1.74, 1.66), (0.25, 0.06, 0.07)),
    'minivan': ((4.05, 1.67, 1.62), (0.25, 0.05, 0.06)),
}
CAR_SHARES = {'hatchback': 0.42, 'sedan': 0.17, 'estate': 0.18, 'suv': 0.10, 'minivan': 0.13}
VAN_SIZES = {
    'panel_van': ((5.15, 1.92, 2.40), (0.40, 0.06, 0.18)),
    'minibus': ((4.85, 1.88, 2.00), (0.20, 0.05, 0.08)),
    'box_car': ((4.35, 1.78, 1.86), (0.20, 0.05, 0.06)),
}
WHEEL_RADIUS_M = 0.31


def random_car(rng):
    """Return the mesh of some car; box styles and sizes as in a German street."""
    style = rng.choice(list(CAR_SHARES), p=list(CAR_SHARES.values()))
    return car(CAR_SHAPES[style], _size(rng, CAR_SIZES[style]))


def random_van(rng):
    """Return the mesh of a delivery van, a minibus or a small box car."""
    style = rng.choice(list(VAN_SIZES), p=(0.40, 0.35, 0.25))
    return car(VAN_SHAPES[style], _size(rng, VAN_SIZES[style]))


def _size(rng, law):
    mean, spread = np.array(law)
    return mean + spread * np.clip(rng.normal(size=3), -2.2, 2.2)


def car(shape, size):
    """
    Return the mesh of a car or van.

    Parameters
    ----------
    shape : Shape
        Of `CAR_SHAPES` or `VAN_SHAPES`.
    size : (3,) floats
        Length, width, height over everything, metres.

    Returns
    -------
    Mesh
        Middle of the outline at x = y = 0, wheels on z = 0.

    """
    L, W, H = size
    belt = [_station(shape.hood, L), _station(shape.deck, L)]
    parts = [_body(shape, size), *_cabin(shape, size), *_seats(belt, W, shape.belt * H, H)]
    for x in (L / 2 - 0.19 * L, -L / 2 + 0.19 * L):
        parts += _axle(x, W, WHEEL_RADIUS_M * min(1.15, 0.75 + H / 6))
    parts += _lamps(shape, size)
    return merge(parts)


def _station(share, length):
    """Turn a share of the length, counted from the front, into x."""
    return length * (0.5 - share)


def _body(shape, size):
    """Everything painted below the belt line: bumpers, hood, doors, boot."""
    L, W, H = size
    floor, bumper = 0.17 + 0.02 * H, 0.40 * shape.nose + 0.10
    profile = [
        (0.995, floor),
        (0.0, floor),
        (-0.004, 0.30 * H),
        (0.0, bumper * H),
        (0.02, shape.nose * H),
        (0.10, shape.nose * H + 0.35 * (shape.cowl - shape.nose) * H),
        (shape.hood, shape.cowl * H),
        (shape.roof_rear, shape.belt * H),
        (shape.deck, shape.tail * H),
        (0.992, shape.tail * H - 0.03),
        (1.004, 0.42 * H),
        (1.0, 0.28 * H),
    ]
    profile = np.array([(_station(min(max(x, 0.0), 1.0), L), z) for x, z in profile])
    return _round_loft(profile[::-1], 0.98 * W, 0.045 * L / 4, code(PAINT))


def _round_loft(profile, width, bevel, material):
    """Extrude a side profile (K, 2) along y, its outermost loops drawn in by a bevel."""
    middle = profile.mean(axis=0)
    drawn = middle + (profile - middle) * (1 - bevel / np.array((1.2, 0.45)))
    sections = []
    for y, loop in ((-0.5, drawn), (-0.455, profile), (0.455, profile), (0.5, drawn)):
        sections.append(np.column_stack((loop[:, 0], np.full(len(loop), y * width), loop[:, 1])))
    return loft(np.array(sections), material)


def _cabin(shape, size):
    """Windscreen, side windows between pillars, rear window and roof."""
    L, W, H = size
    low, high = shape.belt * H - 0.01, H - 0.035
    half_low, half_high = 0.475 * W, 0.475 * W - min(0.13, 0.24 * (H - low))
    front_low, front_high = _station(shape.hood, L), _station(shape.roof_front, L)
    rear_low, rear_high = _station(shape.deck, L), _station(shape.roof_rear, L)
    marks = np.array([0.0, 0.05, 0.36, 0.42, 0.70, 0.76, 0.94, 1.0])
    is_glass = np.array([False, True, False, True, False, True, False])
    is_glass &= marks[1:] <= shape.panes + 1e-6
    foot = front_low + (rear_low - front_low) * marks
    head = front_high + (rear_high - front_high) * marks
    parts = []
    for side in (1, -1):
        for k, glass in enumerate(is_glass):
            quad = [(foot[k + 1], half_low, low), (foot[k], half_low, low),
                    (head[k], half_high, high), (head[k + 1], half_high, high)]  # fmt: skip
            quad = np.array(quad[::-1] if side == 1 else quad) * (1, side, 1)
            parts.append(polygon(quad, code(GLASS if glass else PAINT)))
    is_blind = shape.panes < 1
    parts.append(polygon(_cross(front_low, front_high, (half_low, half_high), (low, high)),
                         code(GLASS)))  # fmt: skip
    rear = np.array(_cross(rear_low, rear_high, (half_low, half_high), (low, high)))[::-1]
    parts.append(polygon(rear, code(PAINT if is_blind else GLASS)))
    return [*parts, _roof((front_high, rear_high), half_high, high, H)]


def _cross(x_low, x_high, halves, heights):
    """Return a quad across the car that faces forward."""
    return [(x_low, -halves[0], heights[0]), (x_low, halves[0], heights[0]),
            (x_high, halves[1], heights[1]), (x_high, -halves[1], heights[1])]  # fmt: skip


def _roof(ends, half, edge, top):
    """Return a roof that is highest in its middle."""
    front, rear = ends
    xs = np.array([front, front - 0.25 * (front - rear), rear + 0.25 * (front - rear), rear])
    sections = []
    for x, lift in zip(xs, (0.3, 1.0, 1.0, 0.4), strict=True):
        z = edge + (top - edge) * lift
        sections.append(
            [(x, -half, edge), (x, half, edge), (x, 0.6 * half, z), (x, -0.6 * half, z)]
        )
    return loft(np.array(sections)[::-1], code(PAINT))


def _seats(belt, width, belt_height, height):
    """Return two rows of seats that stand above the belt line, seen through the windows."""
    front, rear = belt
    cabin = front - rear
    top = belt_height + 0.42 * (height - belt_height)
    size = (0.16, 0.26 * width, top - belt_height)
    centers = [(front - share * cabin, side * 0.21 * width, (belt_height + top) / 2)
               for share in (0.48, 0.78) for side in (1, -1)]  # fmt: skip
    return [box(center, size, code(CLOTH_BOTTOM, 0)) for center in centers]


def _axle(x, width, radius):
    """Return both wheels of an axle, a little inside the outline."""
    parts = []
    for side in (1, -1):
        outer = side * (width / 2 - 0.006)
        path = [(x, outer - side * 0.20, radius), (x, outer, radius)]
        parts.append(tube(path, radius, code(TYRE), sides=10))
        parts.append(disc((x, outer + side * 0.006, radius), 0.62 * radius, side, code(METAL), 8))
    return parts


def _lamps(shape, size):
    """Return head lamps, tail lamps and number plates, within the outline."""
    L, W, H = size
    parts = []
    for end, low, high, kind in (
        (1, shape.nose - 0.10, shape.nose - 0.01, LIGHT_FRONT),
        (-1, shape.tail - 0.20, shape.tail - 0.06, LIGHT_REAR),
    ):
        x = end * (L / 2 + 0.004)
        for left, right in ((-0.44, -0.28), (0.28, 0.44)):
            parts.append(_facing(x, end, (left * W, right * W), (low * H, high * H), code(kind)))
        plate = (0.26 * H, 0.26 * H + 0.11) if end == 1 else (0.40 * H, 0.40 * H + 0.11)
        parts.append(_facing(x, end, (-0.26, 0.26), plate, code(PLATE)))
    return parts


def _facing(x, end, ys, zs, material):
    """Return a panel square to x that faces forward (`end` 1) or back (-1)."""
    # Who reads the front stands ahead of the car and has +y on the right hand side.
    left, right = (ys[0], ys[1]) if end == 1 else (ys[1], ys[0])
    corners = [(x, left, zs[0]), (x, right, zs[0]), (x, right, zs[1]), (x, left, zs[1])]
    return panel(corners, material)


def random_truck(rng):
    """Return the mesh of a lorry: cab, box body, chassis, two or three axles."""
    L = rng.uniform(5.8, 9.5)
    W, H = rng.uniform(2.15, 2.50), rng.uniform(2.8, 3.6)
    cab = rng.uniform(1.7, 2.2)
    cab_height = min(H - 0.1, rng.uniform(2.3, 2.8))
    front, behind = L / 2, L / 2 - cab
    profile = np.array([(behind, 0.45), (front, 0.45), (front, 1.3), (front - 0.12, cab_height),
                        (behind, cab_height)])  # fmt: skip
    body = behind - 0.12
    parts = [
        _round_loft(profile[::-1], W * 0.97, 0.03, code(PAINT)),
        box(((body - L / 2) / 2, 0, (0.95 + H) / 2), (body + L / 2, W, H - 0.95), code(PAINT)),
        box((0, 0, 0.75), (L - 0.5, 0.9, 0.35), code(METAL)),
        *_truck_front(front, behind, W, cab_height),
    ]
    axles = [front - 0.75, -L / 2 + 1.1] + ([-L / 2 + 2.2] if L > 7.5 else [])
    for x in axles:
        parts += _axle(x, W, 0.45)
    for y in (-0.4, 0.4):
        ys = (y * W - 0.15, y * W + 0.15)
        parts.append(_facing(-L / 2 - 0.004, -1, ys, (0.97, 1.09), code(LIGHT_REAR)))
    parts.append(_facing(-L / 2 - 0.004, -1, (-0.26, 0.26), (0.97, 1.08), code(PLATE)))
    return merge(parts)


def _truck_front(front, behind, width, height):
    """Return windscreen, side windows and lamps of a cab."""
    low, high, half = 1.4, height - 0.2, 0.44 * width
    shift = 0.12 * (low - 1.3) / (height - 1.3), 0.12 * (high - 1.3) / (height - 1.3)
    screen = _cross(front - shift[0] + 0.01, front - shift[1] + 0.01, (half, half), (low, high))
    parts = [polygon(screen, code(GLASS))]
    middle = (front + behind) / 2
    for side in (1, -1):
        y = side * (width * 0.485 + 0.01)
        quad = [(middle - 0.45, y, low), (middle + 0.55, y, low), (middle + 0.45, y, high),
                (middle - 0.45, y, high)]  # fmt: skip
        parts.append(polygon(quad[::-1] if side == 1 else quad, code(GLASS)))
        ys = (side * 0.36 * width - 0.18, side * 0.36 * width + 0.18)
        parts.append(_facing(front + 0.01, 1, ys, (0.62, 0.80), code(LIGHT_FRONT)))
    return [*parts, _facing(front + 0.01, 1, (-0.26, 0.26), (0.5, 0.61), code(PLATE))]


def random_motorcycle(rng):
    """Return the mesh of a parked motorcycle or scooter."""
    L, H = rng.uniform(1.8, 2.2), rng.uniform(1.05, 1.2)
    parts = []
    for x in (0.34 * L, -0.34 * L):
        path = [(x, -0.06, 0.3), (x, 0.06, 0.3)]
        parts.append(tube(path, 0.31, code(TYRE), sides=10))
    body = [(0.2 * L, 0, 0.62), (0.0, 0, 0.62), (-0.22 * L, 0, 0.70), (-0.42 * L, 0, 0.78)]
    parts.append(tube(body, [(0.14, 0.2), (0.17, 0.26), (0.14, 0.14), (0.08, 0.06)], code(PAINT)))
    parts.append(tube([(0.34 * L, 0, 0.3), (0.24 * L, 0, H - 0.1)], 0.05, code(METAL)))
    parts.append(tube([(0.22 * L, -0.35, H), (0.22 * L, 0.35, H)], 0.025, code(METAL), sides=4))
    parts.append(ball((0.28 * L, 0, 0.88), (0.1, 0.12, 0.12), code(PAINT), subdivisions=0))
    return merge(parts)
