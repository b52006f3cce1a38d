# SPDX-License-Identifier: Apache-2.0
"""
The path-cost suite: cost grids against where the vehicle went later and against labelled boxes.

What the vehicle drove over was free, so a lethal cell there is false; what was labelled is an
obstacle, so a box without a lethal cell is missed. `map_sweeps` runs the cost grid over a drive,
`path_cost_metrics` makes the figures of docs/accuracy.md. Geometry alone: no network, no tracks.
"""

from dataclasses import dataclass

from mmperception.cost import sweep_from_frame
from mmperception.datatypes import CostGrid, OCCUPANCY_LETHAL, OCCUPANCY_UNKNOWN
from mmperception.evaluation.matching import is_added
from mmperception.evaluation.metrics import bootstrap, Metric
from mmperception.geometry import apply, points_in_boxes, transform_boxes, yaw_of
import numpy as np

FOOTPRINT_WIDTH_M = 1.8
FOOTPRINT_FROM_M, FOOTPRINT_TO_M, FOOTPRINT_NEAR_M = 2.0, 20.0, 10.0
# The vehicle drives later where labelled things move now; labels are drawn tightly.
BOX_MARGIN_M = 0.5
MISSED_RANGE_M, MISSED_MIN_POINTS = 25.0, 20
KIND_MIN_POINTS = 5
# Poses of a slow or standing vehicle that are nearer than this add nothing to its footprint.
POSE_STEP_M = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoxEvidence:
    """
    Labelled boxes of one sweep and what of them the safety path saw.

    `center_xy` (N, 2), `size_xy` (N, 2), `yaw` (N,) in odom; `range_m` (N,) from the LiDAR;
    `num_points`, `num_obstacle` (N,) points inside; `is_in_grid`, `has_lethal` (N,) bool.
    """

    kinds: np.ndarray
    center_xy: np.ndarray
    size_xy: np.ndarray
    yaw: np.ndarray
    range_m: np.ndarray
    num_points: np.ndarray
    num_obstacle: np.ndarray
    is_in_grid: np.ndarray
    has_lethal: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MappedSweep:
    """One sweep: where the vehicle was, its grid, and the labelled boxes of that moment."""

    odom_from_base: np.ndarray
    grid: CostGrid
    boxes: BoxEvidence


@dataclass(frozen=True, slots=True, kw_only=True)
class FootprintCells:
    """Cells of one later footprint: all, left out for boxes, and of those left, by value."""

    num_all: int
    num_left_out: int
    num_judged: int
    num_lethal: int
    num_unknown: int
    num_near: int
    num_near_unknown: int


def map_sweeps(samples, mapper):
    """
    Run the cost grid over labelled frames.

    Parameters
    ----------
    samples : iterable of Sample
        In order of time; frames without a cloud or without odometry are left out.
    mapper : CostMapper
        Gets no tracks: geometry alone is judged.

    Yields
    ------
    MappedSweep

    """
    for sample in samples:
        frame = sample.frame
        if frame.cloud is None or frame.odom_from_base is None:
            continue
        sweep = sweep_from_frame(frame)
        path_cost = mapper.integrate(sweep)
        yield MappedSweep(
            odom_from_base=frame.odom_from_base,
            grid=path_cost.grid,
            boxes=_evidence(sample.truth, sweep, path_cost),
        )


def path_cost_metrics(sweeps, ground):
    """
    Make every figure of the suite.

    Parameters
    ----------
    sweeps : list of MappedSweep
        In order of time.
    ground : GroundConfig
        With the outline of the vehicle.

    Returns
    -------
    metrics : dict of str to Metric

    Raises
    ------
    ValueError
        If there is no sweep.

    """
    if not sweeps:
        raise ValueError('no sweep with a cloud and odometry: path cost needs both')
    poses = [sweep.odom_from_base for sweep in sweeps]
    cells = [
        footprint_cells(sweep, _later(poses[index:]), ground) for index, sweep in enumerate(sweeps)
    ]
    return _footprint_metrics(cells) | _box_metrics([sweep.boxes for sweep in sweeps])


def footprint_cells(sweep, later_poses, ground):
    """
    Count the cells that the vehicle drives over later, 2 to 20 m ahead of `base_link`.

    Those under the vehicle at the moment of the sweep are not ahead of it and do not count.

    Parameters
    ----------
    sweep : MappedSweep
        Cells at its labelled boxes are left out.
    later_poses : list of (4, 4) float64
        `odom_from_base`.
    ground : GroundConfig
        With the outline of the vehicle.

    Returns
    -------
    FootprintCells

    """
    grid = sweep.grid
    is_driven, is_left_out = (np.zeros(grid.data.shape, bool) for _ in range(2))
    for pose in later_poses:
        is_driven[cells_of_box(grid, _body(pose, ground, FOOTPRINT_WIDTH_M))] = True
    is_driven[cells_of_box(grid, _body(sweep.odom_from_base, ground, ground.self_width_m))] = False
    row, column = np.nonzero(is_driven)
    offset = _cell_middle(grid, row, column) - sweep.odom_from_base[:2, 3]
    range_m = np.hypot(*offset.T)
    is_counted = (range_m >= FOOTPRINT_FROM_M) & (range_m <= FOOTPRINT_TO_M)
    is_counted &= offset @ sweep.odom_from_base[:2, 0] > 0
    boxes = sweep.boxes
    for box in zip(boxes.center_xy, boxes.size_xy, boxes.yaw, strict=True):
        is_left_out[cells_of_box(grid, box, BOX_MARGIN_M)] = True
    is_judged = is_counted & ~is_left_out[row, column]
    value = grid.data[row, column][is_judged]
    is_near, is_unknown = range_m[is_judged] <= FOOTPRINT_NEAR_M, value == OCCUPANCY_UNKNOWN
    return FootprintCells(
        num_all=int(is_counted.sum()),
        num_left_out=int(is_counted.sum() - is_judged.sum()),
        num_judged=int(is_judged.sum()),
        num_lethal=int((value == OCCUPANCY_LETHAL).sum()),
        num_unknown=int(is_unknown.sum()),
        num_near=int(is_near.sum()),
        num_near_unknown=int((is_near & is_unknown).sum()),
    )


def cells_of_box(grid, box, margin_m=0.0):
    """
    Return the rows and columns of the cells whose middle is within `margin_m` of a box.

    Parameters
    ----------
    grid : CostGrid
        Only its place, size and resolution matter.
    box : (center (2,), size (2,), yaw)
        In the frame of the grid.
    margin_m : float
        From the sides of the box, and in a quarter circle from its corners.

    Returns
    -------
    row, column : (K,) int64
        Within the grid.

    """
    center, size, yaw = box
    half = np.asarray(size, np.float64) / 2
    place = (np.asarray(center, np.float64) - grid.origin_xy_m) / grid.resolution_m
    reach = (np.hypot(*half) + margin_m) / grid.resolution_m
    shape_xy = grid.data.shape[::-1]
    low = np.clip(np.floor(place - reach), 0, shape_xy).astype(int)
    high = np.clip(np.ceil(place + reach), 0, shape_xy).astype(int)
    x = (np.arange(low[0], high[0]) + 0.5 - place[0])[None] * grid.resolution_m
    y = (np.arange(low[1], high[1]) + 0.5 - place[1])[:, None] * grid.resolution_m
    along = np.abs(np.cos(yaw) * x + np.sin(yaw) * y) - half[0]
    across = np.abs(np.cos(yaw) * y - np.sin(yaw) * x) - half[1]
    beyond_m = np.hypot(np.maximum(along, 0), np.maximum(across, 0))
    row, column = np.nonzero(beyond_m <= margin_m)
    return row + low[1], column + low[0]


def _cell_middle(grid, row, column):
    return (np.stack((column, row), axis=1) + 0.5) * grid.resolution_m + grid.origin_xy_m


def _body(odom_from_base, ground, width_m):
    """Return the outline of the vehicle as a box (center, size, yaw) in odom."""
    middle = np.array((ground.self_center_x_m, ground.self_center_y_m, 0.0))
    size = (ground.self_length_m, width_m)
    return apply(odom_from_base, middle)[:2], size, yaw_of(odom_from_base)


def _later(poses):
    """Return the poses after the first until the vehicle is first out of reach."""
    later, place = [], poses[0][:2, 3]
    for pose in poses[1:]:
        if np.hypot(*(pose[:2, 3] - place)) >= POSE_STEP_M:
            later.append(pose)
            place = pose[:2, 3]
        if np.hypot(*(place - poses[0][:2, 3])) > FOOTPRINT_TO_M:
            break  # what it drives over on a way back was another moment's footprint
    return later


def _evidence(truth, sweep, path_cost):
    """Return the BoxEvidence of the boxes that a labeller drew."""
    keep = ~truth.is_ignored & ~is_added(truth)
    center, size, yaw = truth.center[keep], truth.size[keep], truth.yaw[keep]
    is_inside = points_in_boxes(sweep.points_base, center, size, yaw)
    grid = path_cost.grid
    center_odom, yaw_odom = transform_boxes(sweep.odom_from_base, center, yaw)
    boxes = list(zip(center_odom[:, :2], size[:, :2], yaw_odom, strict=True))
    cell = (center_odom[:, :2] - grid.origin_xy_m) / grid.resolution_m
    return BoxEvidence(
        kinds=np.array(truth.kinds, object)[keep],
        center_xy=center_odom[:, :2],
        size_xy=size[:, :2],
        yaw=yaw_odom,
        range_m=np.hypot(*(center - sweep.base_from_lidar[:3, 3])[:, :2].T),
        num_points=is_inside.sum(axis=1),
        num_obstacle=(is_inside & path_cost.split.is_obstacle).sum(axis=1),
        is_in_grid=((cell >= 0) & (cell < grid.data.shape[::-1])).all(axis=1),
        has_lethal=np.array([_has_lethal(grid, box) for box in boxes], bool),
    )


def _has_lethal(grid, box):
    # A point just inside the box may lie in a cell whose middle is just outside.
    return bool(
        (grid.data[cells_of_box(grid, box, grid.resolution_m / 2)] == OCCUPANCY_LETHAL).any()
    )


def _footprint_metrics(cells):
    return {
        'footprint_lethal_share': _share(cells, 'num_lethal', 'num_judged'),
        'footprint_left_out_share': _share(cells, 'num_left_out', 'num_all'),
        'footprint_unknown_share': _share(cells, 'num_unknown', 'num_judged'),
        'footprint_unknown_share_within_10m': _share(cells, 'num_near_unknown', 'num_near'),
        'footprint_sweeps_with_lethal': Metric(
            value=sum(cell.num_lethal > 0 for cell in cells),
            count=sum(cell.num_judged > 0 for cell in cells),
        ),
    }


def _share(cells, part, whole):
    """Return a share in percent over all sweeps with its interval; count: cells."""
    part, whole = (
        np.array([getattr(cell, name) for cell in cells], np.float64) for name in (part, whole)
    )

    def percent(weights):
        total = (whole * weights).sum()
        return 100.0 * float((part * weights).sum() / total) if total else None

    low, high = bootstrap(len(cells), percent)
    value = percent(np.ones(len(cells)))
    return Metric(value=value, low=low, high=high, count=int(whole.sum()))


def _box_metrics(evidence):
    """Return missed boxes of all kinds, then frames with points and lethal cells by kind."""
    column = {
        name: np.concatenate([getattr(boxes, name) for boxes in evidence])
        for name in ('kinds', 'range_m', 'num_points', 'num_obstacle', 'is_in_grid', 'has_lethal')
    }
    is_near = (column['range_m'] <= MISSED_RANGE_M) & column['is_in_grid']
    is_near &= column['num_points'] >= MISSED_MIN_POINTS
    metrics = {'boxes_without_lethal_cell': _count(~column['has_lethal'], is_near)}
    for kind in sorted(set(column['kinds'])):
        is_seen = (column['kinds'] == kind) & (column['num_points'] >= KIND_MIN_POINTS)
        in_grid = is_seen & column['is_in_grid']
        metrics[f'{kind}_obstacle_points'] = _count(column['num_obstacle'] > 0, is_seen)
        metrics[f'{kind}_lethal'] = _count(column['has_lethal'], in_grid)
    return metrics


def _count(is_so, of):
    return Metric(value=int((is_so & of).sum()), count=int(of.sum()))
