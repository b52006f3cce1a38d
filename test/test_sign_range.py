# SPDX-License-Identifier: Apache-2.0
"""Range of signs: from LiDAR points on the face, else from the known size of the plate."""

from dataclasses import replace

from mmperception.config_sections import SignsConfig
from mmperception.datatypes import CameraModel, CameraView, Frame, Image, PointCloud
from mmperception.geometry import apply, invert, project, transform_from_yaw
from mmperception.sign_range import (
    LABEL_MARGIN_PX,
    LIDAR,
    place_sign,
    rays_from_pixels,
    SIZE,
    SweepPoints,
    TRACK,
)
from mmperception.sign_tracking import SignTracker
from mmperception.signs import SignDetections
import numpy as np
import pytest
from synthetic import optical_from_body, START_NS

WIDTH, HEIGHT, FOCAL_PX = 1242, 375, 721.0
INTRINSICS = np.array([[FOCAL_PX, 0, 610.0], [0, FOCAL_PX, 173.0], [0, 0, 1.0]])
MODEL = CameraModel(width=WIDTH, height=HEIGHT, intrinsics=INTRINSICS, frame_id='camera_optical')
CAMERA_FROM_BASE = optical_from_body() @ invert(transform_from_yaw((1.0, 0.1, 1.6), 0.0))
STOP = 14
SIGN = np.array([18.0, -4.0, 2.4])


def make_view(camera_from_base=CAMERA_FROM_BASE, model=MODEL):
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image = Image(stamp_ns=START_NS, frame_id='camera_optical', pixels=pixels)
    return CameraView(name='camera', image=image, model=model, camera_from_base=camera_from_base)


def make_frame(points, intensity=None):
    points = np.asarray(points, np.float32).reshape(-1, 3)
    lidar = transform_from_yaw((0.5, 0.0, 1.8), 0.0)
    cloud = PointCloud(
        stamp_ns=START_NS,
        frame_id='lidar',
        points=apply(invert(lidar), points).astype(np.float32),
        intensity=None if intensity is None else np.asarray(intensity, np.float32),
    )
    return Frame(stamp_ns=START_NS, cloud=cloud, base_from_lidar=lidar)


def box_of(position, width_m=0.9, view=None):
    """Return the box, drawn around it as detectors do, of a plate that looks at the camera."""
    view = view or make_view()
    pixel, depth_m = project(apply(view.camera_from_base, position[None]), view.model)
    half = width_m * FOCAL_PX / depth_m[0] / 2 + LABEL_MARGIN_PX
    return np.concatenate((pixel[0] - half, pixel[0] + half)) + 0.5


def face_points(position, number=8, seed=0):
    rng = np.random.default_rng(seed)
    return position + np.stack(
        (rng.normal(0, 0.02, number), *rng.uniform(-0.25, 0.25, (2, number))), axis=1
    )


def background(number=400, seed=1):
    """Return a wall 12 m behind the sign, over the whole view."""
    rng = np.random.default_rng(seed)
    across = rng.uniform(-20, 20, number)
    return np.stack((np.full(number, 30.0), across, rng.uniform(0, 6, number)), axis=1)


def test_points_on_the_face_give_the_range():
    points = np.concatenate((face_points(SIGN), background()))
    placed = place_sign(box_of(SIGN), STOP, make_view(), SweepPoints(make_frame(points)))
    assert placed.source == LIDAR
    assert placed.position == pytest.approx(SIGN, abs=0.08)
    assert placed.width_m == pytest.approx(0.9, abs=0.02)


def test_the_wall_behind_a_sign_is_not_taken_for_its_face():
    sweep = SweepPoints(make_frame(background()))
    placed = place_sign(box_of(SIGN), STOP, make_view(), sweep)
    assert placed.source == SIZE
    assert np.linalg.norm(placed.position - SIGN) < 0.1 * np.linalg.norm(SIGN)


def test_a_twig_before_a_shining_face_does_not_win():
    twig = face_points(SIGN - (1.2, -0.2, 0.0), 9, 3)
    points = np.concatenate((face_points(SIGN, 6), twig, background()))
    intensity = np.concatenate((np.full(6, 0.95), np.full(len(points) - 6, 0.1)))
    sweep = SweepPoints(make_frame(points, intensity))
    placed = place_sign(box_of(SIGN), STOP, make_view(), sweep)
    assert placed.source == LIDAR
    assert placed.position == pytest.approx(SIGN, abs=0.1)


def test_a_sign_close_by_is_met_though_the_lidar_looks_from_far_beside_the_camera():
    sign = np.array([4.0, 1.0, 2.0])
    frame = make_frame(face_points(sign, 9) - (0.0, 0.0, 2.2))
    high = transform_from_yaw((0.5, 0.0, 4.0), 0.0)  # 2.4 m above the camera
    frame = replace(frame, base_from_lidar=high)
    placed = place_sign(box_of(sign), STOP, make_view(), SweepPoints(frame))
    assert placed.source == LIDAR and placed.position == pytest.approx(sign, abs=0.1)


def test_without_a_sweep_the_size_gives_the_range_with_its_doubt():
    frame = Frame(stamp_ns=START_NS, cameras=(make_view(),))
    placed = place_sign(box_of(SIGN), STOP, make_view(), SweepPoints(frame))
    assert placed.source == SIZE
    assert placed.position == pytest.approx(SIGN, abs=0.05)
    along = (SIGN - (1.0, 0.1, 1.6)) / np.linalg.norm(SIGN - (1.0, 0.1, 1.6))
    assert np.sqrt(along @ placed.covariance @ along) == pytest.approx(3.5, abs=0.4)
    across = np.array([-along[1], along[0], 0.0])
    assert np.sqrt(across @ placed.covariance @ across) < 0.1


def test_a_plate_seen_under_an_angle_is_no_further_than_one_that_looks_at_us():
    x1, y1, x2, y2 = box_of(SIGN, 0.6)
    narrow = np.array([x1 + 0.2 * (x2 - x1), y1, x2 - 0.2 * (x2 - x1), y2])
    sweep = SweepPoints(Frame(stamp_ns=START_NS, cameras=(make_view(),)))
    placed = place_sign(narrow, 1, make_view(), sweep)
    assert placed.position == pytest.approx(SIGN, abs=0.1)


def test_a_pixel_too_much_on_one_side_costs_half_of_its_share():
    """The larger of width and height would be the range's whole error, and always too near."""
    box = box_of(SIGN, 0.6)
    width_px = box[2] - box[0]
    sweep = SweepPoints(Frame(stamp_ns=START_NS, cameras=(make_view(),)))
    placed = place_sign(box + (0, 0, 1, 0), 1, make_view(), sweep)
    camera = np.array([1.0, 0.1, 1.6])
    range_m, true_m = (np.linalg.norm(p - camera) for p in (placed.position, SIGN))
    assert (true_m - range_m) / true_m == pytest.approx(0.5 / width_px, abs=0.1 / width_px)


def test_a_triangle_is_less_tall_than_wide_and_no_nearer_for_it():
    up, right = 18, box_of(SIGN, 0.9)
    middle, half = (right[1] + right[3]) / 2, (right[3] - right[1]) / 2 * 0.913
    box = np.array([right[0], middle - half, right[2], middle + half])
    sweep = SweepPoints(Frame(stamp_ns=START_NS, cameras=(make_view(),)))
    assert place_sign(box, up, make_view(), sweep).position == pytest.approx(SIGN, abs=0.1)


LENSES = [
    ('none', ()),
    ('plumb_bob', (-0.3, 0.1, 0.001, -0.0005, 0.0)),
    ('equidistant', (0.02, -0.01, 0.0, 0.0)),
]


@pytest.mark.parametrize('lens', LENSES)
def test_a_ray_leads_back_to_its_pixel_through_any_lens(lens):
    name, coefficients = lens
    model = replace(MODEL, distortion=np.array(coefficients), distortion_model=name)
    pixels = np.array([[100.0, 50.0], [610.0, 173.0], [1100.0, 300.0]])
    rays = rays_from_pixels(pixels, model)
    again, _ = project(7.0 * rays, model)
    assert again == pytest.approx(pixels, abs=0.05)


def found_at(boxes, class_id=STOP, score=0.9, sure=0.95):
    number = len(boxes)
    probability = np.full((number, 44), (1 - sure) / 43, np.float32)
    probability[:, class_id] = sure
    return SignDetections(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        score=np.full(number, score, np.float32),
        class_id=np.full(number, class_id, np.int64),
        probability=probability,
    )


class Drive:
    """A robot that drives towards one sign, one look every 0.2 s."""

    def __init__(self, **settings):
        self.view = make_view()
        self.tracker = SignTracker(SignsConfig(**{'confirm_hits': 2, **settings}))
        self.now_ns, self.odom_from_base = START_NS, np.eye(4)

    def look(self, forward_m, points=(), reads=(STOP,), with_odometry=True):
        """Drive on, look, and return the signs."""
        self.now_ns += 200_000_000
        self.odom_from_base = transform_from_yaw((forward_m, 0.0, 0.0), 0.0)
        seen = SIGN - (forward_m, 0.0, 0.0)
        sweep = SweepPoints(make_frame(np.concatenate((background(), *points))))
        boxes = [box_of(seen)] if reads else []
        found = found_at(boxes, reads[0] if reads else STOP)
        placed = [place_sign(box, STOP, self.view, sweep) for box in found.boxes]
        pose = self.odom_from_base if with_odometry else None
        self.tracker.update(self.view, found, placed, pose, self.now_ns)
        return self.tracker.signs(pose, self.now_ns)


def test_one_sign_is_one_track_from_its_second_sighting_on():
    drive = Drive()
    assert len(drive.look(0.0)) == 0
    for forward_m in (2.0, 4.0, 6.0):
        signs = drive.look(forward_m)
        assert signs.track_id.tolist() == [1]
    assert signs.class_id.tolist() == [STOP]
    assert signs.position[0] == pytest.approx(SIGN - (6, 0, 0), abs=0.5)


def test_a_range_of_the_lidar_stays_when_the_sign_leaves_its_view():
    drive = Drive()
    for forward_m in (0.0, 2.0):
        signs = drive.look(forward_m, [face_points(SIGN - (forward_m, 0, 0))])
    assert signs.source == (LIDAR,)
    signs = drive.look(4.0)
    assert signs.source == (TRACK,)
    assert signs.position[0] == pytest.approx(SIGN - (4, 0, 0), abs=0.15)
    assert np.sqrt(signs.covariance[0][0, 0]) < 0.3


def test_bearings_place_a_plate_whose_size_misleads():
    """A plate of 0.9 m is 0.67 m wide: by its size alone it would stand a third too far."""
    sign = np.array([34.0, -5.0, 2.4])
    view, tracker = make_view(), SignTracker(SignsConfig(confirm_hits=2))
    nothing, errors = SweepPoints(make_frame([])), []
    for step in range(8):
        forward_m = 2.0 * step
        seen, pose = sign - (forward_m, 0, 0), transform_from_yaw((forward_m, 0.0, 0.0), 0.0)
        found = found_at([box_of(seen, 0.67)], STOP)
        placed = place_sign(found.boxes[0], STOP, view, nothing)
        errors.append(np.linalg.norm(placed.position - seen) / np.linalg.norm(seen))
        tracker.update(view, found, [placed], pose, START_NS + step * 200_000_000)
    signs = tracker.signs(pose, START_NS + 7 * 200_000_000)
    assert min(errors) > 0.25 and signs.source == (SIZE,)
    assert np.linalg.norm(signs.position[0] - seen) < 0.04 * np.linalg.norm(seen)


def test_one_wrong_reading_is_outvoted():
    drive = Drive()
    for forward_m, read in ((0.0, STOP), (2.0, 13), (4.0, STOP), (6.0, STOP)):
        signs = drive.look(forward_m, reads=(read,))
    assert signs.class_id.tolist() == [STOP]


def test_two_signs_on_one_pole_are_two_tracks():
    tracker, view = SignTracker(SignsConfig()), make_view()
    above, below = SIGN + (0, 0, 0.45), SIGN - (0, 0, 0.5)
    sweep = SweepPoints(make_frame(background()))
    for k in range(3):
        found = found_at([box_of(above), box_of(below)])
        placed = [place_sign(box, STOP, view, sweep) for box in found.boxes]
        ids = tracker.update(view, found, placed, np.eye(4), START_NS + k * 10**8)
        assert ids.tolist() == [1, 2]


def test_a_sign_that_should_be_seen_but_is_not_is_dropped():
    drive = Drive(max_misses=2)
    for forward_m in (0.0, 0.5):
        drive.look(forward_m)
    counts = [len(drive.look(1.0, reads=())) for _ in range(4)]
    assert counts == [1, 1, 0, 0]


def test_a_sign_beside_the_view_is_kept_until_it_lies_behind():
    drive = Drive()
    for forward_m in (0.0, 1.0):
        drive.look(forward_m)
    assert len(drive.look(16.5, reads=())) == 1
    assert len(drive.look(30.0, reads=())) == 0


def test_time_that_goes_back_forgets_the_signs():
    drive = Drive()
    for forward_m in (0.0, 1.0):
        drive.look(forward_m)
    drive.now_ns -= 10**10
    assert len(drive.look(1.0)) == 0


def test_without_odometry_a_sign_is_still_one_track():
    drive = Drive()
    ids = [drive.look(f, with_odometry=False).track_id.tolist() for f in (0.0, 1.0, 2.0)]
    assert ids == [[], [1], [1]]
