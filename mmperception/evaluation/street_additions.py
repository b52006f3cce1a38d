# SPDX-License-Identifier: Apache-2.0
"""
What the path-cost suite adds to a simulated street: what a plain street has too little of.

Used by `simulated_streets.py`. Gates hang over the road, low blocks and bollards stand beside the
ego car's way, and people step onto the road ahead of it.
"""

from mmperception.simulation.actors import Actor
from mmperception.simulation.materials import code, METAL, WOOD
from mmperception.simulation.shapes import box, tube
from mmperception.simulation.street import Prop
import numpy as np

GATE_BOTTOM_M, GATE_HEIGHT_M = 2.6, 0.5
BLOCK_M = (0.5, 0.5, 0.45)
BOLLARD_RADIUS_M, BOLLARD_HEIGHT_M = 0.08, 0.9


def added_things(rng, road, ego, seconds):
    """Return gates over the road, and low blocks and bollards beside the ego car's way."""
    end, props = ego.station(seconds), []
    for station in np.arange(15.0, end, 25.0):
        half = road.section.lane + 3.0
        size = (0.4, 2 * half, GATE_HEIGHT_M)
        gate = box((0, 0, GATE_BOTTOM_M + GATE_HEIGHT_M / 2), size, code(METAL))
        props.append(_stand(road, gate, station, 0.0))
    for number, station in enumerate(np.arange(8.0, end + 20, 6.0)):
        lateral = rng.choice((-1, 1)) * (road.section.lane - rng.uniform(0.1, 0.5))
        if number % 2:
            middle = (0, 0, BLOCK_M[2] / 2)
            thing = box(middle, BLOCK_M, code(WOOD))
        else:
            ends = np.array([(0, 0, 0), (0, 0, BOLLARD_HEIGHT_M)])
            thing = tube(ends, (BOLLARD_RADIUS_M, BOLLARD_RADIUS_M), code(METAL))
        props.append(_stand(road, thing, station, lateral))
    return props


def crossing_people(rng, road, ego, seconds):
    """Return people who step onto the road ahead of the ego car, one every other second."""
    people = []
    for number, time_s in enumerate(np.arange(0.0, seconds, 2.0)):
        side, speed_mps = rng.choice((-1, 1)), rng.uniform(1.0, 1.7)
        people.append(
            Actor(
                stock='walker',
                number=number,
                object_id=f'crossing{number}',
                station_m=float(ego.station(time_s) + rng.uniform(13, 18)),
                lateral_m=float(side * (road.section.lane + 0.5 + speed_mps * time_s)),
                across_mps=float(-side * speed_mps),
                turn_rad=float(-side * np.pi / 2),
            )
        )
    return people


def _stand(road, mesh, station, lateral):
    pose = road.pose(station, lateral)
    return Prop(mesh=mesh.transformed(pose), x=float(pose[0, 3]), y=float(pose[1, 3]))
