# SPDX-License-Identifier: Apache-2.0
"""
Negative obstacles: holes and steps down, where rays show them. Used by `evidence.py`.

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
# So many cells close together are a hole: less may be a mirror image.
HOLE_CELLS = 12


def find_holes(points, ground, lidar_height_m, config):
    """
    Return where rays crossed the level of the ground on their way below it.

    Parameters
    ----------
    points : PolarPoints
        Ends of rays.
    ground : Ground
        Of the same points.
    lidar_height_m : float
        Above the ground at the robot.
    config : GroundConfig
        With the least depth and the range.

    Returns
    -------
    x, y : (M,) float32
        Relative to the LiDAR, within `hole_range_m`; none where there are too few for a hole.

    """
    if not config.hole_depth_m:
        return points.x[:0], points.y[:0]
    below = np.flatnonzero(ground.split.height_m < -config.hole_depth_m)
    if len(below) < HOLE_CELLS:
        return points.x[:0], points.y[:0]
    x, y, height_m = (array.take(below) for array in (points.x, points.y, ground.split.height_m))
    level, along_x, along_y = ground.plane
    above_plane_m = points.z[below] - level - along_x * x - along_y * y
    is_hole = height_m > -DEEPEST_M
    is_hole &= above_plane_m < -BELOW_PLANE * config.hole_depth_m
    share = np.float32(lidar_height_m) / (np.float32(lidar_height_m) - height_m)
    x, y = (x * share)[is_hole], (y * share)[is_hole]
    is_near = x * x + y * y < np.float32(config.hole_range_m**2)
    return x[is_near], y[is_near]
