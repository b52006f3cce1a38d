# SPDX-License-Identifier: Apache-2.0
"""The picture of the map of signs: north is up, and every sign is where it stands."""

from mmperception.canvas import EGO
from mmperception.sign_atlas import MappedSign
from mmperception.sign_chart import sign_chart, SIGN_COLOUR, WIDTH_PX
import numpy as np
import pytest

NORTH_M = 1 / 111_320.0
WAY = np.array([(49.0 + step * NORTH_M, 8.4) for step in range(100)])


def make_sign(north_m, east_m, heading_deg=180.0, accuracy_m=0.5):
    east = east_m * NORTH_M / np.cos(np.radians(49.0))
    return MappedSign(name='stop', latitude_deg=49.0 + north_m * NORTH_M, accuracy_m=accuracy_m,
                      longitude_deg=8.4 + east, heading_deg=heading_deg,
                      first_ns=1, last_ns=2)  # fmt: skip


def middle_of(canvas, colour):
    rows, columns = np.nonzero((canvas == np.array(colour, np.uint8)).all(axis=2))
    return columns.mean(), rows.mean()


def test_a_sign_in_the_north_east_of_the_way_is_above_and_right_of_it():
    canvas = sign_chart([make_sign(90.0, 20.0)], WAY)
    way, sign = middle_of(canvas, EGO), middle_of(canvas, SIGN_COLOUR)
    assert sign[0] > way[0] + 50 and sign[1] < way[1] - 50
    assert canvas.shape[1] == WIDTH_PX and canvas.shape[0] <= 800


@pytest.mark.parametrize(('heading_deg', 'way'), [(0, (0, -1)), (90, (1, 0)), (180, (0, 1))])
def test_the_stroke_of_a_sign_points_to_those_who_read_it(heading_deg, way):
    sign = make_sign(50.0, 10.0, heading_deg)
    still = middle_of(sign_chart([make_sign(50.0, 10.0, (heading_deg + 180) % 360)], WAY),
                      SIGN_COLOUR)  # fmt: skip
    apart = np.subtract(middle_of(sign_chart([sign], WAY), SIGN_COLOUR), still)
    assert apart @ way > 3 and abs(apart[0] * way[1] - apart[1] * way[0]) < 1


def test_a_way_without_signs_and_a_robot_that_stands_are_drawn_too():
    assert sign_chart([], WAY).shape[2] == 3
    assert sign_chart([make_sign(0.0, 3.0)], WAY[:1]).shape[2] == 3
