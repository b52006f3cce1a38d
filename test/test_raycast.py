# SPDX-License-Identifier: Apache-2.0
"""The ray-caster: known distances, agreement with brute force, motion, the empty world."""

import math

from mmperception.simulation.raycast import cast, Rays, spin_windows, Triangles
from mmperception.simulation.shapes import box
import numpy as np
import pytest
import torch


def make_rays(directions, origin=(0.0, 0.0, 0.0), time_s=None):
    """Rays on a grid from one origin; `directions` (H, W, 3) need not be unit vectors."""
    directions = torch.nn.functional.normalize(torch.as_tensor(directions).float(), dim=2)
    W = directions.shape[1]
    return Rays(
        origins=torch.tensor(origin).expand(directions.shape).contiguous(),
        directions=directions,
        time_s=torch.zeros(W) if time_s is None else torch.as_tensor(time_s).float(),
    )


def spinning_rays(tangents, num_columns):
    """All rays of a sensor at the origin that spins about z."""
    azimuth = -math.pi + (torch.arange(num_columns) + 0.5) * 2 * math.pi / num_columns
    flat = torch.stack((azimuth.cos(), azimuth.sin()), dim=1)
    flat = flat.expand(len(tangents), -1, -1)
    rise = tangents[:, None, None].expand(-1, num_columns, 1)
    return make_rays(torch.cat((flat, rise), dim=2))


def still_triangles(corners):
    """Triangles that neither move nor belong to anything; `corners` (F, 3, 3)."""
    F = len(corners)
    owner = torch.full((F,), -1, dtype=torch.int64, device=corners.device)
    return Triangles(corners=corners, velocity=torch.zeros_like(corners[:, 0]), owner=owner)


def all_windows(num_faces, height, width):
    """Windows that try every ray against every triangle."""
    window = torch.tensor([0, height - 1, 0, width - 1], dtype=torch.int64)
    return window.repeat(num_faces, 1)


def random_triangles(seed, num, spread=12.0):
    rng = np.random.default_rng(seed)
    middle = rng.uniform(-spread, spread, (num, 1, 3)) * (1, 1, 0.3)
    corners = middle + rng.normal(0, 1.5, (num, 3, 3))
    return torch.from_numpy(corners.astype(np.float32))


def brute_force(rays, corners):
    """Nearest distance along each ray by solving the 3x3 system of every pair in float64."""
    H, W, _ = rays.directions.shape
    origin = rays.origins.reshape(-1, 3).double().numpy()
    direction = rays.directions.reshape(-1, 3).double().numpy()
    nearest = np.full(H * W, np.inf)
    for a, b, c in corners.double().numpy():
        matrix = np.stack(np.broadcast_arrays(b - a, c - a, -direction), axis=2)
        u, v, t = np.linalg.solve(matrix, (origin - a)[:, :, None])[:, :, 0].T
        is_met = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 1e-4)
        nearest = np.where(is_met & (t < nearest), t, nearest)
    return nearest.reshape(H, W)


def assert_same_distances(found, expected):
    found = found.numpy()
    # A ray through a rim may fall on either side: a handful of thousands.
    is_same = np.isinf(found) == np.isinf(expected)
    is_near = np.abs(
        np.where(np.isinf(found), 0, found) - np.where(np.isinf(expected), 0, expected)
    )
    assert (is_same & (is_near < 1e-3)).mean() > 0.9995


def test_cube_ten_metres_ahead_is_met_at_its_near_face():
    cube = box((10.0, 2.0, 0.5), (2.0, 4.0, 1.0), 0)
    rays = make_rays([[(9.0, 2.0, 0.25), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (-9.0, -2.0, 0.0)]])
    hits = cast(rays, still_triangles(cube.corners), all_windows(12, 1, 4))
    expected = [math.sqrt(81 + 4 + 0.0625), 9.0, math.inf, math.inf]
    np.testing.assert_allclose(hits.distance_m[0].numpy(), expected, atol=1e-5)
    assert (hits.face[0, 2:] == -1).all()
    normal = cube.normals[hits.face[0, 0]]
    np.testing.assert_allclose(normal.numpy(), (-1, 0, 0), atol=1e-6)


def test_nearer_of_two_triangles_hides_the_other_whatever_their_order():
    near = torch.tensor([[[3.0, -1, -1], [3.0, 1, -1], [3.0, 0, 2]]])
    far = near + torch.tensor((4.0, 0, 0))
    rays = make_rays([[(1.0, 0.0, 0.0)]])
    for corners, wanted in ((torch.cat((near, far)), 0), (torch.cat((far, near)), 1)):
        hits = cast(rays, still_triangles(corners), all_windows(2, 1, 1))
        assert hits.face.item() == wanted
        assert hits.distance_m.item() == pytest.approx(3.0)


def test_random_triangles_are_met_where_brute_force_meets_them():
    corners = random_triangles(1, 150)
    tangents = torch.linspace(0.4, -0.5, 24)
    rays = spinning_rays(tangents, 180)
    windows = spin_windows(corners, tangents, 180, (0.0, 0.0))
    hits = cast(rays, still_triangles(corners), windows)
    assert_same_distances(hits.distance_m, brute_force(rays, corners))


def test_windows_try_only_a_small_part_of_all_pairs():
    corners = random_triangles(2, 200)
    windows = spin_windows(corners, torch.linspace(0.4, -0.5, 24), 180, (0.0, 0.0))
    size = (windows[:, 1::2] - windows[:, ::2] + 1).clamp(min=0).prod(1)
    assert size.sum() < 0.1 * 200 * 24 * 180


def test_triangle_across_the_seam_behind_the_sensor_is_met_on_both_sides():
    corners = torch.tensor([[[-5.0, 1.0, -1.0], [-5.0, -1.2, -1.0], [-5.0, 0.0, 1.5]]])
    tangents = torch.linspace(0.1, -0.1, 5)
    rays = spinning_rays(tangents, 360)
    windows = spin_windows(corners, tangents, 360, (0.0, 0.0))
    face = cast(rays, still_triangles(corners), windows).face[2]
    assert face[0] == 0
    assert face[-1] == 0
    assert (face[20:340] == -1).all()


def test_ground_below_the_sensor_is_met_all_around():
    corners = torch.tensor([[[30.0, -40.0, -2.0], [30.0, 40.0, -2.0], [-50.0, 0.0, -2.0]]])
    tangents = torch.tensor((0.1, -0.4, -1.0))
    rays = spinning_rays(tangents, 90)
    windows = spin_windows(corners, tangents, 90, (0.0, 0.0))
    hits = cast(rays, still_triangles(corners), windows)
    assert (hits.face[0] == -1).all()
    np.testing.assert_allclose(hits.distance_m[1:, 7].numpy(), (5 * 1.16**0.5, 8**0.5), rtol=1e-5)
    assert (hits.face[1:] == 0).all()


def test_every_ray_has_its_own_origin():
    rng = np.random.default_rng(3)
    corners = random_triangles(4, 120, spread=6.0)
    directions = rng.normal(size=(7, 11, 3))
    rays = make_rays(directions)
    origins = torch.from_numpy(rng.uniform(-3, 3, (7, 11, 3)).astype(np.float32))
    rays = Rays(origins=origins, directions=rays.directions, time_s=rays.time_s)
    hits = cast(rays, still_triangles(corners), all_windows(120, 7, 11))
    assert_same_distances(hits.distance_m, brute_force(rays, corners))
    assert np.isfinite(hits.distance_m.numpy()).sum() > 20


def test_wall_that_comes_nearer_is_met_where_it_is_when_the_ray_leaves():
    corners = torch.tensor([[[10.0, -5, -5], [10.0, 5, -5], [10.0, 0, 9]]])
    triangles = Triangles(
        corners=corners,
        velocity=torch.tensor([[-20.0, 0, 0]]),
        owner=torch.tensor([0]),
        num_owners=1,
    )
    rays = make_rays([[(1.0, 0, 0)] * 3], time_s=(-0.05, 0.0, 0.04))
    hits = cast(rays, triangles, all_windows(1, 1, 3))
    np.testing.assert_allclose(hits.distance_m[0].numpy(), (11.0, 10.0, 9.2), atol=1e-5)


def test_hidden_rays_are_counted_as_reached_once_for_each_object():
    wall = box((4.0, 0.5, 0.0), (0.2, 1.0, 4.0), 0).corners
    behind = box((8.0, 0.0, 0.0), (2.0, 4.0, 4.0), 0).corners
    triangles = Triangles(
        corners=torch.cat((wall, behind)),
        velocity=torch.zeros(24, 3),
        owner=torch.tensor([-1] * 12 + [0] * 12),
        num_owners=1,
    )
    # Lines at y = 0.05, 0.15 ... of the wall's depth: the wall covers y = 0..1 at x = 3.9.
    rays = make_rays([[(3.9, 0.1 * k - 0.75, 0.01) for k in range(15)]])
    hits = cast(rays, triangles, all_windows(24, 1, 15))
    on_object = (hits.face[0] >= 12).sum().item()
    assert on_object == 8
    assert hits.reached.tolist() == [15]


def test_blind_rays_pass_through():
    cube = box((5.0, 0.0, 0.0), (2.0, 2.0, 2.0), 0)
    rays = make_rays([[(1.0, 0.01, 0.02)] * 2])
    hits = cast(
        rays, still_triangles(cube.corners), all_windows(12, 1, 2), lambda ray, face: ray == 1
    )
    assert hits.distance_m[0, 0].item() == pytest.approx(4.0, abs=0.01)
    assert hits.face[0, 1].item() == -1


def test_empty_world_returns_nothing():
    rays = make_rays([[(1.0, 0, 0), (0, 1.0, 0)]])
    hits = cast(rays, still_triangles(torch.zeros(0, 3, 3)), torch.zeros(0, 4).long())
    assert torch.isinf(hits.distance_m).all()
    assert (hits.face == -1).all()
    assert hits.reached.tolist() == []


def test_open3d_meets_the_same_triangles():
    try:
        import open3d as o3d
    except ImportError as error:
        pytest.skip(f'open3d: {error}')
    corners = random_triangles(5, 300)
    rays = spinning_rays(torch.linspace(0.4, -0.5, 32), 360)
    windows = spin_windows(corners, torch.linspace(0.4, -0.5, 32), 360, (0.0, 0.0))
    hits = cast(rays, still_triangles(corners), windows)
    scene = o3d.t.geometry.RaycastingScene()
    index = np.arange(900, dtype=np.uint32).reshape(-1, 3)
    scene.add_triangles(corners.reshape(-1, 3).numpy(), index)
    lines = torch.cat((rays.origins, rays.directions), dim=2).numpy()
    expected = scene.cast_rays(o3d.core.Tensor(lines))['t_hit'].numpy()
    assert_same_distances(hits.distance_m, expected)


@pytest.mark.gpu
def test_gpu_meets_what_the_cpu_meets():
    corners = random_triangles(6, 400)
    tangents = torch.linspace(0.4, -0.5, 32)
    rays = spinning_rays(tangents, 720)
    windows = spin_windows(corners, tangents, 720, (0.0, 0.0))
    expected = cast(rays, still_triangles(corners), windows).distance_m.numpy()
    on_gpu = Rays(**{name: getattr(rays, name).cuda() for name in Rays.__slots__})
    windows = spin_windows(corners.cuda(), tangents.cuda(), 720, (0.0, 0.0))
    hits = cast(on_gpu, still_triangles(corners.cuda()), windows)
    assert_same_distances(hits.distance_m.cpu(), expected)
