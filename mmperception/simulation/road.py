# SPDX-License-Identifier: Apache-2.0
"""
The road: a gently curving centre line, its cross-section, and the uneven ground around it.

Places are given as (station, lateral): metres along the centre line and to its left. The ground
is a mesh of strips along the road (lanes, markings, kerbs, pavement, verge), flattened to asphalt
where a side road opens.
"""

from dataclasses import dataclass

from mmperception.simulation.materials import ASPHALT, code, GRASS, KERB, MARKING, PAVEMENT
from mmperception.simulation.mesh import mesh_from_arrays
import numpy as np

STEP_M = 3.0
EDGE_M = 60.0  # the ground ends this far to either side


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossSection:
    """
    Widths from the centre line outwards, metres; pairs are (right, left).

    `lane`: one lane; `parking`: a strip beyond the lane, 0 for none; `pavement`; `verge`: from
    the pavement to the building line. `kerb`: height of the pavement above the road.
    """

    lane: float
    parking: tuple[float, float]
    pavement: tuple[float, float]
    verge: tuple[float, float]
    kerb: float
    has_marking: bool

    def kerb_at(self, side):
        """Return the distance of the kerb from the centre line; side 0 right, 1 left."""
        return self.lane + self.parking[side]

    def verge_at(self, side):
        """Return the distance of the pavement's outer edge from the centre line."""
        return self.kerb_at(side) + self.pavement[side]

    def front_at(self, side):
        """Return the distance of the building line from the centre line."""
        return self.verge_at(side) + self.verge[side]


class Road:
    """
    Where stations and laterals are in the world, and how high the ground is.

    Attributes
    ----------
    section : CrossSection
    stations : (S,) float64
        Metres along the centre line at which the ground has vertices.
    openings : list of (side, begin, end)
        Stations between which a side road opens on a side.

    """

    def __init__(self, rng, section, stations, openings=()):
        """Draw curvature and unevenness; `stations` (begin, end) is how far the road goes."""
        self.section = section
        self.openings = list(openings)
        borders = [value for _, begin, end in openings for value in (begin, end)]
        regular = np.arange(stations[0], stations[1] + STEP_M, STEP_M)
        far = [abs(regular - border).min() for border in borders]
        extra = [b for b, gap in zip(borders, far, strict=True) if gap > 0.3]
        self.stations = np.sort(np.concatenate((regular, extra)))
        self._fine = np.arange(stations[0] - 30, stations[1] + 30, 0.5)
        waves = rng.uniform(60, 200, 2)
        bends = rng.normal(0, 0.0035, 2) * (rng.random() < 0.7)
        phases = rng.uniform(0, 2 * np.pi, 2)
        curvature = sum(b * np.sin(2 * np.pi * self._fine / w + p)
                        for b, w, p in zip(bends, waves, phases, strict=True))  # fmt: skip
        heading = np.cumsum(curvature) * 0.5
        zero = np.argmin(np.abs(self._fine))
        self._heading = heading - heading[zero]
        x, y = np.cumsum(np.cos(self._heading)) * 0.5, np.cumsum(np.sin(self._heading)) * 0.5
        self._xy = np.stack((x - x[zero], y - y[zero]), axis=1)
        self._waves = _draw_waves(rng)
        self._grade, self._tilt = rng.normal(0, 0.012), rng.normal(0, 0.006)

    def locate(self, station, lateral):
        """Return x, y and heading of the road at a place; arrays or numbers."""
        heading = np.interp(station, self._fine, self._heading)
        x = np.interp(station, self._fine, self._xy[:, 0]) - lateral * np.sin(heading)
        y = np.interp(station, self._fine, self._xy[:, 1]) + lateral * np.cos(heading)
        return x, y, heading

    def height(self, station, lateral):
        """Return z of the ground at a place, kerb included; arrays or numbers."""
        distance = np.abs(lateral)
        side = (np.asarray(lateral) > 0).astype(int)
        kerb_at = np.where(side == 1, self.section.kerb_at(1), self.section.kerb_at(0))
        rise = np.where(distance > kerb_at + 0.005, self.section.kerb, 0.0)
        for opening, begin, end in self.openings:
            inside = (np.asarray(station) >= begin) & (np.asarray(station) <= end)
            rise = np.where(inside & (side == opening), 0.0, rise)
        return self._smooth(station, lateral) + rise

    def _smooth(self, station, lateral):
        z = self._grade * station + self._tilt * lateral - 0.015 * np.minimum(np.abs(lateral), 5)
        for amplitude, along, across, phase in self._waves:
            z = z + amplitude * np.sin(along * station + across * lateral + phase)
        return z

    def pose(self, station, lateral, turn_rad=0.0):
        """Return (4, 4) world_from_object: upright, on the ground, turned from the road's."""
        x, y, heading = self.locate(station, lateral)
        transform = np.eye(4)
        cos, sin = np.cos(heading + turn_rad), np.sin(heading + turn_rad)
        transform[:2, :2] = ((cos, -sin), (sin, cos))
        transform[:3, 3] = x, y, self.height(station, lateral)
        return transform

    def mesh(self):
        """Return the ground."""
        laterals, materials = _strips(self.section)
        S, K = len(self.stations), len(laterals)
        station = np.repeat(self.stations, K)
        lateral = np.tile(laterals, S)
        x, y, _ = self.locate(station, lateral)
        # A kerb's foot and top lie 4 cm apart: 3 cm nearer the road each has its own height.
        inner = lateral - 0.03 * np.sign(lateral)
        rise = self.height(station, inner) - self._smooth(station, inner)
        z = self._smooth(station, lateral) + rise
        first = (np.arange(S - 1)[:, None] * K + np.arange(K - 1)).reshape(-1)
        quads = np.stack((first, first + K, first + K + 1, first + 1), axis=1)
        codes = self._codes(laterals, materials).reshape(-1)
        vertices = np.stack((x, y, z), axis=1)
        # Seen from above: station runs along +x, lateral along +y.
        faces = np.concatenate((quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]))
        uv = vertices[faces][:, :, :2]
        return mesh_from_arrays(vertices, faces, np.concatenate((codes, codes)), uv)

    def _codes(self, laterals, materials):
        """Return the code of each ground quad (S - 1, K - 1)."""
        middle = (self.stations[1:] + self.stations[:-1]) / 2
        codes = np.tile(materials, (len(middle), 1))
        is_dash = np.floor(middle / STEP_M).astype(int) % 3 == 0
        codes[~is_dash] = np.where(codes[~is_dash] == MARKING, ASPHALT, codes[~is_dash])
        for side, begin, end in self.openings:
            along = (middle >= begin) & (middle <= end)
            across = laterals[:-1] >= -0.1 if side == 1 else laterals[1:] <= 0.1
            codes[np.ix_(along, across)] = code(ASPHALT)
        return codes


def _draw_waves(rng):
    """Draw ground waves: amplitude, angular frequency along and across, phase."""
    waves = []
    for _ in range(4):
        length, angle = rng.uniform(22, 90), rng.uniform(0, np.pi)
        frequency = 2 * np.pi / length
        amplitude = rng.uniform(0, 0.0010) * length
        waves.append((amplitude, frequency * np.cos(angle), frequency * np.sin(angle) * 0.4,
                      rng.uniform(0, 2 * np.pi)))  # fmt: skip
    return waves


def _strips(section):
    """Return the laterals of strip borders, rising, and the code of each strip between."""
    laterals, materials = [-0.06, 0.06], [code(MARKING if section.has_marking else ASPHALT)]
    for side, sign in ((0, -1), (1, 1)):
        kerb, verge = section.kerb_at(side), section.verge_at(side)
        fields = [verge + 4, verge + 10, verge + 20, verge + 32, EDGE_M]
        borders = [kerb / 2, kerb, kerb + 0.04, kerb + 0.15, verge, *fields]
        kinds = [ASPHALT, ASPHALT, KERB, KERB, PAVEMENT, *[GRASS] * len(fields)]
        if sign == 1:
            laterals, materials = laterals + borders, materials + [code(k) for k in kinds]
        else:
            laterals = [-b for b in borders[::-1]] + laterals
            materials = [code(k) for k in kinds[::-1]] + materials
    return np.array(laterals), np.array(materials)
