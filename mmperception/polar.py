# SPDX-License-Identifier: Apache-2.0
"""
Points of a sweep by range and azimuth around the LiDAR: computed once, for ground and rays.

First stage of the safety path, before `ground.py` and `rays.py`. x and y count from the LiDAR
along the axes of odom, so that azimuths are those of the cost grid; heights stay those of
`base_link`, whose ground is level where the robot stands. The work goes in parts that fit into
a core's own cache, which halves its time.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

# Half a degree holds at least one beam of the LiDARs in use; 0.2 m keeps a wall and what stands
# before it apart.
NUM_SECTORS, BIN_M = 720, 0.2
PART = 1 << 16
# A hair less than the sectors of a turn, so that the azimuth of a whole turn stays in the last.
SECTORS_PER_RAD = np.float32(NUM_SECTORS * (1 - 2e-7) / (2 * np.pi))
# Where many points fall into few bins heights are whole numbers of this: the lowest of floats asks
# each whether it is a number, which takes three times as long.
TICK_M = 1 / 4096
TICKS_PER_M = np.float32(1 / TICK_M)
NOTHING = np.int32(2**31 - 1)
# Nothing on the robot is further above or below the LiDAR.
OWN_HEIGHT_M = 5.0
NEAR_M = 3.0  # around the LiDAR: the robot itself, and the air by which mist is told


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PolarPoints:
    """
    The points of a sweep.

    `x`, `y` (N,) float32 from the LiDAR along the axes of odom; `z` (N,) float32 in `base_link`;
    `range_m` (N,) float32 over x and y; `place` (N,) int32 counts the bins of
    `BIN_M` in range, `NUM_SECTORS` to each; ranges beyond bin `num_bins` have that bin, the last.
    `near` (K,) int64 are at least the points within `NEAR_M`, `own` (L,) int64 those of them that
    are on the robot itself; `lowest` (num_bins + 1, NUM_SECTORS) int32 is the
    height, in `TICK_M`, of the lowest other point of each bin, `NOTHING` for none.
    `origin_base` (3,) float64 is the LiDAR, `up` (3,) float64 the robot's up along those axes.
    """

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    range_m: np.ndarray
    place: np.ndarray
    num_bins: int
    near: np.ndarray
    own: np.ndarray
    lowest: np.ndarray
    origin_base: np.ndarray
    up: np.ndarray


def bins_to(range_m):
    """Return how many bins reach this far."""
    return int(np.ceil(range_m / BIN_M))


def parts_of(number):
    """Yield slices that together cover `number` points, all about as long."""
    num_parts = -(-number // PART)
    for part in range(num_parts):
        yield slice(number * part // num_parts, number * (part + 1) // num_parts)


def polar_points(points_lidar, poses, num_bins, config):
    """
    Sort points into bins around the LiDAR.

    Parameters
    ----------
    points_lidar : (N, 3) float32
        Metres in the LiDAR's frame.
    poses : (4, 4) float64 and (4, 4) float64
        `odom_from_base`, whose rotation gives the axes, and `base_from_lidar`.
    num_bins : int
        Told apart by range; one more is for all that is further.
    config : GroundConfig
        Of the robot's own body.

    Returns
    -------
    points : PolarPoints

    Raises
    ------
    ValueError
        If the shape differs.

    """
    if points_lidar.ndim != 2 or points_lidar.shape[1] != 3:
        raise ValueError(f'points: expected (N, 3), got {points_lidar.shape}')
    N, (odom_from_base, base_from_lidar) = len(points_lidar), poses
    rows = np.array(base_from_lidar[:3], np.float64)
    rows[:2] = (odom_from_base @ base_from_lidar)[:2]
    rows[:2, 3] = 0.0  # from the LiDAR
    near_m = max(_own_reach_m(base_from_lidar, odom_from_base, config), NEAR_M)
    first_far = np.int32((bins_to(near_m) + 1) * NUM_SECTORS)
    x, y, z, range_m = np.empty((4, N), np.float32)
    place, near = np.empty(N, np.int32), [np.zeros(0, np.int64)]
    space = np.empty((min(N, PART), 1, 3), np.float32)
    lowest = np.full((num_bins + 1, NUM_SECTORS), NOTHING)
    flat = torch.from_numpy(lowest.reshape(-1))
    for part in parts_of(N):
        columns = [column[part].reshape(-1, 1) for column in (x, y, z)]
        triples = np.ascontiguousarray(points_lidar[part]).reshape(-1, 1, 3)
        turned = cv2.transform(triples, rows, dst=space[: len(triples)])
        cv2.split(turned, columns)
        spare = space.reshape(3, -1)[:, : len(triples)]
        _sort(x[part], y[part], num_bins, (range_m[part], place[part]), spare)
        index = place[part].astype(np.int64)
        near.append(np.flatnonzero(place[part] < first_far) + part.start)
        ticks = spare[0].view(np.int32)
        np.copyto(ticks, np.multiply(z[part], TICKS_PER_M, out=spare[1]), casting='unsafe')
        _lower(flat, index, ticks)
    near = np.concatenate(near)
    is_own = _is_own(points_lidar.take(near, axis=0), base_from_lidar, config)
    if is_own.any():  # the bins that may hold points on the robot, once more without those
        flat[:first_far] = int(NOTHING)
        others = near[~is_own]
        _lower(flat, place.take(others).astype(np.int64), in_ticks(z.take(others)))
    return PolarPoints(
        x=x,
        y=y,
        z=z,
        range_m=range_m,
        place=place,
        num_bins=num_bins,
        near=near,
        own=near[is_own],
        lowest=lowest,
        origin_base=base_from_lidar[:3, 3],
        up=np.asarray(odom_from_base)[:3, 2],
    )


def in_ticks(height_m):
    """Return heights (N,) int32 in `TICK_M`."""
    return (height_m * TICKS_PER_M).astype(np.int32)


def _lower(lowest, place, ticks):
    """Bring flat `lowest` down to heights (N,) int32 at places (N,) int64."""
    lowest.scatter_reduce_(0, torch.from_numpy(place), torch.from_numpy(ticks), 'amin')


def _sort(x, y, num_bins, found, spare):
    """
    Find the bins of points.

    Parameters
    ----------
    x, y : (N,) float32
        From the LiDAR, in metres.
    num_bins : int
        As of `polar_points`.
    found : (N,) float32 and (N,) int32
        Range and place are written there.
    spare : (2 or more, N) float32
        Memory to work in; what was just in use is in the cache, what is new is not.

    """
    (range_m, place), (angle, bins) = found, spare[:2]
    cv2.cartToPolar(x, y, range_m, angle)
    np.multiply(range_m, np.float32(1 / BIN_M), out=bins)
    np.minimum(bins, np.float32(num_bins), out=bins)
    np.copyto(place, bins, casting='unsafe')
    place *= np.int32(NUM_SECTORS)
    angle *= SECTORS_PER_RAD
    sector = bins.view(np.int32)
    np.copyto(sector, angle, casting='unsafe')
    place += sector


def place_of(x, y, num_bins):
    """Return range (N,) float32 and place (N,) int64 of a few points (N,) float32."""
    range_m, place = np.empty(len(x), np.float32), np.empty(len(x), np.int32)
    if len(x):
        _sort(x, y, num_bins, (range_m, place), np.empty((2, len(x)), np.float32))
    return range_m, place.astype(np.int64)


def is_own_body(x, y, config):
    """Return (N,) bool: within the robot's own outline in `base_link`."""
    return (np.abs(x - config.self_center_x_m) < config.self_length_m / 2) & (
        np.abs(y - config.self_center_y_m) < config.self_width_m / 2
    )


def _is_own(points_lidar, base_from_lidar, config):
    """Return (N,) bool of a few points in the LiDAR's frame."""
    x, y = base_from_lidar[:2, :3] @ points_lidar.T + base_from_lidar[:2, 3:]
    return is_own_body(x, y, config)


def _own_reach_m(base_from_lidar, odom_from_base, config):
    """Return how far from the LiDAR a point on the robot may be, over x and y of odom."""
    x, y = base_from_lidar[:2, 3]
    corner_x = abs(config.self_center_x_m - x) + config.self_length_m / 2
    corner_y = abs(config.self_center_y_m - y) + config.self_width_m / 2
    tilt = np.hypot(*odom_from_base[:2, 2])
    return np.hypot(corner_x, corner_y) + tilt * OWN_HEIGHT_M


def sector_axes(num_sectors):
    """Return the direction (S, 2) float64 of the middle of each of so many sectors."""
    angle = (np.arange(num_sectors) + 0.5) * 2 * np.pi / num_sectors
    return np.stack((np.cos(angle), np.sin(angle)), axis=1)
