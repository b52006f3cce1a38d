# SPDX-License-Identifier: Apache-2.0
"""
Signs of simulated drives, whose plates are known: found, read, and how far off they are placed.

A plate counts while the whole of it is in the image, at least 16 px wide, within 5 to 40 m;
hidden ones too. Positions are those of one image, before tracking; each is placed twice, with the
sweep and as if there were no LiDAR. A track without LiDAR has the bearings of earlier images too.
"""

from dataclasses import dataclass, replace

from mmperception.config import Config
from mmperception.evaluation.metrics import Metric
from mmperception.geometry import apply, invert, project
from mmperception.sign_range import LIDAR, place_sign, SweepPoints
from mmperception.sign_stage import SignStage
from mmperception.signs import box_ious
from mmperception.simulation.drive import SimulatedDrive
from mmperception.simulation.sign_plates import plates_of
import numpy as np

MIN_WIDTH_PX, RANGE_M, JUDGED_RANGE_M = 16.0, (5.0, 40.0), (12.0, 25.0)
MIN_IOU = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One plate in one image; without `source` it was not found."""

    range_m: float
    source: str = ''
    error_m: float = 0.0
    by_size_error_m: float = 0.0
    by_track_error_m: float | None = None
    is_read: bool = False


def judge_signs(seed, seconds, reader, settings):
    """
    Look for the signs of one simulated drive.

    Parameters
    ----------
    seed : int
        Of the drive.
    seconds : float
        Its length.
    reader : SignReader
        Finds and reads.
    settings : SignsConfig
        Thresholds.

    Returns
    -------
    list of Sighting

    """
    drive, sightings = SimulatedDrive(seconds, seed), []
    street, ego, _ = drive._scene
    plates, odom_from_world = plates_of(street), invert(ego.pose(0.0))
    stage = SignStage(reader, Config(signs=replace(settings, every=1)))
    for sample in drive.samples():
        frame = sample.frame
        view = frame.cameras[0]
        blind = replace(frame, cloud=None, base_from_lidar=None)
        sweeps = SweepPoints(frame), SweepPoints(blind)
        found = reader.find(view.image.pixels, settings.score_threshold / 2, settings.max_read)
        followed = stage.look(blind)
        base_from_world = invert(frame.odom_from_base) @ odom_from_world
        for class_id, corners in plates:
            shown = _shown(apply(base_from_world, corners), view)
            if shown is not None:
                one = _judge(shown, class_id, found, (view, sweeps, settings))
                sightings.append(replace(one, by_track_error_m=_tracked(shown, followed, view)))
    return sightings


def _shown(corners, view):
    """Return box, middle and range of a plate that counts, else None."""
    pixels, depth_m = project(apply(view.camera_from_base, corners), view.model)
    low, high = pixels.min(0) + 0.5, pixels.max(0) + 0.5
    middle = (corners.min(0) + corners.max(0)) / 2
    range_m = float(np.linalg.norm(apply(view.camera_from_base, middle[None])))
    is_inside = low.min() >= 0 and (high <= (view.model.width, view.model.height)).all()
    is_shown = depth_m.min() > 1 and is_inside and RANGE_M[0] < range_m < RANGE_M[1]
    if not is_shown or high[0] - low[0] < MIN_WIDTH_PX:
        return None
    return np.concatenate((low, high)), middle, range_m


def _judge(shown, class_id, found, place):
    box, middle, range_m = shown
    view, sweeps, settings = place
    if not len(found.boxes):
        return Sighting(range_m=range_m)
    overlap = box_ious(box, found.boxes)
    best = int(overlap.argmax())
    if overlap[best] < MIN_IOU or found.score[best] < settings.score_threshold:
        return Sighting(range_m=range_m)
    placed, by_size = (
        place_sign(found.boxes[best], class_id, view, sweep, settings.min_points)
        for sweep in sweeps
    )
    return Sighting(
        range_m=range_m,
        source=placed.source,
        error_m=float(np.linalg.norm(placed.position - middle)),
        by_size_error_m=float(np.linalg.norm(by_size.position - middle)),
        is_read=bool(found.class_id[best] == class_id),
    )


def _tracked(shown, followed, view):
    """Return how far the track of a plate is off, None without one."""
    box, middle, _ = shown
    signs, boxes = followed[0], followed[1][view.name]
    overlap = box_ious(box, boxes.boxes) if len(boxes) else np.zeros(0)
    if not len(overlap) or overlap.max() < MIN_IOU:
        return None
    own = np.flatnonzero(signs.track_id == boxes.track_id[overlap.argmax()])
    return float(np.linalg.norm(signs.position[own[0]] - middle)) if len(own) else None


def sighting_metrics(sightings):
    """
    Return Metrics by name: shares in percent, errors in metres or percent of the range.

    `size_error_percent` is that of all found signs, each placed without the LiDAR;
    `track_error_percent` that of their confirmed tracks without the LiDAR.
    """
    found = [one for one in sightings if one.source]
    metrics = {
        'sign_sightings_found': Metric(value=_share(found, sightings), count=len(sightings)),
        'sign_sightings_read': Metric(
            value=_share([one for one in found if one.is_read], found), count=len(found)
        ),
    }
    low, high = JUDGED_RANGE_M
    errors = [o.error_m for o in found if o.source == LIDAR and low <= o.range_m <= high]
    metrics['lidar_error_m_p50'], metrics['lidar_error_m_p90'] = _percentiles(errors)
    errors = [100.0 * one.by_size_error_m / one.range_m for one in found]
    metrics['size_error_percent_p50'], metrics['size_error_percent_p90'] = _percentiles(errors)
    errors = [
        100.0 * one.by_track_error_m / one.range_m
        for one in sightings
        if one.by_track_error_m is not None
    ]
    metrics['track_error_percent_p50'], metrics['track_error_percent_p90'] = _percentiles(errors)
    return metrics


def _share(part, whole):
    return 100.0 * len(part) / len(whole) if whole else None


def _percentiles(errors):
    values = np.percentile(errors, (50, 90)).tolist() if errors else (None, None)
    return [Metric(value=value, count=len(errors)) for value in values]
