# SPDX-License-Identifier: Apache-2.0
"""What is on the simulated road: who crosses it, and that things in a gallery face all ways."""

from mmperception.simulation.actors import Actor
from mmperception.simulation.gallery import make_gallery
from mmperception.simulation.road import Road
from mmperception.simulation.street import Layout, random_section, random_style
from mmperception.simulation.traffic import fill_road, Traffic
import numpy as np
import pytest


def riders_of(seed):
    rng = np.random.default_rng(seed)
    road = Road(rng, random_section(rng), (-60.0, 80.0))
    layout = Layout(rng, road, random_style(rng))
    fill_road(Traffic(layout, lambda time: (8.0 * time, -1.7), 0.1), 0.0, 8.0)
    return [actor for actor in layout.actors if actor.stock == 'rider']


def test_some_riders_cross_the_street_and_others_follow_it():
    riders = [rider for seed in range(40) for rider in riders_of(seed)]
    across = [abs(rider.across_mps) > abs(rider.along_mps) for rider in riders]
    assert 0.15 < np.mean(across) < 0.6


@pytest.fixture(scope='module')
def exhibits():
    return [thing for seed in range(12) for thing in make_gallery(seed)]


def test_riders_of_a_gallery_are_seen_from_the_side_as_often_as_from_behind(exhibits):
    sides = []
    for thing in exhibits:
        if thing.kind == 'cyclist':
            bearing = np.arctan2(thing.center[1], thing.center[0])
            sides.append(abs(np.sin(thing.yaw - bearing)) > np.sqrt(0.5))
    assert len(sides) > 20
    assert 0.3 < np.mean(sides) < 0.7


def test_people_are_as_large_as_the_labels_of_kitti_in_the_mean(exhibits):
    # Mean sizes of Frustum PointNets (Qi et al., CVPR 2018); children are smaller.
    known = {'pedestrian': (0.84, 0.66, 1.76), 'cyclist': (1.76, 0.60, 1.74)}
    for kind, size in known.items():
        mean = np.mean([thing.size for thing in exhibits if thing.kind == kind], axis=0)
        np.testing.assert_allclose(mean, size, atol=0.1)


def test_box_of_who_walks_keeps_its_size_and_holds_every_stride():
    walker = Actor(stock='walker', number=1, object_id='a', station_m=0.0, lateral_m=0.0,
                   along_mps=1.4)  # fmt: skip
    meshes = [walker.mesh(time_s) for time_s in np.arange(0.0, 1.1, 0.1)]
    boxes = [walker.box(np.eye(4), mesh) for mesh in meshes]
    assert all((size == boxes[0][1]).all() for _, size, _ in boxes)
    center, size, _ = boxes[0]
    lengths = []
    for mesh in meshes:
        low, high = mesh.extent()
        assert (low[:2] >= (center - size / 2)[:2] - 1e-9).all()
        assert (high[:2] <= (center + size / 2)[:2] + 1e-9).all()
        lengths.append(high[0] - low[0])
    assert max(lengths) > min(lengths) + 0.3


def test_people_on_foot_get_as_much_air_beside_them_as_above():
    for stock, sides in (('stander', 0.08), ('rider', 0.0)):
        tight, loose = (
            Actor(stock=stock, number=2, object_id='a', station_m=0.0, lateral_m=0.0, slack_m=air)
            for air in (0.0, 0.04)
        )
        mesh = tight.mesh(0.0)
        more = loose.box(np.eye(4), mesh)[1] - tight.box(np.eye(4), mesh)[1]
        np.testing.assert_allclose(more, (sides, sides, 0.04), atol=1e-9)
