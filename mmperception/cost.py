# SPDX-License-Identifier: Apache-2.0
"""
The cost grid for planners: sweeps and tracks -> CostGrid, in the odometry frame.

Second stage of the safety path, after `ground.py`: obstacle points make cells lethal, rays that
pass make them free, and what no ray reaches is remembered for a while. Tracks only add cost
below lethal; they never take any away, so nothing learned can erase what geometry shows.
Values are those of nav_msgs/OccupancyGrid as docs/interfaces.md promises (-1, 0, 1..98, 100).
"""

from dataclasses import dataclass
import time

import cv2
from mmperception.datatypes import (
    CostGrid,
    GroundSplit,
    OCCUPANCY_LETHAL,
    OCCUPANCY_UNKNOWN,
    Tracks,
)
from mmperception.geometry import apply
from mmperception.ground import split_ground
from mmperception.rays import NUM_SECTORS, polar_of_cells, relative_to_lidar, steepest_rays
import numpy as np
import torch

HIGHEST_GRADE = 98  # 99 is "never" and 100 an obstacle
# A ray passes through what stood in a cell when it is lower than its top by this much.
CLEAR_MARGIN_M = 0.1
# After a longer silence the remembered free space means nothing.
FORGET_S = 10.0
PREDICTION_STEP_S = 0.25
SOFT_EDGE_M = 0.6  # the painted cost of tracks falls to nothing over this length


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sweep:
    """
    What the grid takes in at one stamp.

    `points_base` (N, 3) float32 and `lidar_origin_base` (3,) in `base_link`, `odom_from_base`
    (4, 4) float64, `intensity` (N,) float32 or None, `tracks` or None when perception is silent.
    """

    stamp_ns: int
    points_base: np.ndarray
    odom_from_base: np.ndarray
    lidar_origin_base: np.ndarray
    intensity: np.ndarray | None = None
    tracks: Tracks | None = None


def sweep_from_frame(frame, tracks=None):
    """Return the Sweep of a frame that has a cloud and odometry."""
    return Sweep(
        stamp_ns=frame.stamp_ns,
        points_base=apply(frame.base_from_lidar, frame.cloud.points),
        intensity=frame.cloud.intensity,
        odom_from_base=frame.odom_from_base,
        lidar_origin_base=frame.base_from_lidar[:3, 3],
        tracks=tracks,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PathCost:
    """The grid after a sweep, the sweep's own split, and milliseconds by stage."""

    grid: CostGrid
    split: GroundSplit
    timings_ms: dict


class CostMapper:
    """
    Accumulates sweeps into a window of constant size that moves with the robot by whole cells.

    Parameters
    ----------
    config : Config

    """

    def __init__(self, config):
        self._config = config
        self._cost = config.path_cost
        self._range_m, self._polar = polar_of_cells(self._cost.cells, self._cost.resolution_m)
        self._num_bins = int(self._polar.max()) // NUM_SECTORS + 1
        # Work space kept between sweeps: fresh pages for it would cost more than the sums do.
        self._ray_m = np.empty_like(self._range_m)
        self._count = np.empty(self._range_m.shape, np.int32)
        self.clear()

    def clear(self):
        """Forget everything, as after a jump of time or of odometry."""
        shape = (self._cost.cells, self._cost.cells)
        self._strength = np.zeros(shape, np.float32)  # of an obstacle: 1 just seen .. 0 none
        self._top_m = np.zeros(shape, np.float32)  # height above ground of that obstacle
        self._is_known = np.zeros(shape, np.uint8)  # seen free at some time
        self._corner = None  # cell numbers (x, y) of the window's corner
        self._lidar_cell = None  # where the LiDAR stands in the window, in cells
        self._stamp_ns = None
        self._odom_from_base = np.eye(4)

    def integrate(self, sweep):
        """
        Take in one sweep.

        Parameters
        ----------
        sweep : Sweep
            A stamp before the last one, or more than `FORGET_S` after it, starts from nothing.

        Returns
        -------
        path_cost : PathCost

        """
        started = time.perf_counter()
        split = split_ground(sweep.points_base, self._config.ground)
        split_at = time.perf_counter()
        elapsed_s = self._advance(sweep)
        self._remember(sweep, split, elapsed_s)
        remembered_at = time.perf_counter()
        grid = self._grid(sweep.stamp_ns, self._grade(sweep))
        ended = time.perf_counter()
        timings_ms = {
            'ground': (split_at - started) * 1e3,
            'evidence': (remembered_at - split_at) * 1e3,
            'grade': (ended - remembered_at) * 1e3,
        }
        return PathCost(grid=grid, split=split, timings_ms=timings_ms)

    def last_words(self, stamp_ns, odom_from_base=None):
        """
        Return the grid to leave behind when no sweep will come, by `on_lidar_loss`.

        `lethal`: remembered obstacles and everything within `stop_range_m` ahead of the robot's
        front are lethal, the rest unknown. `unknown`: all unknown.

        Parameters
        ----------
        stamp_ns : int
            Of the grid that is returned; what is remembered does not fade up to then.
        odom_from_base : (4, 4) float64 or None
            Where the robot is now; None: where it was at the last sweep.

        Returns
        -------
        grid : CostGrid or None
            None when no sweep was ever taken in.

        """
        if self._corner is None:
            return None
        data = np.full(self._strength.shape, OCCUPANCY_UNKNOWN, np.int8)
        if self._cost.on_lidar_loss == 'lethal':
            pose = self._odom_from_base if odom_from_base is None else odom_from_base
            ahead = self._outline(pose, self._stop_area())
            stop = cv2.fillConvexPoly(np.zeros(data.shape, np.uint8), ahead, 1)
            data[(self._strength > 0) | (stop > 0)] = OCCUPANCY_LETHAL
        return self._grid(stamp_ns, data)

    def _grid(self, stamp_ns, data):
        resolution_m = self._cost.resolution_m
        return CostGrid(
            stamp_ns=stamp_ns,
            frame_id=self._config.odom_frame,
            resolution_m=resolution_m,
            origin_xy_m=tuple(float(cell) * resolution_m for cell in self._corner),
            data=data,
        )

    def _advance(self, sweep):
        """Move the window to the LiDAR; return the seconds since the last sweep."""
        elapsed_s = 0.0
        if self._stamp_ns is not None:
            elapsed_s = (sweep.stamp_ns - self._stamp_ns) * 1e-9
            if not 0 <= elapsed_s <= FORGET_S:
                self.clear()
        lidar = apply(sweep.odom_from_base, np.asarray(sweep.lidar_origin_base, np.float64))
        place = lidar[:2] / self._cost.resolution_m
        corner = np.floor(place).astype(np.int64) - self._cost.cells // 2
        if self._corner is not None and (corner != self._corner).any():
            shift = corner - self._corner
            self._strength = _shifted(self._strength, shift)
            self._top_m = _shifted(self._top_m, shift)
            self._is_known = _shifted(self._is_known, shift)
        self._corner, self._stamp_ns = corner, sweep.stamp_ns
        self._lidar_cell = (place - corner).astype(np.float32)
        self._odom_from_base = sweep.odom_from_base
        return elapsed_s

    def _remember(self, sweep, split, elapsed_s):
        """Bring one sweep's hits and rays into what is remembered."""
        x, y = relative_to_lidar(sweep)
        lidar_height_m = float(sweep.lidar_origin_base[2])
        steepest = steepest_rays(x, y, split.height_m, lidar_height_m, self._num_bins)
        ray_m = self._ray_m  # height of the lowest ray that passed over or ended in a cell
        steepest.ravel().take(self._polar, out=ray_m, mode='clip')
        np.multiply(ray_m, self._range_m, out=ray_m)
        np.subtract(np.float32(lidar_height_m), ray_m, out=ray_m)
        is_hit = self._mark_hits(x, y, split)
        self._fade(steepest, lidar_height_m, is_hit, elapsed_s)
        self._is_known |= ray_m < self._cost.free_below_m
        self._is_known[self._strength > 0] = 0
        body = self._outline(sweep.odom_from_base, self._own_body())
        cv2.fillConvexPoly(self._is_known, body, 1)
        cv2.fillConvexPoly(self._strength, body, 0.0)

    def _mark_hits(self, x, y, split):
        """
        Make cells with obstacle points lethal.

        One point is enough beside a known obstacle: a thin pole gives now two points in a cell
        and now one in the next.

        Returns
        -------
        is_hit : (Y, X) uint8
            1 where a cell has any obstacle point.

        """
        cells = self._cost.cells
        chosen = np.flatnonzero(split.is_obstacle)
        per_m = np.float32(1 / self._cost.resolution_m)
        column = x.take(chosen) * per_m + self._lidar_cell[0]
        row = y.take(chosen) * per_m + self._lidar_cell[1]
        is_inside = (column >= 0) & (column < cells) & (row >= 0) & (row < cells)
        inside = np.flatnonzero(is_inside)
        cell = row.take(inside).astype(np.int64) * cells + column.take(inside).astype(np.int64)
        self._count.fill(0)
        count, place = self._count.ravel(), torch.from_numpy(cell)
        torch.from_numpy(count).scatter_add_(0, place, torch.ones(len(cell), dtype=torch.int32))
        is_hit = count > 0
        hit = np.flatnonzero(is_hit)
        around = [hit + dy * cells + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        strength, top_m = self._strength.ravel(), self._top_m.ravel()
        num_near = sum(count.take(near, mode='clip') for near in around)
        is_beside = np.max([strength.take(near, mode='clip') for near in around], axis=0) > 0
        strength[hit[(num_near >= self._cost.min_points) | is_beside]] = 1.0
        top_m[hit] = 0.0
        heights = torch.from_numpy(split.height_m.take(chosen.take(inside)))
        torch.from_numpy(top_m).scatter_reduce_(0, place, heights, 'amax')
        return is_hit.reshape(self._count.shape).view(np.uint8)

    def _fade(self, steepest, lidar_height_m, is_hit, elapsed_s):
        """
        Clear what rays passed through; let fade what they did not reach.

        Parameters
        ----------
        steepest : (num_bins + 1, S) float32
            From `steepest_rays`.
        lidar_height_m : float
            Above the ground at the robot.
        is_hit : (Y, X) uint8
            1 where this sweep has an obstacle point.
        elapsed_s : float
            Since the last sweep.

        """
        # No ray clears an obstacle that is still hit, if only one cell further.
        is_beside_hit = cv2.dilate(is_hit, np.ones((3, 3), np.uint8)).ravel()
        strength, top_m = self._strength.ravel(), self._top_m.ravel()
        old = np.flatnonzero((strength > 0) & (is_hit.ravel() == 0))
        polar, range_m = self._polar.ravel()[old], self._range_m.ravel()[old]
        lowest_m = lidar_height_m - range_m * steepest[0].take(polar % NUM_SECTORS)
        beyond_m = lidar_height_m - range_m * steepest[1:].ravel().take(polar)
        is_hidden = lowest_m > top_m[old]
        decay_s = np.where(is_hidden, self._cost.hidden_decay_s, self._cost.decay_s)
        is_passed = beyond_m < top_m[old] - CLEAR_MARGIN_M
        is_passed &= is_beside_hit[old] == 0
        left = np.maximum(strength[old] - elapsed_s / decay_s, 0.0)
        strength[old] = np.where(is_passed, 0.0, left)
        self._is_known.ravel()[old[is_passed]] = 1

    def _grade(self, sweep):
        """Return the values of the grid, (Y, X) int8."""
        is_lethal = self._strength > 0
        data = _graded(is_lethal, self._cost.inflation_m / self._cost.resolution_m)
        if sweep.tracks is not None and len(sweep.tracks):
            np.maximum(data, self._paint(sweep), out=data)
        data[self._is_known == 0] = OCCUPANCY_UNKNOWN
        data[is_lethal] = OCCUPANCY_LETHAL
        return data

    def _paint(self, sweep):
        """Return the cost (Y, X) int8 around tracks and where they will be."""
        canvas = np.zeros(self._strength.shape, np.uint8)
        polygons, values = _predicted_outlines(sweep.tracks, sweep.stamp_ns, self._cost)
        corners = self._cells_of(polygons)
        for index in np.argsort(values, kind='stable'):  # of two the higher cost is on top
            cv2.fillConvexPoly(canvas, corners[index], int(values[index]))
        edge = int(SOFT_EDGE_M / self._cost.resolution_m) | 1
        return cv2.boxFilter(canvas, -1, (edge, edge)).view(np.int8)

    def _cells_of(self, points_odom):
        """Return (..., 2) int32: column and row of points, as OpenCV draws; far ones clipped."""
        cells = points_odom / self._cost.resolution_m - self._corner
        return np.clip(np.floor(cells), -20_000, 20_000).astype(np.int32)

    def _outline(self, odom_from_base, points_base):
        """Return (K, 2) int32 cells of an outline (K, 2) in `base_link`."""
        points = np.concatenate((points_base, np.zeros((len(points_base), 1))), axis=1)
        return self._cells_of(apply(odom_from_base, points)[:, :2])

    def _own_body(self):
        ground = self._config.ground
        half = np.array((ground.self_length_m, ground.self_width_m)) / 2
        corners = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * half
        return corners + (ground.self_center_x_m, ground.self_center_y_m)

    def _stop_area(self):
        """Half a disc ahead of the robot's front."""
        ground = self._config.ground
        angle = np.linspace(-np.pi / 2, np.pi / 2, 25)
        disc = np.stack((np.cos(angle), np.sin(angle)), axis=1) * self._cost.stop_range_m
        return disc + (ground.self_center_x_m + ground.self_length_m / 2, ground.self_center_y_m)


def _graded(is_lethal, reach_cells):
    """
    Return the cost (Y, X) int8 that falls from `HIGHEST_GRADE` beside obstacles to 0.

    Growing by a cross and a square in turn makes octagons: within 6 percent of the distance,
    in a third of the time of a distance transform.
    """
    shapes = (cv2.MORPH_CROSS, cv2.MORPH_RECT)
    kernels = [cv2.getStructuringElement(shape, (3, 3)) for shape in shapes]
    front = is_lethal.view(np.uint8) * np.uint8(255)
    data = np.zeros_like(front)
    num_steps = max(int(round(reach_cells)), 1)
    for step in range(num_steps):
        front = cv2.dilate(front, kernels[step % 2])
        value = round(HIGHEST_GRADE * (1 - step / num_steps))
        cv2.max(data, cv2.bitwise_and(front, value), dst=data)
    return data.view(np.int8)


def _shifted(array, shift):
    """Return `array` (Y, X) in a window moved by `shift` (x, y) cells, zero where new."""
    moved = np.zeros_like(array)
    cells = len(array)
    if (np.abs(shift) < cells).all():
        x, y = (slice(max(s, 0), cells + min(s, 0)) for s in shift)
        to_x, to_y = (slice(max(-s, 0), cells + min(-s, 0)) for s in shift)
        moved[to_y, to_x] = array[y, x]
    return moved


def _predicted_outlines(tracks, stamp_ns, config):
    """
    Lay out where tracks are and will be.

    Parameters
    ----------
    tracks : Tracks
        In odom; moved to the stamp of the sweep, by one second at most.
    stamp_ns : int
        Of the sweep.
    config : PathCostConfig
        With the horizon and the margin of each class.

    Returns
    -------
    polygons : (M, 4, 2) float64
        Outlines in odom, widened by the margin of the class.
    values : (M,) int64
        Cost of each, less for what is later or less certain.

    """
    late_s = np.clip((stamp_ns - tracks.stamp_ns) * 1e-9, -1.0, 1.0)
    ahead_s = np.arange(0.0, config.horizon_s + 1e-9, PREDICTION_STEP_S)
    track, step = np.nonzero((ahead_s == 0) | ~tracks.is_stationary[:, None])
    ahead_s = ahead_s[step]
    moved = tracks.velocity[track].astype(np.float64) * (ahead_s + late_s)[:, None]
    spread_m = np.sqrt(
        np.trace(tracks.velocity_covariance, axis1=1, axis2=2)[track] / 2 * ahead_s**2
    )
    margin_m = np.asarray(config.class_margin_m)[tracks.label[track]] - SOFT_EDGE_M / 2
    half = tracks.size[track, :2] / 2 + np.maximum(margin_m, 0.0)[:, None]
    corners = half[:, None] * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    cos, sin = np.cos(tracks.yaw[track]), np.sin(tracks.yaw[track])
    rotation = np.array([[cos, -sin], [sin, cos]]).transpose(2, 0, 1)
    polygons = corners @ rotation.transpose(0, 2, 1)
    polygons += (tracks.center[track, :2] + moved)[:, None]
    fade = (1 - ahead_s / (config.horizon_s + PREDICTION_STEP_S)) / (1 + spread_m)
    return polygons, np.round(HIGHEST_GRADE * fade).astype(np.int64)
