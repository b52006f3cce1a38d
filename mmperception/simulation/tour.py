# SPDX-License-Identifier: Apache-2.0
"""
The street of a recorded drive, with something to see on it at all times.

A vehicle ahead, oncoming cars, parked rows, a rider at the side, people on the pavements, one
who crosses far ahead, signs along the right, side roads: a short film rather than a random scene.
"""

from mmperception.simulation.ego import Ego
from mmperception.simulation.road import CrossSection, Road
from mmperception.simulation.roadside import fill_sides
from mmperception.simulation.street import Layout, RIGHT, Style
from mmperception.simulation.traffic import random_openings, Traffic
import numpy as np

_BEHIND_M, _AHEAD_M = 70.0, 130.0
# GTSRB classes: 30, 50, 80, priority road, yield, stop, no entry, caution, road works,
# pedestrians, children, roundabout.
_SIGNS = (1, 2, 5, 12, 13, 14, 17, 18, 25, 27, 28, 40)


def make_tour(rng, seconds):
    """
    Draw the street of a drive.

    Returns
    -------
    street : Street
    ego : Ego
        At station 0 at time 0, 8 to 12 m/s.

    """
    speed = float(rng.uniform(8, 12))
    section = CrossSection(
        lane=float(rng.uniform(4.0, 4.3)),
        parking=(2.1, float(rng.choice((0.0, 2.1)))),
        pavement=tuple(rng.uniform(2.0, 3.5, 2)),
        verge=tuple(rng.uniform(0.3, 3.0, 2)),
        kerb=0.11,
        has_marking=True,
    )
    end = speed * seconds + _AHEAD_M
    openings = random_openings(rng, (40, 70), 0.8) if seconds > 2 else []
    road = Road(rng, section, (-_BEHIND_M, end), openings)
    ego = Ego(road, rng, 0.0, speed, -0.43 * section.lane)
    style = Style(
        built=0.85,
        green=float(rng.uniform(0.5, 1.0)),
        parked=(0.55, 0.65),
        walkers=float(rng.uniform(5, 9)),
        bicycles=3.0,
        clutter=0.8,
    )
    layout = Layout(rng, road, style)
    _place_signs(layout, end)
    fill_sides(layout)
    _fill_lanes(Traffic(layout, ego.place, seconds), speed, seconds)
    return layout.street(), ego


def _place_signs(layout, end):
    """Put signs for the ego car along the right, a new one every few seconds, some in pairs."""
    rng, order = layout.rng, list(layout.rng.permutation(_SIGNS))
    far = layout.road.section.kerb_at(RIGHT) + 0.5
    station = rng.uniform(16, 22)
    while station < end:
        if not layout.is_opening(RIGHT, station, 1) and layout.take(station, -far, (0.3, 0.3)):
            layout.put('sign', int(order[0]), (station, -far), rng.normal(0, 0.03))
            order.append(order.pop(0))
        station += rng.uniform(16, 26)


def _fill_lanes(traffic, speed, seconds):
    """Add traffic in order of importance; what would collide with it is left out."""
    rng, lane = traffic.rng, traffic.layout.road.section.lane
    ahead = speed * rng.uniform(0.99, 1.03)
    leader = str(rng.choice(('van', 'car')))
    traffic.add(leader, (rng.uniform(17, 22), -0.42 * lane), (ahead, 0.0))
    _insist(traffic, 'rider', (22, 34), (-lane + 0.40, -lane + 0.72), (rng.uniform(4, 6), 0.0))
    traffic.add('car', (rng.uniform(40, 48), -0.42 * lane), (ahead, 0.0))
    traffic.add('car', (-rng.uniform(14, 20), -0.42 * lane), (speed * 0.98, 0.0))
    # In the ego lane at time 0, gone before the first car is there.
    early = ahead * 3 + 42
    _insist(traffic, 'walker', (early, early + 12), (-0.6 * lane, -0.3 * lane), (0.0, 1.5))
    # Steps onto the road towards the end, ahead of all.
    late, walked = speed * seconds + 48, 1.3 * max(seconds - 2, 0)
    start = lane + 1.5 + walked
    _insist(traffic, 'walker', (late, late + 15), (start, start + 1), (0.0, -1.3))
    oncoming = rng.uniform(7, 11)
    for station in np.arange(20, speed * seconds + oncoming * seconds + 60, 21.0):
        stock = str(rng.choice(('car', 'van', 'truck', 'car')))
        place = (station + rng.uniform(-5, 5), 0.47 * lane)
        if rng.random() < 0.7:
            traffic.add(stock, place, (-oncoming, 0.0))
    for station in rng.uniform(25, speed * seconds + 90, 2):
        traffic.add('rider', (station, lane - 0.4), (-rng.uniform(3, 5), 0.0))


def _insist(traffic, stock, stations, laterals, speed):
    """Try several places within two ranges until nobody is in the way."""
    for _ in range(12):
        place = (traffic.rng.uniform(*stations), traffic.rng.uniform(*laterals))
        if traffic.add(stock, place, speed):
            return
