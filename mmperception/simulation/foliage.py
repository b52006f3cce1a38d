# SPDX-License-Identifier: Apache-2.0
"""
Loose tufts of leaves on crowns and hedges, for pictures only.

Crowns are smooth balls to the LiDAR; a camera would see their flat faces and straight outlines.
Each leafy face near the camera gets a few small triangles that stick out of it. Where they stand
follows from the place of the face alone, so that they stay put from one picture to the next.
"""

from mmperception.simulation import materials
import numpy as np

REACH_M = 60.0
TUFTS_PER_M2 = 30
MAX_PER_FACE = 16


def tufts(scene, eye):
    """
    Make the tufts of all leafy faces near the camera.

    Parameters
    ----------
    scene : Scene
        World frame; only faces of foliage and hedge grow any.
    eye : (3,) float64
        The camera, world frame.

    Returns
    -------
    triangles : (N, 3, 3) float64
    source : (N,) int64
        The face that each tuft grows on.
    uv : (N, 3, 2) float32
    normals : (N, 3) float32
        Leaning with the face they grow on, so that a crown keeps its bright and dark side.

    """
    leafy = np.isin(materials.material_of(scene.codes), (materials.FOLIAGE, materials.HEDGE))
    middle = scene.triangles.mean(axis=1)
    leafy &= np.abs(middle - eye).max(axis=1) < REACH_M
    face = np.flatnonzero(leafy)
    corners = scene.triangles[face]
    area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    counts = np.clip(np.round(area / 2 * TUFTS_PER_M2), 1, MAX_PER_FACE).astype(np.int64)
    source = np.repeat(face, counts)
    nth = np.arange(len(source)) - np.repeat(np.cumsum(counts) - counts, counts)
    dice = _dice(middle[source], nth, 12)
    root = _inside(scene.triangles[source], dice[:, :2])
    root += scene.normals[source] * (0.10 * dice[:, 2:3] - 0.02)
    along = _direction(dice[:, 3:5]) * (0.06 + 0.10 * dice[:, 5:6])
    across = np.cross(along, _direction(dice[:, 6:8])) * 0.9
    triangles = np.stack(
        (root + along, root - 0.6 * along + across, root - 0.6 * along - across), 1
    )
    size = np.linalg.norm(along, axis=1)[:, None, None]
    shape = np.array([(0.0, 1.0), (0.7, -0.6), (-0.7, -0.6)])
    uv = (shape * size + 2.6 * dice[:, None, 8:10]).astype(np.float32)
    leaning = scene.corner_normals[source].mean(axis=1) + 0.55 * _direction(dice[:, 10:12])
    leaning /= np.maximum(np.linalg.norm(leaning, axis=1, keepdims=True), 1e-6)
    return triangles, source, uv, leaning.astype(np.float32)


def _dice(places, nth, num):
    """Return (N, num) float64 in 0..1 that depend on the place (N, 3) and the count alone."""
    cells = np.round(places * 100).astype(np.int64).astype(np.uint64)
    key = cells @ np.array([73856093, 19349663, 83492791], np.uint64)
    key = key + nth.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    out = np.empty((len(key), num))
    for column in range(num):
        # The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
        key = key + np.uint64(0x9E3779B97F4A7C15)
        z = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        out[:, column] = ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) / 2.0**53
    return out


def _inside(triangles, dice):
    """Return a point of each triangle, evenly spread."""
    root = np.sqrt(dice[:, 0:1])
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    return a * (1 - root) + b * root * (1 - dice[:, 1:2]) + c * root * dice[:, 1:2]


def _direction(dice):
    """Return unit vectors (N, 3), evenly spread over the sphere."""
    z = 2 * dice[:, 0] - 1
    angle = 2 * np.pi * dice[:, 1]
    flat = np.sqrt(1 - z * z)
    return np.stack((flat * np.cos(angle), flat * np.sin(angle), z), axis=1)
