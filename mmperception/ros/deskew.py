# SPDX-License-Identifier: Apache-2.0
"""
Move the points of a sweep to where they would have been measured at its header stamp.

A spinning LiDAR measures for a tenth of a second while the robot drives. Poses are taken every
10 ms and blended to a transform for every millisecond, of which each point uses one: within half
a millisecond of motion, and a fraction of a millimetre for the blending.
"""

from dataclasses import replace

from mmperception.geometry import invert
import numpy as np

KNOT_NS, SLOT_NS = 10_000_000, 1_000_000


def deskew(cloud, base_from_lidar, odom_from_base):
    """
    Undo the robot's motion within a sweep.

    Parameters
    ----------
    cloud : PointCloud
        With `time_ns` for each point, or without.
    base_from_lidar : (4, 4) float64
        Mounting of the sensor, constant during the sweep.
    odom_from_base : callable
        Takes a stamp (ns), returns (4, 4) float64.

    Returns
    -------
    PointCloud
        The same sweep, its points as at `stamp_ns`; unchanged without point times.

    Raises
    ------
    LookupError
        If `odom_from_base` does not know the sweep's time.

    """
    if cloud.time_ns is None or not cloud.time_ns.any():
        return cloud
    begin_ns, end_ns = int(cloud.time_ns.min()), int(cloud.time_ns.max())
    odom_from_lidar = odom_from_base(cloud.stamp_ns) @ base_from_lidar
    # The last knot is the last point: nothing is asked of a time that is not needed.
    knots_ns = np.append(np.arange(begin_ns, end_ns, KNOT_NS), end_ns)
    lidar_from_lidar_then = np.stack(
        [
            invert(odom_from_lidar) @ odom_from_base(cloud.stamp_ns + int(knot)) @ base_from_lidar
            for knot in knots_ns
        ]
    )
    slots_ns = np.arange(begin_ns + SLOT_NS // 2, end_ns + SLOT_NS, SLOT_NS)
    table = _blend(lidar_from_lidar_then, knots_ns, slots_ns).astype(np.float32)
    slot = ((cloud.time_ns - begin_ns) * (1 / SLOT_NS)).astype(np.intp)
    return replace(cloud, points=_apply_by_slot(table, slot, cloud.points))


def _apply_by_slot(table, slot, points):
    """
    Apply to each point the transform of its slot.

    Coefficient by coefficient into one buffer: the table fits the first cache, and it takes a
    tenth of the time of gathering (N, 3, 4) matrices.
    """
    columns = np.ascontiguousarray(points.T)
    coefficients = np.ascontiguousarray(table[:, :3].transpose(1, 2, 0))  # (3, 4, S)
    moved = np.empty_like(columns)
    factor = np.empty(len(points), np.float32)
    for row in range(3):
        # Slots are in range: mode `clip` only spares NumPy a copy of the buffer.
        np.take(coefficients[row, 3], slot, out=moved[row], mode='clip')
        for axis in range(3):
            np.take(coefficients[row, axis], slot, out=factor, mode='clip')
            factor *= columns[axis]
            moved[row] += factor
    return np.ascontiguousarray(moved.T)


def _blend(transforms, knots_ns, slots_ns):
    """Return (S, 4, 4) by linear interpolation of (K, 4, 4), held at both ends."""
    if len(transforms) == 1:
        return np.repeat(transforms, len(slots_ns), axis=0)
    clipped = np.clip(slots_ns, knots_ns[0], knots_ns[-1])
    after = np.clip(np.searchsorted(knots_ns, clipped), 1, len(knots_ns) - 1)
    span = knots_ns[after] - knots_ns[after - 1]
    fraction = ((clipped - knots_ns[after - 1]) / span)[:, None, None]
    return (1 - fraction) * transforms[after - 1] + fraction * transforms[after]
