# SPDX-License-Identifier: Apache-2.0
"""
Simulated drives for the path-cost suite: every sweep with what really stands there.

A tour of `simulation/tour.py`, without its camera, made harder: the street lies on hills, gates
span it, low blocks and bollards stand on it. Each point knows its true height above the ground
and the thing that it lies on; the surfaces of all things are known where no ray went.
"""

from dataclasses import dataclass, replace

from mmperception.cost import Sweep
from mmperception.geometry import apply, invert, rotation_about
from mmperception.simulation.lidar import column_time, PERIOD_S, scan, SweepPath
from mmperception.simulation.materials import (
    ASPHALT,
    code,
    FOLIAGE,
    GRASS,
    HEDGE,
    KERB,
    MARKING,
    material_of,
    METAL,
    PAVEMENT,
    WOOD,
)
from mmperception.simulation.mesh import merge
from mmperception.simulation.mounting import make_mounting
from mmperception.simulation.shapes import box, tube
from mmperception.simulation.street import Prop, Street
from mmperception.simulation.tour import make_tour
import numpy as np
import torch

GROUND = (ASPHALT, MARKING, PAVEMENT, KERB, GRASS)
SPACING_M = 0.08  # of the places that stand for a surface
GATE_BOTTOM_M, GATE_HEIGHT_M = 2.6, 0.5
BLOCK_M = (0.5, 0.5, 0.45)
BOLLARD_RADIUS_M, BOLLARD_HEIGHT_M = 0.08, 0.9
STEEPEST_HILL = 0.08
HIGHEST_M = 4.0  # faces above are over every robot
FASTEST_STILL_MPS = 0.1
START_NS = 1_700_000_000_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Surfaces:
    """Places (M, 3) float32 in odom on things; height of each above the ground, metres."""

    points: np.ndarray
    height_m: np.ndarray
    is_soft: np.ndarray  # of leaves: a ray ends within, not at the surface


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrueSweep:
    """
    A sweep with its truth.

    `thing` (N,) int64 numbers the thing that a point lies on, -1 for the ground; `height_m` (N,)
    its true height above the ground; `moving` are the surfaces of what moves, where it was when
    the beam met it.
    """

    sweep: Sweep
    thing: np.ndarray
    height_m: np.ndarray
    moving: Surfaces


class StreetDrive:
    """
    One drive: `sweeps()` yields each TrueSweep, `standing` are the surfaces of what stands.

    Parameters
    ----------
    seed : int
    seconds : float

    """

    def __init__(self, seed, seconds):
        self._seed = seed
        rng = np.random.default_rng((seed, 0))
        street, self._ego = make_tour(rng, seconds)
        self._road = street.road
        self.num_sweeps = round(seconds / PERIOD_S)
        self._hills = _Hills(np.random.default_rng((seed, 7)))
        extras = _extras(np.random.default_rng((seed, 8)), street.road, self._ego, seconds)
        self._street = Street(street.road, [*street.props[1:], *extras], street.actors)
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
            thing=self._things(moment, seen.face),
            height_m=self._height_m(place),
            moving=self._moving(moment, world_from_base, time_s),
        )

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


class _Hills:
    """A wave that lifts the whole street: up to `STEEPEST_HILL` rise over run."""

    def __init__(self, rng):
        length, angle = rng.uniform(90, 160), rng.uniform(-0.5, 0.5)
        self._frequency = 2 * np.pi / length * np.array((np.cos(angle), np.sin(angle)))
        self._amplitude = rng.uniform(0, STEEPEST_HILL) * length / (2 * np.pi)
        self._phase = rng.uniform(0, 2 * np.pi)

    def height(self, x, y):
        turn = self._frequency[0] * x + self._frequency[1] * y + self._phase
        return self._amplitude * np.sin(turn)

    def lifted(self, mesh):
        """Return the mesh with every vertex lifted by the hill below it."""
        vertices = mesh.vertices.numpy().copy()
        vertices[:, 2] += self.height(vertices[:, 0], vertices[:, 1])
        return replace(mesh, vertices=torch.from_numpy(vertices))

    def placed(self, pose):
        """Return a pose lifted and pitched and rolled by the slope below it."""
        x, y = pose[:2, 3]
        turn = self._frequency @ pose[:2, 3] + self._phase
        along = self._amplitude * np.cos(turn) * self._frequency @ pose[:2, 0]
        aside = self._amplitude * np.cos(turn) * self._frequency @ pose[:2, 1]
        placed = pose.copy()
        placed[2, 3] += self.height(x, y)
        tilt = rotation_about((0, 1, 0), -np.arctan(along))
        tilt = tilt @ rotation_about((1, 0, 0), np.arctan(aside))
        placed[:3, :3] = pose[:3, :3] @ tilt
        return placed


def _extras(rng, road, ego, seconds):
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


def _stand(road, mesh, station, lateral):
    pose = road.pose(station, lateral)
    return Prop(mesh=mesh.transformed(pose), x=float(pose[0, 3]), y=float(pose[1, 3]))
