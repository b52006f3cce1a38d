# SPDX-License-Identifier: Apache-2.0
"""
The one table of traffic signs: number, name for planners, shape, speed, mirror image, width.

The numbers are those of GTSDB and GTSRB (German signs). A name says what a sign asks for and is
what `class_id` holds in messages; a sign that was found but not read is `sign`, number -1.
"""

from dataclasses import dataclass

UNREAD, UNREAD_NAME = -1, 'sign'
# Usual width of a plate, metres (German VzKat, size 2); a diamond from corner to corner.
WIDTH_M = {
    'circle': 0.6,
    'triangle_up': 0.9,
    'triangle_down': 0.9,
    'diamond': 0.84,
    'octagon': 0.9,
}


@dataclass(frozen=True, slots=True)
class SignClass:
    """
    One class of signs.

    Attributes
    ----------
    name : str
        For planners.
    shape : str
        circle, triangle_up, triangle_down, diamond or octagon.
    speed_kmh : int or None
        Of a speed limit.
    mirrored : int or None
        The class that its mirror image shows: itself for a symmetric sign, None for no sign.

    """

    name: str
    shape: str = 'circle'
    speed_kmh: int | None = None
    mirrored: int | None = None


# Height over width of the box around a triangle, whose corners are round: median of the 208
# labels of GTSDB, which detectors learn from. All other plates are as tall as wide.
TRIANGLE_HEIGHT = 0.913
UP, DOWN = 'triangle_up', 'triangle_down'
SIGN_CLASSES = (
    SignClass('speed_limit_20', speed_kmh=20),
    SignClass('speed_limit_30', speed_kmh=30),
    SignClass('speed_limit_50', speed_kmh=50),
    SignClass('speed_limit_60', speed_kmh=60),
    SignClass('speed_limit_70', speed_kmh=70),
    SignClass('speed_limit_80', speed_kmh=80),
    SignClass('end_of_speed_limit'),
    SignClass('speed_limit_100', speed_kmh=100),
    SignClass('speed_limit_120', speed_kmh=120),
    SignClass('no_passing'),
    SignClass('no_passing_trucks'),
    SignClass('right_of_way', UP, mirrored=11),
    SignClass('priority_road', 'diamond', mirrored=12),
    SignClass('yield', DOWN, mirrored=13),
    SignClass('stop', 'octagon'),
    SignClass('no_vehicles', mirrored=15),
    SignClass('no_trucks'),
    SignClass('no_entry', mirrored=17),
    SignClass('caution', UP, mirrored=18),
    SignClass('curve_left', UP, mirrored=20),
    SignClass('curve_right', UP, mirrored=19),
    SignClass('double_curve', UP),
    SignClass('bumpy_road', UP, mirrored=22),
    SignClass('slippery_road', UP),
    SignClass('road_narrows_right', UP),
    SignClass('road_work', UP),
    SignClass('traffic_signals', UP, mirrored=26),
    SignClass('pedestrians', UP),
    SignClass('children', UP),
    SignClass('bicycles', UP),
    SignClass('ice', UP, mirrored=30),
    SignClass('wild_animals', UP),
    SignClass('end_of_all_limits'),
    SignClass('turn_right', mirrored=34),
    SignClass('turn_left', mirrored=33),
    SignClass('ahead_only', mirrored=35),
    SignClass('ahead_or_right', mirrored=37),
    SignClass('ahead_or_left', mirrored=36),
    SignClass('keep_right', mirrored=39),
    SignClass('keep_left', mirrored=38),
    SignClass('roundabout'),
    SignClass('end_of_no_passing'),
    SignClass('end_of_no_passing_trucks'),
)
NUM_SIGN_CLASSES = len(SIGN_CLASSES)
SPEEDS_KMH = {i: sign.speed_kmh for i, sign in enumerate(SIGN_CLASSES) if sign.speed_kmh}


def sign_name(class_id):
    """Return the name for planners; `sign` for one that was not read."""
    return UNREAD_NAME if class_id == UNREAD else SIGN_CLASSES[class_id].name


def sign_width_m(class_id):
    """Return the usual width of the plate; that of a circle for one that was not read."""
    return WIDTH_M['circle' if class_id == UNREAD else SIGN_CLASSES[class_id].shape]


def sign_height_m(class_id):
    """Return the usual height of the plate."""
    is_triangle = class_id != UNREAD and SIGN_CLASSES[class_id].shape in (UP, DOWN)
    return sign_width_m(class_id) * (TRIANGLE_HEIGHT if is_triangle else 1.0)
