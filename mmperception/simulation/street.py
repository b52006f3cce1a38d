# SPDX-License-Identifier: Apache-2.0
"""
A street and all that is in it: houses, trees, parked rows, traffic, people.

A `Layout` is filled from one generator; its `Street` knows its mesh at any time and who owns
each face. How crowded and how built-up a street is, is drawn first, so that streets differ.
"""

from dataclasses import dataclass

from mmperception.simulation.actors import Actor
from mmperception.simulation.assets import asset, random_colours, random_number
from mmperception.simulation.mesh import merge, Mesh
from mmperception.simulation.road import CrossSection
import numpy as np
import torch

RIGHT, LEFT = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moment:
    """
    A street at one time, for a sensor.

    `mesh` in the world; `owner` (F,) int64 indexes `actors`, -1 for what belongs to none; `prop`
    (F,) int64 indexes the street's `props` (0 is the ground), -1 for what belongs to an actor;
    `velocity` (A, 3) float64, `centers` (A, 3), `sizes` (A, 3), `yaws` (A,) of the actors.
    """

    mesh: Mesh
    owner: torch.Tensor
    prop: torch.Tensor
    actors: tuple[Actor, ...]
    velocity: np.ndarray
    centers: np.ndarray
    sizes: np.ndarray
    yaws: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prop:
    """Something that stands: its mesh in the world, and where it is for culling."""

    mesh: Mesh
    x: float
    y: float


class Street:
    """A road, the props beside it and the actors on it."""

    def __init__(self, road, props, actors):
        """Keep the parts; the ground is made once."""
        self.road, self.actors = road, tuple(actors)
        self.props = [Prop(mesh=road.mesh(), x=np.nan, y=np.nan), *props]
        self._places = np.array([(prop.x, prop.y) for prop in self.props])

    def moment(self, time_s, center_xy, reach_m=85.0):
        """Return the street at a time, as far as `reach_m` around a place."""
        gap = np.linalg.norm(self._places - center_xy, axis=1)
        near_props = np.flatnonzero(~(gap > reach_m))  # the ground's place is not a number
        meshes = [self.props[index].mesh for index in near_props]
        num_props, num_still = len(meshes), sum(len(mesh) for mesh in meshes)
        near, boxes, velocity = [], [], []
        for actor in self.actors:
            pose = actor.pose(self.road, time_s)
            if np.linalg.norm(pose[:2, 3] - center_xy) > reach_m:
                continue
            mesh = actor.mesh(time_s)
            meshes.append(mesh.transformed(pose))
            near.append(actor)
            boxes.append(actor.box(pose, mesh))
            velocity.append(actor.velocity(self.road, time_s))
        counts = torch.tensor([num_still] + [len(mesh) for mesh in meshes[num_props:]])
        index = torch.tensor([*near_props, *[-1] * len(near)])
        centers, sizes, yaws = zip(*boxes, strict=True) if boxes else ((), (), ())
        return Moment(
            mesh=merge(meshes),
            owner=torch.repeat_interleave(torch.arange(len(counts)) - 1, counts),
            prop=torch.repeat_interleave(index, torch.tensor([len(mesh) for mesh in meshes])),
            actors=tuple(near),
            velocity=np.array(velocity).reshape(-1, 3),
            centers=np.array(centers).reshape(-1, 3),
            sizes=np.array(sizes).reshape(-1, 3),
            yaws=np.array(yaws).reshape(-1),
        )

    def mesh_at(self, time_s, center_xy=(0.0, 0.0), reach_m=150.0):
        """Return the whole mesh at a time, for pictures."""
        return self.moment(time_s, np.asarray(center_xy), reach_m).mesh


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a street is: chances and densities, all 0..1 unless said otherwise."""

    built: float  # share of the street front with houses
    green: float  # trees and bushes
    parked: tuple[float, float]  # how full the parking strips are, right and left
    walkers: float  # people per 100 m of pavement
    bicycles: float  # parked ones per 100 m
    clutter: float  # bins, posts, lamps per 10 m


def random_style(rng):
    """Draw how a street is: from an empty suburban road to a crowded old-town street."""
    crowd = rng.beta(1.3, 1.6)
    return Style(
        built=rng.choice((0.0, 0.5, 0.85, 1.0), p=(0.15, 0.25, 0.4, 0.2)),
        green=rng.uniform(0, 1),
        parked=(rng.choice((0.15, 0.6, 0.93)), rng.choice((0.15, 0.6, 0.93))),
        walkers=rng.uniform(1, 14) * crowd + 1.0,
        bicycles=rng.uniform(0, 10) * crowd,
        clutter=rng.uniform(0.2, 1.5),
    )


def random_section(rng):
    """Draw widths: lanes, parking strips (parallel, or deep enough to park at right angles)."""
    parking = [rng.choice((0.0, rng.uniform(1.9, 2.3), 5.0), p=(0.25, 0.63, 0.12))
               for _ in range(2)]  # fmt: skip
    return CrossSection(
        lane=rng.uniform(2.7, 3.9),
        parking=tuple(float(width) for width in parking),
        pavement=tuple(rng.uniform(1.3, 4.5, 2)),
        verge=tuple(rng.choice((0.15, rng.uniform(0.5, 7)), p=(0.3, 0.7)) for _ in range(2)),
        kerb=rng.uniform(0.02, 0.14),
        has_marking=bool(rng.random() < 0.6),
    )


class Layout:
    """Fills a road place by place; nothing is put where something already stands."""

    def __init__(self, rng, road, style):
        """Begin with an empty street."""
        self.rng, self.road, self.style = rng, road, style
        self.props, self.actors = [], []
        self._taken = []
        self.begin, self.end = float(road.stations[0]), float(road.stations[-1])

    def take(self, station, lateral, half):
        """Reserve a rectangle of half lengths (along, across); False if it is taken."""
        new = float(station), float(lateral), float(half[0]), float(half[1])
        for old in self._taken:
            is_beside = abs(new[0] - old[0]) < new[2] + old[2] + 0.1
            if is_beside and abs(new[1] - old[1]) < new[3] + old[3] + 0.1:
                return False
        self._taken.append(new)
        return True

    def is_opening(self, side, station, margin=0.0):
        """Tell whether a side road opens there."""
        return any(
            side == where and begin - margin <= station <= end + margin
            for where, begin, end in self.road.openings
        )

    def put(self, kind, number, place, turn_rad=0.0):
        """Stand a thing of the stock at (station, lateral)."""
        mesh = asset(kind, number).recoloured(random_colours(self.rng, kind))
        pose = self.road.pose(*place, turn_rad)
        middle = np.append(np.mean(mesh.extent(), axis=0), 1.0)
        x, y = (pose @ middle)[:2]
        self.props.append(Prop(mesh=mesh.transformed(pose), x=x, y=y))

    def add(self, stock, place, speed=(0.0, 0.0), turn_rad=None, number=None):
        """Add an actor; it heads where it goes unless `turn_rad` says otherwise."""
        rng = self.rng
        is_person = stock in ('walker', 'child', 'stander', 'rider', 'pusher')
        kind = 'walker' if stock == 'stander' else stock
        path = float(np.arctan2(speed[1], speed[0])) if any(speed) else 0.0
        stretch = rng.normal(1, 0.02, 3) if not is_person else np.ones(3) * rng.normal(1, 0.015)
        actor = Actor(
            stock=stock,
            number=random_number(rng, kind) if number is None else number,
            object_id=f'{stock}{len(self.actors)}',
            station_m=float(place[0]),
            lateral_m=float(place[1]),
            along_mps=float(speed[0]),
            across_mps=float(speed[1]),
            turn_rad=path if turn_rad is None else float(turn_rad),
            scale=tuple(float(s) for s in np.clip(stretch, 0.95, 1.05)),
            colours=random_colours(rng, kind),
            lift_m=float(rng.uniform(0.02, 0.08)),
            slack_m=float(rng.uniform(0.0, 0.06)),
        )
        self.actors.append(actor)
        return actor

    def street(self):
        """Return the street as filled so far."""
        return Street(self.road, self.props, self.actors)
