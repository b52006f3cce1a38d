# SPDX-License-Identifier: Apache-2.0
"""
Whether people who cross the street raise cost along their way, before they are there.

Part of the path-cost suite in simulation (`path_cost_truth.py`). The tracker of the package is
given the true boxes of moving people, displaced at random as a detector would displace them; two
grids take in the same sweeps, one with these tracks. Where each person will really be over the
horizon is known; there the grid with tracks must cost more.
"""

from mmperception.config import Config
from mmperception.cost import CostMapper
from mmperception.cost_paint import PREDICTION_STEP_S
from mmperception.datatypes import CLASSES, Detections, OCCUPANCY_LETHAL, OCCUPANCY_UNKNOWN
from mmperception.geometry import invert, transform_boxes
from mmperception.tracking import Tracker
import numpy as np

# Error of a box in each axis, and the range in which people are asked for.
BOX_SIGMA_M, RANGE_M = 0.1, 20.0
# Slower people are not called moving by the tracker, and need not be.
SLOWEST_MPS = 0.5


def horizon_steps(config):
    """Return the moments ahead (T,) float64 at which ways are asked for, seconds."""
    return np.arange(PREDICTION_STEP_S, config.path_cost.horizon_s + 1e-9, PREDICTION_STEP_S)


class CrossingJudge:
    """
    Keeps the grid with tracks beside that without.

    Parameters
    ----------
    config : Config
    seed : int
        Of the errors of boxes.

    """

    def __init__(self, config, seed):
        self._config = config
        self._mapper = CostMapper(config)
        self._tracker = Tracker(Config().tracking, len(CLASSES))
        self._rng = np.random.default_rng((seed, 9))

    def judge(self, true_sweep, plain):
        """
        Take in a sweep.

        Parameters
        ----------
        true_sweep : TrueSweep
            With its `people`.
        plain : CostGrid
            Of the same sweeps, without tracks.

        Returns
        -------
        places, raised : (T,) int64
            Known and free places on the ways of confirmed people at each moment ahead, and
            those of them where the grid with tracks costs more.

        """
        sweep, people = true_sweep.sweep, true_sweep.people
        found = self._detections(sweep, people)
        found, tracks = self._tracker.update(found, sweep.odom_from_base, sweep.stamp_ns)
        with_tracks = type(sweep)(
            stamp_ns=sweep.stamp_ns,
            points_lidar=sweep.points_lidar,
            base_from_lidar=sweep.base_from_lidar,
            odom_from_base=sweep.odom_from_base,
            tracks=tracks,
        )
        grid = self._mapper.integrate(with_tracks).grid
        lidar = (sweep.odom_from_base @ sweep.base_from_lidar)[:2, 3]
        is_near = np.hypot(*(people.center[:, :2] - lidar).T) <= RANGE_M
        asked = is_near & people.is_crossing & np.isin(found.track_id, tracks.track_id)
        return raised_along(people.ways[asked], plain, grid)

    def _detections(self, sweep, people):
        N = len(people.center)
        center, yaw = transform_boxes(invert(sweep.odom_from_base), people.center, people.yaw)
        covariance = np.eye(6) * BOX_SIGMA_M**2
        return Detections(
            stamp_ns=sweep.stamp_ns,
            frame_id='base_link',
            center=(center + self._rng.normal(0, BOX_SIGMA_M, (N, 3))).astype(np.float32),
            size=people.size.astype(np.float32),
            yaw=np.asarray(yaw, np.float32),
            score=np.full(N, 0.9, np.float32),
            label=np.full(N, CLASSES.index('pedestrian'), np.int64),
            covariance=np.tile(covariance, (N, 1, 1)),
            track_id=np.full(N, -1, np.int64),
        )


def raised_along(ways, plain, grid):
    """
    Count where a grid costs more than another along ways.

    Parameters
    ----------
    ways : (P, T, 2) float64
        Where each will be, in odom.
    plain, grid : CostGrid
        Of the same window; without and with what is predicted.

    Returns
    -------
    places, raised : (T,) int64
        Places in the window that are known and have no obstacle in `plain`, and those of them
        that cost more in `grid`.

    """
    cell = np.floor((ways - plain.origin_xy_m) / plain.resolution_m).astype(np.int64)
    Y, X = plain.data.shape
    is_inside = ((cell >= 0) & (cell < (X, Y))).all(axis=2)
    column, row = np.where(is_inside[..., None], cell, 0).transpose(2, 0, 1)
    before, after = plain.data[row, column], grid.data[row, column]
    is_asked = is_inside & (before != OCCUPANCY_UNKNOWN) & (before != OCCUPANCY_LETHAL)
    return is_asked.sum(axis=0), (is_asked & (after > before)).sum(axis=0)
