# SPDX-License-Identifier: Apache-2.0
"""
Simulated drives for the path-cost suite: every sweep with what really stands there.

A tour of `simulation/tour.py`, without its camera, made harder: the street lies on hills, gates
span it, low blocks and bollards stand on it. Each point knows its true height above the ground
and the thing that it lies on; the surfaces of all things are known where no ray went.
"""

from dataclasses import dataclass, replace

from mmperception.cost import Sweep
from mmperception.evaluation.corruptions import corrupt_points, generator, LIDAR_CORRUPTIONS
from mmperception.evaluation.hills import Hills
from mmperception.evaluation.street_additions import added_things, crossing_people
from mmperception.geometry import apply, invert
from mmperception.simulation.lidar import column_time, PERIOD_S, scan, SweepPath
from mmperception.simulation.materials import (
    ASPHALT,
    FOLIAGE,
    GRASS,
    HEDGE,
    KERB,
    MARKING,
    material_of,
    PAVEMENT,
)
from mmperception.simulation.mesh import merge
from mmperception.simulation.mounting import make_mounting
from mmperception.simulation.street import Street
from mmperception.simulation.tour import make_tour
import numpy as np

GROUND = (ASPHALT, MARKING, PAVEMENT, KERB, GRASS)
SPACING_M = 0.08  # of the places that stand for a surface
HIGHEST_M = 4.0  # faces above are over every robot
FASTEST_STILL_MPS = 0.1
ON_FOOT, SLOWEST_MPS = ('walker', 'child'), 0.5
MIST = -2  # the thing that a point in fog lies on
START_NS = 1_700_000_000_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Surfaces:
    """Places (M, 3) float32 in odom on things; height of each above the ground, metres."""

    points: np.ndarray
    height_m: np.ndarray
    is_soft: np.ndarray  # of leaves: a ray ends within, not at the surface


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class People:
    """
    People on foot who move, in odom.

    `center` (P, 3), `size` (P, 3), `yaw` (P,) of their boxes; `ways` (P, T, 2) float64 where they
    will be at the moments ahead that were asked for; `is_crossing` (P,) bool: across the road.
    """

    center: np.ndarray
    size: np.ndarray
    yaw: np.ndarray
    ways: np.ndarray
    is_crossing: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrueSweep:
    """
    A sweep with its truth.

    `thing` (N,) int64 numbers the thing that a point lies on, -1 for the ground; `height_m` (N,)
    its true height above the ground; `moving` are the surfaces of what moves, where it was when
    the beam met it; `people` are those of it who walk.
    """

    sweep: Sweep
    thing: np.ndarray
    height_m: np.ndarray
    moving: Surfaces
    people: People | None = None


class StreetDrive:
    """
    One drive: `sweeps()` yields each TrueSweep, `standing` are the surfaces of what stands.

    Parameters
    ----------
    seed : int
    seconds : float
    corruption : (str, int) or None
        What happens to the points of each sweep: a name of `LIDAR_CORRUPTIONS` and a severity.
    ahead_s : (T,) float64
        Moments after a sweep at which the ways of people are asked for.

    """

    def __init__(self, seed, seconds, corruption=None, ahead_s=()):
        self._seed, self._corruption, self._ahead_s = seed, corruption, ahead_s
        rng = np.random.default_rng((seed, 0))
        street, self._ego = make_tour(rng, seconds)
        self._road = street.road
        self.num_sweeps = round(seconds / PERIOD_S)
        self._hills = Hills(np.random.default_rng((seed, 7)))
        way = street.road, self._ego, seconds
        things = added_things(np.random.default_rng((seed, 8)), *way)
        people = crossing_people(np.random.default_rng((seed, 10)), *way)
        self._street = Street(street.road, [*street.props[1:], *things], [*street.actors, *people])
        self._base_from_lidar = make_mounting().base_from_lidar
        self._odom_from_world = invert(self._pose(0.0))
        self.standing = self._standing()

    def _pose(self, time_s):
        """Return world_from_base of the ego car on the hills."""
        return self._hills.placed(self._ego.pose(time_s))

    def sweeps(self):
        """Yield the sweeps in order of time."""
        for index in range(self.num_sweeps):
            yield self._sweep(index)

    def _sweep(self, index):
        time_s = (index + 0.5) * PERIOD_S
        world_from_base = self._pose(time_s)
        moment = self._street.moment(time_s, world_from_base[:2, 3])
        moment = replace(moment, mesh=self._hills.lifted(moment.mesh))
        path = SweepPath(lambda offset: self._pose(time_s + offset) @ self._base_from_lidar)
        seen = scan(moment, path, np.random.default_rng((self._seed, 2, index)))
        turned = path.poses(seen.time_ns * 1e-9)
        points = np.einsum('nij,nj->ni', turned[:, :, :3], seen.points) + turned[:, :, 3]
        thing = self._things(moment, seen.face)
        if self._corruption:
            points, thing = self._corrupted(points, thing, seen.ring, index)
        odom_from_base = self._odom_from_world @ world_from_base
        sweep = Sweep(
            stamp_ns=START_NS + int(time_s * 1e9),
            points_lidar=points.astype(np.float32),
            base_from_lidar=self._base_from_lidar,
            odom_from_base=odom_from_base,
        )
        place = apply(world_from_base @ self._base_from_lidar, points.astype(np.float64))
        return TrueSweep(
            sweep=sweep,
            thing=thing,
            height_m=self._height_m(place),
            moving=self._moving(moment, world_from_base, time_s),
            people=self._people(moment, time_s),
        )

    def _corrupted(self, points, thing, ring, index):
        """Return points and things as a degraded sensor gives them; mist belongs to nothing."""
        name, severity = self._corruption
        if name == 'beams':  # rings are known here, not only to be told from the order of points
            kept = ring % LIDAR_CORRUPTIONS[name][severity - 1] == 0
            return points[kept], thing[kept]
        rng = generator(f'{name}/{self._seed}', severity, index)
        rows = np.column_stack((points, np.ones(len(points)))).astype(np.float32)
        changed, kept = corrupt_points(rows, name, severity, rng)
        is_moved = (changed[:, :3] != rows[kept, :3]).any(axis=1)
        return changed[:, :3], np.where(is_moved, MIST, thing[kept])

    def _people(self, moment, time_s):
        """Return those who walk at the moment."""
        walkers = [a for a in moment.actors if a.stock in ON_FOOT and a.speed_mps >= SLOWEST_MPS]
        boxes = [self._box(actor, time_s) for actor in walkers]
        ways = [
            [self._box(actor, time_s + later)[0][:2] for later in self._ahead_s]
            for actor in walkers
        ]
        return People(
            center=np.array([box[0] for box in boxes]).reshape(-1, 3),
            size=np.array([box[1] for box in boxes]).reshape(-1, 3),
            yaw=np.array([box[2] for box in boxes]),
            ways=np.array(ways).reshape(len(walkers), len(self._ahead_s), 2),
            is_crossing=np.array([abs(a.across_mps) >= SLOWEST_MPS for a in walkers], bool),
        )

    def _box(self, actor, time_s):
        """Return middle (3,), size (3,) and heading of an actor on the hills, in odom."""
        pose = self._hills.placed(actor.pose(self._road, time_s))
        return actor.box(self._odom_from_world @ pose, actor.mesh(time_s))

    def _things(self, moment, face):
        """Return the number of what each face belongs to: props first, then actors."""
        numbers = {actor.object_id: k for k, actor in enumerate(self._street.actors)}
        of_actor = np.array([numbers[actor.object_id] for actor in moment.actors] + [-1])
        prop, owner = moment.prop.numpy()[face], moment.owner.numpy()[face]
        thing = np.where(owner >= 0, len(self._street.props) + of_actor[owner], prop)
        is_ground = np.isin(material_of(moment.mesh.material.numpy()[face]), GROUND)
        return np.where(is_ground & (owner < 0), -1, thing)

    def _height_m(self, place):
        """Return the height above the ground of places (N, 3) in the world."""
        station, lateral = locate(self._road, place[:, :2])
        ground = self._road.height(station, lateral) + self._hills.height(place[:, 0], place[:, 1])
        return (place[:, 2] - ground).astype(np.float32)

    def _standing(self):
        meshes = [prop.mesh for prop in self._street.props[1:]]
        for actor in self._street.actors:
            if actor.speed_mps < FASTEST_STILL_MPS:
                meshes.append(actor.mesh(0.0).transformed(actor.pose(self._road, 0.0)))
        return self._surfaces(merge(meshes))

    def _moving(self, moment, world_from_base, time_s):
        """Return what moves, where it was when the LiDAR looked at its two ends and middle."""
        meshes = []
        lidar_from_world = invert(world_from_base @ self._base_from_lidar)
        for actor in moment.actors:
            if actor.speed_mps < FASTEST_STILL_MPS:
                continue
            mesh = actor.mesh(time_s).transformed(actor.pose(self._road, time_s))
            corners = apply(lidar_from_world, mesh.vertices.numpy())
            azimuth = np.arctan2(corners[:, 1], corners[:, 0])
            is_behind = np.ptp(azimuth) > np.pi  # seen at the beginning and the end of the turn
            ends = (azimuth[azimuth > 0].min(), azimuth[azimuth < 0].max()) if is_behind else None
            first, last = ends or (azimuth.min(), azimuth.max())
            for angle in (first, (first + last) / 2, last) if not is_behind else (first, last):
                then_s = time_s + column_time(angle)
                meshes.append(actor.mesh(time_s).transformed(actor.pose(self._road, then_s)))
        return self._surfaces(merge(meshes))

    def _surfaces(self, mesh):
        """Return places on a mesh of the flat world, lifted onto the hills, in odom."""
        corners = mesh.corners.numpy()
        lowest = corners[np.arange(len(corners)), corners[:, :, 2].argmin(axis=1)]
        station, lateral = locate(self._road, lowest)
        is_low = lowest[:, 2] < self._road.height(station, lateral) + HIGHEST_M
        face, points = _spread(corners[is_low], np.random.default_rng(0))
        material = mesh.material.numpy()[is_low][face]
        is_soft = np.isin(material_of(material), (FOLIAGE, HEDGE))
        points = points.astype(np.float64)
        points[:, 2] += self._hills.height(points[:, 0], points[:, 1])
        return Surfaces(
            points=apply(self._odom_from_world, points).astype(np.float32),
            height_m=self._height_m(points),
            is_soft=is_soft,
        )


def locate(road, places):
    """Return station and lateral of places (N, 2) in the world; the road bends gently."""
    station = places[:, 0].astype(np.float64)
    for _ in range(4):
        x, y, heading = road.locate(station, 0.0)
        station += (places[:, 0] - x) * np.cos(heading) + (places[:, 1] - y) * np.sin(heading)
    x, y, heading = road.locate(station, 0.0)
    return station, (places[:, 1] - y) * np.cos(heading) - (places[:, 0] - x) * np.sin(heading)


def _spread(corners, rng):
    """Spread places over triangles (F, 3, 3): face (M,), points (M, 3); thin ones get some too."""
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(cross, axis=1) / 2
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    number = np.ceil(area / SPACING_M**2 + longest / SPACING_M).astype(np.int64)
    face = np.repeat(np.arange(len(corners)), number)
    u, v = rng.random((2, len(face)), np.float32)
    is_beyond = u + v > 1
    u, v = np.where(is_beyond, 1 - u, u), np.where(is_beyond, 1 - v, v)
    a, b, c = (corners[face, k] for k in range(3))
    return face, a + u[:, None] * (b - a) + v[:, None] * (c - a)
