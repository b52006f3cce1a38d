# SPDX-License-Identifier: Apache-2.0
"""Rendered pictures: things land where the camera model puts them, and nearer hides farther."""

from mmperception.datatypes import CameraModel
from mmperception.simulation import materials
from mmperception.simulation.camera import Appearance, render
from mmperception.simulation.mesh import empty_mesh, merge, mesh_from_arrays
from mmperception.simulation.scan import visible_faces
from mmperception.simulation.shadows import DepthMap
from mmperception.simulation.view_samples import Scene
import numpy as np
import pytest

WIDTH, HEIGHT, FOCAL, CENTER = 200, 100, 150.0, (90.0, 40.0)
NOON = Appearance(sun_azimuth_rad=np.pi, sun_elevation_rad=0.8, overcast=0.0)
RED, WHITE = materials.code(materials.CLOTH_TOP, 5), materials.code(materials.CLOTH_TOP, 4)


def camera_model(**changes):
    intrinsics = np.array([[FOCAL, 0, CENTER[0]], [0, FOCAL, CENTER[1]], [0, 0, 1.0]])
    options = {'width': WIDTH, 'height': HEIGHT, 'intrinsics': intrinsics, 'frame_id': 'camera'}
    return CameraModel(**{**options, **changes})


def looking_along_x(height_m=1.5):
    """Return a camera at the world's origin that looks along x."""
    pose = np.eye(4)
    pose[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    pose[2, 3] = height_m
    return pose


def upright_square(x, y, z, side, code):
    """Return a square that faces the camera; (y, z) is its lower right corner."""
    corners = [(x, y + side, z), (x, y, z), (x, y, z + side), (x, y + side, z + side)]
    unit = [(0, 0), (1, 0), (1, 1), (0, 1)]
    faces = [(0, 1, 2), (0, 2, 3)]
    uv = [[unit[k] for k in face] for face in faces]
    return mesh_from_arrays(corners, faces, code, np.array(uv))


def ground():
    corners = [(-50, -50, 0), (150, -50, 0), (150, 50, 0), (-50, 50, 0)]
    return mesh_from_arrays(corners, [(0, 1, 2), (0, 2, 3)], materials.ASPHALT)


def picture_of(*meshes, appearance=NOON, seed=0):
    mesh = merge(meshes)
    rng = np.random.default_rng(seed)
    return render(mesh, looking_along_x(), camera_model(), appearance, rng).astype(int)


def is_red(pixels):
    return pixels[..., 0] > pixels[..., 1] + 50


def test_a_square_ten_metres_ahead_lands_at_the_pixels_computed_by_hand():
    # y 1..3 m left of the axis, z 0.5..2.5 m, camera at 1.5 m: columns 90 - 45 .. 90 - 15,
    # rows 40 - 15 .. 40 + 15.
    red = is_red(picture_of(upright_square(10.0, 1.0, 0.5, 2.0, RED)))
    rows, columns = np.nonzero(red)
    assert abs(columns.min() - 45) <= 1 and abs(columns.max() - 75) <= 1
    assert abs(rows.min() - 25) <= 1 and abs(rows.max() - 55) <= 1
    assert red[27:54, 47:74].all()


def test_a_sign_reads_from_left_to_right_and_upright():
    # Keep-right: the white arrow comes from the upper left and points to the lower right.
    code = materials.code(materials.SIGN_FACE, 38)
    pixels = picture_of(upright_square(4.0, -1.0, 0.5, 2.0, code))
    white = pixels.min(axis=2) > 140
    face = white[3:78, 53:127]
    assert face[8:26, 8:26].mean() > 0.2 > face[8:26, 48:66].mean()
    assert face[44:64, 44:64].mean() > face[44:64, 10:30].mean() + 0.2


def test_what_is_nearer_hides_what_is_farther():
    near = upright_square(10.0, -1.0, 0.5, 2.0, RED)
    far = upright_square(20.0, -3.0, -0.5, 6.0, WHITE)
    for scene in ((near, far), (far, near)):
        pixels = picture_of(*scene)
        assert is_red(pixels)[40, 90]
        assert not is_red(pixels)[40, 110] and pixels[40, 108].min() > 90
    assert not is_red(picture_of(far, upright_square(30.0, -1.0, 0.5, 2.0, RED))).any()


def test_an_empty_scene_is_sky_above_a_bright_horizon():
    pixels = picture_of(empty_mesh())
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert pixels.min() > 100
    assert (pixels[..., 2] + 3 >= pixels[..., 0]).mean() > 0.95


def test_a_wall_may_hide_the_whole_sky():
    pixels = picture_of(upright_square(2.0, -20.0, -20.0, 40.0, RED))
    assert is_red(pixels).all()


def test_what_is_behind_the_camera_is_not_seen():
    pixels = picture_of(upright_square(-5.0, -1.0, 0.5, 2.0, RED))
    assert not is_red(pixels).any()


def test_the_ground_that_passes_under_the_camera_fills_the_lower_half():
    pixels = picture_of(ground())
    lower, upper = pixels[45:].mean(), pixels[:35].mean()
    assert np.abs(pixels[60:] - pixels[60:].mean(axis=2, keepdims=True)).mean() < 12
    assert lower < upper - 40


def test_one_seed_gives_one_picture():
    scene = (ground(), upright_square(10.0, 1.0, 0.5, 2.0, RED))
    assert (picture_of(*scene, seed=5) == picture_of(*scene, seed=5)).all()
    assert (picture_of(*scene, seed=5) != picture_of(*scene, seed=6)).any()


def test_a_wall_throws_its_shadow_away_from_the_sun():
    # The sun stands at y > 0, 45 degrees up: 4 m of wall at y = 2 darken y = -2 .. 2.
    wall = mesh_from_arrays(
        [(6, 2, 0), (30, 2, 0), (30, 2, 4), (6, 2, 4)], [(0, 1, 2), (0, 2, 3)], materials.BRICK
    )
    light = Appearance(sun_azimuth_rad=np.pi / 2, sun_elevation_rad=np.pi / 4, overcast=0.0)
    pixels = picture_of(ground(), wall, appearance=light).mean(axis=2)
    # 12 m ahead the ground is 40 + 150 * 1.5 / 12 = row 58.75; y = -1 is column 102.5.
    shaded, sunny = pixels[58:61, 101:105].mean(), pixels[58:61, 137:141].mean()
    assert shaded < 0.75 * sunny
    overcast = Appearance(overcast=1.0)
    grey = picture_of(ground(), wall, appearance=overcast).mean(axis=2)
    assert grey[58:61, 101:105].mean() > 0.85 * grey[58:61, 137:141].mean()


def test_a_depth_map_sees_the_top_and_not_what_is_under_it():
    roof = np.array([[[-1, -1, 2], [1, -1, 2], [1, 1, 2]], [[-1, -1, 2], [1, 1, 2], [-1, 1, 2.0]]])
    sight = DepthMap(roof, np.array([0, 0, 1.0]), np.zeros(3), 5.0, 200)
    points = np.array([[(0.3, -0.4, 0), (0.3, -0.4, 2), (0.3, -0.4, 3), (3, 0, 0)]], np.float32)
    lit, is_inside = sight.lit(points, 0.05)
    assert lit.tolist() == [[0, 1, 1, 1]]
    assert is_inside.all()


def test_leaf_tufts_stay_put_while_the_camera_moves():
    square = upright_square(10.0, 1.0, 0.5, 2.0, materials.code(materials.FOLIAGE, 1))
    before, after = (
        Scene(merge((ground(), square)), np.array([x, 0, 1.5])).triangles for x in (0.0, 0.7)
    )
    assert len(before) > 2 + 2 + 10
    np.testing.assert_array_equal(before, after)
    assert np.abs(before[4:] - (10.0, 2.0, 1.5)).max() < 1.5
    assert len(Scene(ground(), np.zeros(3)).triangles) == 2
    far_away = np.array([500.0, 0, 1.5])
    assert len(Scene(square, far_away).triangles) == 2


def test_scan_conversion_sees_what_rays_hit():
    rng = np.random.default_rng(3)
    corners = rng.uniform((-6, -4, -2), (6, 4, 20), (60, 1, 3)) + rng.normal(0, 1.5, (60, 3, 3))
    model = camera_model()
    seen = visible_faces(corners, model.intrinsics, WIDTH, HEIGHT)
    wrong = 0
    for row, column in rng.integers(0, (HEIGHT, WIDTH), (400, 2)):
        ray = np.linalg.solve(model.intrinsics, (column, row, 1.0))
        wrong += seen[row, column] != nearest_hit(corners, ray)
    # A ray that meets an edge may go to either side.
    assert wrong <= 1
    assert (seen >= 0).mean() > 0.3


def nearest_hit(corners, ray):
    """Return the first triangle on a ray from the origin beyond the near plane, or -1."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    system = np.stack((b - a, c - a, np.broadcast_to(-ray, a.shape)), axis=2)
    u, v, depth = np.linalg.solve(system, -a[:, :, None])[:, :, 0].T
    is_hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (depth > 0.15)
    return int(np.argmin(np.where(is_hit, depth, np.inf))) if is_hit.any() else -1


def test_a_camera_with_a_distorting_lens_is_refused():
    model = camera_model(distortion=np.array([0.1, 0, 0, 0]), distortion_model='plumb_bob')
    with pytest.raises(ValueError, match='rectified'):
        render(ground(), looking_along_x(), model, NOON, np.random.default_rng(0))
