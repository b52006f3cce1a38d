# SPDX-License-Identifier: Apache-2.0
"""Speed limits: never faster than the robot, from passing the sign until something ends it."""

from mmperception.config_sections import SpeedLimitConfig
from mmperception.geometry import transform_from_yaw
from mmperception.sign_facing import Facing
from mmperception.speed_limit import NO_LIMIT, SignSighting, SpeedLimits
import numpy as np
import pytest
from synthetic import START_NS

LIMIT_30, LIMIT_50, LIMIT_80, END_80, STOP, END_ALL = 1, 2, 5, 6, 14, 32
SIGN_X_M, SPEED_MPS, PERIOD_S = 20.0, 10.0, 0.1


class Drive:
    """A robot that drives straight on and sees signs at (x, y) of the odometry frame."""

    def __init__(self, **settings):
        settings = SpeedLimitConfig(**{'robot_max_mps': 30.0, **settings})
        self.limits = SpeedLimits(settings, np.deg2rad(60))
        self.signs, self.sent, self.now_ns, self.x_m = {}, [], START_NS, 0.0

    def add(self, class_id, x_m=SIGN_X_M, y_m=-3.0, width_m=0.6, facing=None):
        sign = (class_id, x_m, y_m, width_m, facing or Facing())
        self.signs[str(len(self.signs) + 1)] = sign

    def to(self, x_m):
        """Drive to a place; return what was sent on the way as (x, value)."""
        before = len(self.sent)
        while self.x_m < x_m:
            self.x_m += SPEED_MPS * PERIOD_S
            self.now_ns += int(PERIOD_S * 1e9)
            pose = transform_from_yaw((self.x_m, 0.0, 0.0), 0.0)
            seen = [
                SignSighting(
                    track=track,
                    class_id=class_id,
                    position=np.array([sx - self.x_m, sy, 2.0]),
                    width_m=width_m,
                    facing=facing,
                )
                for track, (class_id, sx, sy, width_m, facing) in self.signs.items()
                if -5 < sx - self.x_m < 40
            ]
            self.limits.see(seen, pose)
            self.limits.move(pose, self.now_ns)
            self.sent += [(self.x_m, value) for value in self.limits.to_send(self.now_ns)]
        return self.sent[before:]

    def values(self, x_m):
        return [value for _, value in self.to(x_m)]


def test_a_limit_holds_from_passing_its_sign_and_is_said_every_second():
    drive = Drive()
    drive.add(LIMIT_30)
    assert drive.to(19.0) == []
    sent = drive.to(45.0)
    assert sent[0][0] - SIGN_X_M <= SPEED_MPS * 1.0
    assert [value for _, value in sent] == pytest.approx([30 / 3.6] * 3)
    assert np.diff([x for x, _ in sent]) == pytest.approx([10.0, 10.0], abs=1.01)


def test_a_sign_of_50_never_speeds_up_a_robot_of_half_a_metre_a_second():
    drive = Drive(robot_max_mps=0.5)
    drive.add(LIMIT_50)
    assert drive.values(60.0) == []
    drive.add(LIMIT_30, 80.0)
    assert all(value <= 0.5 for value in drive.values(120.0))


def test_nothing_is_sent_without_the_maximum_of_the_robot():
    drive = Drive(robot_max_mps=0.0)
    drive.add(LIMIT_30)
    assert drive.values(60.0) == [] and drive.limits.last_words() == []


def test_before_a_higher_limit_the_lower_one_is_taken_back():
    drive = Drive()
    drive.add(LIMIT_30)
    drive.add(LIMIT_50, 40.0)
    values = drive.values(45.0)
    change = values.index(NO_LIMIT)
    assert values[:change] == pytest.approx([30 / 3.6] * change)
    assert values[change + 1] == pytest.approx(50 / 3.6)


def test_a_lower_limit_comes_at_once():
    drive = Drive()
    drive.add(LIMIT_50)
    drive.add(LIMIT_30, 40.0)
    values = drive.values(41.0)
    assert NO_LIMIT not in values and values[-1] == pytest.approx(30 / 3.6)


@pytest.mark.parametrize('end', [END_80, END_ALL])
def test_an_end_sign_takes_the_limit_back_once(end):
    drive = Drive()
    drive.add(LIMIT_80)
    drive.add(end, 40.0)
    values = drive.values(80.0)
    assert values[-1] == NO_LIMIT and values.count(NO_LIMIT) == 1


@pytest.mark.parametrize('settings', [{'valid_m': 50.0}, {'valid_s': 5.0}])
def test_a_limit_runs_out_after_its_way_or_time(settings):
    drive = Drive(**settings)
    drive.add(LIMIT_30)
    sent = drive.to(120.0)
    assert sent[-1][1] == NO_LIMIT
    assert sent[-1][0] - SIGN_X_M == pytest.approx(51.0, abs=2.1)


def test_a_limit_at_or_above_the_robots_own_maximum_is_no_limit():
    drive = Drive(robot_max_mps=10.0)
    drive.add(LIMIT_30)
    drive.add(LIMIT_80, 40.0)
    values = drive.values(70.0)
    assert values[0] == pytest.approx(30 / 3.6) and values[-1] == NO_LIMIT
    assert set(values) == {30 / 3.6, NO_LIMIT}


def test_a_stop_sign_is_no_speed_limit():
    drive = Drive()
    drive.add(STOP)
    assert drive.values(60.0) == []
    drive.add(LIMIT_30, 70.0)
    drive.add(STOP, 80.0)
    assert NO_LIMIT not in drive.values(100.0)


@pytest.mark.parametrize(('y_m', 'width_m'), [(-9.0, 0.6), (8.0, 0.6), (-3.0, 0.2), (-3.0, 1.8)])
def test_signs_of_another_road_or_size_are_not_obeyed(y_m, width_m):
    drive = Drive()
    drive.add(LIMIT_30, y_m=y_m, width_m=width_m)
    assert drive.values(60.0) == []


@pytest.mark.parametrize('side', [-1, 1])
def test_a_sign_that_faces_another_road_is_not_obeyed(side):
    drive = Drive()
    drive.add(LIMIT_30, facing=Facing(np.pi + side * np.deg2rad(85), 0.1))
    assert drive.values(60.0) == []
    drive.add(LIMIT_50, 80.0, facing=Facing(np.pi + side * np.deg2rad(40), 0.1))
    assert drive.values(100.0)[0] == pytest.approx(50 / 3.6)


def test_the_back_of_a_sign_is_not_obeyed():
    drive = Drive()
    drive.add(LIMIT_30, facing=Facing(0.0, 0.3))
    assert drive.values(60.0) == []


def test_a_sign_that_appears_beside_the_robot_was_not_passed():
    drive = Drive()
    drive.to(19.5)
    drive.add(LIMIT_30, 19.9)
    assert drive.values(60.0) == []


def test_the_last_word_takes_a_limit_back():
    drive = Drive()
    drive.add(LIMIT_30)
    drive.to(30.0)
    assert drive.limits.last_words() == [NO_LIMIT]
    assert drive.limits.last_words() == []
