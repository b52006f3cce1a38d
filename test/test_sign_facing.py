# SPDX-License-Identifier: Apache-2.0
"""Where the face of a sign looks: by LiDAR points, by its box, and what is made of it."""

from mmperception.config_sections import SignsConfig
from mmperception.geometry import transform_from_yaw
from mmperception.sign_classes import UNREAD
from mmperception.sign_facing import Facing, facing_of_box, facing_of_points, is_meant, turned_away
from mmperception.sign_range import LIDAR, place_sign, SweepPoints
from mmperception.sign_tracking import SignTracker
import numpy as np
import pytest
from test_sign_range import box_of, found_at, make_frame, make_view, SIGN, START_NS, STOP

SIZE_PX = (1242, 375)
LIMIT_30, YIELD = 1, 13


def plate(turned_deg, number=60, noise_m=0.01, seed=0):
    """Return points on a plate at SIGN; 0: it looks against the robot, positive: to our left."""
    rng = np.random.default_rng(seed)
    across, up = rng.uniform(-0.3, 0.3, (2, number))
    angle = np.deg2rad(turned_deg)
    # The normal (-cos, -sin) of the plate and a line (sin, -cos) in it, seen from above.
    flat = across[:, None] * (np.sin(angle), -np.cos(angle))
    flat = flat + rng.normal(0, noise_m, (number, 1)) * (-np.cos(angle), -np.sin(angle))
    return SIGN + np.column_stack((flat, up))


@pytest.mark.parametrize('turned_deg', [-60, -35, 0, 10, 35, 60])
def test_points_on_a_face_tell_where_it_looks(turned_deg):
    bearing = np.arctan2(SIGN[1], SIGN[0])
    facing = facing_of_points(plate(turned_deg), bearing)
    wanted = np.pi + np.deg2rad(turned_deg)
    assert abs(np.angle(np.exp(1j * (facing.yaw_rad - wanted)))) < np.deg2rad(4)
    assert 0.05 < facing.sigma_rad < 0.25


def test_few_points_or_a_single_column_tell_nothing():
    assert not facing_of_points(plate(30)[:5], 0.0).is_known
    column = SIGN + np.column_stack((np.zeros((20, 2)), np.linspace(-0.3, 0.3, 20)))
    assert not facing_of_points(column, 0.0).is_known
    assert not facing_of_points(np.zeros((0, 3)), 0.0).is_known


@pytest.mark.parametrize('angle_deg', [45, 60, 70])
def test_a_narrow_box_is_a_turned_plate(angle_deg):
    width = 60 * np.cos(np.deg2rad(angle_deg))
    box = np.array([600.0, 100.0, 600 + width, 160.0])
    facing = facing_of_box(box, LIMIT_30, 0.0, SIZE_PX)
    assert np.rad2deg(turned_away(facing.yaw_rad, 0.0)) == pytest.approx(angle_deg, abs=1)
    assert facing.sigma_rad < 0.2


def test_the_box_of_a_triangle_is_wider_than_tall():
    facing = facing_of_box(np.array([100.0, 100.0, 165.7, 160.0]), YIELD, 0.0, SIZE_PX)
    assert turned_away(facing.yaw_rad, 0.0) < 0.1


def test_of_the_two_answers_of_a_box_the_one_for_us_is_taken():
    """Passed closely, a sign that looks straight against our way is seen under an angle."""
    bearing = np.deg2rad(-50)
    box = np.array([900.0, 100.0, 900 + 60 * np.cos(bearing), 160.0])
    facing = facing_of_box(box, LIMIT_30, bearing, SIZE_PX)
    assert np.rad2deg(turned_away(facing.yaw_rad, 0.0)) < 1


@pytest.mark.parametrize(
    ('box', 'class_id'),
    [((600, 100, 620, 160), UNREAD), ((1228, 100, 1242, 160), STOP), ((0, 100, 15, 160), STOP)],
)
def test_an_unread_or_cut_plate_tells_nothing(box, class_id):
    assert not facing_of_box(np.array(box, float), class_id, 0.0, SIZE_PX).is_known


def test_two_measurements_meet_across_the_turn_of_the_circle():
    joined = Facing(np.pi - 0.1, 0.1).joined(Facing(-np.pi + 0.1, 0.1))
    assert abs(joined.yaw_rad) == pytest.approx(np.pi, abs=1e-6)
    assert joined.sigma_rad < 0.1
    assert Facing().joined(Facing(1.0, 0.2)) == Facing(1.0, 0.2)
    assert Facing(1.0, 0.2).joined(Facing()) == Facing(1.0, 0.2)


def test_a_doubtful_angle_never_takes_a_sign_away():
    limit = np.deg2rad(60)
    sideways = np.pi + np.deg2rad(75)
    assert not is_meant(Facing(sideways, 0.1), 0.0, limit)
    assert is_meant(Facing(sideways, 0.4), 0.0, limit)
    assert is_meant(Facing(), 0.0, limit)


def test_a_placed_sign_knows_where_its_face_looks():
    placed = place_sign(box_of(SIGN), STOP, make_view(), SweepPoints(make_frame(plate(40, 90))))
    assert placed.source == LIDAR
    assert np.rad2deg(turned_away(placed.facing.yaw_rad, 0.0)) == pytest.approx(40, abs=6)


def test_a_followed_sign_keeps_its_facing_while_the_robot_turns():
    view, tracker = make_view(), SignTracker(SignsConfig(confirm_hits=1))
    placed = place_sign(box_of(SIGN), STOP, view, SweepPoints(make_frame(plate(-40, 90))))
    tracker.update(view, found_at([box_of(SIGN)]), [placed], np.eye(4), START_NS)
    pose = transform_from_yaw((0.0, 0.0, 0.0), np.deg2rad(30))
    (facing,) = tracker.signs(pose, START_NS + 1).facing
    # Seen from the robot, that turned left by 30 degrees, the world turned right by as much.
    assert np.rad2deg(turned_away(facing.yaw_rad, 0.0)) == pytest.approx(70, abs=6)
