# SPDX-License-Identifier: Apache-2.0
"""Meshes of the simulated street: closed, facing outwards, of real sizes."""

from mmperception.geometry import transform_from_yaw
from mmperception.simulation import people, shapes, vehicles
from mmperception.simulation.assets import asset, random_colours, STOCK
from mmperception.simulation.furniture import sign
from mmperception.simulation.materials import (
    CLOTH_TOP,
    code,
    GLASS,
    material_of,
    PAINT,
    SIGN_FACE,
    SKIN,
)
from mmperception.simulation.mesh import empty_mesh, merge
import numpy as np
import pytest
import torch


def volume(mesh):
    """Signed volume of a closed mesh: positive when its normals point outwards."""
    a, b, c = mesh.corners.double().unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


@pytest.mark.parametrize(
    ('mesh', 'expected'),
    [
        (shapes.box((1, 2, 3), (1, 2, 3), 0), 6.0),
        (shapes.tube([(0, 0, 0), (0, 0, 2)], 1.0, 0, sides=64), 2 * np.pi),
        (shapes.tube([(2, 1, 1), (5, 1, 1)], 0.5, 0, sides=64), 0.75 * np.pi),
        (shapes.ring((5, 3, 2), 0.33, 0.02, 0), 2 * np.pi * 0.33 * 2 * 0.02**2),
        (shapes.ball((1, 1, 1), (1, 2, 0.5), 0, subdivisions=3), 4 / 3 * np.pi),
    ],
)
def test_solids_are_closed_and_face_outwards(mesh, expected):
    assert volume(mesh) == pytest.approx(expected, rel=0.05)


def test_flat_tube_is_wider_across_than_up():
    low, high = shapes.tube([(0, 0, 0), (1, 0, 0)], [(0.5, 0.2)] * 2, 0, sides=4).extent()
    assert (high - low)[1] == pytest.approx(2.5 * (high - low)[2])


def test_merged_meshes_keep_faces_and_codes_in_order():
    first, second = shapes.box((0, 0, 0), (1, 1, 1), 5), shapes.box((9, 0, 0), (1, 1, 1), 70)
    both = merge([first, second])
    assert both.material.tolist() == [5] * 12 + [70] * 12
    torch.testing.assert_close(both.corners[12:], second.corners)


def test_merging_nothing_gives_the_empty_mesh():
    assert len(merge([])) == len(empty_mesh()) == 0
    assert empty_mesh().normals.shape == (0, 3)


def test_mesh_turned_left_points_along_y():
    mesh = shapes.box((2, 0, 0), (1, 1, 1), 0).transformed(
        transform_from_yaw((0, 5, 1), np.pi / 2)
    )
    low, high = mesh.extent()
    np.testing.assert_allclose(low, (-0.5, 6.5, 0.5), atol=1e-6)
    np.testing.assert_allclose(high, (0.5, 7.5, 1.5), atol=1e-6)


def test_recolouring_changes_one_material_alone():
    mesh = vehicles.random_car(np.random.default_rng(0))
    painted = mesh.recoloured({PAINT: 7})
    is_paint = material_of(mesh.material) == PAINT
    assert (painted.material[is_paint] == code(PAINT, 7)).all()
    assert (painted.material[~is_paint] == mesh.material[~is_paint]).all()
    assert (mesh.material[is_paint] == code(PAINT, 0)).all()


def test_car_has_the_size_that_was_asked_for():
    low, high = vehicles.car(vehicles.CAR_SHAPES['estate'], (4.4, 1.75, 1.5)).extent()
    np.testing.assert_allclose(high - low, (4.4, 1.75, 1.5), atol=0.03)
    assert low[2] == pytest.approx(0.0, abs=0.03)


def test_windscreen_leans_back_and_faces_forward():
    mesh = vehicles.car(vehicles.CAR_SHAPES['hatchback'], (3.9, 1.65, 1.5))
    middle, normals = mesh.corners.mean(1), mesh.normals
    is_screen = (mesh.material == code(GLASS)) & (middle[:, 1].abs() < 0.3)
    is_screen &= middle[:, 0] > 0.1
    assert is_screen.any()
    assert (normals[is_screen, 0] > 0.3).all()
    assert (normals[is_screen, 2] > 0.3).all()


@pytest.mark.parametrize(
    ('stock', 'low', 'high'),
    [
        ('car', (3.1, 1.45, 1.3), (5.0, 1.95, 1.9)),
        ('van', (3.8, 1.6, 1.7), (6.2, 2.1, 2.9)),
        ('truck', (5.7, 2.1, 2.7), (9.6, 2.6, 3.7)),
        ('walker', (0.25, 0.35, 1.48), (1.2, 0.95, 1.98)),
        ('rider', (1.55, 0.45, 1.5), (1.95, 0.75, 2.05)),
    ],
)
def test_stock_is_as_large_as_on_the_street(stock, low, high):
    sizes = np.array([np.subtract(*asset(stock, k).extent()[::-1]) for k in range(STOCK[stock])])
    assert (sizes > low).all(), sizes.min(0)
    assert (sizes < high).all(), sizes.max(0)


def test_legs_of_a_walker_are_wide_apart_once_in_half_a_cycle():
    build = people.Build(height_m=1.75, girth=1.0, bag='none')
    lengths = []
    for phase in (0.0, 0.25):
        low, high = people.pedestrian(build, phase).extent()
        lengths.append((high - low)[0])
    assert lengths[1] > lengths[0] + 0.25


def test_hands_of_folded_arms_meet_before_the_chest():
    build = people.Build(height_m=1.75, girth=1.0, bag='none', arms='folded')
    skin = np.asarray(skin_of(people.pedestrian(build, 0.0, swing=0.0)))
    hands = skin[skin[:, 2] < 1.35]
    assert hands[:, 0].min() > 0.1
    assert np.abs(hands[:, 1]).max() < 0.15


def test_a_hand_is_at_the_ear_of_who_speaks_into_a_phone():
    build = people.Build(height_m=1.75, girth=1.0, bag='none', arms='phone')
    skin = np.asarray(skin_of(people.pedestrian(build, 0.0, swing=0.0)))
    beside = skin[(skin[:, 2] > 1.5) & (skin[:, 1] > 0.1)]
    assert len(beside) > 0


def skin_of(mesh):
    return mesh.corners[mesh.material == code(SKIN)].reshape(-1, 3)


def test_coat_reaches_from_the_hips_to_above_the_knees():
    plain = people.Build(height_m=1.75, girth=1.0, bag='none')
    coat = people.Build(height_m=1.75, girth=1.0, bag='none', coat=True)
    hems = []
    for build in (plain, coat):
        mesh = people.pedestrian(build, 0.0, swing=0.0)
        hems.append(
            float(mesh.corners[mesh.material == code(CLOTH_TOP)].reshape(-1, 3)[:, 2].min())
        )
    assert hems[0] > 0.7
    assert 0.45 < hems[1] < 0.6


@pytest.mark.parametrize('load', ['panniers', 'crate', 'child'])
def test_load_lies_over_or_beside_the_rear_wheel(load):
    build = people.Build(height_m=1.75, girth=1.0, bag='none')
    plain = people.cyclist(build, 0.0, people.Ride())
    loaded = people.cyclist(build, 0.0, people.Ride(load=load))
    carried = loaded.corners.split([len(plain), len(loaded) - len(plain)])[1]
    carried = carried.reshape(-1, 3).numpy()
    assert len(carried) > 0
    low, high = carried.min(0), carried.max(0)
    assert low[0] > -0.9 and high[0] < -0.15
    assert low[2] > 0.25 and high[2] < 1.5
    np.testing.assert_allclose(low[1], -high[1], atol=0.02)


def test_head_of_who_leans_is_ahead_and_lower():
    build = people.Build(height_m=1.75, girth=1.0, bag='none')
    upright = people.cyclist(build, 0.0, people.Ride(lean_rad=0.12)).extent()
    low = people.cyclist(build, 0.0, people.Ride(lean_rad=0.85)).extent()
    assert low[1][2] < upright[1][2] - 0.15


def test_same_number_of_the_stock_is_the_same_thing():
    asset.cache_clear()
    first = asset('tree', 3).vertices.clone()
    asset.cache_clear()
    assert torch.equal(first, asset('tree', 3).vertices)
    assert not torch.equal(first[:20], asset('tree', 4).vertices[:20])


def test_sign_is_read_by_who_comes_from_behind_its_back():
    mesh = sign(14)
    is_face = mesh.material == code(SIGN_FACE, 14)
    np.testing.assert_allclose(mesh.normals[is_face].mean(0).numpy(), (-1, 0, 0), atol=1e-5)
    corners, uv = mesh.corners[is_face].reshape(-1, 3), mesh.uv[is_face].reshape(-1, 2)
    # The reader looks along +x: his right is -y.
    assert np.corrcoef(corners[:, 1], uv[:, 0])[0, 1] < -0.99
    assert np.corrcoef(corners[:, 2], uv[:, 1])[0, 1] > 0.99
    assert corners[:, 2].min() == pytest.approx(2.1, abs=0.05)


def test_colours_are_drawn_for_what_has_a_colour():
    rng = np.random.default_rng(0)
    assert set(random_colours(rng, 'car')) == {PAINT}
    assert random_colours(rng, 'tree') == {}
