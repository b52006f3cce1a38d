# SPDX-License-Identifier: Apache-2.0
"""
Triangle meshes of the simulated world: the value that shapes make and sensors see.

A mesh is never changed; placing, colouring and joining return new ones. Faces wind
counter-clockwise seen from outside, so normals point outwards: the LiDAR drops faces that look
away from it. Materials are the codes of `simulation/materials.py`.
"""

from dataclasses import dataclass, replace

from mmperception.simulation.materials import material_of
import numpy as np
import torch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mesh:
    """
    Triangles with what they are made of.

    Attributes
    ----------
    vertices : (V, 3) float32 tensor
        Metres.
    faces : (F, 3) int64 tensor
        Vertex indices, counter-clockwise from outside.
    material : (F,) int64 tensor
        `materials.code` of each face.
    uv : (F, 3, 2) float32 tensor
        Texture coordinates of each corner.

    """

    vertices: torch.Tensor
    faces: torch.Tensor
    material: torch.Tensor
    uv: torch.Tensor

    def __len__(self):
        return len(self.faces)

    @property
    def corners(self):
        """(F, 3, 3) float32: the corner points of each face."""
        return self.vertices[self.faces]

    @property
    def normals(self):
        """(F, 3) float32: unit normals; zero for faces without area."""
        a, b, c = self.corners.unbind(1)
        return torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)

    def transformed(self, a_from_mesh):
        """Return the mesh moved by a (4, 4) float64 NumPy transform."""
        transform = torch.as_tensor(a_from_mesh, dtype=torch.float32, device=self.vertices.device)
        return replace(self, vertices=self.vertices @ transform[:3, :3].T + transform[:3, 3])

    def scaled(self, factors):
        """Return the mesh stretched by three positive factors along x, y, z."""
        return replace(self, vertices=self.vertices * torch.tensor(factors, dtype=torch.float32))

    def recoloured(self, variants):
        """Return the mesh with new variants: `variants` maps a material to its variant."""
        material = self.material.clone()
        plain = material_of(material)
        for wanted, variant in variants.items():
            material[plain == wanted] = wanted + 64 * int(variant)
        return replace(self, material=material)

    def extent(self):
        """Return the smallest and largest corner, two (3,) float64 arrays."""
        points = self.vertices.double().cpu().numpy()
        return points.min(0), points.max(0)


def empty_mesh():
    """Return the mesh of nothing."""
    return Mesh(
        vertices=torch.zeros(0, 3),
        faces=torch.zeros(0, 3, dtype=torch.int64),
        material=torch.zeros(0, dtype=torch.int64),
        uv=torch.zeros(0, 3, 2),
    )


def mesh_from_arrays(vertices, faces, material, uv=None):
    """
    Build a mesh from arrays.

    Parameters
    ----------
    vertices : (V, 3) array
        Metres.
    faces : (F, 3) array of integers
        Vertex indices, counter-clockwise from outside.
    material : int or (F,) array
        Code of all faces, or of each.
    uv : (F, 3, 2) array or None
        None: metres along the face, u horizontal and v upwards (flat faces: x and y).

    Returns
    -------
    Mesh

    """
    vertices = np.asarray(vertices, np.float32).reshape(-1, 3)
    faces = np.asarray(faces, np.int64).reshape(-1, 3)
    uv = _planar_uv(vertices[faces]) if uv is None else np.asarray(uv, np.float32)
    codes = np.broadcast_to(np.asarray(material, np.int64), (len(faces),))
    return Mesh(
        vertices=torch.from_numpy(vertices),
        faces=torch.from_numpy(faces),
        material=torch.from_numpy(codes.copy()),
        uv=torch.from_numpy(np.ascontiguousarray(uv)),
    )


def _planar_uv(corners):
    """Project each face onto its own plane: (F, 3, 2) float32 metres."""
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    along = np.stack((-normal[:, 1], normal[:, 0]), axis=1)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
    u = np.einsum('fkc,fc->fk', corners[:, :, :2], along)
    upright = np.stack((u, corners[:, :, 2]), axis=2)
    is_flat = np.abs(normal[:, 2]) > 0.7
    return np.where(is_flat[:, None, None], corners[:, :, :2], upright).astype(np.float32)


def merge(meshes):
    """Join meshes into one; faces keep their order."""
    meshes = list(meshes)
    if not meshes:
        return empty_mesh()
    counts = np.array([len(mesh.vertices) for mesh in meshes])
    starts = np.cumsum(counts) - counts
    return Mesh(
        vertices=torch.cat([mesh.vertices for mesh in meshes]),
        faces=torch.cat([m.faces + int(n) for m, n in zip(meshes, starts, strict=True)]),
        material=torch.cat([mesh.material for mesh in meshes]),
        uv=torch.cat([mesh.uv for mesh in meshes]),
    )
