# SPDX-License-Identifier: Apache-2.0
"""
What stands at the side of a street: trees, hedges, walls, fences, poles, signs, bins, houses.

Everything stands on z = 0 at the origin; long things run along +x from the origin. They are
there to be told apart from cars and people: posts as thin as legs, bins as wide as persons.
"""

from mmperception.geometry import transform_from_yaw
from mmperception.sign_classes import WIDTH_M
from mmperception.simulation.materials import (
    BARK,
    BIN,
    BRICK,
    code,
    FACADE,
    FOLIAGE,
    HEDGE,
    METAL,
    POLE,
    ROOF,
    SIGN_BACK,
    SIGN_FACE,
    WOOD,
)
from mmperception.simulation.mesh import merge
from mmperception.simulation.shapes import ball, box, loft, polygon, tube
from mmperception.simulation.sign_faces import sign_outline, sign_shape
import numpy as np

STOREY_M, GROUND_FLOOR_M, BAY_M = 3.0, 3.4, 3.0


def tree(rng, detail=1):
    """Return a tree: bent trunk, crown of bumpy balls; `detail` 0 is for the LiDAR alone."""
    height, girth = rng.uniform(4.5, 11), rng.uniform(0.09, 0.24)
    crown = rng.uniform(1.1, 2.6)
    foot = max(1.9, height - 2.2 * crown)
    bend = rng.uniform(-0.25, 0.25, 2)
    path = [(0, 0, 0), (0.2 * bend[0], 0.2 * bend[1], 0.5 * foot), (*bend, foot + 0.6 * crown)]
    parts = [tube(path, (1.25 * girth, girth, 0.6 * girth), code(BARK))]
    for _ in range(2 + 2 * detail):
        offset = rng.normal(size=3) * crown * (0.38, 0.38, 0.33)
        middle = np.array((*bend, foot + crown * 0.9)) + offset
        radii = crown * rng.uniform(0.55, 0.85) * np.array((1, 1, rng.uniform(0.75, 1.1)))
        material = code(FOLIAGE, rng.integers(4))
        parts.append(ball(middle, radii, material, 1 + detail, (rng, 0.16)))
    return merge(parts)


def bush(rng):
    """Return a low bush, 0.6 to 1.8 m."""
    height = rng.uniform(0.6, 1.8)
    parts = []
    for _ in range(2):
        middle = (*rng.uniform(-0.3, 0.3, 2), 0.45 * height)
        radii = (*rng.uniform(0.45, 0.9, 2), 0.55 * height)
        parts.append(ball(middle, radii, code(FOLIAGE, rng.integers(4)), 1, (rng, 0.2)))
    return merge(parts)


def hedge(rng, length_m):
    """Return a trimmed hedge."""
    height, width = rng.uniform(0.8, 2.0), rng.uniform(0.5, 0.9)
    num = max(2, int(length_m / 1.5))
    sections = []
    for x in np.linspace(0, length_m, num):
        bump = rng.uniform(-0.07, 0.07, 4)
        half = width / 2
        sections.append([(x, -half + bump[0], -0.2), (x, half + bump[1], -0.2),
                         (x, 0.85 * half + bump[2], height + bump[3]),
                         (x, -0.85 * half + bump[0], height + bump[1])])  # fmt: skip
    return loft(np.array(sections), code(HEDGE, rng.integers(4)))


def wall(rng, length_m):
    """Return a garden wall."""
    height = rng.uniform(0.5, 2.1)
    middle, size = (length_m / 2, 0, height / 2 - 0.1), (length_m, 0.25, height + 0.2)
    return box(middle, size, code(BRICK, rng.integers(4)))


def fence(rng, length_m):
    """Return a fence: posts, two rails, slats."""
    height, gap = rng.uniform(0.9, 1.5), rng.uniform(0.22, 0.35)
    material = code(WOOD if rng.random() < 0.6 else METAL, rng.integers(4))
    parts = [box((length_m / 2, 0, z * height), (length_m, 0.04, 0.08), material)
             for z in (0.3, 0.85)]  # fmt: skip
    for x in np.arange(0.1, length_m, gap):
        parts.append(box((x, 0.03, height / 2), (0.09, 0.02, height), material))
    return merge(parts)


def pole(height_m, radius_m, material=POLE):
    """Return a bare post."""
    return tube([(0, 0, -0.1), (0, 0, height_m)], radius_m, code(material), sides=7)


def street_lamp(rng):
    """Return a lamp post with an arm that reaches along +x over the road."""
    height, reach = rng.uniform(5, 8), rng.uniform(0.6, 1.6)
    arm = tube([(0, 0, height - 0.1), (reach, 0, height)], 0.045, code(POLE), sides=5)
    head = box((reach, 0, height), (0.6, 0.22, 0.12), code(METAL))
    return merge([pole(height, rng.uniform(0.06, 0.10)), arm, head])


def bin_or_box(rng):
    """Return a wheeled bin, a litter bin, a power cabinet or a bollard."""
    kind = rng.integers(4)
    if kind == 0:
        width, height = rng.uniform(0.48, 0.6), rng.uniform(1.0, 1.12)
        half = width / 2
        levels = ((0.8 * half, 0.05), (half, 0.92 * height), (half, height))
        loops = [[(-s, -s, z), (s, -s, z), (s, s, z), (-s, s, z)] for s, z in levels]
        return loft(np.array(loops), code(BIN, rng.integers(6)))
    if kind == 1:
        return tube([(0, 0, 0.3), (0, 0, 0.9)], rng.uniform(0.18, 0.26), code(BIN, 4), sides=8)
    if kind == 2:
        size = rng.uniform((0.3, 0.7, 0.9), (0.4, 1.4, 1.5))
        return box((0, 0, size[2] / 2), size, code(METAL, 2))
    return tube([(0, 0, 0), (0, 0, rng.uniform(0.7, 1.1))], rng.uniform(0.05, 0.12), code(POLE))


def sign(class_id, bottom_m=2.1, below=()):
    """
    Return a traffic sign on its post, read from -x (it faces a driver who heads along +x).

    `below`: further classes on the same post, under the first.
    """
    parts, top = [], bottom_m
    for wanted in (*below[::-1], class_id):
        # The corners of a triangle are cut off: its texture is wider than the plate.
        width = WIDTH_M[sign_shape(wanted)] / np.ptp(sign_outline(wanted)[:, 0])
        parts += _plate(wanted, width, top)
        top += width + 0.04
    return merge([pole(top - 0.06, 0.032), *parts])


def _plate(class_id, width, bottom):
    """Return face and back of one plate; u of the face runs to the reader's right (-y)."""
    outline = np.asarray(sign_outline(class_id), np.float64)
    y, z = (0.5 - outline[:, 0]) * width, bottom + outline[:, 1] * width
    front = np.stack((np.full(len(y), -0.05), y, z), axis=1)
    back = np.stack((np.full(len(y), -0.045), y, z), axis=1)[::-1]
    face = polygon(front, code(SIGN_FACE, class_id), outline)
    return [face, polygon(back, code(SIGN_BACK))]


def building(rng, length_m, depth_m):
    """
    Return a house whose front stands on the x axis and faces -y.

    Facade windows are part of the texture; steps, bays and downpipes stand out of the wall.
    """
    storeys, style = rng.integers(1, 5), rng.integers(12)
    height = GROUND_FLOOR_M + STOREY_M * (storeys - 1) + 0.4
    foot = -0.6
    corners = np.array([(0, 0), (length_m, 0), (length_m, depth_m), (0, depth_m)])
    parts = []
    for k in range(4):
        parts.append(_facade(corners[k], corners[(k + 1) % 4], (foot, height), style))
    ridge = height + rng.uniform(1.5, 4.0)
    parts += _roof(length_m, depth_m, height, ridge)
    parts += _front_details(rng, length_m, height)
    return merge(parts)


def _facade(start, end, heights, style):
    """Return a wall in pieces of a few metres, so that far ones are found fast."""
    length = np.linalg.norm(end - start)
    num = max(1, int(round(length / 6)))
    parts = []
    for k in range(num):
        a, b = start + (end - start) * k / num, start + (end - start) * (k + 1) / num
        points = [(*a, heights[0]), (*b, heights[0]), (*b, heights[1]), (*a, heights[1])]
        u = length * np.array((k, k + 1, k + 1, k)) / num
        v = np.array((heights[0], heights[0], heights[1], heights[1]))
        parts.append(polygon(points, code(FACADE, style), np.stack((u, v), axis=1)))
    return merge(parts)


def _roof(length, depth, eaves, ridge):
    """Return a gable roof with its ridge along x."""
    a, b, over = -0.3, length + 0.3, 0.35
    front = [(a, -over, eaves), (b, -over, eaves), (b, depth / 2, ridge), (a, depth / 2, ridge)]
    rear = [(b, depth + over, eaves), (a, depth + over, eaves), (a, depth / 2, ridge),
            (b, depth / 2, ridge)]  # fmt: skip
    slope = np.hypot(depth / 2 + over, ridge - eaves)
    uv = ((a, 0), (b, 0), (b, slope), (a, slope))
    west = [(0, depth, eaves), (0, 0, eaves), (0, depth / 2, ridge)]
    east = [(length, 0, eaves), (length, depth, eaves), (length, depth / 2, ridge)]
    gables = [polygon(points, code(BRICK)) for points in (west, east)]
    return [polygon(front, code(ROOF), uv), polygon(rear, code(ROOF), uv), *gables]


def _front_details(rng, length, height):
    """Return steps before the door, a downpipe, perhaps a bay."""
    parts = [pole(height, 0.05, METAL).transformed(transform_from_yaw((0.2, -0.07, 0), 0.0))]
    x = rng.uniform(1.0, max(1.1, length - 1.0))
    parts.append(box((x, -0.4, 0.0), (1.4, 0.8, rng.uniform(0.2, 0.6)), code(BRICK, 1)))
    if rng.random() < 0.3 and length > 6:
        x, depth = rng.uniform(2, length - 2), rng.uniform(0.5, 1.2)
        parts.append(box((x, -depth / 2, 1.4), (2.4, depth, 2.8), code(BRICK, 2)))
    return parts
