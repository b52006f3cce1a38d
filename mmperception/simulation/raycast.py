# SPDX-License-Identifier: Apache-2.0
"""
Exact ray casting for sensors whose rays lie in rows and columns.

Each triangle comes with the window of rows and columns that may see it; only these rays are
tried against it, by Moller and Trumbore, "Fast, minimum storage ray/triangle intersection"
(1997). Every ray has its own origin, since the sensor moves while it looks. Plain torch: the
same on CPU and GPU. `spin_windows` makes the windows of a spinning LiDAR.
"""

from dataclasses import dataclass
import math

import torch

# Pairs of ray and triangle tried at once: bounds memory, and stays within the caches.
CHUNK_PAIRS = 50_000
# Rays this close to the rim of a triangle count as hits, so that no ray slips between two.
RIM = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rays:
    """
    Rays on a grid.

    `origins` and `directions` (H, W, 3) float32, metres and unit vectors; `time_s` (W,) float32:
    when each column looks. Column W is column 0 again where a window runs past it.
    """

    origins: torch.Tensor
    directions: torch.Tensor
    time_s: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hits:
    """
    What each ray met first.

    Attributes
    ----------
    distance_m : (H, W) float32
        Infinite where nothing was met.
    face : (H, W) int64
        Index of the triangle, -1 where nothing was met.
    reached : (A,) int64
        For each owner, the rays that meet it or would if nothing stood in front of it.

    """

    distance_m: torch.Tensor
    face: torch.Tensor
    reached: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Triangles:
    """
    What rays are cast at.

    Attributes
    ----------
    corners : (F, 3, 3) float32
        At time 0.
    velocity : (F, 3) float32
        Metres per second, straight on.
    owner : (F,) int64
        Index of the object each triangle belongs to, -1 for none.
    num_owners : int

    """

    corners: torch.Tensor
    velocity: torch.Tensor
    owner: torch.Tensor
    num_owners: int = 0


def cast(rays, triangles, windows, is_blind=None):
    """
    Find the first triangle along each ray.

    Parameters
    ----------
    rays : Rays
        Each with its own origin and time.
    triangles : Triangles
        Moved along their velocity to the time of a ray's column.
    windows : (F, 4) int64
        First row, last row, first column, last column (inclusive) of the rays that may meet
        each triangle. Columns may run past the last one (the grid is a full turn then). A last
        below its first: no ray.
    is_blind : callable or None
        `is_blind(ray, face)` on (P,) indices returns (P,) bool: this ray passes through.

    Returns
    -------
    Hits

    """
    H, W, _ = rays.directions.shape
    device = rays.directions.device
    nearest = torch.full((H * W,), torch.iinfo(torch.int64).max, device=device)
    seen = []
    ray_table, face_table = _ray_table(rays), _face_table(triangles)
    for face, ray in _candidates(windows, W):
        is_met, distance = _intersect(ray_table[:, ray], face_table[:, face])
        met = is_met.nonzero().squeeze(1)
        if is_blind is not None:
            met = met[~is_blind(ray[met], face[met])]
        face, ray, distance = face[met], ray[met], distance[met]
        # Positive floats order like the integers of their bits: the minimum of (distance, face)
        # packed in one integer finds both, and ties always go to the lower face.
        key = (distance.view(torch.int32).long() << 32) | face
        nearest.scatter_reduce_(0, ray, key, 'amin')
        owner = triangles.owner[face]
        seen.append((owner * (H * W) + ray)[owner >= 0])
    is_hit = nearest != torch.iinfo(torch.int64).max
    face = torch.where(is_hit, nearest & 0xFFFFFFFF, -1)
    distance = (nearest >> 32).to(torch.int32).view(torch.float32)
    return Hits(
        distance_m=torch.where(is_hit, distance, math.inf).view(H, W),
        face=face.view(H, W),
        reached=_count_reached(seen, triangles.num_owners, H * W, device),
    )


def _count_reached(seen, num_owners, num_rays, device):
    """Count distinct rays per owner; a ray may meet several faces of one object."""
    if not seen or num_owners == 0:
        return torch.zeros(num_owners, dtype=torch.int64, device=device)
    pairs = torch.unique(torch.cat(seen))
    return torch.bincount(pairs // num_rays, minlength=num_owners)


def _candidates(windows, num_columns):
    """Yield (face, ray) index vectors, all pairs of every window, a chunk at a time."""
    height = (windows[:, 1] - windows[:, 0] + 1).clamp(min=0)
    width = (windows[:, 3] - windows[:, 2] + 1).clamp(min=0)
    faces = ((height * width) > 0).nonzero().squeeze(1)
    if len(faces) == 0:
        return
    ends = (height * width)[faces].cumsum(0)
    chunk = (ends - 1) // CHUNK_PAIRS
    sizes = torch.unique_consecutive(chunk, return_counts=True)[1].tolist()
    for part in faces.split(sizes):
        yield _expand(part, windows, height, width, num_columns)


def _expand(faces, windows, height, width, num_columns):
    """List all rays of the windows of some faces."""
    counts = (height * width)[faces]
    which = torch.repeat_interleave(torch.arange(len(faces), device=faces.device), counts)
    offset = torch.arange(len(which), device=faces.device) - (counts.cumsum(0) - counts)[which]
    wide = width[faces][which]
    row_offset = torch.div(offset, wide, rounding_mode='floor')
    row = windows[faces, 0][which] + row_offset
    column = (windows[faces, 2][which] + offset - row_offset * wide) % num_columns
    return faces[which], row * num_columns + column


def _ray_table(rays):
    """Return (7, H * W) float32: origin, direction and time of each ray, one a column."""
    H, W, _ = rays.directions.shape
    time_s = rays.time_s.expand(H, W).reshape(1, -1)
    origin, direction = rays.origins.reshape(-1, 3).T, rays.directions.reshape(-1, 3).T
    return torch.cat((origin, direction, time_s)).contiguous()


def _face_table(triangles):
    """Return (12, F) float32: corner, two edges and velocity of each triangle."""
    start, second, third = triangles.corners.unbind(1)
    parts = (start, second - start, third - start, triangles.velocity)
    return torch.cat(parts, dim=1).T.contiguous()


def _intersect(ray, face):
    """
    Test pairs of ray and triangle.

    Parameters
    ----------
    ray : (7, P) float32
        Columns of `_ray_table`.
    face : (12, P) float32
        Columns of `_face_table`.

    Returns
    -------
    is_met : (P,) bool
    distance : (P,) float32

    """
    direction, time_s = ray[3:6], ray[6]
    edge1, edge2 = face[3:6], face[6:9]
    to_origin = ray[:3] - face[:3] - face[9:] * time_s
    across = _cross(direction, edge2)
    other = _cross(to_origin, edge1)
    determinant = _dot(edge1, across)
    inverse = 1 / determinant
    u = _dot(to_origin, across) * inverse
    v = _dot(direction, other) * inverse
    distance = _dot(edge2, other) * inverse
    is_met = (u >= -RIM) & (v >= -RIM) & (u + v <= 1 + RIM) & (distance > 1e-4)
    return is_met & (determinant.abs() > 1e-12), distance


def _cross(a, b):
    """Cross product of vectors that lie in columns."""
    return torch.stack(
        (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])
    )


def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def spin_windows(corners, tangents, num_columns, slack):
    """
    Find which rings and columns of a spinning sensor may meet each triangle.

    Parameters
    ----------
    corners : (F, 3, 3) float32
        In the sensor's frame (x forward, z the axis it spins about), each as the sensor sees
        it when it looks there; rays start at the origin.
    tangents : (H,) float32
        Rise over run of each ring, falling.
    num_columns : int
        Columns of a full turn; column c looks at azimuth -pi + (c + 1/2) steps.
    slack : (2,) floats
        Tangent and columns added on every side: for origins beside the sensor's middle, and
        for what moves.

    Returns
    -------
    windows : (F, 4) int64
        Columns below 2 W; a triangle around the axis has all columns once.

    """
    low, high = _tangent_range(corners)
    azimuth = torch.atan2(corners[:, :, 1], corners[:, :, 0])
    # Measured from the first corner, so that the seam behind the sensor does not matter.
    turned = torch.remainder(azimuth - azimuth[:, :1] + math.pi, 2 * math.pi) - math.pi
    begin, end = turned.amin(1), turned.amax(1)
    # Around the axis corners span half a turn or more, and straight up or down is met too.
    is_around = end - begin >= math.pi
    is_below = corners[:, :, 2].mean(1) < 0
    low = torch.where(is_around & is_below, -math.inf, low)
    high = torch.where(is_around & ~is_below, math.inf, high)
    falling = -tangents.contiguous()
    first_row = torch.searchsorted(falling, -(high + slack[0]))
    last_row = torch.searchsorted(falling, -(low - slack[0]), right=True) - 1
    step = 2 * math.pi / num_columns
    base = (azimuth[:, 0] + math.pi) / step - 0.5
    first = torch.ceil(base + begin / step - slack[1]).long()
    last = torch.floor(base + end / step + slack[1]).long()
    first = torch.where(is_around, 0, first)
    last = torch.where(is_around, num_columns - 1, last)
    shift = torch.div(first, num_columns, rounding_mode='floor') * num_columns
    return torch.stack((first_row, last_row, first - shift, last - shift), dim=1)


def _tangent_range(corners):
    """Return the smallest and largest rise over run on each triangle, exactly (F,), (F,)."""
    flat = torch.linalg.vector_norm(corners[:, :, :2], dim=2).clamp(min=1e-6)
    values = [corners[:, :, 2] / flat]
    for k in range(3):
        start, delta = corners[:, k], corners[:, (k + 1) % 3] - corners[:, k]
        # Along an edge the tangent has one extremum: where its derivative in s vanishes.
        a = (start[:, :2] ** 2).sum(1)
        b = (start[:, :2] * delta[:, :2]).sum(1)
        c = (delta[:, :2] ** 2).sum(1)
        below = delta[:, 2] * b - start[:, 2] * c
        s = (start[:, 2] * b - delta[:, 2] * a) / below
        s = torch.where(below.abs() > 1e-12, s, 0).clamp(0, 1)
        point = start + s[:, None] * delta
        run = torch.linalg.vector_norm(point[:, :2], dim=1).clamp(min=1e-6)
        values.append((point[:, 2] / run)[:, None])
    values = torch.cat(values, dim=1)
    return values.amin(1), values.amax(1)
