# SPDX-License-Identifier: Apache-2.0
"""A second of a made-up drive, small enough to go through DDS in a test."""

from mmperception.datatypes import CameraModel, GpsFix, Image, PointCloud, Pose
from mmperception.geometry import transform_from, transform_from_yaw
from mmperception.recording import Event, Mounting, Recording
import numpy as np

BEGIN_NS = 1_700_000_000_123_456_789
PERIOD_NS = 100_000_000
SPEED_MPS = 4.0
CAMERA = CameraModel(
    width=160,
    height=64,
    intrinsics=np.array([[100.0, 0.0, 80.0], [0.0, 100.0, 30.0], [0.0, 0.0, 1.0]]),
    frame_id='camera_optical',
)
OPTICAL = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


def mounting():
    """Return a LiDAR 1.7 m up, a camera in front of it and a GPS antenna behind."""
    base_from_camera = transform_from((0.3, 0.05, 1.6)) @ OPTICAL
    return Mounting(
        base_from_lidar=transform_from((0.0, 0.0, 1.7)),
        base_from_imu=transform_from((0.0, 0.0, 0.9)),
        base_from_gps=transform_from((-0.8, 0.0, 1.5)),
        base_from_camera={'camera': base_from_camera},
        camera_models={'camera': CAMERA},
    )


def scan(rng):
    """Return ground around the LiDAR and one box ahead to the left, in the LiDAR's frame."""
    ground = rng.uniform((-20, -20, -1.72), (20, 20, -1.68), (3000, 3))
    box = rng.uniform((9, 2, -1.6), (13, 3.8, -0.2), (400, 3))
    return np.vstack((ground[np.linalg.norm(ground, axis=1) > 3], box)).astype(np.float32)


def pose_at(stamp_ns):
    """Return where the robot is: straight ahead from the origin."""
    distance_m = SPEED_MPS * (stamp_ns - BEGIN_NS) / 1e9
    return transform_from_yaw((distance_m, 0.0, 0.0), 0.0)


def events(num_sweeps, rng):
    """Yield everything of the drive, unsorted."""
    for number in range(-2, 10 * num_sweeps + 3):
        stamp_ns = BEGIN_NS + number * PERIOD_NS // 10
        yield Event(
            log_ns=stamp_ns, value=Pose(stamp_ns=stamp_ns, odom_from_base=pose_at(stamp_ns))
        )
    for number in range(num_sweeps):
        stamp_ns = BEGIN_NS + number * PERIOD_NS
        cloud = PointCloud(stamp_ns=stamp_ns, frame_id='lidar', points=scan(rng))
        yield Event(log_ns=stamp_ns + 1_000_000, value=cloud)
        pixels = rng.integers(0, 255, (CAMERA.height, CAMERA.width, 3), dtype=np.uint8)
        image_ns = stamp_ns + 10_000_000
        image = Image(stamp_ns=image_ns, frame_id='camera_optical', pixels=pixels)
        yield Event(log_ns=image_ns, value=image, camera='camera')
        fix = GpsFix(
            stamp_ns=stamp_ns + 3_000_000,
            frame_id='gps_link',
            latitude_deg=49.0,
            longitude_deg=8.4,
            altitude_m=115.0,
            status=0,
            covariance=np.diag((0.25, 0.25, 1.0)),
        )
        yield Event(log_ns=fix.stamp_ns, value=fix)


def recording(num_sweeps=5):
    """Return the drive."""
    everything = sorted(events(num_sweeps, np.random.default_rng(3)), key=lambda e: e.log_ns)
    return Recording(mounting=mounting(), events=everything, num_sweeps=num_sweeps)
