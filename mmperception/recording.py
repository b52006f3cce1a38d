# SPDX-License-Identifier: Apache-2.0
"""
The nouns of drives and labels: truth, labelled samples, and a recording as a stream of events.

Training and evaluation take Samples; the simulator and the KITTI reader make Recordings, which
`ros` writes as bags. The pipeline itself knows none of them: its nouns are in `types`.
"""

from dataclasses import dataclass, field

from mmperception.datatypes import check_array, check_boxes, Frame
import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Truth:
    """
    Labelled boxes of one sweep in `base_link` at its stamp.

    `kinds` are KITTI types in lower case (car van truck tram misc pedestrian person_sitting
    cyclist); `occlusion` (N,) int64 is -1 unknown, 0, 1, 2; `object_id` names the object over
    time. `ignore_2d` maps a camera to (M, 4) float32 boxes x1 y1 x2 y2 (DontCare). `is_ignored`
    (N,) bool marks boxes that count neither as hit nor as miss.
    """

    stamp_ns: int
    center: np.ndarray
    size: np.ndarray
    yaw: np.ndarray
    kinds: tuple[str, ...]
    occlusion: np.ndarray
    object_id: tuple[str, ...]
    is_ignored: np.ndarray
    ignore_2d: dict = field(default_factory=dict)

    def __post_init__(self):
        check_boxes(self)
        N = len(self.center)
        check_array('occlusion', self.occlusion, (N,), np.int64)
        check_array('is_ignored', self.is_ignored, (N,), np.bool_)
        if len(self.kinds) != N or len(self.object_id) != N:
            raise ValueError(f'kinds and object_id: expected {N} entries each')

    def __len__(self):
        return len(self.center)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One labelled frame: what training and evaluation consume."""

    frame: Frame
    truth: Truth
    source: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mounting:
    """Where the sensors sit: `base_from_*` (4, 4) float64, optical frame for each camera."""

    base_from_lidar: np.ndarray
    base_from_imu: np.ndarray
    base_from_gps: np.ndarray
    base_from_camera: dict
    camera_models: dict


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Event:
    """
    One thing that a recording holds, at the time it was logged.

    `value` is a PointCloud, Image, GpsFix, ImuSample, Pose or Truth; `camera` names the camera of
    an Image.
    """

    log_ns: int
    value: object
    camera: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recording:
    """
    A drive as a stream of events in log order, with the sensors' mounting.

    `settings` are nested settings of the nodes that belong to the robot, such as its outline.
    """

    mounting: Mounting
    events: object
    num_sweeps: int
    settings: dict = field(default_factory=dict)
