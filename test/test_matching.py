# SPDX-License-Identifier: Apache-2.0
"""Overlap of boxes, what counts, and which detection takes which truth."""

from mmperception.datatypes import CameraModel, Detections, Frame, PointCloud
from mmperception.evaluation.matching import (
    counted_truth,
    FrameJudge,
    kept_detections,
    Matching,
    UNLABELLED_FROM_NS,
)
from mmperception.evaluation.overlap import bev_iou, intersection_area, iou_3d
from mmperception.evaluation.viewpoint import image_boxes, Viewpoint, viewpoint_of
from mmperception.recording import Sample, Truth
import numpy as np
import pytest

# A camera at the origin that looks along x: 100 px focal length, 200 x 100 px.
CAMERA_FROM_BASE = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
MODEL = CameraModel(
    width=200,
    height=100,
    intrinsics=np.array([[100, 0, 99.5], [0, 100, 49.5], [0, 0, 1.0]]),
    frame_id='camera_optical',
)
VIEWPOINT = Viewpoint(lidar_xy=np.zeros(2), camera_from_base=CAMERA_FROM_BASE, model=MODEL)


def boxes(*rows):
    """Rows x y z length width height yaw."""
    rows = np.array(rows, np.float32).reshape(-1, 7)
    return rows[:, :3], rows[:, 3:6], rows[:, 6]


def truth(*rows, kinds=None, occlusion=None, ids=None, dontcare=(), stamp_ns=1):
    center, size, yaw = boxes(*rows)
    N = len(center)
    return Truth(
        stamp_ns=stamp_ns,
        center=center,
        size=size,
        yaw=yaw,
        kinds=tuple(kinds or ['car'] * N),
        occlusion=np.array(occlusion or [0] * N, np.int64),
        object_id=tuple(ids or map(str, range(N))),
        is_ignored=np.zeros(N, bool),
        ignore_2d={'camera': np.array(dontcare, np.float32).reshape(-1, 4)},
    )


def sample(labelled, points_per_box=5):
    """Return a frame whose cloud has so many points in the middle of each box."""
    points = np.repeat(labelled.center, points_per_box, axis=0).astype(np.float32)
    cloud = PointCloud(stamp_ns=1, frame_id='lidar', points=points.reshape(-1, 3))
    frame = Frame(stamp_ns=1, cloud=cloud, base_from_lidar=np.eye(4))
    return Sample(frame=frame, truth=labelled, source='test')


def detections(*rows, score=None, label=None):
    center, size, yaw = boxes(*rows)
    N = len(center)
    return Detections(
        stamp_ns=1,
        frame_id='base_link',
        center=center,
        size=size,
        yaw=yaw,
        score=np.array(score or np.linspace(0.9, 0.5, N), np.float32),
        label=np.array(label or [0] * N, np.int64),
        covariance=np.zeros((N, 6, 6)),
        track_id=np.full(N, -1),
    )


CAR = (10, 0, 0, 4, 2, 4, 0)


def judge(labelled, found, viewpoint=VIEWPOINT, matching=None, kind='vehicle', **more):
    judged = FrameJudge(sample(labelled), found, viewpoint)
    return judged.judge(kind, matching or Matching(), **more)


def test_a_square_and_the_same_square_turned_by_45_degrees_share_an_octagon():
    straight, turned = boxes((0, 0, 0, 2, 2, 1, 0)), boxes((0, 0, 0, 2, 2, 1, np.pi / 4))
    octagon = 8 * (np.sqrt(2) - 1)
    assert intersection_area(straight, turned)[0, 0] == pytest.approx(octagon, abs=1e-6)
    assert bev_iou(straight, turned)[0, 0] == pytest.approx(octagon / (8 - octagon), abs=1e-6)


def test_a_corner_of_a_diamond_in_a_square_is_a_triangle():
    diamond = boxes((1.5, 0, 0, np.sqrt(2), np.sqrt(2), 1, np.pi / 4))
    square = boxes((0, 0, 0, 2, 2, 1, 0))
    # The diamond reaches from x = 0.5 to 2.5; left of x = 1 lies a triangle of height 0.5.
    assert intersection_area(diamond, square)[0, 0] == pytest.approx(0.25, abs=1e-6)


@pytest.mark.parametrize('yaw', [0.0, 0.3, np.pi / 2, 2.0, -3.0])
def test_a_box_overlaps_itself_wholly_far_from_the_origin_and_turned(yaw):
    one = boxes((47.3, -31.7, 1.1, 4.4, 1.8, 1.6, yaw))
    assert bev_iou(one, one)[0, 0] == pytest.approx(1.0, abs=1e-6)
    assert iou_3d(one, one)[0, 0] == pytest.approx(1.0, abs=1e-6)


def test_boxes_inside_beside_and_above_each_other():
    big = boxes((0, 0, 0, 4, 4, 2, 0.7))
    others = boxes((0.2, 0.1, 0, 1, 1, 1, 0), (9, 0, 0, 4, 4, 2, 0), (0, 0, 2, 4, 4, 2, 0.7))
    assert np.allclose(bev_iou(big, others), [[1 / 16, 0, 1]], atol=1e-6)
    assert np.allclose(iou_3d(big, others), [[1 / 32, 0, 0]], atol=1e-6)


def test_half_shifted_boxes_overlap_by_a_third_also_when_both_are_turned():
    yaw = 0.4
    shift = 2 * np.array((np.cos(yaw), np.sin(yaw)))
    pair = boxes((5, 3, 0, 4, 2, 2, yaw)), boxes((5 + shift[0], 3 + shift[1], 0, 4, 2, 2, yaw))
    assert bev_iou(*pair)[0, 0] == pytest.approx(1 / 3, abs=1e-6)
    assert iou_3d(*pair)[0, 0] == pytest.approx(1 / 3, abs=1e-6)


def test_overlap_equals_a_fine_raster_of_random_boxes():
    rng = np.random.default_rng(3)
    axis = np.linspace(-5, 5, 801)
    x, y = np.meshgrid(axis, axis)
    for _ in range(10):
        rows = [(*rng.uniform(-1, 1, 2), 0, *rng.uniform(1, 4, 2), 1, rng.uniform(-3, 3))
                for _ in range(2)]  # fmt: skip
        inside = np.ones_like(x, bool)
        for cx, cy, _, length, width, _, yaw in rows:
            along = np.cos(yaw) * (x - cx) + np.sin(yaw) * (y - cy)
            across = np.cos(yaw) * (y - cy) - np.sin(yaw) * (x - cx)
            inside &= (abs(along) <= length / 2) & (abs(across) <= width / 2)
        area = intersection_area(boxes(rows[0]), boxes(rows[1]))[0, 0]
        assert area == pytest.approx(inside.sum() * (axis[1] - axis[0]) ** 2, abs=0.03)


def test_no_boxes_overlap_nothing():
    assert bev_iou(boxes(), boxes(CAR)).shape == (0, 1)
    assert iou_3d(boxes(CAR), boxes()).shape == (1, 0)


def test_the_image_box_of_a_car_ahead_is_that_of_its_rear_face():
    shown = image_boxes(boxes(CAR), VIEWPOINT)
    # The rear face stands at 8 m: 2 m wide and 4 m high are 25 and 50 px.
    assert np.allclose(shown.whole, [(99.5 - 12.5, 49.5 - 25, 99.5 + 12.5, 49.5 + 25)])
    assert shown.truncation.tolist() == [0.0] and shown.height_px.tolist() == [50.0]


def test_a_box_that_reaches_behind_the_camera_is_truncated_and_one_behind_invisible():
    shown = image_boxes(boxes((1, 0, 0, 4, 2, 2, 0), (-9, 0, 0, 4, 2, 2, 0)), VIEWPOINT)
    assert shown.is_visible.tolist() == [True, False]
    assert shown.truncation[0] > 0.9 and shown.truncation[1] == 1.0
    assert np.isfinite(shown.whole).all()


@pytest.mark.parametrize(
    ('row', 'occlusion', 'points', 'counts'),
    [
        (CAR, 0, 5, True),
        (CAR, 1, 5, True),
        (CAR, 2, 5, False),
        (CAR, -1, 5, False),
        (CAR, 0, 4, False),
        ((18.5, 0, 0, 4, 2, 4, 0), 0, 5, False),  # rear face at 16.5 m: 24.2 px
        ((10, 8, 0, 4, 2, 4, 0), 0, 5, True),  # columns -13 .. 41: 24 percent outside
        ((10, 9, 0, 4, 2, 4, 0), 0, 5, False),  # columns -25.5 .. 33: 44 percent outside
        ((49, 0, 0, 4, 2, 20, 0), 0, 5, True),
        ((51, 0, 0, 4, 2, 20, 0), 0, 5, False),
    ],
)
def test_a_box_counts_by_height_truncation_occlusion_range_and_points(
    row, occlusion, points, counts
):
    labelled = sample(truth(row, occlusion=[occlusion]), points)
    assert counted_truth(labelled, VIEWPOINT).tolist() == [counts]


def test_detections_small_far_behind_or_with_their_centre_outside_are_dropped():
    rows = (CAR, (18.5, 0, 0, 4, 2, 4, 0), (51, 0, 0, 4, 2, 20, 0), (-10, 0, 0, 4, 2, 4, 0),
            (10, 10.5, 0, 4, 2, 4, 0))  # fmt: skip
    assert kept_detections(detections(*rows), VIEWPOINT).tolist() == [True] + [False] * 4


def test_range_is_measured_from_the_lidar():
    viewpoint = Viewpoint(lidar_xy=np.array((2.0, 0.0)))
    assert kept_detections(detections((51, 0, 0, 4, 2, 4, 0)), viewpoint).tolist() == [True]


def test_a_second_detection_of_one_car_is_false_and_the_better_score_gets_the_hit():
    result = judge(truth(CAR), detections(CAR, CAR, score=[0.4, 0.8]))
    assert result.score.tolist() == pytest.approx([0.8, 0.4])
    assert result.is_hit.tolist() == [True, False]
    assert result.found_score.tolist() == pytest.approx([0.8])


def test_too_little_overlap_is_a_miss_and_a_false_detection():
    result = judge(truth(CAR), detections((11.5, 0, 0, 4, 2, 4, 0)))  # IoU 2.5 / 5.5
    assert result.is_hit.tolist() == [False] and result.found_score.tolist() == [-1]
    relaxed = judge(
        truth(CAR), detections((11.5, 0, 0, 4, 2, 4, 0)), matching=Matching(min_iou=0.45)
    )
    assert relaxed.is_hit.tolist() == [True]


def test_height_matters_in_space_and_not_from_above():
    raised = detections((10, 0, 2, 4, 2, 4, 0))  # 3D IoU 1/3
    assert not judge(truth(CAR), raised).is_hit.any()
    assert judge(truth(CAR), raised, matching=Matching(space='bev')).is_hit.all()


def test_in_the_image_depth_does_not_matter_and_width_does():
    # Twice as far and twice as large: the same image box but for the depth of the faces.
    far = detections((20, 0, 0, 0.02, 4, 8, 0))
    near = truth((10, 0, 0, 0.02, 2, 4, 0))
    assert judge(near, far, matching=Matching(space='image', min_iou=0.95)).is_hit.all()
    assert not judge(near, far, matching=Matching(space='bev')).is_hit.any()
    half = detections((10, 0.5, 0, 0.02, 1, 4, 0))
    assert judge(near, half, matching=Matching(space='image', min_iou=0.49)).is_hit.all()
    assert not judge(near, half, matching=Matching(space='image', min_iou=0.51)).is_hit.any()


def test_near_means_a_middle_within_two_metres_seen_from_above():
    for gap, is_hit in ((1.9, True), (2.1, False)):
        found = detections((10 + gap, 0, 1, 9, 1, 4, 1.0))
        assert judge(truth(CAR), found, matching=Matching(space='near')).is_hit.all() == is_hit


@pytest.mark.parametrize('kind', ['truck', 'tram', 'misc'])
def test_a_detection_on_a_truck_is_neither_hit_nor_false(kind):
    result = judge(truth(CAR, kinds=[kind]), detections(CAR))
    assert len(result.score) == 0 and len(result.found_score) == 0


def test_a_vehicle_on_a_pedestrian_is_false_and_a_pedestrian_on_a_sitting_one_is_not():
    assert judge(truth(CAR, kinds=['pedestrian']), detections(CAR)).is_hit.tolist() == [False]
    sitting = truth(CAR, kinds=['person_sitting'])
    assert len(judge(sitting, detections(CAR, label=[1]), kind='pedestrian').score) == 0


def test_an_occluded_car_is_ignored_but_yields_to_a_counted_one():
    labelled = truth(CAR, (10.2, 0, 0, 4, 2, 4, 0), occlusion=[0, 2])
    result = judge(labelled, detections((10.2, 0, 0, 4, 2, 4, 0)))
    assert result.is_hit.tolist() == [True] and result.object_id == ('0',)
    assert len(judge(truth(CAR, occlusion=[2]), detections(CAR)).score) == 0


def test_detections_in_dontcare_are_ignored_unless_they_hit():
    region = [(80, 20, 120, 80)]
    assert len(judge(truth(dontcare=region), detections(CAR)).score) == 0
    assert judge(truth(CAR, dontcare=region), detections(CAR)).is_hit.tolist() == [True]
    beside = [(0, 0, 95, 100)]  # holds 8 of the 25 columns of the detection
    assert judge(truth(dontcare=beside), detections(CAR)).is_hit.tolist() == [False]


def test_a_box_that_the_labels_lack_is_excused_only_with_completion():
    labelled = truth(CAR, ids=['unlabelled_7'])
    assert len(judge(labelled, detections(CAR)).score) == 0
    plain = judge(labelled, detections(CAR), matching=Matching(with_completion=False))
    assert plain.is_hit.tolist() == [False] and len(plain.found_score) == 0


def test_far_detections_in_incompletely_labelled_frames_are_excused_only_with_completion():
    far, near = (26, 0, 0, 4, 2, 12, 0), (20, 5, 0, 4, 2, 12, 0)
    frame = truth(stamp_ns=UNLABELLED_FROM_NS + 1_000_000)
    assert judge(frame, detections(far, near)).score.tolist() == pytest.approx([0.5])
    plain = judge(frame, detections(far, near), matching=Matching(with_completion=False))
    assert len(plain.score) == 2
    assert len(judge(truth(stamp_ns=5), detections(far, near)).score) == 2


def test_an_object_that_is_left_out_of_a_figure_is_neither_missed_nor_hit():
    labelled = truth(CAR, (10, 5, 0, 4, 2, 4, 0), ids=['a', 'b'])
    result = judge(labelled, detections(CAR), without=('a',))
    assert result.object_id == ('b',) and len(result.score) == 0


def test_nothing_labelled_and_nothing_found_is_a_result_without_entries():
    result = judge(truth(), detections())
    assert len(result.score) == 0 and result.object_id == () and len(result.found_score) == 0


def test_a_frame_without_camera_keeps_the_viewpoint_of_the_one_before():
    frame = sample(truth(CAR)).frame
    viewpoint = viewpoint_of(frame, VIEWPOINT)
    assert viewpoint.model is MODEL and viewpoint_of(frame).model is None
