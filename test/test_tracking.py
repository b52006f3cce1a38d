# SPDX-License-Identifier: Apache-2.0
"""The tracker: numbers that stay, velocities with honest covariance, headings that do not flip."""

from dataclasses import replace

from hypothesis import given, strategies
from mmperception.config_sections import TrackingConfig
from mmperception.datatypes import Detections
from mmperception.geometry import apply, invert, transform_from_yaw, wrap_angle, yaw_of
from mmperception.tracking import Tracker
import numpy as np
import pytest

CONFIG = TrackingConfig()
START_NS = 1_316_000_000_123_456_789
SIZES = np.float32([[4.2, 1.8, 1.5], [0.7, 0.6, 1.75], [1.8, 0.6, 1.7]])


def make_detections(stamp_ns, centers, yaws=None, labels=None, scores=None, sigma_m=0.1):
    centers = np.asarray(centers, np.float32).reshape(-1, 3)
    N = len(centers)
    labels = np.zeros(N, np.int64) if labels is None else np.asarray(labels, np.int64)
    covariance = np.zeros((N, 6, 6))
    covariance[:, [0, 1, 2], [0, 1, 2]] = sigma_m**2
    covariance[:, 5, 5] = 0.05
    return Detections(
        stamp_ns=stamp_ns,
        frame_id='base_link',
        center=centers,
        size=SIZES[labels],
        yaw=np.zeros(N, np.float32) if yaws is None else np.asarray(yaws, np.float32),
        score=np.full(N, 0.8, np.float32) if scores is None else np.float32(scores),
        label=labels,
        covariance=covariance,
        track_id=np.full(N, -1),
    )


def follow(tracker, path, num_sweeps, period_s=0.1, pose=None, **kwargs):
    """Feed one object at `path(t)` in odom; yield (detections, tracks) of each sweep."""
    pose_at = pose or (lambda t: np.eye(4))
    for sweep in range(num_sweeps):
        seconds = sweep * period_s
        stamp_ns = START_NS + int(round(seconds * 1e9))
        odom_from_base = pose_at(seconds)
        points = np.atleast_2d(np.array(path(seconds), np.float64))
        detections = make_detections(stamp_ns, apply(invert(odom_from_base), points), **kwargs)
        yield tracker.update(detections, odom_from_base, stamp_ns)


def test_nothing_detected_gives_empty_detections_and_tracks():
    tracker = Tracker(CONFIG, 3)
    for step in range(3):
        stamp_ns = START_NS + step * 100_000_000
        detections, tracks = tracker.update(
            Detections.empty(stamp_ns, 'base_link'), np.eye(4), stamp_ns
        )
        assert len(detections) == len(tracks) == 0
        assert tracks.stamp_ns == stamp_ns and tracks.frame_id == 'odom'


def test_a_car_keeps_its_number_and_its_velocity_is_found_from_a_turning_robot():
    def pose(seconds):
        return transform_from_yaw((5 * seconds + 100, -2 * seconds, 0.3), 0.5 * seconds)

    def path(seconds):
        return (120 + 8 * seconds, 3 - 3 * seconds, 0.9)

    results = list(follow(Tracker(CONFIG, 3), path, 15, pose=pose))
    ids = [int(detections.track_id[0]) for detections, _ in results]
    assert set(ids) == {ids[0]} and ids[0] > 0
    tracks = results[-1][1]
    assert tracks.track_id.tolist() == [ids[0]]
    assert np.allclose(tracks.center[0], path(1.4), atol=0.05)
    assert np.allclose(tracks.velocity[0], (8, -3), atol=0.3)
    assert not tracks.is_stationary[0]


def test_a_track_is_published_at_its_second_sweep_and_not_before():
    results = list(follow(Tracker(CONFIG, 3), lambda t: (10, 2, 0.9), 3))
    assert [len(tracks) for _, tracks in results] == [0, 1, 1]
    assert results[0][0].track_id[0] == results[1][1].track_id[0]


@given(strategies.integers(0, 10_000))
def test_errors_of_position_and_velocity_are_as_large_as_the_covariance_says(seed):
    rng = np.random.default_rng(seed)
    tracker, sigma_m = Tracker(CONFIG, 3), 0.15
    velocity = np.array((6.0, -2.0))
    for step in range(20):
        stamp_ns = START_NS + step * 100_000_000
        true = np.array((15.0, 4.0)) + velocity * 0.1 * step
        center = (*(true + rng.normal(0, sigma_m, 2)), 0.9)
        _, tracks = tracker.update(
            make_detections(stamp_ns, [center], sigma_m=sigma_m), np.eye(4), stamp_ns
        )
    for error, spread in (
        (tracks.center[0, :2] - true, tracks.pose_covariance[0, :2, :2]),
        (tracks.velocity[0] - velocity, tracks.velocity_covariance[0]),
    ):
        assert error @ np.linalg.solve(spread, error) < 25  # far beyond any honest chance
        assert (np.linalg.eigvalsh(spread) > 0).all()
    assert 0.02 < np.sqrt(tracks.pose_covariance[0, 0, 0]) < sigma_m * 1.1
    assert 0.1 < np.sqrt(tracks.velocity_covariance[0, 0, 0]) < 2.0


def test_a_parked_car_seen_with_noise_is_stationary():
    rng = np.random.default_rng(5)

    def path(seconds):
        return (12 + rng.normal(0, 0.1), -4 + rng.normal(0, 0.1), 0.8)

    flags = [
        bool(tracks.is_stationary[0])
        for _, tracks in follow(Tracker(CONFIG, 3), path, 30)
        if len(tracks)
    ]
    assert np.mean(flags) > 0.9


def test_a_walking_pedestrian_is_not_stationary_after_a_second():
    results = list(
        follow(Tracker(CONFIG, 3), lambda t: (10, -3 + 1.4 * t, 0.9), 11, labels=[1], sigma_m=0.1)
    )
    tracks = results[-1][1]
    assert tracks.label.tolist() == [1]
    assert not tracks.is_stationary[0]
    assert np.allclose(tracks.velocity[0], (0, 1.4), atol=0.3)


def test_a_missed_car_coasts_along_its_way_and_keeps_its_number():
    tracker = Tracker(CONFIG, 3)
    for detections, _ in follow(tracker, lambda t: (10 + 10 * t, 2, 0.9), 10):
        number = int(detections.track_id[0])
    for step in (10, 11, 12):
        stamp_ns = START_NS + step * 100_000_000
        _, tracks = tracker.update(Detections.empty(stamp_ns, 'base_link'), np.eye(4), stamp_ns)
        assert tracks.track_id.tolist() == [number]
        assert abs(tracks.center[0, 0] - (10 + step)) < 0.3
    spread = tracks.pose_covariance[0, 0, 0]
    stamp_ns = START_NS + 13 * 100_000_000
    back, tracks = tracker.update(make_detections(stamp_ns, [(23, 2, 0.9)]), np.eye(4), stamp_ns)
    assert back.track_id.tolist() == [number]
    assert tracks.pose_covariance[0, 0, 0] < spread


def test_a_car_unseen_for_too_long_is_dropped_and_its_number_not_given_again():
    tracker = Tracker(CONFIG, 3)
    for detections, _ in follow(tracker, lambda t: (10, 2, 0.9), 5):
        number = int(detections.track_id[0])
    for step in range(5, 12):
        stamp_ns = START_NS + step * 100_000_000
        _, tracks = tracker.update(Detections.empty(stamp_ns, 'base_link'), np.eye(4), stamp_ns)
        assert len(tracks) == (1 if step <= 9 else 0)
    again, _ = tracker.update(
        make_detections(stamp_ns + 10**8, [(10, 2, 0.9)]), np.eye(4), stamp_ns + 10**8
    )
    assert again.track_id[0] > number


@pytest.mark.parametrize('jump_ns', [-50_000_000, 2_500_000_000])
def test_a_clock_that_jumps_starts_from_nothing(jump_ns):
    tracker = Tracker(CONFIG, 3)
    for detections, _ in follow(tracker, lambda t: (10, 2, 0.9), 5):
        number = int(detections.track_id[0])
    stamp_ns = START_NS + 400_000_000 + jump_ns
    again, tracks = tracker.update(make_detections(stamp_ns, [(10, 2, 0.9)]), np.eye(4), stamp_ns)
    assert again.track_id[0] > number and len(tracks) == 0


def test_without_odometry_numbers_stay_and_no_tracks_are_given():
    tracker, numbers = Tracker(CONFIG, 3), []
    for step in range(4):
        stamp_ns = START_NS + step * 100_000_000
        detections, tracks = tracker.update(
            make_detections(stamp_ns, [(10 - 0.8 * step, 2, 0.9)]), None, stamp_ns
        )
        numbers.append(int(detections.track_id[0]))
        assert len(tracks) == 0
    assert len(set(numbers)) == 1
    # Odometry comes: positions mean something else now.
    stamp_ns += 100_000_000
    detections, _ = tracker.update(make_detections(stamp_ns, [(7, 2, 0.9)]), np.eye(4), stamp_ns)
    assert detections.track_id[0] not in numbers


def test_two_cars_that_pass_each_other_keep_their_numbers():
    def path(seconds):
        return [(10 + 10 * seconds, 1.6, 0.9), (30 - 10 * seconds, -1.6, 0.9)]

    numbers = [d.track_id.tolist() for d, _ in follow(Tracker(CONFIG, 3), path, 20)]
    assert all(pair == numbers[0] for pair in numbers) and len(set(numbers[0])) == 2


def test_a_pedestrian_beside_a_car_does_not_take_its_track():
    tracker = Tracker(CONFIG, 3)
    list(follow(tracker, lambda t: (10, 2, 0.9), 3))
    stamp_ns = START_NS + 300_000_000
    detections, _ = tracker.update(
        make_detections(stamp_ns, [(10, 3.4, 0.9)], labels=[1]), np.eye(4), stamp_ns
    )
    assert detections.track_id[0] != 1


def test_one_wrong_label_does_not_change_the_class_of_a_track():
    tracker = Tracker(CONFIG, 3)
    for step, label in enumerate([1, 1, 1, 2, 1]):
        stamp_ns = START_NS + step * 100_000_000
        detections, tracks = tracker.update(
            make_detections(stamp_ns, [(8, 1, 0.9)], labels=[label]), np.eye(4), stamp_ns
        )
        assert detections.track_id.tolist() == [1]
        assert detections.label.tolist() == [label]  # what was seen stays as it was seen
        if len(tracks):
            assert tracks.label.tolist() == [1]


def test_headings_that_flip_by_half_a_turn_are_held_together_by_history():
    tracker = Tracker(CONFIG, 3)
    for step in range(12):
        stamp_ns = START_NS + step * 100_000_000
        yaw = 0.4 + (np.pi if step in (3, 6, 7) else 0.0)
        _, tracks = tracker.update(
            make_detections(stamp_ns, [(10, 2, 0.9)], yaws=[yaw]), np.eye(4), stamp_ns
        )
        if len(tracks):
            assert abs(wrap_angle(tracks.yaw[0] - 0.4)) < 0.05


def test_a_heading_that_was_wrong_at_first_gives_way_to_the_majority():
    tracker = Tracker(CONFIG, 3)
    for step in range(10):
        stamp_ns = START_NS + step * 100_000_000
        yaw = 0.4 + (np.pi if step < 2 else 0.0)
        _, tracks = tracker.update(
            make_detections(stamp_ns, [(10, 2, 0.9)], yaws=[yaw]), np.eye(4), stamp_ns
        )
    assert abs(wrap_angle(tracks.yaw[0] - 0.4)) < 0.05


def test_a_fast_car_heads_where_it_drives_whatever_the_detector_says():
    path = lambda t: (30 - 12 * t, 4 + 1.0 * t, 0.9)  # noqa: E731
    results = list(follow(Tracker(CONFIG, 3), path, 10, yaws=[-0.083]))
    assert abs(wrap_angle(results[-1][1].yaw[0] - (np.pi - 0.083))) < 0.05


def test_boxes_are_given_in_odom():
    pose = transform_from_yaw((100.0, -50.0, 2.0), 1.2)
    tracker = Tracker(CONFIG, 3)
    for step in range(3):
        stamp_ns = START_NS + step * 100_000_000
        _, tracks = tracker.update(
            make_detections(stamp_ns, [(10, 2, 0.9)], yaws=[0.3]), pose, stamp_ns
        )
    expected = apply(pose, np.array([[10, 2, 0.9]]))[0]
    assert np.allclose(tracks.center[0], expected, atol=1e-3)
    assert abs(tracks.yaw[0] - (yaw_of(pose) + 0.3)) < 1e-3
    assert np.allclose(tracks.size[0], SIZES[0])


def test_a_lengthwise_uncertainty_turns_with_the_robot():
    detections = make_detections(START_NS, [(10, 2, 0.9)])
    detections.covariance[0, 0, 0] = 1.0  # along base x
    pose = transform_from_yaw((0.0, 0.0, 0.0), np.pi / 2)
    tracker = Tracker(replace(CONFIG, confirm_hits=1), 3)
    _, tracks = tracker.update(detections, pose, START_NS)
    assert tracks.pose_covariance[0, 1, 1] > 0.9 > 0.1 > tracks.pose_covariance[0, 0, 0]


def test_the_input_stays_as_it_was_and_equal_inputs_give_equal_tracks():
    def run():
        rng = np.random.default_rng(2)
        tracker = Tracker(CONFIG, 3)
        for step in range(10):
            stamp_ns = START_NS + step * 90_000_000
            centers = rng.uniform(-20, 20, (6, 3)) * (0.05, 0.05, 0) + np.arange(6)[:, None] * 6
            detections = make_detections(stamp_ns, centers, labels=[0, 1, 2, 0, 1, 2])
            result, tracks = tracker.update(detections, np.eye(4), stamp_ns)
            assert (detections.track_id == -1).all()
            assert result.center is detections.center
        return tracks

    one, other = run(), run()
    assert len(one) > 0
    for name in ('track_id', 'center', 'velocity', 'yaw', 'pose_covariance', 'score'):
        assert (getattr(one, name) == getattr(other, name)).all()


@given(strategies.integers(0, 10_000))
def test_the_order_of_detections_changes_only_the_numbers(seed):
    rng = np.random.default_rng(seed)
    start, velocity = rng.uniform(-30, 30, (8, 2)), rng.uniform(-4, 4, (8, 2))
    trackers = Tracker(CONFIG, 3), Tracker(CONFIG, 3)
    labels = rng.integers(0, 3, 8)
    for step in range(5):
        stamp_ns = START_NS + step * 100_000_000
        centers = np.column_stack((start + velocity * 0.1 * step, np.full(8, 0.9)))
        order = rng.permutation(8)
        plain, tracks = trackers[0].update(
            make_detections(stamp_ns, centers, labels=labels), np.eye(4), stamp_ns
        )
        mixed, others = trackers[1].update(
            make_detections(stamp_ns, centers[order], labels=labels[order]), np.eye(4), stamp_ns
        )
        assert len(set(plain.track_id)) == len(set(mixed.track_id)) == 8
    assert len(tracks) == len(others)
    one, other = (np.round(t.center[np.lexsort(t.center.T)], 4) for t in (tracks, others))
    assert np.allclose(one, other, atol=1e-3)


def test_cleared_means_nothing_is_followed_but_numbers_go_on():
    tracker = Tracker(CONFIG, 3)
    list(follow(tracker, lambda t: (10, 2, 0.9), 4))
    tracker.clear()
    detections, tracks = tracker.update(
        make_detections(START_NS, [(10, 2, 0.9)]), np.eye(4), START_NS
    )
    assert len(tracks) == 0 and detections.track_id.tolist() == [2]
