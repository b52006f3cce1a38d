# SPDX-License-Identifier: Apache-2.0
"""
The path-cost suite in simulation: lethal cells against what really stands, sweep by sweep.

PROTOCOLS asks for precision and recall of lethal cells by distance, obstacle-sweeps without any
lethal cell, and how long cells stay lethal behind what moves. `judge_drive` makes the counts of
one `StreetDrive`, `truth_metrics` the figures. Geometry alone: no network, no tracks.
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
import os

import cv2
from mmperception.cost import CostMapper
from mmperception.cost_paint import PREDICTION_STEP_S
from mmperception.datatypes import OCCUPANCY_LETHAL
from mmperception.evaluation.crossing import CrossingJudge, horizon_steps
from mmperception.evaluation.metrics import bootstrap, Metric
from mmperception.evaluation.simulated_streets import StreetDrive
import numpy as np
import torch

RANGE_EDGES_M = (0, 5, 10, 15, 20, 25)
MISSED_RANGE_M, MISSED_MIN_POINTS = 20.0, 20
# A lethal cell is right within one cell of a surface, and within this of leaves: rays enter them.
SOFT_M = 0.7
# Surfaces count from a little below the height of an obstacle to a little above the clearance:
# what ends there is an obstacle by its measured points now and then.
HEIGHT_SLACK_M = 0.05
CLEAR_S, REMEMBERED_S = 0.5, 3.0
REACH_M = 60.0  # the map of truth begins this far outside of the first window


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """
    Counts of one sweep.

    By range bin (K,): `true_cells` with enough points of things, of them `found_cells` lethal;
    `lethal_cells`, of them `right_cells` where something stands. `thing_range_m`, `is_missed`
    (M,) of the things with enough points. `left_cells` were left by what moves `CLEAR_S` to
    `REMEMBERED_S` ago, of them `smeared_cells` are lethal; `late_s` (L,) of cells left since the
    last sweep or longer and lethal still. `way_places` (T,) on the ways of people who cross, at
    the moments of `horizon_steps`, of them `way_raised` where their tracks raised the cost.
    """

    true_cells: np.ndarray
    found_cells: np.ndarray
    lethal_cells: np.ndarray
    right_cells: np.ndarray
    thing_range_m: np.ndarray
    is_missed: np.ndarray
    left_cells: int
    smeared_cells: int
    late_s: np.ndarray
    way_places: np.ndarray | None = None
    way_raised: np.ndarray | None = None


def judge_drives(seeds, seconds, config, corruption=None):
    """
    Judge several drives, a process a core; one thread each, or they fight for the cores.

    Parameters
    ----------
    seeds : sequence of int
        Of the drives.
    seconds : float
        Length of each.
    config : Config
        Of the cost grid.
    corruption : (str, int) or None
        Of the points, see `StreetDrive`.

    Yields
    ------
    list of Judged
        Of one drive.

    """
    jobs = [(seed, seconds, config, corruption) for seed in seeds]
    with ProcessPoolExecutor(
        min(os.cpu_count(), len(jobs)),
        mp_context=get_context('spawn'),
        initializer=torch.set_num_threads,
        initargs=(1,),
    ) as pool:
        for future in [pool.submit(judge_drive, *job) for job in jobs]:
            yield future.result()


def judge_drive(seed, seconds, config, corruption=None):
    """Return the list of `Judged` of one drive; arguments as of `judge_drives`."""
    drive = StreetDrive(seed, seconds, corruption, horizon_steps(config))
    mapper, crossing = CostMapper(config), CrossingJudge(config, seed)
    truth = TruthMap(drive.standing, config)
    judged = []
    for true_sweep in drive.sweeps():
        grid = mapper.integrate(true_sweep.sweep).grid
        places, raised = crossing.judge(true_sweep, grid)
        found = judge_sweep(true_sweep, grid, truth, config)
        judged.append(replace(found, way_places=places, way_raised=raised))
    return judged


def judge_sweep(true_sweep, grid, truth, config):
    """
    Compare one grid with its truth.

    Parameters
    ----------
    true_sweep : TrueSweep
        That the grid has just taken in.
    grid : CostGrid
        Of any state before.
    truth : TruthMap
        Remembers where moving things were.
    config : Config
        Of the cost grid.

    Returns
    -------
    Judged

    """
    sweep, is_lethal = true_sweep.sweep, grid.data == OCCUPANCY_LETHAL
    bins = _range_bins(grid, sweep)
    is_right = truth.at(grid, true_sweep.moving, sweep.stamp_ns)
    cell, thing = _cells_of_things(true_sweep, grid, config)
    number = np.bincount(cell, minlength=grid.data.size)
    is_true = (number >= config.path_cost.min_points).reshape(grid.data.shape)
    range_m, is_missed = _things(cell, thing, is_lethal.ravel(), _range_m(grid, sweep).ravel())
    left_s = truth.left_s(grid, sweep.stamp_ns)
    is_near, is_late = bins < len(RANGE_EDGES_M) - 1, is_lethal & ~is_right
    is_left = is_near & (left_s >= CLEAR_S) & (left_s < REMEMBERED_S) & ~is_true
    return Judged(
        true_cells=_count(bins, is_true),
        found_cells=_count(bins, is_true & is_lethal),
        lethal_cells=_count(bins, is_lethal),
        right_cells=_count(bins, is_lethal & is_right),
        thing_range_m=range_m,
        is_missed=is_missed,
        left_cells=int(is_left.sum()),
        smeared_cells=int((is_left & is_late).sum()),
        late_s=left_s[is_late & is_near & (left_s > 0) & (left_s < REMEMBERED_S)],
    )


def truth_metrics(drives):
    """
    Make every figure of simulated drives.

    Parameters
    ----------
    drives : list of list of Judged
        Sweeps of each drive in order of time.

    Returns
    -------
    metrics : dict of str to Metric

    """
    judged = [sweep for drive in drives for sweep in drive]
    metrics = {}
    for name, part, whole in (
        ('lethal_recall', 'found_cells', 'true_cells'),
        ('lethal_precision', 'right_cells', 'lethal_cells'),
    ):
        parts, wholes = (np.stack([getattr(s, key) for s in judged]) for key in (part, whole))
        metrics[f'{name}_25m'] = _percent(parts.sum(axis=1), wholes.sum(axis=1))
        for k, (low, high) in enumerate(zip(RANGE_EDGES_M, RANGE_EDGES_M[1:], strict=False)):
            metrics[f'{name}_{low}_{high}m'] = _percent(parts[:, k], wholes[:, k])
    is_near = [sweep.thing_range_m <= MISSED_RANGE_M for sweep in judged]
    missed = [int((s.is_missed & near).sum()) for s, near in zip(judged, is_near, strict=True)]
    things = [int(near.sum()) for near in is_near]
    metrics['missed_obstacle_sweeps_20m'] = Metric(value=sum(missed), count=sum(things))
    metrics['missed_obstacle_share_20m'] = _percent(np.array(missed), np.array(things))
    left = np.array([sweep.left_cells for sweep in judged])
    smeared = np.array([sweep.smeared_cells for sweep in judged])
    metrics['smeared_cells_after_0.5s'] = Metric(value=int(smeared.sum()), count=int(left.sum()))
    late_s = np.concatenate([sweep.late_s for sweep in judged])
    for percent in (50, 99):
        value = float(np.percentile(late_s, percent)) if len(late_s) else None
        metrics[f'time_to_clear_s_p{percent}'] = Metric(value=value, count=len(late_s))
    return metrics | _crossing_metrics([sweep for sweep in judged if sweep.way_places is not None])


def _crossing_metrics(judged):
    """Return how much of the ways of people who cross costs more for them, by moment ahead."""
    if not judged:
        return {}
    places, raised = (
        np.stack([getattr(s, key) for s in judged]) for key in ('way_places', 'way_raised')
    )
    metrics = {'crossing_way_raised': _percent(raised.sum(axis=1), places.sum(axis=1))}
    for number in range(1, places.shape[1], 2):
        ahead_s = (number + 1) * PREDICTION_STEP_S
        name = f'crossing_way_raised_{ahead_s:.1f}s'
        metrics[name] = _percent(raised[:, number], places[:, number])
    return metrics


def _percent(part, whole):
    """Return the share in percent over sweeps with its interval."""

    def share(weights):
        total = (whole * weights).sum()
        return 100.0 * float((part * weights).sum() / total) if total else None

    low, high = bootstrap(len(whole), share)
    return Metric(value=share(np.ones(len(whole))), low=low, high=high, count=int(whole.sum()))


def _range_m(grid, sweep):
    """Return the range (Y, X) of each cell's middle from the LiDAR."""
    origin = sweep.odom_from_base @ sweep.base_from_lidar[:, 3]
    Y, X = grid.data.shape
    x = (np.arange(X) + 0.5) * grid.resolution_m + grid.origin_xy_m[0] - origin[0]
    y = (np.arange(Y) + 0.5) * grid.resolution_m + grid.origin_xy_m[1] - origin[1]
    return np.hypot(x[None], y[:, None])


def _range_bins(grid, sweep):
    return np.digitize(_range_m(grid, sweep), RANGE_EDGES_M) - 1


def _count(bins, is_so):
    return np.bincount(bins[is_so], minlength=len(RANGE_EDGES_M))[: len(RANGE_EDGES_M) - 1]


def _cells_of_things(true_sweep, grid, config):
    """Return cell numbers and things (M,) of the points that are obstacles in truth."""
    sweep, ground = true_sweep.sweep, config.ground
    is_thing = (true_sweep.thing >= 0) & (true_sweep.height_m >= ground.obstacle_height_m)
    is_thing &= true_sweep.height_m <= ground.clearance_m
    x, y, _ = (sweep.points_base[is_thing] @ sweep.odom_from_base[:3, :3].T).T
    place = np.stack((x, y), axis=1) + sweep.odom_from_base[:2, 3] - grid.origin_xy_m
    column, row = np.floor(place / grid.resolution_m).astype(np.int64).T
    Y, X = grid.data.shape
    inside = (column >= 0) & (column < X) & (row >= 0) & (row < Y)
    return (row * X + column)[inside], true_sweep.thing[is_thing][inside]


def _things(cell, thing, is_lethal, range_m):
    """Return the range and whether it is missed of each thing with enough points."""
    names, index, number = np.unique(thing, return_inverse=True, return_counts=True)
    nearest_m = np.full(len(names), np.inf)
    np.minimum.at(nearest_m, index, range_m[cell])
    has_lethal = np.zeros(len(names), bool)
    np.logical_or.at(has_lethal, index, is_lethal[cell])
    enough = number >= MISSED_MIN_POINTS
    return nearest_m[enough], ~has_lethal[enough]


class TruthMap:
    """Where things are in odom, in a window that is moved by whole cells."""

    def __init__(self, standing, config):
        self._config = config
        self._resolution_m = config.path_cost.resolution_m
        reach_m = config.path_cost.cells * self._resolution_m / 2 + REACH_M
        places = standing.points[:, :2]
        low = np.minimum(places.min(axis=0, initial=0.0), -reach_m)
        high = np.maximum(places.max(axis=0, initial=0.0), reach_m)
        self._corner = np.floor(low / self._resolution_m).astype(np.int64)
        X, Y = np.ceil((high - low) / self._resolution_m).astype(np.int64) + 1
        self._is_standing = self._mask(standing, np.zeros((Y, X), np.uint8))
        self._moved_ns = np.zeros((Y, X), np.int64)

    def _mask(self, surfaces, mask):
        """Return `mask` with the cells at surfaces set, grown by what counts as near."""
        ground = self._config.ground
        is_high = surfaces.height_m >= ground.obstacle_height_m - HEIGHT_SLACK_M
        is_high &= surfaces.height_m <= ground.clearance_m + HEIGHT_SLACK_M
        reach = int(np.ceil(SOFT_M / self._resolution_m))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        grown = np.zeros_like(mask)
        for is_soft, kernel in ((False, np.ones((3, 3), np.uint8)), (True, disc)):
            part = np.zeros_like(mask)
            points = surfaces.points[is_high & (surfaces.is_soft == is_soft), :2]
            column, row = (np.floor(points / self._resolution_m).astype(np.int64) - self._corner).T
            inside = (column >= 0) & (column < mask.shape[1]) & (row >= 0) & (row < mask.shape[0])
            part[row[inside], column[inside]] = 1
            grown |= cv2.dilate(part, kernel)
        return grown | mask

    def at(self, grid, moving, stamp_ns):
        """Return (Y, X) bool: something is there now; remember where moving things are."""
        is_moving = self._mask(moving, np.zeros_like(self._is_standing)) > 0
        self._moved_ns[is_moving] = stamp_ns
        return self._window(grid, (self._is_standing > 0) | is_moving)

    def left_s(self, grid, stamp_ns):
        """Return (Y, X) seconds since a moving thing left a free cell; -1 where none was."""
        free = self._window(grid, self._is_standing) == 0
        moved_ns = self._window(grid, self._moved_ns)
        return np.where(free & (moved_ns > 0), (stamp_ns - moved_ns) * 1e-9, -1.0)

    def _window(self, grid, array):
        """Cut the cells of a grid; the map reaches further than any grid of the drive."""
        first = np.round(np.array(grid.origin_xy_m) / grid.resolution_m).astype(int) - self._corner
        (x, y), (Y, X) = first, grid.data.shape
        window = np.zeros((Y, X), array.dtype)
        from_y, from_x = max(y, 0), max(x, 0)
        to_y, to_x = max(y + Y, 0), max(x + X, 0)
        part = array[from_y:to_y, from_x:to_x]
        top, left = from_y - y, from_x - x
        bottom, right = top + part.shape[0], left + part.shape[1]
        window[top:bottom, left:right] = part
        return window
