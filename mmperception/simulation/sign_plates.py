# SPDX-License-Identifier: Apache-2.0
"""Where the sign plates of a simulated street are: in the world, and in single pictures of it."""

from mmperception.geometry import apply, invert, project
from mmperception.simulation import materials
from mmperception.simulation.drive import simulate_picture
import numpy as np

SAME_PLATE_M = 1.2
NEAREST_M = 0.5


def plates_of(street):
    """Return (class, (K, 3) corners in the world) of every sign plate of a street."""
    mesh = street.mesh_at(0.0)
    codes = np.asarray(mesh.material)
    faces = np.flatnonzero(materials.material_of(codes) == materials.SIGN_FACE)
    corners, classes = np.asarray(mesh.corners)[faces], codes[faces] // 64
    plates = []
    for triangle, class_id in zip(corners, classes, strict=True):
        near = [
            plate
            for plate in plates
            if plate[0] == class_id
            and np.linalg.norm(plate[1][0].mean(0) - triangle.mean(0)) < SAME_PLATE_M
        ]
        if near:
            near[0][1].append(triangle)
        else:
            plates.append((class_id, [triangle]))
    return [(int(class_id), np.concatenate(parts)) for class_id, parts in plates]


def picture_with_plates(seed, number):
    """
    Render picture `number` of a seed, each of a street of its own.

    Parameters
    ----------
    seed, number : int
        The same give the same picture.

    Returns
    -------
    pixels : (H, W, 3) uint8
    boxes : (N, 4) float32
        Of the plates before the camera, px; hidden ones and those that face away too.
    class_id : (N,) int64

    """
    street, world_from_camera, model, pixels = simulate_picture(seed, number)
    boxes, classes = [], []
    for class_id, corners in plates_of(street):
        places, depth_m = project(apply(invert(world_from_camera), corners), model)
        if depth_m.min() < NEAREST_M:
            continue
        limit = np.array([model.width, model.height], np.float64)
        low, high = (np.clip(end + 0.5, 0, limit) for end in (places.min(0), places.max(0)))
        if (high > low).all():
            boxes.append((*low, *high))
            classes.append(class_id)
    return pixels, np.reshape(boxes, (-1, 4)).astype(np.float32), np.array(classes, np.int64)
