# SPDX-License-Identifier: Apache-2.0
"""
What a picture is shaded from: the scene as arrays, and which points of it the camera sees.

One sample a pixel, four where faces of different kinds meet, so that edges come out smooth
without paying four times everywhere. Samples are kept as rows of an image, as OpenCV wants them.
"""

from mmperception.geometry import apply, invert
from mmperception.simulation.foliage import tufts
from mmperception.simulation.scan import NO_FACE, plane_forms, visible_faces
import numpy as np

CREASE = np.cos(np.deg2rad(38))  # faces that meet more sharply keep their edge
ROW_LENGTH = 2048


class Scene:
    """
    The mesh as arrays: `triangles` (F, 3, 3), `codes` (F,), `uv` (F, 3, 2), `normals` (F, 3).

    `corner_normals` (F, 3, 3) are smooth where the surface is round. Leafy faces near `eye` (3,)
    carry tufts as further faces.
    """

    def __init__(self, mesh, eye):
        vertices, faces = as_array(mesh.vertices, np.float64), as_array(mesh.faces, np.int64)
        self.triangles = vertices[faces].reshape(-1, 3, 3)
        self.codes = as_array(mesh.material, np.int64)
        self.uv = as_array(mesh.uv, np.float32)
        edge = np.diff(self.triangles, axis=1)
        area_normal = np.cross(edge[:, 0], edge[:, 1]).reshape(-1, 3)
        self.normals = unit(area_normal).astype(np.float32)
        self.corner_normals = self._smooth(faces, len(vertices), area_normal)
        self._grow(tufts(self, eye))

    def _grow(self, leaves):
        triangles, source, uv, normals = leaves
        self.triangles = np.concatenate((self.triangles, triangles))
        self.codes = np.concatenate((self.codes, self.codes[source]))
        self.uv = np.concatenate((self.uv, uv))
        self.normals = np.concatenate((self.normals, normals))
        corner_normals = np.repeat(normals[:, None], 3, axis=1)
        self.corner_normals = np.concatenate((self.corner_normals, corner_normals))

    def _smooth(self, faces, num_vertices, area_normal):
        total = np.zeros((num_vertices, 3))
        for axis in range(3):
            weights = np.repeat(area_normal[:, axis], 3)
            total[:, axis] = np.bincount(faces.ravel(), weights, num_vertices)
        corners = unit(total)[faces].astype(np.float32)
        flat = np.broadcast_to(self.normals[:, None], corners.shape)
        is_round = np.sum(corners * flat, axis=2, keepdims=True) > CREASE
        return np.where(is_round, corners, flat)


def as_array(values, dtype):
    """Return a tensor or an array as a NumPy array of this type."""
    return np.asarray(values.cpu() if hasattr(values, 'cpu') else values).astype(dtype)


def unit(vectors):
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


class Samples:
    """
    Where the picture is shaded: one sample a pixel, four where faces of different kinds meet.

    Arrays are rows of samples (R, ROW_LENGTH); `face` -1 is sky. `rays` point from the camera
    in the world frame with depth 1, `points` are where they end.
    """

    def __init__(self, scene, world_from_camera, model):
        self.shape = (model.height, model.width)
        K = model.intrinsics.copy()
        K[:2] *= 2
        K[:2, 2] += 0.5
        corners = apply(invert(world_from_camera), scene.triangles)
        fine = visible_faces(corners, K, 2 * model.width, 2 * model.height)
        self._choose(scene, fine)
        forms = plane_forms(corners)
        self._place(forms, world_from_camera, K)

    def _choose(self, scene, fine):
        """Split pixels whose four sub-pixels differ in material or face direction."""
        H, W = self.shape
        quads = fine.reshape(H, 2, W, 2).transpose(0, 2, 1, 3).reshape(H * W, 4)
        codes = np.append(scene.codes, -1)[quads]
        tilt = np.append(scene.normals, np.zeros((1, 3), np.float32), axis=0)[quads]
        same = (codes == codes[:, :1]).all(axis=1)
        same &= (np.sum(tilt * tilt[:, :1], axis=2) > 0.9).all(axis=1) | (codes[:, 0] == -1)
        self.is_split = ~same
        split = np.flatnonzero(~same)
        whole = np.arange(H * W)
        # Whole pixels (and the first quarter of split ones) come first, then the other quarters.
        pixel = np.concatenate((whole, np.repeat(split, 3)))
        quarter = np.concatenate((np.zeros(H * W, np.int64), np.tile((1, 2, 3), len(split))))
        self.num = len(pixel)
        padding = -self.num % ROW_LENGTH
        pixel, quarter = np.pad(pixel, (0, padding)), np.pad(quarter, (0, padding))
        self.face = quads[pixel, quarter].reshape(-1, ROW_LENGTH)
        middle = np.where(self.is_split[pixel], 0.0, 0.5)
        self.column = (2 * (pixel % W) + quarter % 2 + middle).reshape(-1, ROW_LENGTH)
        self.row = (2 * (pixel // W) + quarter // 2 + middle).reshape(-1, ROW_LENGTH)

    def _place(self, forms, world_from_camera, K):
        y = (self.row - K[1, 2]) / K[1, 1]
        x = (self.column - K[0, 2] - K[0, 1] * y) / K[0, 0]
        rays = np.stack((x, y, np.ones_like(x)), axis=-1)
        self.is_sky = self.face == NO_FACE
        face = np.where(self.is_sky, 0, self.face)
        if len(forms):
            inverse = np.sum(forms[face] * rays, axis=-1)
            # At the rim of a face seen edge-on the plane may run away from its corners.
            inverse = np.where(self.is_sky, 1.0, np.clip(inverse, 1e-4, 10.0))
        else:
            inverse = np.ones_like(x)
        self.face, self.depth = face, (1 / inverse).astype(np.float32)
        self.rays = (rays @ world_from_camera[:3, :3].T).astype(np.float32)
        self.length = np.linalg.norm(self.rays, axis=-1)
        self.points = world_from_camera[:3, 3].astype(np.float32)
        self.points = self.points + self.rays * self.depth[..., None]
        self.pixel_angle = np.float32(2 / K[0, 0])

    def averaged(self, colours):
        """Return the picture (H, W, 3) from the colours of all samples."""
        H, W = self.shape
        num_pixels = H * W
        flat = colours.reshape(-1, 3)[: self.num]
        picture = flat[:num_pixels].copy()
        others = flat[num_pixels:].reshape(-1, 3, 3).sum(axis=1)
        picture[self.is_split] = (picture[self.is_split] + others) / 4
        return picture.reshape(H, W, 3)
