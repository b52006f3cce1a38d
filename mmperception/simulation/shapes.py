# SPDX-License-Identifier: Apache-2.0
"""
The solids from which everything in the street is put together.

Boxes, tubes along a path, lofts between cross-sections, bumpy balls, flat polygons: each returns
a closed `Mesh` (polygons: one side) with outward normals. NumPy, since shapes are small.
"""

from functools import lru_cache

from mmperception.simulation.mesh import mesh_from_arrays
import numpy as np

_BOX_FACES = [(0, 2, 1), (0, 3, 2), (4, 5, 6), (4, 6, 7), (0, 1, 5), (0, 5, 4),
              (1, 2, 6), (1, 6, 5), (2, 3, 7), (2, 7, 6), (3, 0, 4), (3, 4, 7)]  # fmt: skip
_BOX_SIGNS = [(-1, -1, -1), (1, -1, -1), (1, 1, -1), (-1, 1, -1),
              (-1, -1, 1), (1, -1, 1), (1, 1, 1), (-1, 1, 1)]  # fmt: skip


def box(center, size, material):
    """Return an upright box: `center` and `size` are three metres each."""
    corners = np.asarray(center) + np.array(_BOX_SIGNS) * np.asarray(size) / 2
    return mesh_from_arrays(corners, _BOX_FACES, material)


def polygon(points, material, uv=None):
    """
    Return a flat convex polygon that is seen from the side it winds counter-clockwise on.

    `points` (K, 3); `uv` (K, 2) texture coordinates or None for metres.
    """
    second = np.arange(1, len(points) - 1)
    faces = np.stack((np.zeros_like(second), second, second + 1), axis=1)
    return mesh_from_arrays(points, faces, material, None if uv is None else np.array(uv)[faces])


def panel(corners, material):
    """Return a quad of four corners, from lower left counter-clockwise, with uv 0..1."""
    return polygon(corners, material, ((0, 0), (1, 0), (1, 1), (0, 1)))


def loft(sections, material, closed=True):
    """
    Skin a row of cross-sections.

    Parameters
    ----------
    sections : (S, K, 3) array
        Loops of K points each, counter-clockwise when seen against the direction of travel.
    material : int or (S - 1, K) array
        Code of all faces, or of each quad between two sections.
    closed : bool
        Cap the first and the last section (by a fan around its middle).

    Returns
    -------
    Mesh

    """
    sections = np.asarray(sections, np.float64)
    S, K = sections.shape[:2]
    codes = np.broadcast_to(np.asarray(material), (S - 1, K)).reshape(-1)
    first = (np.arange(S - 1)[:, None] * K + np.arange(K)).reshape(-1)
    second = (np.arange(S - 1)[:, None] * K + (np.arange(K) + 1) % K).reshape(-1)
    faces = [np.stack((first, second, second + K), 1), np.stack((first, second + K, first + K), 1)]
    codes = [codes, codes]
    vertices = sections.reshape(-1, 3)
    if closed:
        middles = sections[[0, -1]].mean(axis=1)
        vertices = np.concatenate((vertices, middles))
        loop, after = np.arange(K), (np.arange(K) + 1) % K
        end = (S - 1) * K
        faces.append(np.stack((after, loop, np.full(K, S * K)), 1))
        faces.append(np.stack((loop + end, after + end, np.full(K, S * K + 1)), 1))
        codes += [np.full(K, codes[0][0]), np.full(K, codes[0][-1])]
    return mesh_from_arrays(vertices, np.concatenate(faces), np.concatenate(codes))


def tube(points, radii, material, sides=6):
    """
    Return a closed tube along a path.

    Parameters
    ----------
    points : (S, 3) array
        The middle line.
    radii : (S,) or (S, 2) array or float
        Round, or across the two directions square to the path (the first is the more
        horizontal one).
    material : int
        `materials.code`, of the ends too.
    sides : int
        Corners of the cross-section.

    Returns
    -------
    Mesh

    """
    points = np.asarray(points, np.float64)
    radii = np.broadcast_to(np.asarray(radii, np.float64).T, (2, len(points))).T
    travel = np.gradient(points, axis=0)
    travel /= np.linalg.norm(travel, axis=1, keepdims=True)
    mean = travel.mean(axis=0)
    helper = np.array((1.0, 0, 0)) if abs(mean[2]) > 0.9 * np.linalg.norm(mean) else (0, 0, 1.0)
    across = np.cross(helper, travel)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    other = np.cross(travel, across)
    angle = np.arange(sides) * 2 * np.pi / sides + np.pi / sides
    loops = (
        points[:, None]
        + across[:, None] * (np.cos(angle)[:, None] * radii[:, None, :1])
        + other[:, None] * (np.sin(angle)[:, None] * radii[:, None, 1:])
    )
    return loft(loops, material)


def ring(center, radius, thickness, material):
    """Return an upright wheel rim in the x-z plane: a thin square tube bent to a circle."""
    angle = np.linspace(0, 2 * np.pi, 15)
    spoke = np.stack((np.cos(angle), np.zeros(15), np.sin(angle)), axis=1)
    side = np.array((0, 1.0, 0))
    offsets = ((1, 0), (0, 1), (-1, 0), (0, -1))
    loops = [spoke * (radius + thickness * a) + side * thickness * b for a, b in offsets]
    return loft(np.stack(loops, axis=1) + np.asarray(center), material, closed=False)


def disc(center, radius, side, material, sides=10):
    """Return an upright disc in the x-z plane that faces +y (`side` 1) or -y (-1)."""
    angle = -side * np.arange(sides) * 2 * np.pi / sides
    spoke = np.stack((np.cos(angle), np.zeros(sides), np.sin(angle)), axis=1)
    return polygon(np.asarray(center) + radius * spoke, material)


@lru_cache(maxsize=4)
def _icosphere(subdivisions):
    """Return vertices and faces of a unit ball of 20 * 4**subdivisions faces."""
    golden = (1 + 5**0.5) / 2
    signs = [(-1, golden), (1, golden), (-1, -golden), (1, -golden)]
    vertices = [(a, b, 0) for a, b in signs] + [(0, a, b) for a, b in signs]
    vertices = np.array(vertices + [(b, 0, a) for a, b in signs], np.float64)
    faces = [(0, 11, 5), (0, 5, 1), (0, 1, 7), (0, 7, 10), (0, 10, 11), (1, 5, 9), (5, 11, 4),
             (11, 10, 2), (10, 7, 6), (7, 1, 8), (3, 9, 4), (3, 4, 2), (3, 2, 6), (3, 6, 8),
             (3, 8, 9), (4, 9, 5), (2, 4, 11), (6, 2, 10), (8, 6, 7), (9, 8, 1)]  # fmt: skip
    faces = np.array(faces)
    for _ in range(subdivisions):
        a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
        middles = np.stack(((a + b) / 2, (b + c) / 2, (c + a) / 2), axis=1)
        ab, bc, ca = (len(vertices) + np.arange(3 * len(faces)).reshape(-1, 3)).T
        vertices = np.concatenate((vertices, middles.reshape(-1, 3)))
        i, j, k = faces.T
        parts = ((i, ab, ca), (ab, j, bc), (ca, bc, k), (ab, bc, ca))
        faces = np.concatenate([np.stack(part, axis=1) for part in parts])
    vertices /= np.linalg.norm(vertices, axis=1, keepdims=True)
    unique, index = np.unique(vertices.round(6), axis=0, return_inverse=True)
    return unique, index.reshape(-1)[faces]


def ball(center, radii, material, subdivisions=1, bumps=None):
    """
    Return an ellipsoid; `bumps` (rng, strength) pushes its vertices in and out at random.

    `center` three metres, `radii` one or three.
    """
    vertices, faces = _icosphere(subdivisions)
    if bumps is not None:
        rng, strength = bumps
        vertices = vertices * (1 + strength * rng.uniform(-1, 1, (len(vertices), 1)))
    return mesh_from_arrays(np.asarray(center) + vertices * np.asarray(radii), faces, material)
