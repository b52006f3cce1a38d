# SPDX-License-Identifier: Apache-2.0
"""A LiDAR over a plane with upright boxes, by closed formulas: known answers for the tests."""

import numpy as np

MOUNT = np.array([0.8, -0.3, 1.73])


def scan(boxes=(), *, slope=(0.0, 0.0), origin=MOUNT, num_rings=48, num_azimuths=900):
    """
    Scan a world and return the points (N, 3) float32 in the frame in which it is given.

    Parameters
    ----------
    boxes : sequence of (x0, y0, z0, x1, y1, z1)
        Axis-aligned, metres.
    slope : (float, float)
        Rise of the ground plane per metre along x and y.
    origin : (3,)
        Where the LiDAR stands.
    num_rings, num_azimuths : int
        Rings lie between +3 and -25 degrees; ranges have a noise of 1 cm.

    """
    down = np.radians(np.linspace(3.0, -25.0, num_rings))[:, None]
    turn = (np.arange(num_azimuths) + 0.5) * 2 * np.pi / num_azimuths
    rays = np.stack(np.broadcast_arrays(np.cos(down) * np.cos(turn), np.cos(down) * np.sin(turn),
                                        np.sin(down)), axis=-1).reshape(-1, 3)  # fmt: skip
    origin = np.asarray(origin, np.float64)
    normal = np.array([-slope[0], -slope[1], 1.0])
    with np.errstate(divide='ignore', invalid='ignore'):
        distance = -(normal @ origin) / (rays @ normal)
        distance[~(distance > 0)] = np.inf
        for box in np.asarray(boxes, np.float64).reshape(-1, 6):
            near, far = np.sort(((box[:3] - origin) / rays, (box[3:] - origin) / rays), axis=0)
            enter, leave = near.max(axis=1), far.min(axis=1)
            is_hit = (enter <= leave) & (enter > 0)
            distance = np.where(is_hit, np.minimum(distance, enter), distance)
    distance += np.random.default_rng(0).normal(0, 0.01, len(distance))
    keep = distance < 80
    return (origin + rays[keep] * distance[keep, None]).astype(np.float32)
