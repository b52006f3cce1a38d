# SPDX-License-Identifier: Apache-2.0
"""Pictures of worlds so small that each drawn pixel can be worked out by hand."""

from dataclasses import replace

import cv2
from mmperception import canvas as paint
from mmperception.datatypes import (
    CameraModel,
    CameraView,
    CostGrid,
    Detections,
    Frame,
    Image,
    PointCloud,
    Tracks,
)
from mmperception.drawing import (
    draw_boxes_on_image,
    draw_lidar_on_image,
    draw_moment,
    draw_top_view,
    Moment,
    overlay_image,
    overview,
    VideoWriter,
    Window,
    write_png,
)
from mmperception.geometry import transform_from_yaw
from mmperception.image_view import cut_at_near_plane, scaled_view
from mmperception.recording import Truth
from mmperception.top_view import cost_colours
import numpy as np
import pytest

# base: x forward, y left, z up; camera: x right, y down, z forward, 1.5 m above base.
CAMERA_FROM_BASE = np.array(
    [[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 1.5], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
FOCAL, MIDDLE = 200.0, (200.0, 100.0)
GREY = 60


def view(name='camera', **lens):
    intrinsics = np.array([[FOCAL, 0, MIDDLE[0]], [0, FOCAL, MIDDLE[1]], [0, 0, 1.0]])
    model = CameraModel(width=400, height=200, intrinsics=intrinsics, frame_id='optical', **lens)
    pixels = np.full((200, 400, 3), GREY, np.uint8)
    image = Image(stamp_ns=1, frame_id='optical', pixels=pixels)
    return CameraView(name=name, image=image, model=model, camera_from_base=CAMERA_FROM_BASE)


def detections(*rows, label=0, track=-1):
    """Make detections from rows x y z length width height yaw."""
    table = np.array(rows, np.float32).reshape(-1, 7)
    N = len(table)
    return Detections(
        stamp_ns=1,
        frame_id='base_link',
        center=table[:, :3].copy(),
        size=table[:, 3:6].copy(),
        yaw=table[:, 6].copy(),
        score=np.full(N, 0.8, np.float32),
        label=np.full(N, label, np.int64),
        covariance=np.zeros((N, 6, 6)),
        track_id=np.full(N, track, np.int64),
    )


def truth_of(boxes):
    N = len(boxes)
    return Truth(
        stamp_ns=1,
        center=boxes.center,
        size=boxes.size,
        yaw=boxes.yaw,
        kinds=('car',) * N,
        occlusion=np.zeros(N, np.int64),
        object_id=('a',) * N,
        is_ignored=np.zeros(N, bool),
    )


def frame(points=(), cameras=(), odom_from_base=None, has_lidar=True, **more):
    cloud = PointCloud(
        stamp_ns=1, frame_id='lidar', points=np.array(points, np.float32).reshape(-1, 3)
    )
    return Frame(
        stamp_ns=1,
        cloud=cloud if has_lidar else None,
        base_from_lidar=np.eye(4) if has_lidar else None,
        cameras=cameras,
        odom_from_base=odom_from_base,
        **more,
    )


def changed(pixels, before):
    rows, columns = np.nonzero((pixels != before).any(axis=2))
    return rows, columns


def is_colour(pixels, colour):
    return (pixels == np.array(colour)).all(axis=2)


def test_a_box_is_drawn_where_its_corners_project_by_hand():
    # 4 m long from x = 8 to 12, 2 m wide from y = 1 to 3, from the ground to 1.5 m (eye level).
    box = truth_of(detections((10, 2, 0.75, 4, 2, 1.5, 0)))
    rows, columns = changed(draw_boxes_on_image(view(), box), GREY)
    left, right = MIDDLE[0] - FOCAL * 3 / 8, MIDDLE[0] - FOCAL * 1 / 12
    top, bottom = MIDDLE[1], MIDDLE[1] + FOCAL * 1.5 / 8
    assert abs(columns.min() - left) <= 1 and abs(columns.max() - right) <= 1
    assert abs(rows.min() - top) <= 1.5 and abs(rows.max() - bottom) <= 1.5


def test_the_front_of_a_box_is_shaded_and_its_back_is_not():
    # Driving to the left (yaw 90 deg): the front is the box's left end as seen from us.
    boxes = detections((10, 0, 0.75, 4, 1, 1.5, np.pi / 2))
    drawn = draw_boxes_on_image(view(), boxes)
    row = round(MIDDLE[1] + FOCAL * 0.75 / 10)
    front, back = (round(MIDDLE[0] - FOCAL * y / 10) for y in (2, -2))
    assert np.ptp(drawn[row, front]) > 20
    assert (drawn[row, back] == GREY).all()


def test_a_box_behind_the_camera_is_not_drawn():
    boxes = detections((-10, 0, 0.5, 4, 2, 1.5, 0))
    assert (draw_boxes_on_image(view(), boxes) == GREY).all()


def test_a_box_beside_the_camera_is_cut_and_stays_on_its_side():
    boxes = detections((3, 2.5, 0.75, 10, 1, 1.5, 0))  # from 2 m behind to 8 m ahead, left
    drawn = draw_boxes_on_image(view(), boxes)
    rows, columns = changed(drawn, GREY)
    assert len(rows) > 100
    assert columns.max() <= MIDDLE[0] - FOCAL * 2 / 8 + 90  # the tag reaches a little farther
    assert (drawn[:, 300:] == GREY).all()


def test_an_edge_through_the_camera_plane_ends_at_the_near_plane():
    start, end = cut_at_near_plane(np.array([2.0, 1.0, -1.7]), np.array([4.0, 0.0, 2.3]))
    np.testing.assert_allclose(start, (3.0, 0.5, 0.3))
    np.testing.assert_allclose(end, (4.0, 0.0, 2.3))
    assert cut_at_near_plane(np.array([0, 0, -1.0]), np.array([0, 0, 0.2])) is None


def test_a_box_beyond_the_lens_does_not_fold_back_into_the_image():
    lens = {'distortion_model': 'plumb_bob', 'distortion': np.array([-0.4, 0.2, 0, 0, -0.05])}
    boxes = detections((1, 9, 0.75, 1, 1, 1.5, 0))
    assert (draw_boxes_on_image(view(**lens), boxes) == GREY).all()


def test_no_boxes_leave_the_image_as_it_is_and_the_input_is_never_changed():
    one = view()
    assert (overlay_image(one, detections()) == GREY).all()
    draw_boxes_on_image(one, detections((10, 0, 0.5, 4, 2, 1.5, 0)))
    draw_lidar_on_image(one, frame([(9, 0, 0)]).cloud, np.eye(4))
    assert (one.image.pixels == GREY).all()


def test_a_box_carries_a_tag_in_the_colour_of_its_class():
    boxes = detections((10, 0, 0.75, 4, 2, 1.5, 0), label=2, track=7)
    drawn = draw_boxes_on_image(view(), boxes)
    tag = is_colour(drawn, paint.CLASS_COLOURS[2])
    assert tag[70:95].sum() > 300  # above the box, which begins at row 100
    assert not is_colour(drawn, paint.CLASS_COLOURS[0]).any()


def test_a_labelled_box_does_not_strike_through_the_words_at_a_found_one():
    found = detections((10, 0, 0.75, 4, 2, 1.5, 0), track=7)
    labelled = truth_of(detections((10, 0, 1.0, 4, 2, 2.0, 0)))  # its top runs through the tag
    both = frame(cameras=(view(),))
    alone, marked = (
        draw_moment(Moment(frame=both, detections=found, truth=truth))[44:, :1400]
        for truth in (None, labelled)
    )
    tag = is_colour(alone, paint.CLASS_COLOURS[0])
    assert tag.sum() > 300 and is_colour(marked, paint.CLASS_COLOURS[0])[tag].all()


def test_tags_of_two_boxes_at_one_place_do_not_hide_each_other():
    near, far = (8, 0, 0.75, 4, 2, 1.5, 0), (8.2, 0, 0.75, 4, 2, 1.5, 0)
    drawn = [draw_boxes_on_image(view(), detections(*rows)) for rows in ((near,), (near, far))]
    tags = [is_colour(d, paint.CLASS_COLOURS[0])[:98].sum() for d in drawn]
    assert tags[1] > 1.8 * tags[0]


def test_a_lidar_point_lands_where_it_projects_and_near_is_brighter_than_far():
    cloud = frame([(10, 2, 1.5), (50, -5, 1.5), (-10, 0, 1.5)]).cloud
    drawn = draw_lidar_on_image(view(), cloud, np.eye(4)).astype(int)
    near, far = drawn[100, 160], drawn[100, 220]
    assert near.sum() > far.sum() + 100
    rows, columns = changed(drawn, round(GREY * 0.7))
    assert set(columns // 10) <= {15, 16, 21, 22} and len(rows) > 2


def test_an_empty_sweep_on_an_image_is_the_image_alone():
    drawn = draw_lidar_on_image(view(), frame().cloud, np.eye(4))
    assert (drawn == round(GREY * 0.7)).all()


def test_a_scaled_view_projects_to_the_scaled_place():
    half = scaled_view(view(), 0.5)
    assert half.image.pixels.shape == (100, 200, 3)
    # The middle of pixel 160 is at 160.5 pixel widths from the edge: 80.25 of the new ones.
    column = half.model.intrinsics[0] @ np.array([-0.2, 0, 1])
    assert column == pytest.approx((160 + 0.5) / 2 - 0.5)


WINDOW = Window(height=570, width=400, x_min_m=-7.0, x_max_m=50.0)  # 10 pixels a metre


def top(frame_, **more):
    return draw_top_view(Moment(frame=frame_, **more), WINDOW)


def test_the_driven_way_is_drawn_where_it_went_seen_from_where_the_robot_is():
    turned = transform_from_yaw((100.0, 50.0, 0.0), np.pi / 2)
    way = np.array([(100.0, 55.0, 0.0), (100.0, 70.0, 0.0)])  # straight ahead of the robot
    here = frame(odom_from_base=turned)
    plain, drawn = top(here), top(here, driven_odom=way)
    differs = (plain != drawn).any(axis=2)
    column, row = np.rint(WINDOW.pixels_of((12.0, 0.0))).astype(int)
    assert differs[row, [column - 1, column, column + 1]].any()
    aside = np.rint(WINDOW.pixels_of((12.0, 3.0))).astype(int)
    assert not differs[aside[1], aside[0]]


def test_from_above_forward_is_up_and_left_is_left():
    before = top(frame(odom_from_base=np.eye(4)))
    drawn = top(frame([(20.05, 5.05, 2.5)], odom_from_base=np.eye(4)))
    rows, columns = changed(drawn, before)
    assert (rows.tolist(), columns.tolist()) == ([299], [149])  # 29.95 m down, 14.95 m in


def test_from_above_the_highest_point_of_a_pixel_is_seen():
    low, high = (20.02, 5.05, 0.0), (20.04, 5.05, 2.0)
    both = top(frame([high, low]))
    assert (both == top(frame([high]))).all()
    assert (both != top(frame([low]))).any()


def test_from_above_a_box_is_where_it_stands_and_its_nose_is_marked():
    boxes = detections((20, -5, 0.8, 4, 2, 1.6, 0))
    before = top(frame(odom_from_base=np.eye(4)))
    drawn = top(frame(odom_from_base=np.eye(4)), detections=boxes)
    rows, columns = changed(drawn, before)
    edges = (rows.min(), rows.max(), columns.min(), columns.max())
    assert edges == pytest.approx((280, 320, 240, 260), abs=3)
    middle = is_colour(drawn[:, 249:252], paint.CLASS_COLOURS[0]).any(axis=1)
    assert middle[285:298].all() and not middle[305:315].any()


def test_truth_from_above_is_a_thin_light_outline():
    boxes = detections((20, -5, 0.8, 4, 2, 1.6, 0))
    drawn = top(frame(odom_from_base=np.eye(4)), truth=truth_of(boxes))
    light = drawn.min(axis=2) > 120
    assert light[290:310, 238:242].any(axis=1).sum() >= 15
    assert not light[302:318, 243:248].any() and not is_colour(drawn, paint.CLASS_COLOURS[0]).any()


TURNED = transform_from_yaw((100.0, 50.0, 0.0), np.pi / 2)  # base x is odom y


def grid_with(cells):
    data = np.full((600, 600), -1, np.int8)
    for x_m, y_m, cost in cells:
        data[int((y_m - 20) / 0.1), int((x_m - 70) / 0.1)] = cost
    return CostGrid(
        stamp_ns=1, frame_id='odom', resolution_m=0.1, origin_xy_m=(70.0, 20.0), data=data
    )


def test_a_lethal_cell_of_odom_is_drawn_where_it_lies_before_the_robot():
    # 12 m ahead and 3 m to the left of a robot at (100, 50) that looks along odom's y.
    drawn = top(frame(odom_from_base=TURNED), grid=grid_with([(97.05, 62.05, 100)]))
    rows, columns = np.nonzero(is_colour(drawn, cost_colours()[100]))
    assert len(rows) >= 1
    assert abs(rows.mean() - 379.5) <= 1 and abs(columns.mean() - 170) <= 1


def test_obstacle_points_and_tracks_of_odom_are_brought_to_the_robot():
    there = np.array([[97.05, 62.05, 1.0]])
    drawn = top(frame(odom_from_base=TURNED), obstacle_points_odom=there)
    rows, columns = np.nonzero(is_colour(drawn, paint.OBSTACLE))
    assert len(rows) == 1 and abs(rows[0] - 379) <= 1 and abs(columns[0] - 169) <= 1


def one_track(velocity):
    return Tracks(
        stamp_ns=1,
        frame_id='odom',
        track_id=np.array([42]),
        center=np.array([[97, 62, 1]], np.float32),
        size=np.array([[4, 2, 1.5]], np.float32),
        yaw=np.zeros(1, np.float32),
        velocity=np.array([velocity], np.float32),
        score=np.ones(1, np.float32),
        label=np.array([0]),
        pose_covariance=np.zeros((1, 6, 6)),
        velocity_covariance=np.zeros((1, 2, 2)),
        is_stationary=np.array([not any(velocity)]),
    )


def test_the_arrow_of_a_track_shows_its_motion_in_a_second_and_a_standing_one_has_none():
    drawn = top(frame(odom_from_base=TURNED), tracks=one_track((0.0, 6.0)))
    white = is_colour(drawn, (255, 255, 255))
    rows, columns = np.nonzero(white)  # from 12 to 18 m ahead, straight on
    assert abs(rows.min() - 320) <= 2 and abs(rows.max() - 380) <= 2
    assert abs(np.median(columns) - 170) <= 1
    assert not is_colour(
        top(frame(odom_from_base=TURNED), tracks=one_track((0.0, 0.0))), (255, 255, 255)
    ).any()


def test_every_cost_that_means_something_else_has_a_colour_of_its_own():
    colours = cost_colours().astype(int)
    seen = [colours[value % 256] for value in (-1, 0, 50, 98, 99, 100)]
    for index, one in enumerate(seen):
        assert all(np.abs(one - other).max() > 30 for other in seen[:index])


def test_what_is_missing_is_said_from_above():
    whole = frame(cameras=(view(),), odom_from_base=np.eye(4))
    assert not is_colour(top(whole), paint.WARNING).any()
    for lacking in (replace(whole, cloud=None, base_from_lidar=None),
                    replace(whole, odom_from_base=None)):  # fmt: skip
        assert is_colour(top(lacking), paint.WARNING)[:60].any()


def test_without_odometry_a_grid_is_not_drawn_at_a_wrong_place():
    nowhere = frame(odom_from_base=None)
    assert (top(nowhere, grid=grid_with([(97, 62, 100)]), tracks=one_track((1, 1)),
                obstacle_points_odom=np.ones((5, 3))) == top(nowhere)).all()  # fmt: skip


def test_a_moment_without_a_camera_says_so_and_why():
    moment = Moment(frame=frame(missing={'camera': 'nearest is +61.0 ms away'}), caption='t = 1 s')
    assert is_colour(draw_moment(moment)[44:, :1400], paint.WARNING).any()
    seen = Moment(frame=frame(cameras=(view(),), odom_from_base=np.eye(4)))
    assert not is_colour(draw_moment(seen), paint.WARNING).any()


def test_several_cameras_stand_side_by_side_and_a_tall_image_fits():
    views = (view(), view('rear'))
    tall = replace(
        views[0],
        image=replace(views[0].image, pixels=np.full((800, 400, 3), 200, np.uint8)),
        model=replace(views[0].model, height=800),
    )
    row = draw_moment(Moment(frame=frame(cameras=(*views, tall))))
    greys = [is_colour(row[:, a:b], (v, v, v)).any() for a, b, v in
             ((0, 466, GREY), (467, 933, GREY), (934, 1400, 200))]  # fmt: skip
    assert all(greys)


def test_an_overview_has_a_row_for_each_moment_and_a_readable_width():
    boxes = detections((10, 0, 0.75, 4, 2, 1.5, 0))
    moments = [
        Moment(
            frame=frame([(10, 0, 1)], (view(),), np.eye(4)),
            detections=boxes,
            tracks=Tracks.empty(1, 'odom'),
            truth=truth_of(boxes),
            caption=f't = {i} s',
        )
        for i in range(3)
    ]
    one, three = overview(moments[:1]), overview(moments)
    assert three.dtype == np.uint8 and 1800 <= three.shape[1] <= 2200
    assert three.shape[0] > 2.5 * one.shape[0]
    assert (three[: one.shape[0] - 20, :100] == one[:-20, :100]).all()


def test_an_overview_of_nothing_says_that_nothing_was_processed():
    assert is_colour(overview([]), paint.WARNING).any()


def test_text_of_any_place_and_length_is_cut_at_the_edge():
    canvas = paint.blank(20, 60)
    for at in ((-30, 12), (50, 18), (10, -40), (10, 500)):
        paint.draw_text(canvas, 'pedestrian 12', at)
    paint.draw_text(canvas, '', (10, 10))
    assert canvas.shape == (20, 60, 3)


def test_a_png_comes_back_as_it_was_and_a_bad_place_is_an_error(tmp_path):
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    write_png(tmp_path / 'a.png', pixels)
    read = cv2.cvtColor(cv2.imread(str(tmp_path / 'a.png')), cv2.COLOR_BGR2RGB)
    assert (read == pixels).all()
    with pytest.raises(OSError):
        write_png(tmp_path / 'absent' / 'a.png', pixels)


def test_a_video_has_one_picture_for_each_moment(tmp_path):
    path = tmp_path / 'drive.mp4'
    with VideoWriter(path, rate_hz=10.0) as video:
        for cameras in ((view(),), ()):
            video.write(Moment(frame=frame([(10, 0, 1)], cameras)))
    read = cv2.VideoCapture(str(path))
    pictures = [read.read() for _ in range(3)]
    assert [is_read for is_read, _ in pictures] == [True, True, False]
    assert pictures[0][1].shape[1] >= 1800
    with pytest.raises(OSError), VideoWriter(tmp_path / 'absent' / 'a.mp4') as video:
        video.write_pixels(np.zeros((20, 20, 3), np.uint8))


def test_a_mounted_camera_uses_its_own_transform():
    """A camera that looks back sees the box behind the robot."""
    back = transform_from_yaw((0, 0, 0), np.pi)
    rear = replace(view(), camera_from_base=CAMERA_FROM_BASE @ back)
    boxes = detections((-10, 0, 0.75, 4, 2, 1.5, 0))
    assert (draw_boxes_on_image(rear, boxes) != GREY).any()
