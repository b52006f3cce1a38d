# SPDX-License-Identifier: Apache-2.0
"""
What is on the road itself: vehicles ahead, behind and oncoming, riders, people who cross.

Takes a `Layout` that knows where the ego car is; nobody runs into anybody during the time that
is asked for (checked at a few moments), since a detector should not learn from wrecks.
"""

import numpy as np

# Half the length and half the width that each kind needs, with a little air.
_HALF_M = {
    'car': (2.7, 0.95),
    'van': (3.3, 1.02),
    'truck': (5.2, 1.28),
    'rider': (1.1, 0.40),
    'walker': (0.45, 0.45),
    'child': (0.45, 0.45),
}
_OTHER_HALF_M = (0.9, 0.6)


class Traffic:
    """Adds actors to a layout one by one, refusing those that would collide."""

    def __init__(self, layout, ego, duration_s):
        """Remember the ego car's track: `ego(time) -> (station, lateral)`."""
        self.layout, self.rng = layout, layout.rng
        self._times = np.linspace(0, duration_s, max(2, int(duration_s * 2)))
        # base_link is near the rear axle: as long as a van covers the whole car.
        self._tracks = [(np.array([ego(time) for time in self._times]), (3.6, 1.0))]
        for actor in layout.actors:
            track = np.array([actor.place(time) for time in self._times])
            is_across = abs(np.sin(actor.turn_rad)) > 0.7
            self._tracks.append((track, _half(actor.stock, is_across)))

    def add(self, stock, place, speed, turn_rad=None):
        """Add an actor unless somebody is in its way; returns it or None."""
        track = np.array(place) + self._times[:, None] * np.array(speed)
        half = _half(stock, abs(speed[1]) > abs(speed[0]))
        for other, room in self._tracks:
            gap = np.abs(track - other) - half - room
            if (gap.max(axis=1) < 0).any():
                return None
        self._tracks.append((track, half))
        return self.layout.add(stock, place, speed, turn_rad)


def _half(stock, is_across):
    """Return half the room an actor takes along and across the road."""
    along, across = _HALF_M.get(stock, _OTHER_HALF_M)
    return np.array((across, along) if is_across else (along, across))


def fill_road(traffic, ego_station, ego_speed):
    """Put traffic around the ego car, as a single moment of a street shows it."""
    rng, section = traffic.rng, traffic.layout.road.section
    lane = section.lane / 2
    station = ego_station
    for _ in range(rng.integers(0, 4)):
        station += 6 + rng.gamma(1.6, 9)
        speed = (max(0.0, ego_speed + rng.normal(0, 1.5)), 0.0)
        traffic.add(_vehicle(rng), (station, -lane + rng.normal(0, 0.2)), speed)
    station = ego_station
    for _ in range(rng.integers(0, 3)):
        station -= 7 + rng.gamma(1.6, 8)
        traffic.add(_vehicle(rng), (station, -lane + rng.normal(0, 0.2)), (ego_speed, 0.0))
    for station in ego_station + rng.uniform(-50, 70, rng.integers(0, 6)):
        place = (station, lane + rng.normal(0, 0.25))
        traffic.add(_vehicle(rng), place, (-rng.uniform(0.0, 14), 0.0))
    _riders(traffic, ego_station)
    _crossing_riders(traffic, ego_station)
    _crossing_people(traffic, ego_station)
    _side_traffic(traffic)


def _vehicle(rng):
    return str(rng.choice(('car', 'van', 'truck'), p=(0.80, 0.16, 0.04)))


def _riders(traffic, ego_station):
    rng, section = traffic.rng, traffic.layout.road.section
    for station in ego_station + rng.uniform(-30, 55, rng.poisson(1.8)):
        direction = rng.choice((-1, 1), p=(0.35, 0.65))
        lateral = -direction * (section.lane - rng.uniform(0.3, 1.1))
        traffic.add('rider', (station, lateral), (direction * rng.uniform(2.5, 7), 0.0))


def _crossing_riders(traffic, ego_station):
    """Riders seen from the side: beyond ten metres those along the street never are."""
    rng, section = traffic.rng, traffic.layout.road.section
    for station in ego_station + rng.uniform(-15, 50, rng.poisson(0.8)):
        direction, speed = rng.choice((-1, 1)), rng.uniform(1.5, 6)
        lateral = rng.uniform(-1.3, 1.3) * section.lane
        traffic.add('rider', (station, lateral), (rng.normal(0, 1.0), direction * speed))


def _crossing_people(traffic, ego_station):
    rng, section = traffic.rng, traffic.layout.road.section
    for station in ego_station + rng.uniform(-20, 45, rng.poisson(1.2)):
        direction, speed = rng.choice((-1, 1)), rng.uniform(0.8, 1.9)
        lateral = rng.uniform(-1, 1) * section.lane
        stock = 'child' if rng.random() < 0.08 else 'walker'
        traffic.add(stock, (station, lateral), (rng.normal(0, 0.3), direction * speed))


def _side_traffic(traffic):
    """Cars that wait in, leave or enter the side roads, and others in a turn."""
    rng, road = traffic.rng, traffic.layout.road
    for side, begin, end in road.openings:
        direction = 1 if side == 1 else -1
        middle = (begin + end) / 2
        for away in (-1, 1):
            if rng.random() < 0.5:
                distance = road.section.verge_at(side) + rng.uniform(0, 25)
                # On the right hand side of the side road, whichever way it goes.
                place = (middle + away * direction * 2.0, direction * distance)
                speed = (0.0, direction * away * rng.choice((0.05, rng.uniform(2, 8))))
                traffic.add(_vehicle(rng), place, speed)
        if rng.random() < 0.4:
            turn = rng.uniform(0.3, 1.3) * rng.choice((-1, 1)) + rng.choice((0, np.pi))
            place = (middle + rng.normal(0, 3), direction * rng.uniform(0, 4))
            traffic.add(_vehicle(rng), place, (0.0, 0.0), turn)


def random_openings(rng, stations, chance):
    """Draw where side roads open: a list of (side, begin, end)."""
    openings = []
    for side in (0, 1):
        if rng.random() < chance:
            middle = rng.uniform(*stations)
            half = rng.uniform(3.5, 6)
            openings.append((side, float(middle - half), float(middle + half)))
    return openings
