# SPDX-License-Identifier: Apache-2.0
"""
The height map of the ground: low points of a sweep, grown outward from the robot.

Used by `ground.py`. A polar grid around the LiDAR: the low points of each cell are accepted ring
by ring while they continue the slope found so far. The idea of growing along lines of sight is
that of Himmelsbach, von Hundelshausen and Wuensche, "Fast segmentation of 3D point clouds for
ground vehicles", 2010.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
from mmperception.polar import BIN_M, bins_to, NUM_SECTORS, sector_axes, TICK_M
import numpy as np

# A cell's ground candidate is the second lowest of the lowest points of its SLICES in azimuth:
# one reflection "below" a wet road does not count, yet a single ring of road below the side of a
# car, which fills the rest of the cell, does.
SLICES = 6
CELLS_PER_TURN = NUM_SECTORS // SLICES
# Low points may rise above the continued slope by this much, and by this much more for each
# metre since ground was last seen: a road's change of slope, and the noise of the slope found.
# They may fall further: what is seen below an expected ground is hardly an obstacle.
STEP_M, BEND = 0.12, 0.06
# Ground is no higher than this at the LiDAR; further away it may have risen.
HIGHEST_M = 0.5
# Slope is averaged over about this length; roads hardly change theirs over it.
SLOPE_LENGTH_M = 4.0
# Rings widen with range, as beams lie further apart.
RING_SHARE = 0.08
# The tilt of the robot is that of a plane with this share of the low points below it.
TILT_QUANTILE, TILT_RANGE_M = 0.3, 15.0
LEVEL = np.diag((1.0, 25.0, 25.0))  # level and flat if in doubt
UNSEEN_WEIGHT = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroundGrid:
    """
    Rings (R) times sectors (S) of the height map.

    `edges` (R + 1,) int64 counts bins of range; `centers_m` (R,) float32 are the rings' middles,
    `steps_m` (R,) float32 the way from each to the one before, the first from the LiDAR;
    `axes` (S, 2) float64 the sectors' directions; `blur` (S, S) float32 spreads over sectors.
    """

    edges: np.ndarray
    centers_m: np.ndarray
    steps_m: np.ndarray
    axes: np.ndarray
    blur: np.ndarray


@lru_cache(maxsize=4)
def ground_grid(cell_m, range_m):
    """Return rings of `cell_m` near the LiDAR, wider far away."""
    edges, last = [0], bins_to(range_m)
    while edges[-1] < last:
        width = round(max(cell_m / BIN_M, RING_SHARE * edges[-1]))
        edges.append(min(edges[-1] + max(width, 1), last))
    edges = np.array(edges)
    offsets = np.arange(CELLS_PER_TURN)
    half = CELLS_PER_TURN // 2
    apart = np.abs((offsets[:, None] - offsets + half) % CELLS_PER_TURN - half)
    centers_m = ((edges[1:] + edges[:-1]) * (BIN_M / 2)).astype(np.float32)
    return GroundGrid(
        edges=edges,
        centers_m=centers_m,
        steps_m=np.diff(centers_m, prepend=np.float32(0)),
        axes=sector_axes(CELLS_PER_TURN),
        blur=np.maximum(0.0, 1.0 - apart / 3.0).astype(np.float32),
    )


def low_heights(lowest, grid, max_slope):
    """
    Return the low end of each cell's heights.

    Parameters
    ----------
    lowest : (num_bins + 1, NUM_SECTORS) int32
        Lowest heights of fine bins, see `PolarPoints`.
    grid : GroundGrid
        R rings and S sectors.
    max_slope : float
        What is higher than ground so steep could be does not count.

    Returns
    -------
    low : (R, S) float32
        Metres; NaN where there is nothing.

    """
    slices = np.empty((len(grid.centers_m), CELLS_PER_TURN, SLICES), np.int32)
    rings = slices.reshape(-1, NUM_SECTORS)
    for ring, begin, end in zip(rings, grid.edges[:-1], grid.edges[1:], strict=True):
        np.minimum.reduce(lowest[begin:end], axis=0, out=ring)
    first, other, *rest = slices.transpose(2, 0, 1).copy()
    low, second = np.minimum(first, other), np.maximum(first, other)
    for value in rest:
        np.minimum(second, np.maximum(low, value, out=other), out=second)
        np.minimum(low, value, out=low)
    # The second lowest counts, or the lowest if it is alone.
    highest = ((HIGHEST_M + grid.centers_m * max_slope) / TICK_M).astype(np.int32)[:, None]
    low_m = np.where(second <= highest, second, low) * np.float32(TICK_M)
    low_m[low > highest] = np.nan
    return low_m.astype(np.float32)


def tilt(low, grid):
    """
    Fit one plane to the low points around the robot, which may stand tilted or on a slope.

    Quantile regression by iterated weights: obstacles lie above the plane and pull it little.

    Returns
    -------
    plane : (3,) float64
        Its height at the LiDAR, and its rise per metre along x and y.

    """
    ring, sector = np.nonzero(np.isfinite(low) & (grid.centers_m < TILT_RANGE_M)[:, None])
    heights = low[ring, sector].astype(np.float64)
    basis = np.ones((3, len(ring)))
    np.multiply(grid.axes.take(sector, axis=0).T, grid.centers_m.take(ring), out=basis[1:])
    known = np.column_stack((basis.T, heights))
    plane, weight = np.zeros(3), np.ones(len(ring))
    for _ in range(4):
        normal = (basis * weight) @ known
        level = normal[:, :3] + LEVEL
        plane = np.linalg.solve(level, normal[:, 3])
        above = heights - plane @ basis
        weight = np.where(above > 0, TILT_QUANTILE, 1 - TILT_QUANTILE)
        weight /= np.maximum(np.abs(above), 0.05)
    return plane


def grow_ground(low, grid, plane, config):
    """
    Accept low points as ground outward from the robot; fill what is hidden.

    Parameters
    ----------
    low : (R, S) float32
        Ground candidates, NaN where a cell has none.
    grid : GroundGrid
        R rings and S sectors.
    plane : (3,) float64
        Where to begin, from `tilt`.
    config : GroundConfig
        Its `max_slope` holds uphill and downhill.

    Returns
    -------
    table : (R, S) float32
        Ground height at the middle of every cell.

    """
    table, shape = np.empty_like(low), grid.axes.shape[:1]
    # Arrays instead of numbers: NumPy takes longer to look at a number than to do the sum.
    steepest, rise_m, bend, length_m, unseen, found_fall, zero = (
        np.full(shape, value, np.float32)
        for value in (config.max_slope, STEP_M, BEND, SLOPE_LENGTH_M, UNSEEN_WEIGHT, 2 * BEND, 0)
    )
    down = -steepest
    slope = np.minimum(np.maximum((grid.axes @ plane[1:]).astype(np.float32), down), steepest)
    height = np.full(shape, plane[0], np.float32)
    seen, seen_m = height.copy(), zero.copy()  # last ground, and its range
    may_fall = steepest.copy()  # until ground was found for the first time
    first = int(np.argmax(np.isfinite(low).any(axis=1)))  # up to there nothing is seen
    flat = height + grid.centers_m[:first, None] * slope
    table[:first], height = flat, flat[-1].copy() if first else height
    votes, blurred = np.empty((2, 3, *shape), np.float32)
    weight, weighted_height, weighted_slope = votes
    total, heights, slopes = blurred
    ranges_m, steps_m = (
        np.repeat(ring_m, *shape).reshape(low.shape) for ring_m in (grid.centers_m, grid.steps_m)
    )
    rings = (rows[first:] for rows in (low, table, ranges_m, steps_m))
    for low_m, expected, range_m, step_m in zip(*rings, strict=True):
        np.multiply(slope, step_m, out=expected)
        expected += height
        gap_m = range_m - seen_m
        rise = low_m - expected
        limit = gap_m * bend
        limit += rise_m
        is_ground = rise < limit  # NaN compares false
        rise += np.multiply(may_fall, gap_m, out=limit)
        rise += rise_m
        is_ground &= rise > zero
        np.copyto(may_fall, found_fall, where=is_ground)
        np.copyto(height, expected)
        np.copyto(height, low_m, where=is_ground)
        gain = height - seen
        gain -= np.multiply(slope, gap_m, out=limit)
        gap_m += length_m
        gain /= gap_m
        share = is_ground.astype(np.float32)
        gain *= share
        slope += gain
        np.maximum(slope, down, out=slope)
        np.minimum(slope, steepest, out=slope)
        # What is seen outvotes what is assumed.
        np.add(share, unseen, out=weight)
        np.multiply(weight, height, out=weighted_height)
        np.multiply(weight, slope, out=weighted_slope)
        votes.dot(grid.blur, out=blurred)
        np.divide(heights, total, out=expected)
        np.divide(slopes, total, out=slope)
        np.copyto(seen, low_m, where=is_ground)
        np.copyto(seen_m, range_m, where=is_ground)
        np.copyto(height, expected)
        np.copyto(height, low_m, where=is_ground)
    return table


def residual(table, grid, plane, num_bins):
    """Return the ground (num_bins + 1, NUM_SECTORS) float32, less what the plane rises."""
    flat = grid.centers_m[:, None] * (grid.axes @ plane[1:])
    above = table - flat.astype(np.float32)
    nearer, share = _between_rings(grid, num_bins)
    rise = above[1:] - above[:-1]
    rows = above.take(nearer, axis=0)
    rows += share * rise.take(nearer, axis=0)
    size = (NUM_SECTORS, num_bins + 1)
    fine = cv2.resize(rows, size, interpolation=cv2.INTER_LINEAR)
    # The last sector borders on the first: half a cell to both sides of that border.
    half = SLICES // 2
    way = (np.arange(2 * half) + 0.5) / (2 * half)
    seam = rows[:, -1:] + (rows[:, :1] - rows[:, -1:]) * way.astype(np.float32)
    fine[:, -half:], fine[:, :half] = seam[:, :half], seam[:, half:]
    return fine


@lru_cache(maxsize=4)
def _between_rings(grid, num_bins):
    """Return of each bin the ring before it (B,) int64 and the share (B, 1) of the next one."""
    middle = (np.arange(num_bins + 1) + 0.5) * BIN_M
    after = np.clip(np.searchsorted(grid.centers_m, middle), 1, len(grid.centers_m) - 1)
    nearer_m, further_m = grid.centers_m[after - 1], grid.centers_m[after]
    apart_m = np.maximum(further_m - nearer_m, np.float32(BIN_M))
    share = np.clip((middle - nearer_m) / apart_m, 0, 1).astype(np.float32)
    return after - 1, share[:, None]
