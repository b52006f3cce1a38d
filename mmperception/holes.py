# SPDX-License-Identifier: Apache-2.0
"""
Negative obstacles: holes and steps down, where rays show them. Used by `cost.py`.

A ray that ends well below the ground went through the ground's level on its way: at that place
there is no ground. A mirror image in a wet road looks the same to one ray, but there other rays
end on the road around it, so cells beside seen ground are no holes. The height map may also be
too high, behind the top of a low block: what lies on the plane around the robot is no hole.
"""

import numpy as np

# Deeper ends are reflections, or the world below a bridge: nothing to drive into from here.
DEEPEST_M = 3.0


# A hole is this share of its depth below the plane around the robot, too.
BELOW_PLANE = 0.7


def find_holes(x, y, ground, sweep, config):
    """
    Return where rays crossed the level of the ground on their way below it.

    Parameters
    ----------
    x, y : (N,) float32
        Ends of rays relative to the LiDAR.
    ground : Ground
        Of the same points.
    sweep : Sweep
        With the points in `base_link`.
    config : GroundConfig
        With the least depth and the range.

    Returns
    -------
    x, y : (M,) float32
        Relative to the LiDAR, within `hole_range_m`.

    """
    height_m, lidar_height_m = ground.split.height_m, np.float32(sweep.lidar_origin_base[2])
    if not config.hole_depth_m:
        return x[:0], y[:0]
    is_below = height_m < -config.hole_depth_m
    is_below &= height_m > -DEEPEST_M
    below = np.flatnonzero(is_below)
    above_plane_m = sweep.points_base[below] @ np.append(-ground.plane[1:], 1) - ground.plane[0]
    below = below[above_plane_m < -BELOW_PLANE * config.hole_depth_m]
    share = lidar_height_m / (lidar_height_m - height_m[below])
    x, y = x[below] * share, y[below] * share
    is_near = x * x + y * y < np.float32(config.hole_range_m**2)
    return x[is_near], y[is_near]
