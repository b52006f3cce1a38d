# SPDX-License-Identifier: Apache-2.0
"""
Small worlds with known answers: clouds, images, mountings, recordings.

Everything is asymmetric, so that a swapped axis, sign or channel shows. Nothing of ROS here.
"""

from mmperception.datatypes import CameraModel, GpsFix, Image, ImuSample, PointCloud, Pose
from mmperception.geometry import transform_from_yaw
from mmperception.network.config import NetworkConfig
from mmperception.recording import Event, Mounting, Recording, Truth
import numpy as np

# A moment with 19 digits, as real stamps have.
START_NS = 1_317_046_448_123_456_789
PERIOD_NS = 100_000_000
SPEED_MPS, YAW_RATE_RADPS = 8.0, 0.2
WIDTH, HEIGHT = 64, 32
# A network that runs in milliseconds.
SMALL_NETWORK = NetworkConfig(
    range_m=25.6,
    cell_m=0.4,
    pillar_channels=8,
    bev_channels=(8, 16, 16),
    image_channels=(8, 8, 8, 8),
    feature_channels=8,
    image_width=160,
)


def optical_from_body():
    """Return the transform from x forward, y left, z up to x right, y down, z forward."""
    transform = np.eye(4)
    transform[:3, :3] = [[0, -1, 0], [0, 0, -1], [1, 0, 0]]
    return transform


def camera_model(**changes):
    """Return a small pinhole camera with unequal focal lengths."""
    intrinsics = np.array([[50.0, 0, 31.0], [0, 52.0, 14.5], [0, 0, 1]])
    values = {'width': WIDTH, 'height': HEIGHT, 'intrinsics': intrinsics}
    return CameraModel(**{**values, 'frame_id': 'camera_optical', **changes})


def mounting():
    """Return a LiDAR on the roof, a camera right behind the windscreen, IMU and GPS aside."""
    base_from_camera = transform_from_yaw((1.4, 0.1, 1.5), 0.05) @ np.linalg.inv(
        optical_from_body()
    )
    return Mounting(
        base_from_lidar=transform_from_yaw((0.8, -0.2, 1.7), -0.1),
        base_from_imu=transform_from_yaw((0.0, 0.3, 0.9), 0.0),
        base_from_gps=transform_from_yaw((-0.5, 0.2, 1.9), 0.0),
        base_from_camera={'camera': base_from_camera},
        camera_models={'camera': camera_model()},
    )


def cloud(stamp_ns=START_NS, num_points=500, seed=0, has_times=False):
    """Return a cloud of random points 2 to 40 m from the sensor."""
    rng = np.random.default_rng(seed)
    azimuth = rng.uniform(-np.pi, np.pi, num_points)
    distance = rng.uniform(2, 40, num_points)
    height = rng.uniform(-1.7, 1.0, num_points)
    points = np.stack((distance * np.cos(azimuth), distance * np.sin(azimuth), height), axis=1)
    times = np.sort(rng.integers(-50_000_000, 50_000_000, num_points))
    return PointCloud(
        stamp_ns=stamp_ns,
        frame_id='lidar',
        points=points.astype(np.float32),
        intensity=rng.random(num_points, np.float32),
        ring=rng.integers(0, 64, num_points).astype(np.uint16),
        time_ns=times.astype(np.int64) if has_times else None,
    )


def image(stamp_ns=START_NS, seed=0):
    """Return a noisy picture with a red left edge and a blue top edge."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, :4], pixels[:2] = (200, 10, 30), (10, 20, 220)
    return Image(stamp_ns=stamp_ns, frame_id='camera_optical', pixels=pixels)


def odom_from_base(stamp_ns):
    """Return where the robot is: it drives a circle to the left from the origin."""
    seconds = (stamp_ns - START_NS) / 1e9
    yaw, radius = YAW_RATE_RADPS * seconds, SPEED_MPS / YAW_RATE_RADPS
    return transform_from_yaw((radius * np.sin(yaw), radius * (1 - np.cos(yaw)), 0.0), yaw)


def truth(stamp_ns=START_NS):
    """Return a van, an occluded pedestrian that is ignored, and a DontCare box."""
    return Truth(
        stamp_ns=stamp_ns,
        center=np.array([[12.0, 3.0, 0.9], [7.5, -2.5, 0.85]], np.float32),
        size=np.array([[5.1, 1.9, 2.2], [0.6, 0.7, 1.7]], np.float32),
        yaw=np.array([0.4, -2.0], np.float32),
        kinds=('van', 'pedestrian'),
        occlusion=np.array([1, -1]),
        object_id=('7', 'walker'),
        is_ignored=np.array([False, True]),
        ignore_2d={'camera': np.array([[1.5, 2.0, 11.0, 9.25]], np.float32)},
    )


def fix(stamp_ns=START_NS):
    """Return a satellite fix in Karlsruhe whose errors differ by axis."""
    return GpsFix(
        stamp_ns=stamp_ns,
        frame_id='gps_link',
        latitude_deg=49.015,
        longitude_deg=8.4335,
        altitude_m=112.5,
        status=0,
        covariance=np.diag((0.04, 0.09, 0.25)),
    )


def imu(stamp_ns=START_NS):
    """Return an inertial sample without orientation."""
    return ImuSample(
        stamp_ns=stamp_ns,
        frame_id='imu_link',
        angular_velocity=np.array((0.01, -0.02, YAW_RATE_RADPS)),
        linear_acceleration=np.array((0.3, 1.6, 9.81)),
    )


def recording(num_sweeps=4, has_times=False, has_motion=True):
    """
    Return a drive of some sweeps at 10 Hz.

    A sweep is logged 50 ms after its stamp; the image is taken 10 ms after the sweep's stamp, the
    pose every 20 ms from 100 ms before the first sweep to 100 ms after the last.
    """
    events = []
    for index in range(num_sweeps):
        stamp_ns = START_NS + index * PERIOD_NS
        image_ns = stamp_ns + 10_000_000
        sweep = cloud(stamp_ns, seed=index, has_times=has_times)
        events += [
            Event(log_ns=stamp_ns + 50_000_000, value=sweep),
            Event(log_ns=stamp_ns + 50_000_000, value=truth(stamp_ns)),
            Event(log_ns=image_ns, value=image(image_ns, seed=index), camera='camera'),
            Event(log_ns=stamp_ns + 3_000_000, value=fix(stamp_ns + 3_000_000)),
            Event(log_ns=stamp_ns + 5_000_000, value=imu(stamp_ns + 5_000_000)),
        ]
    if has_motion:
        end_ns = START_NS + num_sweeps * PERIOD_NS
        for stamp_ns in range(START_NS - PERIOD_NS, end_ns + 1, 20_000_000):
            pose = Pose(stamp_ns=stamp_ns, odom_from_base=odom_from_base(stamp_ns))
            events.append(Event(log_ns=stamp_ns, value=pose))
    return Recording(
        mounting=mounting(),
        events=iter(sorted(events, key=lambda event: event.log_ns)),
        num_sweeps=num_sweeps,
    )
