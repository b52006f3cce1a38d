# SPDX-License-Identifier: Apache-2.0
"""
Sun shadows and the soft dark under cars, by depth maps.

A depth map is what the sun, or a place straight above, sees of the scene (Williams, "Casting
curved shadows on curved surfaces", 1978). Each texel keeps the plane of the face it sees, so
that depth is exact at any position and little bias is needed.
"""

import cv2
from mmperception.simulation import materials
from mmperception.simulation.scan import plane_forms, visible_faces
import numpy as np

FAR_M = 800.0  # the viewpoint is so far off that its rays are nearly parallel


class DepthMap:
    """What a far viewpoint sees of a square patch of the scene."""

    def __init__(self, triangles, toward, center, reach_m, num_texels):
        """
        Look at the scene from far off.

        Parameters
        ----------
        triangles : (F, 3, 3) float64
            World frame.
        toward : (3,) float64
            Unit vector from the scene to the viewpoint.
        center : (3,) float64
            Middle of the patch.
        reach_m : float
            Half the side of the patch.
        num_texels : int
            Texels along one side.

        """
        side = np.cross((0.0, 0.0, 1.0), toward)
        norm = np.linalg.norm(side)
        side = side / norm if norm > 1e-3 else np.array([1.0, 0.0, 0.0])
        self.axes = np.stack((side, np.cross(-toward, side), -toward))
        self.eye = center + FAR_M * toward
        self.num_texels, self.texel_m = num_texels, 2 * reach_m / num_texels
        focal = FAR_M / self.texel_m
        middle = (num_texels - 1) / 2
        K = np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1.0]])
        local = (triangles - self.eye) @ self.axes.T
        face = visible_faces(local, K, num_texels, num_texels)
        self.depth = _plane_depth(local, face, focal, middle)
        self.focal, self.middle = focal, middle

    def texels(self, points):
        """Return column, row and depth (m) at which the viewpoint sees points (H, W, 3)."""
        local = (points - self.eye.astype(np.float32)) @ self.axes.T.astype(np.float32)
        scale = np.float32(self.focal) / local[..., 2]
        middle = np.float32(self.middle)
        return local[..., 0] * scale + middle, local[..., 1] * scale + middle, local[..., 2]

    def lit(self, points, bias_m):
        """
        Tell how much of the viewpoint each point sees.

        Parameters
        ----------
        points : (H, W, 3) float32
            World frame.
        bias_m : float
            How much nearer something must be to hide the point.

        Returns
        -------
        lit : (H, W) float32
            0 hidden .. 1 seen.
        is_inside : (H, W) bool
            Whether the point lies in the patch.

        """
        x, y, depth = self.texels(points)
        limit = depth - np.float32(bias_m)
        lit = np.zeros(limit.shape, np.float32)
        # Four neighbours, each seen or not, weighed by nearness: soft edges one texel wide.
        left, top = np.floor(x), np.floor(y)
        for dx in (0, 1):
            for dy in (0, 1):
                weight = (1 - np.abs(x - left - dx)) * (1 - np.abs(y - top - dy))
                lit += weight * (self._depth_at(left + dx, top + dy) >= limit)
        edge = self.num_texels - 2
        return lit, (x > 1) & (x < edge) & (y > 1) & (y < edge)

    def _depth_at(self, x, y):
        outside = {'borderMode': cv2.BORDER_CONSTANT, 'borderValue': float(FAR_M * 9)}
        return cv2.remap(self.depth, x, y, cv2.INTER_NEAREST, **outside)


def _plane_depth(local, face, focal, middle):
    """Return the depth (S, S) float32 of each texel's face, very large where there is none."""
    S = len(face)
    seen = face >= 0
    n = plane_forms(local)[face[seen]]
    row, column = np.nonzero(seen)
    inverse_depth = (
        n[:, 0] * ((column - middle) / focal) + n[:, 1] * ((row - middle) / focal) + n[:, 2]
    )
    depth = np.full((S, S), FAR_M * 9, np.float32)
    depth[seen] = 1 / inverse_depth
    return depth


# What darkens the street beneath and beside it; poles and leaves are too thin for that.
_BODIES = (
    materials.FACADE, materials.BRICK, materials.HEDGE, materials.PAINT, materials.GLASS,
    materials.TYRE, materials.CLOTH_TOP, materials.CLOTH_BOTTOM, materials.SHOE, materials.BARK,
    materials.BIN, materials.WOOD, materials.METAL,
)  # fmt: skip


class ContactShade:
    """The soft dark on the ground under cars and along walls: less sky is seen from there."""

    def __init__(self, scene, center, reach_m=26.0, num_texels=512):
        is_body = np.isin(materials.material_of(scene.codes), _BODIES)
        is_body &= scene.triangles[:, :, 2].min(axis=1) < center[2] + 0.5
        up = np.array([0.0, 0.0, 1.0])
        self.map = DepthMap(scene.triangles[is_body], up, center, reach_m, num_texels)
        cover = (self.map.depth < FAR_M * 8).astype(np.float32)
        texels_per_m = 1 / self.map.texel_m
        near = cv2.GaussianBlur(cover, (0, 0), 0.14 * texels_per_m)
        wide = cv2.GaussianBlur(cover, (0, 0), 0.6 * texels_per_m)
        self.shade = np.clip(0.62 * near + 0.38 * wide, 0, 1)

    def at(self, points):
        """Return how dark the ground is at points (H, W, 3), 0..1."""
        x, y, _ = self.map.texels(points)
        outside = {'borderMode': cv2.BORDER_CONSTANT, 'borderValue': 0.0}
        return cv2.remap(self.shade, x, y, cv2.INTER_LINEAR, **outside)
