# SPDX-License-Identifier: Apache-2.0
"""
Truth of one simulated sweep: which actors were seen, where, and how hidden they were.

Two ways to say where: at the stamp (for sweeps with point times, which are deskewed), or where
an uncorrected sweep shows each object, as people label recordings without point times.
"""

from mmperception.geometry import invert, transform_boxes
from mmperception.recording import Truth
import numpy as np

# Shares of an actor's rays that come back: fewer than the first is partly hidden (1), than the
# second largely (2). Glass and dark paint swallow some even when nothing stands in front.
_PARTLY, _LARGELY = 0.60, 0.25


def boxes_as_seen(moment, path, base_from_lidar):
    """
    Return the actors' boxes in `base_link`, where an uncorrected sweep shows them.

    Parameters
    ----------
    moment : street.Moment
        The street at the stamp.
    path : lidar.SweepPath
        Of the sensor during the sweep.
    base_from_lidar : (4, 4) float64
        Mounting: maps the sensor's coordinates to `base_link`.

    Returns
    -------
    center : (A, 3) float32
    yaw : (A,) float32

    """
    lidar_from_world = invert(path.world_from_lidar)
    center, yaw = transform_boxes(lidar_from_world, moment.centers, moment.yaws)
    velocity = (moment.velocity @ lidar_from_world[:3, :3].T).astype(np.float32)
    center, time_s = path.as_seen(center, velocity)
    turned = path.poses(time_s)
    yaw = yaw - np.arctan2(turned[:, 1, 0], turned[:, 0, 0])
    return transform_boxes(base_from_lidar, center, yaw)


def boxes_at_stamp(moment, world_from_base):
    """Return the actors' boxes in `base_link` where they are at the stamp: (A, 3), (A,)."""
    return transform_boxes(invert(world_from_base), moment.centers, moment.yaws)


def truth_of(moment, sweep, boxes, stamp_ns):
    """
    Return the truth of one sweep: every actor of which at least one point was measured.

    `boxes` (center, yaw) in `base_link`, by one of the two functions above.
    """
    center, yaw = boxes
    seen = np.flatnonzero(sweep.hits > 0)
    share = sweep.hits[seen] / np.maximum(sweep.reached[seen], 1)
    occlusion = (share < _PARTLY).astype(np.int64) + (share < _LARGELY)
    return Truth(
        stamp_ns=stamp_ns,
        center=center[seen].astype(np.float32).reshape(-1, 3),
        size=moment.sizes[seen].astype(np.float32).reshape(-1, 3),
        yaw=yaw[seen].astype(np.float32).reshape(-1),
        kinds=tuple(moment.actors[k].kind for k in seen),
        occlusion=occlusion,
        object_id=tuple(moment.actors[k].object_id for k in seen),
        is_ignored=np.zeros(len(seen), bool),
    )
