# SPDX-License-Identifier: Apache-2.0
"""The list of cells in which something stands, and what is drawn around it."""

import cv2
from mmperception.cost_paint import grade_around, HIGHEST_GRADE, paint
from mmperception.standing import Standing
import numpy as np


def standing_at(places, cells=20):
    standing = Standing(cells)
    cell = np.array([y * cells + x for x, y in places], np.int64)
    standing.add(cell, 0.5, np.arange(1, len(cell) + 1, dtype=np.float32))
    standing.move(np.zeros(2, np.int64))
    return standing


def test_nothing_stands_at_first_and_nothing_moves():
    standing = Standing(20)
    standing.move(np.array((3, -4)))
    assert len(standing) == 0 and not standing.image.any()


def test_a_moved_window_takes_its_cells_along_and_forgets_what_it_leaves():
    standing = standing_at([(5, 6), (0, 3), (19, 19)])
    standing.move(np.array((2, -1)))
    assert sorted(zip(standing.x, standing.y, standing.top_m, strict=True)) == [(3, 7, 1.0)]
    assert standing.image.sum() == 1 and standing.image[7, 3] == 1
    assert standing.cell().tolist() == [7 * 20 + 3]


def test_what_stands_in_the_outline_of_the_robot_is_forgotten():
    standing = standing_at([(5, 6), (10, 10), (11, 11)])
    outline = np.array([(9, 9), (13, 9), (13, 13), (9, 13)], np.int32)
    left = standing.draw(outline)
    assert left.tolist() == [6 * 20 + 5] and len(standing) == 1
    assert standing.image.sum() == 1 and standing.top_m.tolist() == [1.0]


def test_cost_around_an_obstacle_falls_in_equal_steps_of_octagons():
    is_lethal = np.zeros((60, 60), np.uint8)
    is_lethal[20, 25] = is_lethal[50, 5] = 1
    before = is_lethal.copy()
    for reach in (1, 5, 8):
        plain, front = np.zeros((60, 60), np.int64), is_lethal.copy()
        for step in range(reach):
            shape = cv2.MORPH_RECT if step % 2 else cv2.MORPH_CROSS
            front = cv2.dilate(front, cv2.getStructuringElement(shape, (3, 3)))
            plain = np.maximum(plain, front * round(HIGHEST_GRADE * (1 - step / reach)))
        cost = grade_around(is_lethal, reach)
        assert cost.dtype == np.int8 and np.abs(cost - plain).max() <= 1
        assert (is_lethal == before).all()
    assert cost[20, 26] == HIGHEST_GRADE and cost[20, 25 + 8] > 0 and cost[20, 25 + 9] == 0


def test_painted_cost_is_only_raised_and_ends_softly_at_the_edge_of_the_hull():
    cost = np.full((40, 50), 10, np.int8)
    cost[20, 20] = 77
    square = [(15, 12), (25, 12), (25, 28), (15, 28)]
    corners = np.array([square * 2, square * 2], np.int32)
    paint(cost, corners, np.array((60, 40)), 3)
    assert cost[20, 20] == 77 and cost[20, 22] == 60 and cost[2, 2] == 10
    assert 10 < cost[20, 26] < 60
    assert cost.min() == 10


def test_what_lies_outside_of_the_grid_is_not_painted():
    for away in ((0, -60), (0, 60), (-80, 0), (80, 0)):
        cost = np.zeros((40, 50), np.int8)
        square = np.array([(15, 12), (25, 12), (25, 28), (15, 28)]) + away
        paint(cost, np.array([np.concatenate((square, square))], np.int32), np.array([60]), 3)
        assert not cost.any()
    paint(cost, np.zeros((0, 8, 2), np.int32), np.zeros(0, np.int64), 3)
    assert not cost.any()
