# SPDX-License-Identifier: Apache-2.0
"""
Detections of successive sweeps -> tracks with velocity, in the odometry frame.

After `decode.py`, before messages and `cost.py`. One Kalman filter with constant velocity for
each object (white acceleration noise, Bar-Shalom, Li and Kirubarajan 2001, section 6.3.2),
matched to detections nearest first within a gate in metres and in standard deviations. All
tracks live in one table of arrays: a sweep costs the same few array operations for any number.
"""

from dataclasses import dataclass, fields, replace

from mmperception.datatypes import Tracks
from mmperception.geometry import transform_boxes, wrap_angle
import numpy as np

# By class (vehicle, pedestrian, cyclist; others like a vehicle): share of the gate and of the
# acceleration that are configured for vehicles, and the spread of speeds before any is measured.
GATE_SHARE = (1.0, 0.4, 0.7)
ACCELERATION_SHARE = (1.0, 0.6, 0.8)
SPEED_SPREAD_MPS = (10.0, 1.5, 5.0)
# The gate is meant for this period; an object unseen for longer may be further away.
GATE_PERIOD_S, WIDEST_GATE = 0.1, 4.0
OTHER_CLASS_GATE = 0.5  # a detection of another class must lie this much nearer
CHI2_99, CHI2_95 = 9.21, 5.99  # two degrees of freedom
RESET_GAP_S = 2.0
FASTEST_REVERSE_MPS = 2.0  # whoever is faster drives forward
SMALLEST_SIGMA_M = 0.05
TURN_RATE_RADPS, CLIMB_RATE_MPS = 0.5, 0.3  # process noise of heading and height
VOTE_MEMORY, SCORE_GAIN, SIZE_GAIN = 0.9, 0.3, 0.1
MOST_AGREEMENT = 5
LEVEL_SIGMA_RAD = np.pi / 2  # roll and pitch are not estimated


@dataclass(slots=True, kw_only=True, eq=False)
class _Objects:
    """
    M objects in the frame of tracking: rows of arrays that grow and shrink together.

    `state` (M, 4) x y vx vy with `covariance` (M, 4, 4); `height_m` of the middle, `size` (M, 3)
    and `yaw` with variances; `agreement` counts detections that share the heading; `votes`
    (M, C) for classes; `hits` matches so far, `seen_ns` the last of them.
    """

    state: np.ndarray
    covariance: np.ndarray
    height_m: np.ndarray
    height_variance: np.ndarray
    size: np.ndarray
    yaw: np.ndarray
    yaw_variance: np.ndarray
    agreement: np.ndarray
    votes: np.ndarray
    score: np.ndarray
    track_id: np.ndarray
    hits: np.ndarray
    seen_ns: np.ndarray

    def __len__(self):
        return len(self.state)

    @property
    def label(self):
        return self.votes.argmax(axis=1)

    def select(self, index):
        """Return the objects at `index` (mask or integers) as copies."""
        return _Objects(**{part.name: getattr(self, part.name)[index] for part in fields(self)})

    def joined(self, others):
        """Return these objects followed by `others`."""
        names = [part.name for part in fields(self)]
        pairs = {name: (getattr(self, name), getattr(others, name)) for name in names}
        return _Objects(**{name: np.concatenate(pair) for name, pair in pairs.items()})


class Tracker:
    """
    Follows objects over sweeps.

    Parameters
    ----------
    config : TrackingConfig
    num_classes : int
    odom_frame : str
        Name of the frame in which tracks are given.

    """

    def __init__(self, config, num_classes, odom_frame='odom'):
        self._config = config
        self._num_classes = num_classes
        self._odom_frame = odom_frame
        self._next_id = 1  # never starts again: an id names one object for the whole run
        self.clear()

    def clear(self):
        """Forget all objects; their numbers are not given again."""
        self._objects = None
        self._stamp_ns = None
        self._has_odom = None

    def update(self, detections, odom_from_base, stamp_ns):
        """
        Match the detections of one sweep and move all tracks to its stamp.

        A stamp that goes back, a gap over two seconds, or odometry that comes or goes starts
        from nothing.

        Parameters
        ----------
        detections : Detections
            In `base_link`.
        odom_from_base : (4, 4) float64 or None
            None: objects are followed in `base_link`, for their numbers alone.
        stamp_ns : int
            Of the sweep, and then of all tracks.

        Returns
        -------
        detections : Detections
            The same with `track_id`.
        tracks : Tracks
            Those confirmed, seen now or coasting; empty without odometry.

        """
        elapsed_s = self._elapsed(stamp_ns, odom_from_base is not None)
        world_from_base = np.eye(4) if odom_from_base is None else odom_from_base
        measured = self._objects_from(detections, world_from_base, stamp_ns)
        if self._objects is None:
            self._objects = measured.select(np.zeros(0, np.int64))
        _predict(self._objects, elapsed_s, self._config.acceleration_mps2)
        track, detection = self._match(measured, stamp_ns)
        _correct(self._objects, measured, track, detection)
        track_id = self._name(measured, track, detection)
        is_new = np.isin(np.arange(len(measured)), detection, invert=True)
        self._objects = self._objects.joined(measured.select(is_new))
        self._drop(stamp_ns)
        tracks = Tracks.empty(stamp_ns, self._odom_frame)
        if odom_from_base is not None:
            tracks = self._confirmed(stamp_ns)
        return replace(detections, track_id=track_id), tracks

    def _elapsed(self, stamp_ns, has_odom):
        """Return the seconds since the last sweep, 0 when starting anew."""
        elapsed_s = 0.0 if self._stamp_ns is None else (stamp_ns - self._stamp_ns) * 1e-9
        if not 0 <= elapsed_s <= RESET_GAP_S or self._has_odom not in (None, has_odom):
            self.clear()
            elapsed_s = 0.0
        self._stamp_ns, self._has_odom = stamp_ns, has_odom
        return elapsed_s

    def _objects_from(self, detections, world_from_base, stamp_ns):
        """Return what the tracks would be if each detection began one; not yet numbered."""
        N = len(detections)
        center, yaw = transform_boxes(world_from_base, detections.center, detections.yaw)
        turn = world_from_base[:2, :2]
        covariance = np.zeros((N, 4, 4))
        covariance[:, :2, :2] = turn @ detections.covariance[:, :2, :2] @ turn.T
        covariance[:, [0, 1], [0, 1]] += SMALLEST_SIGMA_M**2
        spread = _by_class(SPEED_SPREAD_MPS, self._num_classes)[detections.label]
        covariance[:, 2, 2] = covariance[:, 3, 3] = spread**2
        votes = np.zeros((N, self._num_classes))
        votes[np.arange(N), detections.label] = detections.score
        return _Objects(
            state=np.concatenate((center[:, :2], np.zeros((N, 2))), axis=1),
            covariance=covariance,
            height_m=center[:, 2].astype(np.float64),
            height_variance=detections.covariance[:, 2, 2] + SMALLEST_SIGMA_M**2,
            size=detections.size.astype(np.float64),
            yaw=yaw.astype(np.float64),
            yaw_variance=detections.covariance[:, 5, 5] + 1e-4,
            agreement=np.ones(N, np.int64),
            votes=votes,
            score=detections.score.astype(np.float64),
            track_id=np.full(N, -1),
            hits=np.ones(N, np.int64),
            seen_ns=np.full(N, stamp_ns, np.int64),
        )

    def _match(self, measured, stamp_ns):
        """Return pairs of indices (track, detection), nearest first, each used once."""
        objects = self._objects
        apart = measured.state[None, :, :2] - objects.state[:, None, :2]  # (M, N, 2)
        distance = np.linalg.norm(apart, axis=2)
        spread = objects.covariance[:, None, :2, :2] + measured.covariance[None, :, :2, :2]
        sigmas2 = np.einsum('mni,mnij,mnj->mn', apart, np.linalg.inv(spread), apart)
        unseen_s = (stamp_ns - objects.seen_ns) * 1e-9
        wider = np.clip(unseen_s / GATE_PERIOD_S, 1.0, WIDEST_GATE)[:, None]
        share = _by_class(GATE_SHARE, self._num_classes)
        gate = self._config.gate_m * np.minimum(
            share[objects.label][:, None], share[measured.label]
        )
        gate[objects.label[:, None] != measured.label] *= OTHER_CLASS_GATE
        is_near = (distance < gate * wider) & (sigmas2 < CHI2_99)
        return _nearest_pairs(distance, is_near)

    def _name(self, measured, track, detection):
        """Give detections the number of their track, or a new one; return them (N,) int64."""
        measured.track_id[detection] = self._objects.track_id[track]
        is_new = measured.track_id < 0
        measured.track_id[is_new] = self._next_id + np.arange(is_new.sum())
        self._next_id += int(is_new.sum())
        return measured.track_id.copy()

    def _drop(self, stamp_ns):
        """Let go of what was unseen for too long, sooner if it was never confirmed."""
        unseen_s = (stamp_ns - self._objects.seen_ns) * 1e-9
        is_confirmed = self._objects.hits >= self._config.confirm_hits
        limit_s = np.where(is_confirmed, 1.0, 0.5) * self._config.max_coast_s
        self._objects = self._objects.select(unseen_s <= limit_s + 1e-9)

    def _confirmed(self, stamp_ns):
        objects = self._objects.select(self._objects.hits >= self._config.confirm_hits)
        velocity, spread = objects.state[:, 2:], objects.covariance[:, 2:, 2:]
        speed = np.linalg.norm(velocity, axis=1)
        # What cannot be told from standing still is not called moving.
        is_stationary = (speed < self._config.stationary_mps) | ~_is_moving(objects)
        unseen_s = (stamp_ns - objects.seen_ns) * 1e-9
        fade = 1 - 0.5 * unseen_s / max(self._config.max_coast_s, 1e-3)
        center = np.column_stack((objects.state[:, :2], objects.height_m))
        return Tracks(
            stamp_ns=stamp_ns,
            frame_id=self._odom_frame,
            track_id=objects.track_id,
            center=center.astype(np.float32),
            size=objects.size.astype(np.float32),
            yaw=objects.yaw.astype(np.float32),
            velocity=velocity.astype(np.float32),
            score=np.clip(objects.score * fade, 0, 1).astype(np.float32),
            label=objects.label.astype(np.int64),
            pose_covariance=_pose_covariance(objects),
            velocity_covariance=spread.copy(),
            is_stationary=is_stationary,
        )


def _by_class(values, num_classes):
    """Return `values` for each class, the first for classes that have none."""
    return np.array([values[i] if i < len(values) else values[0] for i in range(num_classes)])


def _predict(objects, elapsed_s, acceleration_mps2):
    """Move objects ahead and widen their covariances; in place."""
    step = np.eye(4)
    step[0, 2] = step[1, 3] = elapsed_s
    push = np.array([[elapsed_s**2 / 2, 0], [0, elapsed_s**2 / 2], [elapsed_s, 0], [0, elapsed_s]])
    objects.state = objects.state @ step.T
    sigma = acceleration_mps2 * _by_class(ACCELERATION_SHARE, objects.votes.shape[1])
    noise = (push @ push.T) * sigma[objects.label][:, None, None] ** 2
    objects.covariance = step @ objects.covariance @ step.T + noise
    objects.height_variance = objects.height_variance + (CLIMB_RATE_MPS * elapsed_s) ** 2
    objects.yaw_variance = objects.yaw_variance + (TURN_RATE_RADPS * elapsed_s) ** 2


def _nearest_pairs(distance, is_allowed):
    """Return row and column indices of a greedy one-to-one matching, int64 each."""
    rows, columns = np.nonzero(is_allowed)
    taken_rows, taken_columns, pairs = set(), set(), []
    for index in np.argsort(distance[rows, columns], kind='stable'):
        row, column = int(rows[index]), int(columns[index])
        if row not in taken_rows and column not in taken_columns:
            taken_rows.add(row)
            taken_columns.add(column)
            pairs.append((row, column))
    pairs = np.array(pairs, np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _correct(objects, measured, track, detection):
    """Bring matched detections into their tracks; in place."""
    seen = measured.select(detection)
    prior = objects.covariance[track]
    gain = prior[:, :, :2] @ np.linalg.inv(prior[:, :2, :2] + seen.covariance[:, :2, :2])
    surprise = seen.state[:, :2] - objects.state[track, :2]
    objects.state[track] += np.einsum('mij,mj->mi', gain, surprise)
    after = prior - gain @ prior[:, :2, :]
    objects.covariance[track] = (after + after.transpose(0, 2, 1)) / 2
    weight = objects.height_variance[track] / (
        objects.height_variance[track] + seen.height_variance
    )
    objects.height_m[track] += weight * (seen.height_m - objects.height_m[track])
    objects.height_variance[track] *= 1 - weight
    objects.hits[track] += 1
    objects.seen_ns[track] = seen.seen_ns
    share = np.maximum(1 / objects.hits[track], SIZE_GAIN)[:, None]
    objects.size[track] += share * (seen.size - objects.size[track])
    objects.votes[track] = VOTE_MEMORY * objects.votes[track] + seen.votes
    objects.score[track] += SCORE_GAIN * (seen.score - objects.score[track])
    _correct_heading(objects, seen, track)


def _correct_heading(objects, seen, track):
    """Filter the heading; front and rear are told by motion, else by the majority so far."""
    turn = wrap_angle(seen.yaw - objects.yaw[track])
    is_opposite = np.abs(turn) > np.pi / 2
    turn = np.where(is_opposite, wrap_angle(turn + np.pi), turn)
    weight = objects.yaw_variance[track] / (objects.yaw_variance[track] + seen.yaw_variance)
    yaw = objects.yaw[track] + weight * turn
    objects.yaw_variance[track] *= 1 - weight
    agreement = objects.agreement[track] + np.where(is_opposite, -1, 1)
    velocity = objects.state[track, 2:]
    is_backward = (np.cos(yaw) * velocity[:, 0] + np.sin(yaw) * velocity[:, 1]) < 0
    is_fast = np.linalg.norm(velocity, axis=1) > FASTEST_REVERSE_MPS
    is_fast &= _is_moving(objects)[track]
    is_flipped = np.where(is_fast, is_backward, agreement < 0)
    agreement = np.where(is_flipped, 1, agreement)
    objects.agreement[track] = np.minimum(agreement, MOST_AGREEMENT)
    objects.yaw[track] = wrap_angle(yaw + np.where(is_flipped, np.pi, 0.0))


def _is_moving(objects):
    """Return (M,) bool: the velocity differs from zero by more than its uncertainty."""
    velocity, spread = objects.state[:, 2:], objects.covariance[:, 2:, 2:]
    return np.einsum('mi,mij,mj->m', velocity, np.linalg.inv(spread), velocity) > CHI2_95


def _pose_covariance(objects):
    """Return (M, 6, 6) float64: x y z roll pitch yaw."""
    covariance = np.zeros((len(objects), 6, 6))
    covariance[:, :2, :2] = objects.covariance[:, :2, :2]
    covariance[:, 2, 2] = objects.height_variance
    covariance[:, 3, 3] = covariance[:, 4, 4] = LEVEL_SIGMA_RAD**2
    covariance[:, 5, 5] = objects.yaw_variance
    return covariance
