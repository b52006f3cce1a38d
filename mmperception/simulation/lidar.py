# SPDX-License-Identifier: Apache-2.0
"""
A spinning LiDAR in the manner of the HDL-64E: rings, sweep motion, noise and what never returns.

Rays leave from where the sensor is when it looks, so a sweep taken while driving is skewed as a
real one. Ring elevations and the heights from which the two blocks of lasers fire were fitted
once to public sweeps of that sensor (z = height + tangent * distance along each ring).
"""

from dataclasses import dataclass, replace

from mmperception.geometry import invert
from mmperception.simulation.materials import (
    DROP,
    FACADE,
    FOLIAGE,
    GLASS,
    HEDGE,
    material_of,
    REFLECTIVITY,
    SPECULARITY,
)
from mmperception.simulation.raycast import cast, Hits, Rays, spin_windows, Triangles
import numpy as np
import torch

NUM_RINGS, NUM_COLUMNS = 64, 2000
PERIOD_S = 0.1
MAX_RANGE_M, MIN_RANGE_M = 80.0, 1.4
# (height above the sensor's origin, tangents of its 32 rings) of the upper and lower block.
BLOCKS = (
    (0.204, np.tan(np.radians(np.linspace(1.94, -8.71, 32)))),
    (0.121, np.tan(np.radians(np.linspace(-9.03, -25.0, 32)))),
)
# Room around each triangle's window, in tangent and columns: the path of the sensor bends what
# is a straight edge at rest, and rings fire up to half a column early or late.
_SLACK = (0.003, 1.5)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sweep:
    """
    What one turn of the sensor saw.

    Attributes
    ----------
    points : (N, 3) float32
        Each in the sensor's frame of the moment when it was measured; ring by ring from the
        top, each ring by azimuth from straight ahead to the left.
    intensity : (N,) float32
        0..1.
    ring : (N,) uint16
    time_ns : (N,) int64
        From the moment the sensor faces forward.
    face : (N,) int64
        Which face of the street's mesh each point lies on.
    hits : (A,) int64
        Points on each actor.
    reached : (A,) int64
        Rays that would meet each actor if nothing stood in front of it.

    """

    points: np.ndarray
    intensity: np.ndarray
    ring: np.ndarray
    time_ns: np.ndarray
    face: np.ndarray
    hits: np.ndarray
    reached: np.ndarray


class SweepPath:
    """How the sensor moves during one sweep: its pose in its own frame at the stamp."""

    def __init__(self, world_from_lidar_at, num_knots=9):
        """Sample `world_from_lidar_at(seconds from the stamp) -> (4, 4)` at a few times."""
        self.world_from_lidar = world_from_lidar_at(0.0)
        start_from_world = invert(self.world_from_lidar)
        self._times = np.linspace(-PERIOD_S / 2, PERIOD_S / 2, num_knots)
        poses = [start_from_world @ world_from_lidar_at(time) for time in self._times]
        self._poses = np.stack(poses)[:, :3].reshape(num_knots, 12)

    def poses(self, time_s):
        """Return (T, 3, 4) float32 start_from_now at times (T,); turns are small: linear."""
        columns = [np.interp(time_s, self._times, column) for column in self._poses.T]
        return np.stack(columns, axis=1).reshape(-1, 3, 4).astype(np.float32)

    def as_seen(self, points, velocity):
        """
        Move points into the sensor's frame of the moment when it looks at them.

        Parameters
        ----------
        points : (P, 3) float32
            At the stamp, in the sensor's frame at the stamp.
        velocity : (P, 3) float32
            Metres per second, in the same frame.

        Returns
        -------
        seen : (P, 3) float32
        time_s : (P,) float64

        """
        seen = points
        for _ in range(2):
            time_s = column_time(np.arctan2(seen[:, 1], seen[:, 0]))
            # Poses change slowly: those of 256 times stand for all.
            bins = np.linspace(-PERIOD_S / 2, PERIOD_S / 2, 257)
            pose = self.poses(bins)[np.round((time_s / PERIOD_S + 0.5) * 256).astype(int)]
            moved = points + velocity * time_s[:, None].astype(np.float32) - pose[:, :, 3]
            seen = np.einsum('pji,pj->pi', pose[:, :, :3], moved)
        return seen, time_s


def column_time(azimuth_rad):
    """Return when the sensor looks at an azimuth (-pi..pi), seconds from facing forward."""
    return azimuth_rad / (2 * np.pi) * PERIOD_S


def scan(moment, path, rng):
    """
    Take one sweep of a street.

    Parameters
    ----------
    moment : street.Moment
        The street at the stamp.
    path : SweepPath
        Of the sensor, from half a turn before the stamp to half a turn after.
    rng : numpy Generator
        Of the phase of each ring, range noise and lost returns.

    Returns
    -------
    Sweep

    """
    triangles, near = _triangles(moment, path)
    codes = moment.mesh.material[near].numpy()
    is_glass = torch.from_numpy(material_of(codes) == GLASS)
    seen, _ = path.as_seen(
        triangles.corners.reshape(-1, 3).numpy(),
        np.repeat(triangles.velocity.numpy(), 3, axis=0),
    )
    seen = torch.from_numpy(seen).view(-1, 3, 3)
    normal = torch.linalg.cross(seen[:, 1] - seen[:, 0], seen[:, 2] - seen[:, 0])
    hits, local = [], []
    for height, tangents in BLOCKS:
        directions = _directions(tangents, rng)
        rays = _rays(path, height, directions)
        origin = torch.tensor((0.0, 0.0, height))
        windows = spin_windows(seen - origin, _float(tangents), NUM_COLUMNS, _SLACK)
        is_away = (normal * (seen[:, 0] - origin)).sum(1) >= 0
        windows[is_away, 1] = windows[is_away, 0] - 1
        through = torch.from_numpy(rng.random(rays.origins.shape[:2]) < 0.5).view(-1)
        hits.append(cast(rays, triangles, windows,
                         lambda ray, face, t=through: is_glass[face] & t[ray]))  # fmt: skip
        local.append(directions)
    sweep = _sweep(_stack(hits), np.concatenate(local), triangles, codes, rng)
    return replace(sweep, face=near.numpy()[sweep.face])


def _float(array):
    return torch.as_tensor(np.asarray(array), dtype=torch.float32)


def _triangles(moment, path):
    """
    Bring the street into the sensor's frame at the stamp; drop what is out of range.

    Returns
    -------
    triangles : Triangles
    near : (F,) int64 tensor
        Which face of the street each of them is.

    """
    start_from_world = invert(path.world_from_lidar)
    corners = moment.mesh.transformed(start_from_world).corners
    middle = corners[:, :, :2].mean(1)
    radius = torch.linalg.vector_norm(corners[:, :, :2] - middle[:, None], dim=2).amax(1)
    is_near = torch.linalg.vector_norm(middle, dim=1) - radius < MAX_RANGE_M + 2
    index = is_near.nonzero().squeeze(1)
    owner = moment.owner[index]
    table = np.concatenate((moment.velocity @ start_from_world[:3, :3].T, np.zeros((1, 3))))
    triangles = Triangles(
        corners=corners[index].contiguous(),
        velocity=_float(table)[owner],
        owner=owner,
        num_owners=len(moment.actors),
    )
    return triangles, index


def _directions(tangents, rng):
    """Return (H, W, 3) float32 unit vectors in the sensor's frame; each ring has its phase."""
    phase = rng.uniform(-0.45, 0.45, (len(tangents), 1))
    azimuth = _azimuth(np.arange(NUM_COLUMNS) + phase)
    rise = np.broadcast_to(np.asarray(tangents)[:, None], azimuth.shape)
    local = np.stack((np.cos(azimuth), np.sin(azimuth), rise), axis=2)
    return (local / np.sqrt(1 + rise**2)[:, :, None]).astype(np.float32)


def _azimuth(column):
    return -np.pi + (column + 0.5) * 2 * np.pi / NUM_COLUMNS


def _rays(path, height, directions):
    """Send the directions of one block of lasers from where the sensor is at each column."""
    time_s = column_time(_azimuth(np.arange(NUM_COLUMNS)))
    pose = path.poses(time_s)
    origins = pose[:, :, 3] + pose[:, :, 2] * np.float32(height)
    turned = np.matmul(directions.transpose(1, 0, 2), pose[:, :, :3].transpose(0, 2, 1))
    return Rays(
        origins=_float(np.tile(origins, (len(directions), 1, 1))),
        directions=_float(np.ascontiguousarray(turned.transpose(1, 0, 2))),
        time_s=_float(time_s),
    )


def _stack(hits):
    """Put the rings of the blocks under each other."""
    return Hits(
        distance_m=torch.cat([h.distance_m for h in hits]),
        face=torch.cat([h.face for h in hits]),
        reached=torch.stack([h.reached for h in hits]).sum(0),
    )


def _sweep(hits, directions, triangles, codes, rng):
    """Turn exact hits into measurements, in file order."""
    if not len(codes):
        return _empty_sweep(triangles.num_owners)
    order = np.roll(np.arange(NUM_COLUMNS), -NUM_COLUMNS // 2)
    distance = hits.distance_m.numpy()[:, order]
    face = hits.face.numpy()[:, order]
    directions = directions[:, order]
    is_hit = face >= 0
    corners = triangles.corners.numpy()
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    # Turned by the little that the car turns within a sweep: nothing for a cosine.
    cosine = np.abs((normal[face] * directions).sum(axis=2))
    code = codes[face]
    strength = _strength(code, cosine)
    measured = _measure(distance, code, rng)
    keep = is_hit & (measured > MIN_RANGE_M) & (measured < MAX_RANGE_M)
    keep &= rng.random(face.shape, np.float32) < _return_chance(strength, distance, code)
    ring, column = np.nonzero(keep)
    owner = triangles.owner.numpy()[face[keep]]
    return Sweep(
        points=directions[keep] * measured[keep, None] + _origins()[ring],
        intensity=_intensity(strength, code, rng)[keep],
        ring=ring.astype(np.uint16),
        time_ns=_times(order[column]),
        face=face[keep],
        hits=np.bincount(owner[owner >= 0], minlength=triangles.num_owners),
        reached=hits.reached.numpy(),
    )


def _empty_sweep(num_actors):
    return Sweep(
        points=np.zeros((0, 3), np.float32),
        intensity=np.zeros(0, np.float32),
        ring=np.zeros(0, np.uint16),
        time_ns=np.zeros(0, np.int64),
        face=np.zeros(0, np.int64),
        hits=np.zeros(num_actors, np.int64),
        reached=np.zeros(num_actors, np.int64),
    )


def _times(column):
    return np.round(column_time(_azimuth(column)) * 1e9).astype(np.int64)


def _origins():
    """Return (64, 3) float32: where each ring fires from."""
    origins = np.zeros((NUM_RINGS, 3), np.float32)
    origins[:, 2] = np.repeat([height for height, _ in BLOCKS], NUM_RINGS // 2)
    return origins


def _strength(code, cosine):
    """Return how strongly a surface answers at this incidence, about 0..1."""
    spread = SPECULARITY[code]
    return REFLECTIVITY[code] * ((1 - spread) * (0.55 + 0.45 * cosine) + 1.5 * spread * cosine**8)


def _return_chance(strength, distance, code):
    """Return the chance that an answer is strong enough, 0..1."""
    reach = 180.0 * np.sqrt(np.maximum(strength, 1e-4) / 0.8)
    with np.errstate(over='ignore', invalid='ignore'):
        detected = 1 / (1 + np.exp((distance - reach) / (0.08 * reach)))
    glazed = np.where(material_of(code) == FACADE, 0.10, 0.0)
    return np.nan_to_num(0.985 * detected * (1 - DROP[code]) * (1 - glazed))


def _measure(distance, code, rng):
    """Add range noise, depth of foliage, and mixed returns at edges."""
    sigma = rng.normal(0, 1, distance.shape).astype(np.float32)
    measured = distance + 0.012 * sigma + _ring_bias(rng)
    material = material_of(code)
    depth = np.where(material == FOLIAGE, 0.25, np.where(material == HEDGE, 0.07, 0.0))
    measured = measured + depth.astype(np.float32) * rng.exponential(1.0, distance.shape)
    following = np.roll(measured, -1, axis=1)
    with np.errstate(invalid='ignore'):
        gap = following - measured
    is_mixed = (np.abs(gap) > 0.3) & (np.abs(gap) < 5) & (rng.random(gap.shape) < 0.12)
    share = rng.random(gap.shape, np.float32)
    mixed = np.where(is_mixed, measured + share * np.nan_to_num(gap), measured)
    return mixed.astype(np.float32)


def _ring_bias(rng):
    """Each laser is calibrated a little differently."""
    return rng.normal(0, 0.012, (NUM_RINGS, 1)).astype(np.float32)


def _intensity(strength, code, rng):
    """
    Return (H, W) float32 0..1, in steps of 1/100.

    Lasers differ in gain; strong answers saturate, weak ones, as of paint met aslant, count as
    0, and mirrors for light (signs, plates) stand out from everything else.
    """
    gain = rng.uniform(0.7, 1.3, (NUM_RINGS, 1)) * rng.normal(1, 0.15, strength.shape)
    counted = 0.52 * np.tanh(4.5 * strength * gain) - 0.05 - 0.1 * SPECULARITY[code]
    counted += 0.45 * (REFLECTIVITY[code] > 0.9)
    return np.clip(np.round(counted * 100) / 100, 0, 0.99).astype(np.float32)
