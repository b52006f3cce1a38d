# SPDX-License-Identifier: Apache-2.0
"""Obstacles that stay, on the globe; and fixes that lie about themselves."""

from dataclasses import replace

from mmperception.datatypes import CLASSES, CostGrid, GpsFix
from mmperception.geodesy import geojson, LocalEnu
from mmperception.landmarks import features_of, fit_odometry, Landmarks
import numpy as np
import pytest

START_NS = 1_317_046_448_123_456_789
ENU = LocalEnu(49.0, 8.4, 110.0)
# odom is turned by 0.7 rad and lies 30 m east and 12 m south of the datum.
TURN = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
SHIFT = np.array((30.0, -12.0))


def way(num=60):
    """Return places of a gentle bend of 60 m in odom."""
    along = np.linspace(0, 60, num)
    return np.stack((along, 0.01 * along**2), axis=1)


def fixes_at(places, noise_m=0.0, sigma_m=0.5, seed=0):
    """Return what a receiver says at places in odom."""
    enu = np.asarray(places) @ TURN.T + SHIFT
    enu = enu + np.random.default_rng(seed).normal(0, 1, enu.shape) * noise_m
    latitude, longitude, _ = ENU.geodetic_from_enu(np.column_stack((enu, np.zeros(len(enu)))))
    return [
        GpsFix(
            stamp_ns=START_NS + index,
            frame_id='gps_link',
            latitude_deg=float(lat),
            longitude_deg=float(lon),
            altitude_m=110.0,
            status=0,
            covariance=None if sigma_m is None else np.eye(3) * sigma_m**2,
        )
        for index, (lat, lon) in enumerate(zip(latitude, longitude, strict=True))
    ]


def error_m(placing, place=(40.0, -6.0)):
    """Return how far off a place in odom lands."""
    enu = placing.enu_from_odom @ np.append(place, 1.0)
    latitude, longitude, _ = placing.enu.geodetic_from_enu(np.append(enu[:2], 0.0)[None])
    found = ENU.enu_from_geodetic(latitude, longitude, np.array([110.0]))[0, :2]
    return float(np.hypot(*(found - (TURN @ place + SHIFT))))


def grid_with(lethal, seconds=0.0, origin=(-10.0, -10.0), free=True):
    """Return a grid of 40 m with lethal squares of 0.5 m at these places."""
    data = np.full((400, 400), 0 if free else -1, np.int8)
    for x, y in lethal:
        column, row = round((x - origin[0]) * 10), round((y - origin[1]) * 10)
        bottom, right = row + 5, column + 5
        data[row:bottom, column:right] = 100
    return CostGrid(
        stamp_ns=START_NS + int(seconds * 1e9),
        frame_id='odom',
        resolution_m=0.1,
        origin_xy_m=origin,
        data=data,
    )


def test_exact_fixes_give_the_exact_place_and_never_claim_to_be_perfect():
    placing = fit_odometry(way(), fixes_at(way()))
    assert error_m(placing) < 0.01
    assert placing.sigma_m == pytest.approx(0.5)
    near, far = placing.sigma_at(np.array([(30.0, 9.0), (300.0, 9.0)]))
    assert 0.5 <= near < 0.6 and far > 2 * near


def test_a_receiver_that_claims_a_centimetre_is_believed_by_how_it_agrees_with_odometry():
    placing = fit_odometry(way(), fixes_at(way(), noise_m=2.0, sigma_m=0.01))
    assert 1.5 < placing.sigma_m < 4.0
    assert error_m(placing) < 2 * placing.sigma_m


def test_jumps_from_reflections_are_left_out():
    fixes = fixes_at(way(), noise_m=0.2)
    away = fixes_at(way() + (25.0, -40.0), noise_m=0.2)
    mixed = [away[k] if 20 <= k < 32 else fix for k, fix in enumerate(fixes)]
    placing = fit_odometry(way(), mixed)
    assert (placing.num_fixes, placing.num_left_out) == (48, 12)
    assert error_m(placing) < 0.3 and placing.sigma_m < 0.6


def test_an_unknown_covariance_is_never_perfect():
    assert fit_odometry(way(), fixes_at(way(), sigma_m=None)).sigma_m >= 10.0
    zeros = [replace(fix, covariance=np.zeros((3, 3))) for fix in fixes_at(way())]
    assert fit_odometry(way(), zeros).sigma_m >= 10.0


@pytest.mark.parametrize(
    'fixes, places, reason',
    [
        ([], way(), 'fixes with a known place'),
        ([replace(fix, status=-1) for fix in fixes_at(way())], way(), 'fixes with a known place'),
        (fixes_at(way() * 0.05), way() * 0.05, 'no heading'),
    ],
)
def test_fixes_that_do_not_suffice_say_why(fixes, places, reason):
    with pytest.raises(LookupError, match=reason):
        fit_odometry(places, fixes)


def test_what_stays_is_kept_and_what_passes_or_was_unknown_is_not():
    landmarks = Landmarks()
    for step in range(31):
        passing = (2.0 + 0.5 * step, 8.0)
        landmarks.add(grid_with([(5.0, 3.0), passing], 0.1 * step))
    ((middle, size, label),) = landmarks.outlines()
    assert middle == pytest.approx((5.25, 3.25), abs=0.06)
    assert size == pytest.approx((0.5, 0.5), abs=0.11) and label is None


def test_what_was_seen_through_later_does_not_stay():
    landmarks = Landmarks()
    for step in range(61):
        landmarks.add(grid_with([(5.0, 3.0)] if step < 30 else [], 0.1 * step))
    assert landmarks.outlines() == []


def test_the_window_may_move_over_what_stays():
    landmarks = Landmarks()
    for step in range(31):
        origin = (-30.0 + 0.5 * step, -15.0 - 0.3 * step)
        landmarks.add(grid_with([(-5.0, -3.0)], 0.1 * step, origin))
    ((middle, _, _),) = landmarks.outlines()
    assert middle == pytest.approx((-4.75, -2.75), abs=0.06)


def test_features_stand_on_the_globe_with_their_accuracy_and_nothing_gives_none():
    landmarks = Landmarks()
    placing = fit_odometry(way(), fixes_at(way()))
    assert features_of(landmarks, placing, CLASSES) == []
    for step in range(31):
        landmarks.add(grid_with([(5.0, 3.0)], 0.1 * step))
    collection = geojson(features_of(landmarks, placing, CLASSES))
    (feature,) = collection['features']
    longitude, latitude = feature['geometry']['coordinates']
    enu = ENU.enu_from_geodetic(np.array([latitude]), np.array([longitude]), np.array([110.0]))
    assert np.hypot(*(enu[0, :2] - (TURN @ (5.25, 3.25) + SHIFT))) < 0.1
    assert feature['properties']['class'] == 'obstacle'
    assert feature['properties']['accuracy_m'] >= 0.5


def test_another_resolution_within_a_drive_is_refused():
    landmarks = Landmarks()
    landmarks.add(grid_with([]))
    with pytest.raises(ValueError, match='resolution_m'):
        landmarks.add(replace(grid_with([]), resolution_m=0.2))
