# SPDX-License-Identifier: Apache-2.0
"""
A gallery: single things around a spinning LiDAR, to be pasted into real sweeps.

Real training sweeps hold many cars, few vans and hardly any people. Here things of the stock
stand alone around the sensor, each in a sector of its own, and one sweep is cast at all of them:
rings, steps, ray drop and noise are those of `simulation/lidar.py`. What labels leave out (poles,
trunks, bins, parked bicycles) comes as well, as hard negatives.
"""

from dataclasses import dataclass

from mmperception.geometry import rotation_about, transform_from_yaw
from mmperception.simulation.actors import Actor, KINDS
from mmperception.simulation.assets import asset, random_colours, random_number
from mmperception.simulation.lidar import scan, SweepPath
from mmperception.simulation.mesh import merge
from mmperception.simulation.street import Moment
import numpy as np
import torch

# Shares of what stands in a gallery. Names of the stock; negatives are those without a kind.
SHARES = {
    'car': 0.16,
    'van': 0.14,
    'truck': 0.03,
    'walker': 0.09,
    'stander': 0.08,
    'child': 0.02,
    'rider': 0.17,
    'post': 0.06,
    'lamp': 0.03,
    'tree': 0.06,
    'clutter': 0.06,
    'bicycle': 0.05,
    'motorcycle': 0.02,
    'bush': 0.03,
    'sign': 0.02,
}
VEHICLES = ('car', 'van', 'truck')
# Real vans differ more among each other than the stock does: standard deviation of the stretch.
STRETCH = {'car': (0.05, 0.03, 0.04), 'van': (0.10, 0.04, 0.08), 'truck': (0.1, 0.03, 0.06)}
SENSOR_HEIGHT_M = 1.733
MAX_RANGE_M = {True: 55.0, False: 40.0}
NUM_SIGNS = 43
# Headings along or across the street are more common than others.
_STREET_SHARE = 0.6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exhibit:
    """
    One thing as the sensor saw it, in the sensor's frame.

    `kind` is that of the truth, empty for a hard negative; `points` (N, 3) float32, `intensity`
    (N,) float32, `ring` (N,) uint16; `center` (3,), `size` (3,) float32 and `yaw` of its box.
    """

    kind: str
    points: np.ndarray
    intensity: np.ndarray
    ring: np.ndarray
    center: np.ndarray
    size: np.ndarray
    yaw: float


def make_gallery(seed):
    """
    Stand things around the sensor and look at them.

    Parameters
    ----------
    seed : int
        The same seed gives the same gallery.

    Returns
    -------
    list of Exhibit
        Those of which at least one point was measured.

    """
    rng = np.random.default_rng((seed, 77))
    placed, azimuth = [], 0.0
    while True:
        actor, mesh, distance = _draw(rng, len(placed))
        low, high = mesh.extent()
        half = np.arctan2(0.5 * np.hypot(*(high - low)[:2]) + 0.3, distance)
        if azimuth + 2 * half > 2 * np.pi:
            break
        direction = azimuth + half
        azimuth += 2 * half
        xy = distance * np.array((np.cos(direction), np.sin(direction)))
        pose = transform_from_yaw((*xy, -SENSOR_HEIGHT_M), _heading(rng, direction, actor.stock))
        placed.append((actor, mesh, pose, (direction - half, direction + half)))
    return _look(placed, rng)


def _draw(rng, index):
    """Draw a thing, its mesh and how far away it stands."""
    stock = str(rng.choice(list(SHARES), p=np.array(list(SHARES.values())) / sum(SHARES.values())))
    kind = 'walker' if stock == 'stander' else stock
    number = int(rng.integers(NUM_SIGNS)) if stock == 'sign' else random_number(rng, kind)
    stretch = np.array(STRETCH.get(stock, (0.02, 0.02, 0.02))) * np.clip(rng.normal(size=3), -2, 2)
    is_vehicle = stock in VEHICLES
    if not is_vehicle:
        stretch[:] = rng.normal(0, 0.03)
    actor = Actor(
        stock=stock,
        number=number,
        object_id=str(index),
        station_m=0.0,
        lateral_m=0.0,
        along_mps=float(rng.uniform(0, 8)),
        scale=tuple(float(value) for value in 1 + stretch),
        colours=random_colours(rng, kind),
        lift_m=float(rng.uniform(0.0, 0.06)),
        slack_m=float(rng.uniform(0.0, 0.06)),
    )
    time_s = float(rng.uniform(0, 10))  # of the gait
    mesh = asset('sign', number) if stock == 'sign' else actor.mesh(time_s)
    nearest = 5.0 if is_vehicle else 3.5
    share = rng.random() ** (0.8 if is_vehicle else 1.2)
    return actor, mesh, nearest + (MAX_RANGE_M[is_vehicle] - nearest) * share


def _heading(rng, direction, stock):
    """Draw a heading: mostly along or across a street that leads past the sensor."""
    if rng.random() > _STREET_SHARE:
        return rng.uniform(-np.pi, np.pi)
    road = direction - rng.uniform(-0.6, 0.6)
    # Riders cross as often as they ride along: from the side they look like nothing else.
    along = 0.25 if stock == 'rider' else 0.4
    shares = (along, along, 0.5 - along, 0.5 - along)
    return road + rng.choice((0.0, np.pi, np.pi / 2, -np.pi / 2), p=shares)


def _look(placed, rng):
    meshes = [mesh.transformed(pose) for _, mesh, pose, _ in placed]
    boxes = [actor.box(pose, mesh) for actor, mesh, pose, _ in placed]
    owner = torch.repeat_interleave(
        torch.arange(len(meshes)), torch.tensor([len(mesh) for mesh in meshes])
    )
    moment = Moment(
        mesh=merge(meshes),
        owner=owner,
        prop=torch.full_like(owner, -1),
        actors=tuple(actor for actor, *_ in placed),
        velocity=np.zeros((len(placed), 3)),
        centers=np.array([box[0] for box in boxes]),
        sizes=np.array([box[1] for box in boxes]),
        yaws=np.array([box[2] for box in boxes]),
    )
    # Cars pitch and roll a little, and so do their sensors.
    tilt = np.eye(4)
    for axis in (0, 1):
        tilt[:3, :3] = tilt[:3, :3] @ rotation_about(np.eye(3)[axis], rng.normal(0, 0.008))
    sweep = scan(moment, SweepPath(lambda time_s: tilt), rng)
    points = sweep.points @ tilt[:3, :3].T.astype(np.float32)
    azimuth = np.mod(np.arctan2(points[:, 1], points[:, 0]), 2 * np.pi)
    exhibits = []
    for k, (actor, _, _, (begin, end)) in enumerate(placed):
        seen = (azimuth >= begin) & (azimuth < end)
        if seen.any():
            exhibits.append(
                Exhibit(
                    kind=KINDS.get(actor.stock, ''),
                    points=points[seen],
                    intensity=sweep.intensity[seen],
                    ring=sweep.ring[seen],
                    center=moment.centers[k].astype(np.float32),
                    size=moment.sizes[k].astype(np.float32),
                    yaw=float(moment.yaws[k]),
                )
            )
    return exhibits
