# SPDX-License-Identifier: Apache-2.0
"""
The nouns of the package: sensor data, frames, detections, tracks, grids.

Every stage takes and gives these values and nothing else. They are validated where they are
made, never changed afterwards, and know nothing of ROS. Time is integer nanoseconds, lengths
are metres, angles radians; axes follow REP 103 (x forward, y left, z up; optical frames x
right, y down, z forward). Transforms are 4x4 float64 named `a_from_b`: they map b to a.

Shape letters: B batch, K cameras, C channels, H W image rows and columns, N points or objects,
P pillars, Y X grid rows and columns.
"""

from dataclasses import dataclass, field

import numpy as np

CLASSES = ('vehicle', 'pedestrian', 'cyclist')
DISTORTION_MODELS = ('none', 'plumb_bob', 'rational_polynomial', 'equidistant')
OCCUPANCY_UNKNOWN, OCCUPANCY_FREE, OCCUPANCY_NEVER, OCCUPANCY_LETHAL = -1, 0, 99, 100


def check_array(name, array, shape, dtype):
    """Raise ValueError unless `array` has this shape (-1: any length) and dtype kind."""
    fits = (
        isinstance(array, np.ndarray)
        and array.ndim == len(shape)
        and all(want in (-1, have) for want, have in zip(shape, array.shape, strict=True))
        and array.dtype == np.dtype(dtype)
    )
    if not fits:
        have = f'{array.shape} {array.dtype}' if isinstance(array, np.ndarray) else type(array)
        want = tuple('N' if n == -1 else n for n in shape)
        raise ValueError(f'{name}: expected {want} {np.dtype(dtype)}, got {have}')


def check_transform(name, transform):
    check_array(name, transform, (4, 4), np.float64)
    if not np.isfinite(transform).all() or not np.allclose(transform[3], (0, 0, 0, 1)):
        raise ValueError(f'{name}: not a finite rigid transform (last row must be 0 0 0 1)')


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CameraModel:
    """
    How a camera maps its optical frame to the pixels of the image as published.

    Attributes
    ----------
    width, height : int
        Pixels of the image this model belongs to (after binning and region of interest).
    intrinsics : (3, 3) float64
        Pinhole matrix in those pixels.
    distortion : (D,) float64
        Coefficients in the order of OpenCV and sensor_msgs; empty for `none`.
    distortion_model : str
        One of `DISTORTION_MODELS`; `none` for rectified images.
    frame_id : str
        Optical frame.

    """

    width: int
    height: int
    intrinsics: np.ndarray
    frame_id: str
    distortion: np.ndarray = field(default_factory=lambda: np.zeros(0))
    distortion_model: str = 'none'

    def __post_init__(self):
        check_array('intrinsics', self.intrinsics, (3, 3), np.float64)
        check_array('distortion', self.distortion, (-1,), np.float64)
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f'image size must be positive, got {self.width}x{self.height}')
        if not np.isfinite(self.intrinsics).all() or self.intrinsics[0, 0] <= 0:
            raise ValueError('intrinsics: focal length is not positive: camera is uncalibrated')
        if self.distortion_model not in DISTORTION_MODELS:
            raise ValueError(
                f'distortion_model: {self.distortion_model!r} is none of {DISTORTION_MODELS}'
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """One camera image: `pixels` (H, W, 3) uint8, RGB."""

    stamp_ns: int
    frame_id: str
    pixels: np.ndarray

    def __post_init__(self):
        check_array('pixels', self.pixels, (-1, -1, 3), np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PointCloud:
    """
    One LiDAR sweep in its sensor frame.

    Attributes
    ----------
    points : (N, 3) float32
        Metres. Never NaN: the converter drops non-finite points.
    intensity : (N,) float32 or None
        0..1 after the converter's normalisation; None when the sensor gives none.
    ring : (N,) uint16 or None
        Laser index, 0 at the top or the bottom as the sensor counts.
    time_ns : (N,) int64 or None
        Measurement time of each point relative to `stamp_ns`.

    """

    stamp_ns: int
    frame_id: str
    points: np.ndarray
    intensity: np.ndarray | None = None
    ring: np.ndarray | None = None
    time_ns: np.ndarray | None = None

    def __post_init__(self):
        check_array('points', self.points, (-1, 3), np.float32)
        N = len(self.points)
        for name, dtype in (('intensity', np.float32), ('ring', np.uint16), ('time_ns', np.int64)):
            value = getattr(self, name)
            if value is not None:
                check_array(name, value, (N,), dtype)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GpsFix:
    """
    One satellite fix, WGS84.

    `covariance` is (3, 3) float64 in m^2, east north up, or None when the receiver does not
    know it: unknown, never perfect. `status` follows sensor_msgs/NavSatStatus (-2 unknown, -1 no
    fix, 0 fix, 1 SBAS, 2 GBAS). `altitude_m` may be NaN.
    """

    stamp_ns: int
    frame_id: str
    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    status: int
    covariance: np.ndarray | None = None

    def __post_init__(self):
        if not (abs(self.latitude_deg) <= 90.0 and abs(self.longitude_deg) <= 180.0):
            raise ValueError(
                f'latitude/longitude: ({self.latitude_deg}, {self.longitude_deg}) is not on Earth'
            )
        if self.covariance is not None:
            check_array('covariance', self.covariance, (3, 3), np.float64)

    @property
    def has_fix(self):
        return self.status >= 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImuSample:
    """
    One inertial sample in `frame_id`: rad/s, m/s^2, orientation (4,) x y z w or None.

    The orientation is that of the sensor in east-north-up (REP 145).
    """

    stamp_ns: int
    frame_id: str
    angular_velocity: np.ndarray
    linear_acceleration: np.ndarray
    orientation: np.ndarray | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pose:
    """`odom_from_base` (4, 4) float64 at one stamp: the robot in its odometry frame."""

    stamp_ns: int
    odom_from_base: np.ndarray

    def __post_init__(self):
        check_transform('odom_from_base', self.odom_from_base)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Motion:
    """How the robot moves at a frame's stamp; `source` is tf, odom or imu_gps."""

    speed_mps: float
    yaw_rate_radps: float
    age_ns: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CameraView:
    """
    One image of a frame with all that projection needs.

    `camera_from_base` maps `base_link` at the frame's stamp to the camera at the image's stamp:
    through the odometry frame when the motion is known (`is_compensated`), else the static one.
    """

    name: str
    image: Image
    model: CameraModel
    camera_from_base: np.ndarray
    is_compensated: bool = False

    def __post_init__(self):
        check_transform('camera_from_base', self.camera_from_base)
        H, W, _ = self.image.pixels.shape
        if (self.model.width, self.model.height) != (W, H):
            raise ValueError(
                f'camera {self.name}: the image is {W}x{H} but its camera_info says '
                f'{self.model.width}x{self.model.height}'
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """
    What one pivot stamp gathers: the input of the pipeline.

    Attributes
    ----------
    stamp_ns : int
        The pivot's: the LiDAR sweep, or the image when the LiDAR is gone.
    cloud : PointCloud or None
        None is the designed state "no LiDAR", not an error.
    base_from_lidar : (4, 4) float64 or None
        None exactly when `cloud` is None.
    cameras : tuple of CameraView
        Those present; a missing camera is absent here and named in `missing`.
    odom_from_base : (4, 4) float64 or None
        At `stamp_ns`; None without odometry.
    gps : GpsFix or None
    motion : Motion or None
    missing : dict of str to str
        Input name to the reason why it is not here.

    """

    stamp_ns: int
    cloud: PointCloud | None = None
    base_from_lidar: np.ndarray | None = None
    cameras: tuple[CameraView, ...] = ()
    odom_from_base: np.ndarray | None = None
    gps: GpsFix | None = None
    motion: Motion | None = None
    missing: dict = field(default_factory=dict)

    def __post_init__(self):
        if (self.cloud is None) != (self.base_from_lidar is None):
            raise ValueError('cloud and base_from_lidar: give both or neither')
        if self.cloud is None and not self.cameras:
            raise ValueError('a frame needs a cloud or at least one camera')
        for name in ('base_from_lidar', 'odom_from_base'):
            if getattr(self, name) is not None:
                check_transform(name, getattr(self, name))


def check_boxes(boxes):
    N = len(boxes.center)
    check_array('center', boxes.center, (-1, 3), np.float32)
    check_array('size', boxes.size, (N, 3), np.float32)
    check_array('yaw', boxes.yaw, (N,), np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detections:
    """
    Obstacles of one sweep in `base_link` at its stamp, best first.

    Attributes
    ----------
    center : (N, 3) float32
        Middle of the box, metres.
    size : (N, 3) float32
        Length along x of the box, width, height.
    yaw : (N,) float32
        Heading about z, counter-clockwise from +x.
    score : (N,) float32
        0..1.
    label : (N,) int64
        Index into `CLASSES`.
    covariance : (N, 6, 6) float64
        x y z roll pitch yaw.
    track_id : (N,) int64
        -1 before tracking.

    """

    stamp_ns: int
    frame_id: str
    center: np.ndarray
    size: np.ndarray
    yaw: np.ndarray
    score: np.ndarray
    label: np.ndarray
    covariance: np.ndarray
    track_id: np.ndarray

    def __post_init__(self):
        check_boxes(self)
        N = len(self.center)
        check_array('score', self.score, (N,), np.float32)
        check_array('label', self.label, (N,), np.int64)
        check_array('covariance', self.covariance, (N, 6, 6), np.float64)
        check_array('track_id', self.track_id, (N,), np.int64)

    def __len__(self):
        return len(self.center)

    @classmethod
    def empty(cls, stamp_ns, frame_id):
        """Return the detections of a frame in which nothing was found."""
        return cls(
            stamp_ns=stamp_ns,
            frame_id=frame_id,
            center=np.zeros((0, 3), np.float32),
            size=np.zeros((0, 3), np.float32),
            yaw=np.zeros(0, np.float32),
            score=np.zeros(0, np.float32),
            label=np.zeros(0, np.int64),
            covariance=np.zeros((0, 6, 6)),
            track_id=np.zeros(0, np.int64),
        )

    def select(self, index):
        """Return the detections at `index` (mask, slice or integers), in that order."""
        arrays = ('center', 'size', 'yaw', 'score', 'label', 'covariance', 'track_id')
        return Detections(
            stamp_ns=self.stamp_ns,
            frame_id=self.frame_id,
            **{name: getattr(self, name)[index] for name in arrays},
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tracks:
    """
    Confirmed objects over time, in the odometry frame at one stamp.

    Boxes as in `Detections`; `velocity` (N, 2) float32 m/s along odom x and y,
    `velocity_covariance` (N, 2, 2) float64, `pose_covariance` (N, 6, 6) float64,
    `track_id` (N,) int64, `score` (N,) float32, `label` (N,) int64, `is_stationary` (N,) bool.
    """

    stamp_ns: int
    frame_id: str
    track_id: np.ndarray
    center: np.ndarray
    size: np.ndarray
    yaw: np.ndarray
    velocity: np.ndarray
    score: np.ndarray
    label: np.ndarray
    pose_covariance: np.ndarray
    velocity_covariance: np.ndarray
    is_stationary: np.ndarray

    def __post_init__(self):
        check_boxes(self)
        N = len(self.center)
        check_array('track_id', self.track_id, (N,), np.int64)
        check_array('velocity', self.velocity, (N, 2), np.float32)
        check_array('score', self.score, (N,), np.float32)
        check_array('label', self.label, (N,), np.int64)
        check_array('pose_covariance', self.pose_covariance, (N, 6, 6), np.float64)
        check_array('velocity_covariance', self.velocity_covariance, (N, 2, 2), np.float64)
        check_array('is_stationary', self.is_stationary, (N,), np.bool_)

    def __len__(self):
        return len(self.center)

    @classmethod
    def empty(cls, stamp_ns, frame_id):
        """Return the tracks of a world in which nothing is followed."""
        return cls(
            stamp_ns=stamp_ns,
            frame_id=frame_id,
            track_id=np.zeros(0, np.int64),
            center=np.zeros((0, 3), np.float32),
            size=np.zeros((0, 3), np.float32),
            yaw=np.zeros(0, np.float32),
            velocity=np.zeros((0, 2), np.float32),
            score=np.zeros(0, np.float32),
            label=np.zeros(0, np.int64),
            pose_covariance=np.zeros((0, 6, 6)),
            velocity_covariance=np.zeros((0, 2, 2)),
            is_stationary=np.zeros(0, np.bool_),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroundSplit:
    """
    A sweep divided by the ground model.

    `height_m` (N,) float32 above the local ground for every point of the sweep; `is_ground` and
    `is_obstacle` (N,) bool, never both (a point may be neither: overhanging, or noise).
    """

    height_m: np.ndarray
    is_ground: np.ndarray
    is_obstacle: np.ndarray

    def __post_init__(self):
        N = len(self.height_m)
        check_array('height_m', self.height_m, (-1,), np.float32)
        check_array('is_ground', self.is_ground, (N,), np.bool_)
        check_array('is_obstacle', self.is_obstacle, (N,), np.bool_)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CostGrid:
    """
    Path cost around the robot, axis-aligned in `frame_id`.

    `data` (Y, X) int8 in nav_msgs/OccupancyGrid values: -1 unknown, 0 free, 1..98 graded, 99
    never, 100 an obstacle; row 0 is the smallest y. `origin_xy_m` is the corner of cell (0, 0).
    """

    stamp_ns: int
    frame_id: str
    resolution_m: float
    origin_xy_m: tuple[float, float]
    data: np.ndarray

    def __post_init__(self):
        check_array('data', self.data, (-1, -1), np.int8)
        if not 0 < self.resolution_m < np.inf:
            raise ValueError(f'resolution_m: {self.resolution_m} is no size of a cell')
        if not np.isfinite(self.origin_xy_m).all():
            raise ValueError(f'origin_xy_m: {self.origin_xy_m} is not finite')
