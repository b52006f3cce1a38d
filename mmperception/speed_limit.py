# SPDX-License-Identifier: Apache-2.0
"""
Speed limits from signs: which one holds, and what a planner is told.

A limit holds from passing its sign until the next one, a sign that ends it, a distance or a
time. What is sent is never above the robot's own maximum: several controllers take an absolute
limit without an upper clamp (`nav2_msgs/SpeedLimit`, where 0.0 means no limit). A stop sign is
no speed limit: 0.0 would set the robot free.
"""

from dataclasses import dataclass

from mmperception.geometry import apply, invert, yaw_of
from mmperception.sign_classes import SIGN_CLASSES, SPEEDS_KMH
from mmperception.sign_facing import Facing, is_meant
import numpy as np

NO_LIMIT = 0.0
KMH_PER_MPS = 3.6
RESEND_S = 1.0
ENDS = tuple(
    class_id
    for class_id, sign in enumerate(SIGN_CLASSES)
    if sign.name in ('end_of_speed_limit', 'end_of_all_limits')
)
# A sign must have been ahead by this before passing it counts: not one that appears beside us.
AHEAD_M = 1.0
# Signs that are not passed are forgotten when so many are waiting.
MAX_WAITING = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SignSighting:
    """One followed sign: `track`, class, `position` (3,), plate's width and `facing` in base."""

    track: str
    class_id: int
    position: np.ndarray
    width_m: float
    facing: Facing = Facing()


class SpeedLimits:
    """Follows signs and the robot; says which limit holds and what to send."""

    def __init__(self, settings, max_turned_rad=np.pi):
        self.settings, self.max_turned_rad = settings, max_turned_rad
        self.clear()

    def clear(self):
        """Forget signs and limit, unsent: time has jumped or the node ends."""
        self.waiting, self.passed = {}, set()
        self.limit_kmh = self.since_ns = None
        self.driven_m, self.place, self.place_ns = 0.0, None, None
        self.sent, self.sent_ns = None, None

    def see(self, sightings, odom_from_base):
        """
        Take in the signs of one message.

        Parameters
        ----------
        sightings : sequence of SignSighting
            In `base_link`.
        odom_from_base : (4, 4) float64
            At the stamp of the message.

        """
        for sign in sightings:
            if sign.track in self.passed or not (
                sign.class_id in SPEEDS_KMH or sign.class_id in ENDS
            ):
                continue
            x, y, _ = sign.position
            if x > AHEAD_M or sign.track in self.waiting:
                place = apply(odom_from_base, sign.position[None])[0]
                facing = sign.facing.turned(yaw_of(odom_from_base))
                self.waiting[sign.track] = (sign.class_id, place, sign.width_m, facing)
        while len(self.waiting) > MAX_WAITING:
            self.waiting.pop(next(iter(self.waiting)))

    def move(self, odom_from_base, stamp_ns):
        """Say where the robot is: signs are passed, limits run out."""
        if self.place_ns is not None and stamp_ns < self.place_ns:
            self.waiting.clear()
        elif self.place is not None:
            self.driven_m += float(np.linalg.norm(odom_from_base[:2, 3] - self.place))
        self.place, self.place_ns = odom_from_base[:2, 3].copy(), stamp_ns
        base_from_odom = invert(odom_from_base)
        way_rad = yaw_of(odom_from_base)
        for track, (class_id, place, width_m, facing) in list(self.waiting.items()):
            x, y, _ = apply(base_from_odom, place[None])[0]
            if x > 0:
                continue
            del self.waiting[track]
            self.passed.add(track)
            if self._is_ours(y, width_m) and is_meant(facing, way_rad, self.max_turned_rad):
                self._set(SPEEDS_KMH.get(class_id), stamp_ns)
        self._expire(stamp_ns)

    def _is_ours(self, y, width_m):
        """Tell whether a sign stands by our road and has the size of one that is meant for it."""
        settings = self.settings
        return (
            -settings.max_right_m <= y <= settings.max_left_m
            and settings.min_width_m <= width_m <= settings.max_width_m
        )

    def _set(self, limit_kmh, stamp_ns):
        self.limit_kmh, self.since_ns, self.driven_m = limit_kmh, stamp_ns, 0.0

    def _expire(self, stamp_ns):
        if self.limit_kmh is None:
            return
        age_s = (stamp_ns - self.since_ns) * 1e-9
        if age_s > self.settings.valid_s or self.driven_m > self.settings.valid_m or age_s < 0:
            self._set(None, stamp_ns)

    @property
    def limit_mps(self):
        """Return what a planner should be told: `NO_LIMIT` where nothing holds the robot back."""
        if self.limit_kmh is None:
            return NO_LIMIT
        limit_mps = self.limit_kmh / KMH_PER_MPS
        return limit_mps if limit_mps < self.settings.robot_max_mps else NO_LIMIT

    def to_send(self, now_ns):
        """
        Return the limits to publish now, in order, metres a second; empty: nothing to say.

        A change is sent at once, before a higher limit comes 0.0, a limit that holds is sent
        again every second; nothing is ever sent without the robot's own maximum.
        """
        if not self.settings.robot_max_mps:
            return []
        limit = self.limit_mps
        if limit == (NO_LIMIT if self.sent is None else self.sent):
            is_due = self.sent_ns is None or not 0 <= now_ns - self.sent_ns < RESEND_S * 1e9
            if limit == NO_LIMIT or not is_due:
                return []
            values = [limit]
        elif limit != NO_LIMIT and self.sent and limit > self.sent:
            values = [NO_LIMIT, limit]
        else:
            values = [limit]
        self.sent, self.sent_ns = limit, now_ns
        return values

    def last_words(self):
        """Return what to publish when the node stops: a limit that was sent is taken back."""
        is_set = bool(self.sent)
        self.clear()
        return [NO_LIMIT] if is_set else []
