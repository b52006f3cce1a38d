# SPDX-License-Identifier: Apache-2.0
"""
How the ego car moves along a road: position, heading, and the pitch and roll of its body.

The wheels follow the ground; the body nods and leans a little on its springs. All of it is a
smooth function of time, so that every sensor can ask for its own moment.
"""

from mmperception.geometry import rotation_about
import numpy as np

_WHEELBASE_M, _TRACK_M = 2.7, 1.6


class Ego:
    """The ego car: `pose(time_s)` is world_from_base, base_link on the ground."""

    def __init__(self, road, rng, start_m, speed_mps, lateral_m):
        """Begin at a station; the speed breathes slowly around `speed_mps`."""
        self.road = road
        self._start, self._speed, self._lateral = start_m, speed_mps, lateral_m
        self._breath = speed_mps * rng.uniform(0, 0.06), rng.uniform(0.2, 0.6), rng.uniform(0, 6)
        self._drift = rng.uniform(0, 0.12), rng.uniform(0.1, 0.35), rng.uniform(0, 6)
        # Standing tilt of the body from load, and its slow nodding.
        self._tilt = rng.normal(0, 0.006, 2)
        self._nod = np.abs(rng.normal(0, 0.003, 2)), rng.uniform(2, 7, 2), rng.uniform(0, 6, 2)

    def station(self, time_s):
        """Return metres along the road."""
        amplitude, frequency, phase = self._breath
        breath = amplitude * (np.sin(frequency * time_s + phase) - np.sin(phase)) / frequency
        return self._start + self._speed * time_s + breath

    def place(self, time_s):
        """Return station and lateral."""
        amplitude, frequency, phase = self._drift
        is_moving = min(1.0, self._speed / 5)
        drift = is_moving * amplitude * np.sin(frequency * time_s + phase)
        return self.station(time_s), self._lateral + drift

    def pose(self, time_s):
        """Return (4, 4) world_from_base."""
        station, lateral = self.place(time_s)
        later, earlier = self.place(time_s + 0.05), self.place(time_s - 0.05)
        along, across = later[0] - earlier[0], later[1] - earlier[1]
        turn = np.arctan2(across, max(along, 0.2)) if along > 1e-6 else 0.0
        pose = self.road.pose(station, lateral, turn)
        height = self.road.height
        ahead, behind = height(station + _WHEELBASE_M, lateral), height(station, lateral)
        left, right = height(station, lateral + 0.8), height(station, lateral - 0.8)
        strength, frequency, phase = self._nod
        nod = strength * np.sin(frequency * time_s + phase) + self._tilt
        pitch = np.arctan2(behind - ahead, _WHEELBASE_M) + nod[0]
        roll = np.arctan2(left - right, _TRACK_M) + nod[1]
        body = rotation_about((0, 1, 0), pitch) @ rotation_about((1, 0, 0), roll)
        pose[:3, :3] = pose[:3, :3] @ body
        return pose

    def motion(self, time_s):
        """Return speed (m/s) and yaw rate (rad/s)."""
        before, after = self.pose(time_s - 0.05), self.pose(time_s + 0.05)
        velocity = (after[:3, 3] - before[:3, 3]) / 0.1
        turned = before[:3, :3].T @ after[:3, :3]
        return float(np.linalg.norm(velocity)), float(np.arctan2(turned[1, 0], turned[0, 0]) / 0.1)
