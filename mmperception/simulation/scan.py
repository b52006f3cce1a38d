# SPDX-License-Identifier: Apache-2.0
"""
Which face each pixel of a camera sees, by scan conversion.

Every triangle becomes the exact run of pixel centres it covers in each image row; the nearest
wins (the depth buffer of Catmull 1974, with inverse depth, which is linear in the image). Same
answer as casting one ray a pixel, at a fraction of the work: no pair of ray and triangle is
tried in vain. Camera pictures only; the LiDAR, whose origin moves, casts rays.
"""

import numpy as np

NEAR_M = 0.15
NO_FACE = -1


def visible_faces(corners, intrinsics, width, height):
    """
    Find the nearest face at every pixel centre.

    Parameters
    ----------
    corners : (F, 3, 3) float64
        Triangles in the camera's optical frame, metres.
    intrinsics : (3, 3) float64
        Pixels, without distortion; may be skewed.
    width, height : int
        Pixels.

    Returns
    -------
    face : (H, W) int64
        Index into the triangles, -1 where nothing is seen.

    """
    corners, source = _clip_near(corners)
    x = intrinsics[0, 0] * corners[:, :, 0] / corners[:, :, 2] + intrinsics[0, 2]
    y = intrinsics[1, 1] * corners[:, :, 1] / corners[:, :, 2] + intrinsics[1, 2]
    x += intrinsics[0, 1] * corners[:, :, 1] / corners[:, :, 2]
    inverse = 1 / corners[:, :, 2]
    is_seen = (x.max(1) >= 0) & (x.min(1) <= width - 1) & (y.max(1) >= 0)
    is_seen &= y.min(1) <= height - 1
    x, y, inverse, source = x[is_seen], y[is_seen], inverse[is_seen], source[is_seen]
    edges, depth = _linear_forms(x, y, inverse)
    is_flat = np.isfinite(depth).all(axis=1)
    if not is_flat.all():
        edges, depth, y, source = edges[is_flat], depth[is_flat], y[is_flat], source[is_flat]
    triangle, row, first, last = _runs(edges, y, width, height)
    return _nearest((triangle, row, first, last), depth, source, (height, width))


def plane_forms(corners):
    """
    Return (F, 3) float64 n with `n . ray = 1 / depth` for rays (x, y, 1) onto each triangle.

    Zero for triangles seen exactly edge-on.
    """
    a = corners[:, 0]
    normal = np.cross(corners[:, 1] - a, corners[:, 2] - a)
    distance = np.sum(normal * a, axis=1, keepdims=True)
    return np.divide(normal, distance, out=np.zeros_like(normal), where=np.abs(distance) > 1e-12)


def _clip_near(corners):
    """Cut off what lies nearer than the near plane; return triangles and their source face."""
    z = corners[:, :, 2]
    in_front = z > NEAR_M
    num_front = in_front.sum(axis=1)
    whole = np.flatnonzero(num_front == 3)
    parts, sources = [corners[whole]], [whole]
    for num in (1, 2):
        index = np.flatnonzero(num_front == num)
        if not index.size:
            continue
        # Turn each triangle so that the odd one out is corner 0.
        odd = np.argmax(in_front[index] == (num == 1), axis=1)
        order = (odd[:, None] + np.arange(3)) % 3
        a, b, c = np.moveaxis(np.take_along_axis(corners[index], order[:, :, None], 1), 1, 0)
        ab, ac = _cut(a, b), _cut(a, c)
        if num == 1:
            parts.append(np.stack((a, ab, ac), axis=1))
            sources.append(index)
        else:
            parts += [np.stack((ab, b, c), axis=1), np.stack((ab, c, ac), axis=1)]
            sources += [index, index]
    return np.concatenate(parts), np.concatenate(sources)


def _cut(start, end):
    """Return where lines from `start` to `end` (N, 3) meet the near plane."""
    part = (NEAR_M - start[:, 2]) / (end[:, 2] - start[:, 2])
    point = start + part[:, None] * (end - start)
    point[:, 2] = NEAR_M
    return point


def _linear_forms(x, y, inverse):
    """
    Return edge functions (N, 3, 3) and inverse depth (N, 3), each as a x + b y + c.

    Edge functions are not negative inside; degenerate triangles get a depth that is not finite.
    """
    x1, y1 = np.roll(x, -1, axis=1), np.roll(y, -1, axis=1)
    a, b = y - y1, x1 - x
    edges = np.stack((a, b, -(a * x + b * y)), axis=2)
    area = edges[:, 0, 0] * x[:, 2] + edges[:, 0, 1] * y[:, 2] + edges[:, 0, 2]
    edges *= np.sign(area)[:, None, None]
    # Edge k runs from corner k to k + 1, so it weighs corner k + 2.
    weights = np.roll(inverse, -2, axis=1)
    with np.errstate(divide='ignore', invalid='ignore'):
        depth = np.einsum('nkc,nk->nc', edges, weights) / np.abs(area)[:, None]
    return edges, depth


def _runs(edges, y, width, height):
    """Return triangle, row, first and last column of every run of covered pixel centres."""
    top = np.maximum(np.ceil(y.min(axis=1)), 0).astype(np.int64)
    bottom = np.minimum(np.floor(y.max(axis=1)), height - 1).astype(np.int64)
    counts = np.maximum(bottom - top + 1, 0)
    triangle = np.repeat(np.arange(len(y)), counts)
    row = np.arange(len(triangle)) - np.repeat(np.cumsum(counts) - counts - top, counts)
    low = np.full(len(row), 0.0)
    high = np.full(len(row), width - 1.0)
    for k in range(3):
        a = edges[triangle, k, 0]
        rest = edges[triangle, k, 1] * row + edges[triangle, k, 2]
        with np.errstate(divide='ignore', invalid='ignore'):
            crossing = -rest / a
        low = np.where(a > 0, np.maximum(low, crossing), low)
        high = np.where(a < 0, np.minimum(high, crossing), high)
        high = np.where((a == 0) & (rest < 0), -1, high)
    first, last = np.ceil(low - 1e-9).astype(np.int64), np.floor(high + 1e-9).astype(np.int64)
    keep = last >= first
    return triangle[keep], row[keep], first[keep], last[keep]


def _nearest(runs, depth, source, shape):
    """Walk all runs and keep the face of greatest inverse depth at each pixel."""
    triangle, row, first, last = runs
    length = last - first + 1
    run = np.repeat(np.arange(len(length)), length)
    offset = np.arange(len(run)) - np.repeat(np.cumsum(length) - length, length)
    at_start = depth[triangle, 0] * first + depth[triangle, 1] * row + depth[triangle, 2]
    inverse = (at_start[run] + depth[triangle, 0][run] * offset).astype(np.float32)
    pixel = (row * shape[1] + first)[run] + offset
    # Positive floats order like the integers of their bits: one maximum finds depth and face.
    key = (inverse.view(np.int32).astype(np.int64) << 32) | source[triangle][run]
    best = np.full(shape[0] * shape[1], -1, np.int64)
    np.maximum.at(best, pixel, key)
    return np.where(best < 0, NO_FACE, best & 0xFFFFFFFF).reshape(shape)
