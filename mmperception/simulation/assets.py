# SPDX-License-Identifier: Apache-2.0
"""
The stock of ready-made things that streets are filled from.

Each is made once per process from its kind and number, so that the thousandth scene costs only
moving and colouring, and the same numbers give the same street everywhere.
"""

from functools import cache
import zlib

from mmperception.simulation import furniture, people, vehicles
from mmperception.simulation.materials import (
    CLOTH_BOTTOM,
    CLOTH_TOP,
    HAIR,
    NUM_CLOTH_COLOURS,
    NUM_HAIR_COLOURS,
    NUM_SKIN_COLOURS,
    PAINT,
    PAINT_COLOURS,
    PAINT_SHARES,
    SKIN,
)
import numpy as np

# Poses in a gait or pedalling cycle.
NUM_PHASES = 12
# How many different ones of each kind there are.
STOCK = {
    'car': 60,
    'van': 24,
    'truck': 10,
    'motorcycle': 5,
    'bicycle': 4,
    'tree': 14,
    'far_tree': 14,
    'bush': 8,
    'hedge': 9,
    'wall': 6,
    'fence': 6,
    'lamp': 4,
    'post': 3,
    'clutter': 16,
    'building': 36,
    'walker': 40,
    'child': 6,
    'rider': 40,
    'pusher': 6,
}
_WHITE = 4


def random_number(rng, kind):
    """Draw the number of one of the stock."""
    return int(rng.integers(STOCK[kind]))


@cache
def asset(kind, number, phase=0):
    """
    Return a mesh from the stock.

    Parameters
    ----------
    kind : str
        Of `STOCK`, or sign: then `number` is the sign class.
    number : int
        0 to `STOCK[kind]` - 1.
    phase : int
        0 to `NUM_PHASES` - 1, for people.

    Returns
    -------
    Mesh
        At the origin, facing or running along +x.

    """
    rng = np.random.default_rng((zlib.crc32(kind.encode()), number))
    share = phase / NUM_PHASES
    if kind in ('walker', 'child', 'rider', 'pusher'):
        return _person(kind, rng, share)
    makers = {
        'car': vehicles.random_car,
        'van': vehicles.random_van,
        'truck': vehicles.random_truck,
        'motorcycle': vehicles.random_motorcycle,
        'bicycle': lambda rng: people.bicycle(rng.uniform(1.6, 1.8), rng.random() < 0.3),
        'tree': furniture.tree,
        'far_tree': lambda rng: furniture.tree(rng, detail=0),
        'bush': furniture.bush,
        'hedge': lambda rng: furniture.hedge(rng, 4.0 + 4 * (number % 3)),
        'wall': lambda rng: furniture.wall(rng, 4.0 + 4 * (number % 3)),
        'fence': lambda rng: furniture.fence(rng, 4.0 + 4 * (number % 2)),
        'lamp': furniture.street_lamp,
        'post': lambda rng: furniture.pole(rng.uniform(2, 7), rng.uniform(0.03, 0.14)),
        'clutter': furniture.bin_or_box,
        'building': lambda rng: furniture.building(rng, 9.0 + 3 * (number % 6), 10.0),
        'sign': lambda rng: furniture.sign(number),
    }
    return makers[kind](rng)


def _person(kind, rng, phase):
    build = people.random_build(rng, is_child=kind == 'child')
    if kind == 'rider':
        return people.cyclist(build, phase, people.random_ride(rng))
    if kind == 'pusher':
        return people.pushed_bicycle(build, phase)
    return people.pedestrian(build, phase)


@cache
def reach(kind, number):
    """Return the corners (low, high) within which a person of the stock keeps through a cycle."""
    extents = [asset(kind, number, phase).extent() for phase in range(NUM_PHASES)]
    return np.min([low for low, _ in extents], axis=0), np.max(
        [high for _, high in extents], axis=0
    )


def standing(number):
    """Return a person of the stock who stands still."""
    return _standing(int(number))


@cache
def _standing(number):
    rng = np.random.default_rng((zlib.crc32(b'walker'), number))
    return people.pedestrian(people.random_build(rng), 0.0, swing=float(rng.uniform(0, 0.25)))


def random_colours(rng, kind):
    """Draw the variants (material to number) in which one thing of the stock is painted."""
    if kind in ('car', 'van', 'truck'):
        is_white = kind != 'car' and rng.random() < 0.55
        paint = _WHITE if is_white else rng.choice(len(PAINT_COLOURS), p=_shares())
        return {PAINT: int(paint)}
    if kind in ('motorcycle', 'bicycle'):
        return {PAINT: int(rng.integers(len(PAINT_COLOURS)))}
    if kind in ('walker', 'child', 'rider', 'pusher'):
        return {
            CLOTH_TOP: int(rng.integers(NUM_CLOTH_COLOURS)),
            CLOTH_BOTTOM: int(rng.integers(NUM_CLOTH_COLOURS)),
            SKIN: int(rng.integers(NUM_SKIN_COLOURS)),
            HAIR: int(rng.integers(NUM_HAIR_COLOURS)),
            PAINT: int(rng.integers(len(PAINT_COLOURS))),
        }
    return {}


def _shares():
    return PAINT_SHARES / PAINT_SHARES.sum()
