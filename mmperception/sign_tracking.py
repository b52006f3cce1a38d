# SPDX-License-Identifier: Apache-2.0
"""
One sign is one track: its place in the odometry frame, and one vote over all its readings.

Detections join tracks in the image, where both are sharp, so that a wrong range does not part
them. A sign stands still: its position is the Kalman mean of all sightings, and a range that the
LiDAR measured stays when the sign leaves the LiDAR's view.
"""

from dataclasses import dataclass

from mmperception.geometry import apply, invert, project, yaw_of
from mmperception.network.signs import REJECT
from mmperception.sign_classes import UNREAD
from mmperception.sign_facing import Facing
from mmperception.sign_range import LIDAR, SIZE, TRACK
import numpy as np

# Sightings further apart than this share of the box's width, plus so many pixels, do not join.
GATE_SHARE, GATE_PX = 0.7, 6.0
SMALLEST_RATIO = 0.45
# Readings of small crops count less: full weight from this width on.
FULL_WEIGHT_PX = 40.0
EXPECTED_PX, NEAREST_M = 18.0, 2.5
# Without odometry signs move with the robot: metres from one look to the next.
UNKNOWN_MOTION_M, DRIFT_M = 1.5, 0.01


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Signs:
    """
    Confirmed signs in `base_link` at a stamp, nearest first.

    Attributes
    ----------
    position : (N, 3) float64
        Middle of the plate, metres.
    covariance : (N, 3, 3) float64
    width_m : (N,) float64
    class_id : (N,) int64
        `UNREAD` where the vote is not sure enough.
    score, certainty : (N,) float64
        That it is a sign of the table, mean over its sightings; share of the class in the vote.
    source : tuple of str
        Of each position: `lidar`, `size` or, when it is carried on, `track`.
    track_id : (N,) int64
    is_seen : (N,) bool
        In the latest look.
    facing : tuple of Facing
        Where each face looks, by all sightings.

    """

    stamp_ns: int
    frame_id: str
    position: np.ndarray
    covariance: np.ndarray
    width_m: np.ndarray
    class_id: np.ndarray
    score: np.ndarray
    certainty: np.ndarray
    source: tuple
    track_id: np.ndarray
    is_seen: np.ndarray
    facing: tuple = ()

    def __len__(self):
        return len(self.position)


@dataclass(slots=True, kw_only=True)
class _Track:
    track_id: int
    position: np.ndarray
    covariance: np.ndarray
    width_m: float
    width_px: float
    votes: np.ndarray
    score_sum: float
    seen_ns: int
    first_ns: int
    hits: int = 1
    misses: int = 0
    has_lidar: bool = False
    source: str = SIZE
    facing: Facing = Facing()

    @property
    def score(self):
        return self.score_sum / self.hits


class SignTracker:
    """Follows signs; `update` once a look, `signs` at any stamp."""

    def __init__(self, settings, base_frame='base_link'):
        self.settings, self.base_frame = settings, base_frame
        self.tracks, self.next_id, self.stamp_ns = [], 1, None

    def clear(self):
        """Forget all signs: time has jumped, or the odometry frame."""
        self.tracks, self.stamp_ns = [], None

    def update(self, view, found, placed, odom_from_base, stamp_ns):
        """
        Take in what one image shows.

        Parameters
        ----------
        view : CameraView
            Of the image.
        found : SignDetections
            In the image.
        placed : sequence of Placed
            Of each detection.
        odom_from_base : (4, 4) float64 or None
            At `stamp_ns`; None without odometry.
        stamp_ns : int
            Of the frame; one that goes back begins anew.

        Returns
        -------
        track_id : (N,) int64
            The track of each detection.

        """
        if self.stamp_ns is not None and stamp_ns < self.stamp_ns:
            self.clear()
        self.stamp_ns = stamp_ns
        motion_m = DRIFT_M if odom_from_base is not None else UNKNOWN_MOTION_M
        for track in self.tracks:
            track.covariance = track.covariance + np.eye(3) * motion_m**2
        odom_from_base = np.eye(4) if odom_from_base is None else odom_from_base
        pairs = self._match(view, found.boxes, odom_from_base)
        self._miss(view, odom_from_base, {t for t, _ in pairs})
        track_id = np.zeros(len(found.boxes), np.int64)
        for t, d in pairs:
            self._correct(self.tracks[t], found, d, placed[d], odom_from_base)
            track_id[d] = self.tracks[t].track_id
        for d in np.flatnonzero(track_id == 0):
            track_id[d] = self._begin(found, d, placed[d], odom_from_base)
        self._drop(odom_from_base)
        return track_id

    def signs(self, odom_from_base, stamp_ns):
        """Return the confirmed Signs in `base_link` at a stamp."""
        base_from_odom = np.eye(4) if odom_from_base is None else invert(odom_from_base)
        shown = [track for track in self.tracks if self.is_confirmed(track)]
        shown.sort(key=lambda track: np.linalg.norm(apply(base_from_odom, track.position[None])))
        turn = base_from_odom[:3, :3]
        places = np.array([track.position for track in shown]).reshape(-1, 3)
        read = [self.reading(track) for track in shown]
        is_seen = np.array([track.seen_ns == self.stamp_ns for track in shown], bool)
        return Signs(
            stamp_ns=stamp_ns,
            frame_id=self.base_frame,
            position=apply(base_from_odom, places),
            covariance=np.array([turn @ t.covariance @ turn.T for t in shown]).reshape(-1, 3, 3),
            width_m=np.array([track.width_m for track in shown]),
            class_id=np.array([class_id for class_id, _ in read], np.int64),
            score=np.array([track.score for track in shown]),
            certainty=np.array([certainty for _, certainty in read]),
            source=tuple(
                track.source if seen else TRACK for track, seen in zip(shown, is_seen, strict=True)
            ),
            track_id=np.array([track.track_id for track in shown], np.int64),
            is_seen=is_seen,
            facing=tuple(track.facing.turned(yaw_of(base_from_odom)) for track in shown),
        )

    def reading(self, track):
        """Return the class that a track's sightings vote for, and its share of the votes."""
        share = track.votes / max(track.votes.sum(), 1e-9)
        best = int(share[:REJECT].argmax())
        return (best if share[best] >= self.settings.min_read else UNREAD), float(share[best])

    def is_confirmed(self, track):
        """Tell whether a track was seen often and surely enough to be published."""
        enough = track.hits >= self.settings.confirm_hits
        return enough and track.score >= self.settings.score_threshold

    def _pixels(self, view, odom_from_base):
        camera_from_odom = view.camera_from_base @ invert(odom_from_base)
        places = np.array([track.position for track in self.tracks]).reshape(-1, 3)
        return project(apply(camera_from_odom, places), view.model)

    def _match(self, view, boxes, odom_from_base):
        """Return pairs (track, detection), nearest in the image first, each used once."""
        if not self.tracks or not len(boxes):
            return []
        pixels, depth_m = self._pixels(view, odom_from_base)
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2 - 0.5
        widths = boxes[:, 2] - boxes[:, 0]
        focal_px = view.model.intrinsics[0, 0]
        expected = np.array([t.width_m for t in self.tracks]) * focal_px / np.maximum(depth_m, 0.5)
        distance = np.linalg.norm(pixels[:, None] - middles[None], axis=2)
        larger = np.maximum(expected[:, None], widths[None])
        ratio = np.minimum(expected[:, None], widths[None]) / np.maximum(larger, 1e-6)
        allowed = (distance < GATE_SHARE * larger + GATE_PX) & (ratio > SMALLEST_RATIO)
        allowed &= (depth_m > 0)[:, None]
        pairs, used = [], (set(), set())
        for flat in np.argsort(np.where(allowed, distance, np.inf), axis=None):
            t, d = divmod(int(flat), len(boxes))
            if not allowed[t, d]:
                break
            if t not in used[0] and d not in used[1]:
                pairs.append((t, d))
                used[0].add(t)
                used[1].add(d)
        return pairs

    def _miss(self, view, odom_from_base, matched):
        """Count the tracks that this image should have shown."""
        pixels, depth_m = self._pixels(view, odom_from_base)
        for t, track in enumerate(self.tracks):
            if t in matched:
                continue
            width_px = track.width_m * view.model.intrinsics[0, 0] / max(depth_m[t], 0.5)
            u, v = pixels[t]
            inside = width_px < u < view.model.width - width_px
            inside &= width_px < v < view.model.height - width_px
            if depth_m[t] > NEAREST_M and inside and width_px > EXPECTED_PX:
                track.misses += 1

    def _correct(self, track, found, d, placed, odom_from_base):
        turn = odom_from_base[:3, :3]
        measured = apply(odom_from_base, placed.position[None])[0]
        noise = turn @ placed.covariance @ turn.T
        if placed.source != LIDAR:
            # The plate is as large as before: its size tells nothing new, its bearing does.
            noise = _repeated(noise, track.hits)
        gain = track.covariance @ np.linalg.inv(track.covariance + noise)
        track.position = track.position + gain @ (measured - track.position)
        covariance = (np.eye(3) - gain) @ track.covariance
        track.covariance = (covariance + covariance.T) / 2
        if placed.source == LIDAR or not track.has_lidar:
            track.width_m += (placed.width_m - track.width_m) / (track.hits + 1)
        track.has_lidar |= placed.source == LIDAR
        track.source = LIDAR if placed.source == LIDAR else (TRACK if track.has_lidar else SIZE)
        track.facing = track.facing.joined(placed.facing.turned(yaw_of(odom_from_base)))
        self._vote(track, found, d)
        track.hits += 1
        track.misses = 0
        track.seen_ns = self.stamp_ns

    def _vote(self, track, found, d):
        width_px = float(found.boxes[d, 2] - found.boxes[d, 0])
        weight = min(width_px / FULL_WEIGHT_PX, 1.0) ** 2
        track.votes = track.votes + weight * found.probability[d]
        track.score_sum += float(found.score[d])
        track.width_px = width_px

    def _begin(self, found, d, placed, odom_from_base):
        turn = odom_from_base[:3, :3]
        track = _Track(
            track_id=self.next_id,
            position=apply(odom_from_base, placed.position[None])[0],
            covariance=turn @ placed.covariance @ turn.T,
            width_m=placed.width_m,
            width_px=0.0,
            votes=np.zeros(REJECT + 1),
            score_sum=0.0,
            seen_ns=self.stamp_ns,
            first_ns=self.stamp_ns,
            has_lidar=placed.source == LIDAR,
            source=placed.source,
            facing=placed.facing.turned(yaw_of(odom_from_base)),
        )
        self._vote(track, found, d)
        self.tracks.append(track)
        self.next_id += 1
        return track.track_id

    def _drop(self, odom_from_base):
        base_from_odom = invert(odom_from_base)
        settings, kept = self.settings, []
        for track in self.tracks:
            unseen_s = (self.stamp_ns - track.seen_ns) * 1e-9
            limit = settings.max_misses if self.is_confirmed(track) else 2
            is_behind = apply(base_from_odom, track.position[None])[0, 0] < -settings.keep_behind_m
            if track.misses <= limit and unseen_s <= settings.keep_s and not is_behind:
                kept.append(track)
        self.tracks = kept


def _repeated(noise, times):
    """Return covariance (3, 3) of a sighting whose error along the ray was met `times` before."""
    variances, axes = np.linalg.eigh(noise)
    return noise + times * variances[-1] * np.outer(axes[:, -1], axes[:, -1])
