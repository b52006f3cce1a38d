# SPDX-License-Identifier: Apache-2.0
"""
Fills the sides of a street: houses, hedges, trees, posts, bins, parked cars and bicycles, people.

Every function takes a `Layout` and works from the building line inwards, one side at a time.
"""

from mmperception.simulation.assets import asset, random_number
from mmperception.simulation.street import LEFT, RIGHT
import numpy as np

# GTSRB classes that stand along streets: 30, 50, 80, priority road, yield, stop, no entry,
# caution, road works, pedestrians, children, right of way, keep right, roundabout; how often.
SIGN_CLASSES = (1, 2, 5, 12, 13, 14, 17, 18, 25, 27, 28, 11, 38, 40)
SIGN_SHARES = np.array((5, 4, 1, 5, 4, 2, 3, 1, 2, 2, 2, 2, 2, 1)) / 36


def fill_sides(layout):
    """Put everything beside the road that does not move, and the people on the pavements."""
    for side in (RIGHT, LEFT):
        _fronts(layout, side)
        _parked_cars(layout, side)
        _furniture(layout, side)
        _signs(layout, side)
        _parked_cycles(layout, side)
        _people(layout, side)


def _sign_of(side):
    return 1.0 if side == LEFT else -1.0


def _fronts(layout, side):
    """Houses where the street is built up, else hedges, walls, fences or nothing."""
    rng, section = layout.rng, layout.road.section
    station, direction = layout.begin + rng.uniform(0, 5), _sign_of(side)
    while station < layout.end - 10:
        length = _next_length(layout, side, station)
        if length == 0.0:
            station += 3.0
            continue
        if rng.random() < layout.style.built:
            number = int(rng.integers(6)) * 6 + int(length - 9) // 3
            recess = section.front_at(side) + rng.choice((0.0, rng.uniform(0, 4)))
            # The house's front faces the road: on the left it looks to the right, and back.
            turn, start = (0.0, station) if side == LEFT else (np.pi, station + length)
            layout.put('building', number, (start, direction * recess), turn)
            station += length + rng.choice((0.02, rng.uniform(1, 6)))
        if section.verge[side] > 1.0 or rng.random() > layout.style.built:
            _boundary(layout, side, station)
            station += 0.0 if rng.random() < layout.style.built else rng.uniform(4, 12)
        elif layout.style.built == 0.0:
            station += rng.uniform(5, 20)


def _next_length(layout, side, station):
    """Return how long a house may be before the next side road; 0 inside one."""
    wanted = 9.0 + 3 * int(layout.rng.integers(6))
    for where, begin, end in layout.road.openings:
        if where == side and begin - 2 < station + wanted and station < end + 1:
            return 0.0 if station + 9 > begin - 2 else 9.0
    return wanted


def _boundary(layout, side, station):
    """Put a hedge, wall or fence along the pavement, or bushes and trees."""
    rng = layout.rng
    lateral = _sign_of(side) * (layout.road.section.verge_at(side) + 0.5)
    kind = rng.choice(('hedge', 'wall', 'fence', 'bush', 'none'), p=(0.28, 0.2, 0.14, 0.28, 0.1))
    back = station - 8
    if kind == 'none' or layout.is_opening(side, back + 4, 9):
        return
    if kind != 'bush':
        layout.put(str(kind), random_number(rng, kind), (back, lateral))
        return
    for along in rng.uniform(0, 10, 1 + int(3 * layout.style.green)):
        far = lateral + _sign_of(side) * rng.uniform(0, 6)
        layout.put('bush', random_number(rng, 'bush'), (back + along, far))


def _parked_cars(layout, side):
    rng, section = layout.rng, layout.road.section
    depth, direction = section.parking[side], _sign_of(side)
    if depth == 0.0 and rng.random() < 0.7:
        return
    across = depth > 4
    # Without a strip of their own they stand with two wheels on the pavement.
    middle = section.lane + (depth / 2 if depth else 0.8)
    fullness = layout.style.parked[side] * (1.0 if depth else 0.4)
    station = layout.begin + rng.uniform(2, 6)
    while station < layout.end - 4:
        stock = str(rng.choice(('car', 'van', 'truck'), p=(0.89, 0.10, 0.01)))
        number = random_number(rng, stock)
        low, high = asset(stock, number).extent()
        length = (high - low)[1 if across else 0] * 1.04
        if rng.random() < fullness and not layout.is_opening(side, station + length / 2, 5):
            place = (station + length / 2, direction * middle + rng.normal(0, 0.12))
            turn = rng.normal(0, 0.025) + (np.pi if (side == LEFT) != (rng.random() < 0.1) else 0)
            turn += np.pi / 2 if across else 0.0
            half = ((high - low) / 2)[[1, 0] if across else [0, 1]]
            if layout.take(*place, half):
                layout.add(stock, place, turn_rad=turn, number=number)
        station += length + (rng.uniform(0.5, 1.1) if across else rng.gamma(2, 0.4) + 0.25)


def _furniture(layout, side):
    """Trees, lamps, posts and bins at the kerb or at the back of the pavement."""
    rng, section = layout.rng, layout.road.section
    direction = _sign_of(side)
    length = layout.end - layout.begin
    plan = [
        ('tree', rng.poisson(layout.style.green * length / 14)),
        ('lamp', int(length / 30)),
        ('post', rng.poisson(layout.style.clutter * length / 30)),
        ('clutter', rng.poisson(layout.style.clutter * length / 20)),
    ]
    for kind, count in plan:
        for station in rng.uniform(layout.begin, layout.end, count):
            at_kerb = rng.random() < (0.6 if kind != 'clutter' else 0.3)
            far = section.kerb_at(side) + 0.45 if at_kerb else section.verge_at(side)
            far += 0.0 if at_kerb else rng.uniform(-0.35, 0.5 + section.verge[side])
            place = (station, direction * far)
            if not layout.is_opening(side, station, 1) and layout.take(*place, (0.35, 0.3)):
                inwards = -direction * np.pi / 2
                number = random_number(rng, kind)
                layout.put(kind, number, place, inwards if kind in ('lamp', 'clutter') else 0.0)
    _background_trees(layout, side)


def _background_trees(layout, side):
    rng = layout.rng
    far = layout.road.section.front_at(side) + 12
    for _ in range(rng.poisson(8 * layout.style.green * (1.2 - layout.style.built))):
        station = rng.uniform(layout.begin, layout.end)
        place = (station, _sign_of(side) * rng.uniform(far, 55))
        layout.put('far_tree', random_number(rng, 'far_tree'), place)


def _signs(layout, side):
    """Signs for who drives on this side of the road."""
    rng, section = layout.rng, layout.road.section
    station = layout.begin + rng.uniform(8, 30)
    while station < layout.end - 5:
        wanted = int(rng.choice(SIGN_CLASSES, p=SIGN_SHARES))
        place = (station, _sign_of(side) * (section.kerb_at(side) + rng.uniform(0.45, 0.7)))
        if not layout.is_opening(side, station, 1) and layout.take(*place, (0.3, 0.3)):
            turn = rng.normal(0, 0.06) + (np.pi if side == LEFT else 0.0)
            layout.put('sign', wanted, place, turn)
        station += rng.uniform(18, 50)


def _parked_cycles(layout, side):
    """Bicycles and motorcycles that nobody sits on: not to be taken for cyclists."""
    rng, section = layout.rng, layout.road.section
    length = layout.end - layout.begin
    for _ in range(rng.poisson(layout.style.bicycles * length / 300)):
        station = rng.uniform(layout.begin, layout.end)
        turn, direction = rng.uniform(0, 2 * np.pi), _sign_of(side)
        far = rng.choice((section.kerb_at(side) + 0.8, section.verge_at(side) - 0.2))
        for k in range(int(rng.integers(1, 5))):
            kind = 'bicycle' if rng.random() < 0.85 else 'motorcycle'
            place = (station + 0.8 * k, direction * far)
            if not layout.is_opening(side, station, 2) and layout.take(*place, (0.35, 0.5)):
                layout.put(kind, random_number(rng, kind), place, turn + rng.normal(0, 0.1))


def _people(layout, side):
    """Walkers, standing groups, children, someone who pushes a bicycle, riders on pavements."""
    rng, section = layout.rng, layout.road.section
    length = layout.end - layout.begin
    near, far = section.kerb_at(side) + 0.3, section.verge_at(side) - 0.1
    for _ in range(rng.poisson(layout.style.walkers * length / 100)):
        stock = str(rng.choice(('walker', 'stander', 'child', 'pusher', 'rider'),
                               p=(0.62, 0.20, 0.05, 0.05, 0.08)))  # fmt: skip
        station, lateral = rng.uniform(layout.begin, layout.end), rng.uniform(near, far)
        for _ in range(1 + rng.binomial(2, 0.2)):
            place = (station, _sign_of(side) * lateral)
            half = (0.9, 0.5) if stock in ('pusher', 'rider') else (0.35, 0.35)
            if layout.take(*place, half):
                _add_person(layout, stock, place)
            station += rng.uniform(-0.2, 0.2)
            lateral += rng.uniform(0.75, 0.95)


def _add_person(layout, stock, place):
    rng = layout.rng
    if stock == 'stander':
        layout.add(stock, place, turn_rad=rng.uniform(-np.pi, np.pi))
        return
    speed = {'rider': rng.uniform(2, 5), 'child': rng.uniform(0.8, 2)}.get(stock, 1.35)
    speed = speed * rng.uniform(0.7, 1.3) * rng.choice((-1, 1))
    layout.add(stock, place, (speed, rng.normal(0, 0.03)))
