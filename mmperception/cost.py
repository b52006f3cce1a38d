# SPDX-License-Identifier: Apache-2.0
"""
The cost grid for planners: sweeps and tracks -> CostGrid, in the odometry frame.

Last stage of the safety path, after `ground.py`: what stands and what is free is remembered in
`evidence.py`. The ground itself (`terrain.py`), tracks and signs (`cost_paint.py`) only add cost
below lethal; they never take any away, so nothing learned can erase what geometry shows.
Values are those of nav_msgs/OccupancyGrid as docs/interfaces.md promises (-1, 0, 1..98, 100).
"""

from dataclasses import dataclass
import time

import cv2
from mmperception.cost_paint import (
    grade_around,
    paint,
    predicted_outlines,
    SeenSign,
    sign_bars,
    SOFT_EDGE_M,
)
from mmperception.datatypes import (
    CostGrid,
    GroundSplit,
    OCCUPANCY_LETHAL,
    OCCUPANCY_UNKNOWN,
    Tracks,
)
from mmperception.evidence import Evidence
from mmperception.geometry import apply, apply_to_cloud
from mmperception.ground import model_ground
from mmperception.polar import bins_to, polar_points
import numpy as np

# After a longer silence the remembered free space means nothing.
FORGET_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sweep:
    """
    What the grid takes in at one stamp.

    `points_lidar` (N, 3) float32 in the LiDAR's frame, `base_from_lidar` and `odom_from_base`
    (4, 4) float64, `intensity` (N,) float32 or None, `tracks` or None when perception is silent,
    `signs` seen up to now (see `SeenSign`; old ones are left out by their stamp).
    """

    stamp_ns: int
    points_lidar: np.ndarray
    base_from_lidar: np.ndarray
    odom_from_base: np.ndarray
    intensity: np.ndarray | None = None
    tracks: Tracks | None = None
    signs: tuple[SeenSign, ...] = ()

    @property
    def points_base(self):
        """Return the points (N, 3) float32 in `base_link`, moved there at each call."""
        return apply_to_cloud(self.base_from_lidar[:3], self.points_lidar)


def sweep_from_frame(frame, tracks=None, signs=()):
    """Return the Sweep of a frame that has a cloud and odometry."""
    return Sweep(
        stamp_ns=frame.stamp_ns,
        points_lidar=frame.cloud.points,
        base_from_lidar=frame.base_from_lidar,
        intensity=frame.cloud.intensity,
        odom_from_base=frame.odom_from_base,
        tracks=tracks,
        signs=tuple(signs),
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
        window_m = self._cost.cells * self._cost.resolution_m
        reach_m = max(config.ground.range_m, window_m / np.sqrt(2) + self._cost.resolution_m)
        self._num_bins = bins_to(reach_m) + 1
        self._evidence = Evidence(config, self._num_bins)
        self._own_body, self._stop_area = _own_body(config), _stop_area(config)
        self.clear()

    def clear(self):
        """Forget everything, as after a jump of time or of odometry."""
        self._evidence.clear()
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
        poses = sweep.odom_from_base, sweep.base_from_lidar
        points = polar_points(sweep.points_lidar, poses, self._num_bins, self._config.ground)
        ground = model_ground(points, self._config.ground)
        split_at = time.perf_counter()
        elapsed_s = self._advance(sweep)
        body = self._outline(sweep.odom_from_base, self._own_body)
        self._evidence.take(points, ground, elapsed_s, body)
        remembered_at = time.perf_counter()
        grid = self._grid(sweep.stamp_ns, self._grade(sweep))
        ended = time.perf_counter()
        timings_ms = {
            'ground': (split_at - started) * 1e3,
            'evidence': (remembered_at - split_at) * 1e3,
            'grade': (ended - remembered_at) * 1e3,
        }
        return PathCost(grid=grid, split=ground.split, timings_ms=timings_ms)

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
        if self._evidence.corner is None:
            return None
        data = np.full(self._evidence.is_known.shape, OCCUPANCY_UNKNOWN, np.int8)
        if self._cost.on_lidar_loss == 'lethal':
            pose = self._odom_from_base if odom_from_base is None else odom_from_base
            ahead = self._outline(pose, self._stop_area)
            stop = cv2.fillConvexPoly(np.zeros(data.shape, np.uint8), ahead, 1)
            data[(self._evidence.standing.image | stop) > 0] = OCCUPANCY_LETHAL
        return self._grid(stamp_ns, data)

    def _grid(self, stamp_ns, data):
        resolution_m = self._cost.resolution_m
        return CostGrid(
            stamp_ns=stamp_ns,
            frame_id=self._config.odom_frame,
            resolution_m=resolution_m,
            origin_xy_m=tuple(float(cell) * resolution_m for cell in self._evidence.corner),
            data=data,
        )

    def _advance(self, sweep):
        """Move the window to the LiDAR; return the seconds since the last sweep."""
        elapsed_s = 0.0
        if self._stamp_ns is not None:
            elapsed_s = (sweep.stamp_ns - self._stamp_ns) * 1e-9
            if not 0 <= elapsed_s <= FORGET_S:
                self.clear()
        lidar = apply(sweep.odom_from_base, sweep.base_from_lidar[:3, 3])
        self._evidence.move(lidar[:2])
        self._stamp_ns = sweep.stamp_ns
        self._odom_from_base = sweep.odom_from_base
        return elapsed_s

    def _grade(self, sweep):
        """Return the values of the grid, (Y, X) int8."""
        standing, reach = self._evidence.standing, self._cost.inflation_m / self._cost.resolution_m
        data = np.zeros(standing.image.shape, np.int8)
        if len(standing):  # nothing is to be graded in the rows below and above
            margin = int(reach) + 2
            rows = slice(max(standing.y.min() - margin, 0), standing.y.max() + margin)
            data[rows] = grade_around(standing.image[rows], reach)
        if self._cost.terrain_cost:
            np.maximum(data, self._evidence.terrain.cost(), out=data)
        polygons, values = self._outlines(sweep)
        if len(values):
            edge_cells = int(SOFT_EDGE_M / self._cost.resolution_m)
            paint(data, self._cells_of(polygons), values, edge_cells)
        # -1 has all bits set: what is not known gets them.
        unknown = self._evidence.is_known - np.uint8(1)
        np.bitwise_or(data, unknown.view(np.int8), out=data)
        data.ravel()[standing.cell()] = OCCUPANCY_LETHAL
        return data

    def _outlines(self, sweep):
        """Return what is painted, (M, 8, 2) in odom and (M,): tracks and signs."""
        oldest_ns = sweep.stamp_ns - int(self._cost.sign_memory_s * 1e9)
        signs = [sign for sign in sweep.signs if oldest_ns <= sign.stamp_ns <= sweep.stamp_ns]
        outlines = []
        if signs:
            outlines.append(sign_bars(signs, self._cost))
        if sweep.tracks is not None and len(sweep.tracks):
            outlines.append(predicted_outlines(sweep.tracks, sweep.stamp_ns, self._cost))
        if not outlines:
            return np.empty((0, 8, 2)), np.empty(0, np.int64)
        polygons, values = (np.concatenate(parts) for parts in zip(*outlines, strict=True))
        return polygons, values

    def _cells_of(self, points_odom):
        """Return (..., 2) int32: column and row of points, as OpenCV draws; far ones clipped."""
        cells = points_odom / self._cost.resolution_m - self._evidence.corner
        return np.clip(np.floor(cells), -20_000, 20_000).astype(np.int32)

    def _outline(self, odom_from_base, points_base):
        """Return (K, 2) int32 cells of an outline (K, 3) in `base_link`."""
        return self._cells_of(apply(odom_from_base, points_base)[:, :2])


def _own_body(config):
    """Return the corners (4, 3) of the robot's own outline, in `base_link`."""
    ground = config.ground
    half = np.array((ground.self_length_m, ground.self_width_m, 0.0)) / 2
    corners = np.array([[1, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]]) * half
    return corners + (ground.self_center_x_m, ground.self_center_y_m, 0.0)


def _stop_area(config):
    """Return (K, 3) in `base_link`: half a disc ahead of the robot's front."""
    ground, angle = config.ground, np.linspace(-np.pi / 2, np.pi / 2, 25)
    disc = np.stack((np.cos(angle), np.sin(angle), np.zeros(25)), axis=1)
    front_m = ground.self_center_x_m + ground.self_length_m / 2
    return disc * config.path_cost.stop_range_m + (front_m, ground.self_center_y_m, 0.0)
