# SPDX-License-Identifier: Apache-2.0
"""Heads -> Detections: a planted peak comes out where it was planted."""

from dataclasses import replace

from mmperception.decode import decode_boxes, detections_from_boxes, heading
from mmperception.geometry import box_corners
from mmperception.grid import BevGrid
from mmperception.network.config import NetworkConfig
from mmperception.network.heads import FOCAL_PX, Heads
from mmperception.network.peaks import find_peaks
from mmperception.tensors import CameraInput, Inputs, make_batch
import numpy as np
import pytest
import torch

GRID = BevGrid(x_min_m=0.0, y_min_m=-8.0, cell_m=0.2, num_x=80, num_y=80)
PIXEL_FROM_BASE = np.array([[320.0, -300, 0, 0], [48, 0, -300, 450], [1, 0, 0, 0]])


def blank_heads(cameras=0):
    return Heads(
        heat_lidar=torch.full((1, 3, 40, 40), -9.0),
        heat_fused=torch.full((1, 3, 40, 40), -9.0),
        peaks=[(torch.zeros(0), *torch.zeros(3, 0, dtype=torch.int64))],
        box=torch.zeros(0, 10),
        camera_heat=torch.full((1, cameras, 3, 24, 160), -9.0),
        camera_box=torch.zeros(1, cameras, 10, 24, 160),
    )


def batch(with_lidar=True, with_camera=False):
    camera = CameraInput(pixels=np.zeros((96, 640, 3), np.uint8), pixel_from_base=PIXEL_FROM_BASE)
    points = np.ones((5, 3), np.float32) if with_lidar else None
    sample = Inputs(
        points=points,
        intensity=None,
        cameras=(camera,) if with_camera else (),
        motion=None,
    )
    return make_batch([sample], GRID, NetworkConfig())


def plant(heads, label, row, column, yaw=0.0, size=(4.0, 1.7, 1.5), logit=3.0):
    """Return the heads with one more peak and its box."""
    values = [0.25, -0.5, 0.8, *np.log(size), np.sin(2 * yaw), np.cos(2 * yaw)]
    values += [1.0 if np.cos(yaw) > 0 else -1.0, 4.0]
    peak = torch.sigmoid(torch.tensor([logit])), *torch.tensor([[label], [row], [column]])
    peaks = tuple(torch.cat(pair) for pair in zip(heads.peaks[0], peak, strict=True))
    return replace(heads, peaks=[peaks], box=torch.cat((heads.box, torch.tensor([values]))))


def test_peak_becomes_a_box_at_its_cell_plus_offset():
    heads = blank_heads()
    heads = plant(heads, 1, row=10, column=30, yaw=0.7)
    found = decode_boxes(heads, batch())[0]
    # x = (30 + 0.5 + 0.25) * 0.4, y = -8 + (10 + 0.5 - 0.5) * 0.4.
    assert found['center'][0].tolist() == pytest.approx([12.3, -4.0, 0.8], abs=1e-5)
    assert found['size'][0].tolist() == pytest.approx([4.0, 1.7, 1.5], rel=1e-5)
    assert found['yaw'][0] == pytest.approx(0.7, abs=1e-5)
    assert found['label'].tolist() == [1]
    heat, iou = torch.sigmoid(torch.tensor([3.0, 4.0])).tolist()
    assert found['score'][0] == pytest.approx(heat**0.75 * iou**0.25)


@pytest.mark.parametrize('yaw', [-3.0, -2.0, -0.5, 0.3, 1.2, 1.9, 3.1])
def test_heading_survives_the_doubled_angle(yaw):
    parts = torch.tensor([[np.sin(2 * yaw)], [np.cos(2 * yaw)], [np.cos(yaw)]])
    found = heading(*parts).item()
    assert np.cos(found - yaw) == pytest.approx(1.0)


def test_of_two_peaks_on_one_car_the_stronger_stays():
    heads = blank_heads()
    heads = plant(heads, 0, row=10, column=30, logit=3.0)
    heads = plant(heads, 0, row=10, column=33, logit=2.0)  # 1.2 m further along the same car
    heads = plant(heads, 0, row=20, column=30, logit=1.0)  # 4 m beside it: another car
    found = decode_boxes(heads, batch())[0]
    assert found['center'][:, 1].tolist() == pytest.approx([-4.0, 0.0], abs=1e-5)
    assert found['center'][0, 0] == pytest.approx(12.3)


def test_pedestrian_beside_a_car_is_not_swallowed_by_it():
    heads = blank_heads()
    heads = plant(heads, 0, row=10, column=30, logit=3.0)
    heads = plant(heads, 1, row=10, column=32, size=(0.6, 0.6, 1.7), logit=2.0)
    assert decode_boxes(heads, batch())[0]['label'].tolist() == [0, 1]


def test_nothing_found_is_an_empty_result():
    boxes = decode_boxes(blank_heads(), batch())[0]
    detections = detections_from_boxes(boxes, 77, 'base_link')
    assert len(detections) == 0 and detections.stamp_ns == 77


def test_most_detections_is_respected_best_first():
    heads = blank_heads()
    for i in range(6):
        heads = plant(heads, 1, row=4 + 6 * i, column=20, size=(0.6, 0.6, 1.7), logit=float(i))
    scores = decode_boxes(heads, batch(), 4)[0]['score']
    assert len(scores) == 4 and (np.diff(scores) < 0).all()


def camera_height(center, size, yaw):
    corners = box_corners(np.array([center]), np.array([size]), np.array([yaw]))[0]
    projected = corners @ PIXEL_FROM_BASE[:, :3].T + PIXEL_FROM_BASE[:, 3]
    return np.ptp(projected[:, 1] / projected[:, 2])


def test_camera_alone_places_an_object_by_its_depth():
    heads = blank_heads(cameras=1)
    # A point (10, 2, 1) projects to u = 260, v = 63; its cell is (63 - 1.5) / 4, (260 - 1.5) / 4.
    row, column = 15, 65
    heads.camera_heat[0, 0, 0, row, column] = 2.0
    offsets = [(260 - 1.5) / 4 - column, (63 - 1.5) / 4 - row]
    turn = 0.4 - np.arctan2(2, 10)
    # Through a lens of 300 px.
    height = camera_height((10.0, 2.0, 1.0), (4.0, 1.7, 1.5), 0.4)
    depth = np.log(10.0 * FOCAL_PX / 300)
    values = [*offsets, 0, np.log(height / 4), depth, *np.log([4.0, 1.7, 1.5])]
    values += [np.sin(2 * turn), np.cos(2 * turn)]
    heads.camera_box[0, 0, :, row, column] = torch.tensor(values)
    found = decode_boxes(heads, batch(with_lidar=False, with_camera=True))[0]
    assert found['center'][0].tolist() == pytest.approx([10.0, 2.0, 1.0], abs=1e-3)
    assert found['yaw'][0] == pytest.approx(0.4, abs=1e-4)
    assert found['sigma_m'][0] == pytest.approx(1.0, rel=1e-3)


def test_peaks_are_the_cells_that_no_neighbour_exceeds():
    heat = torch.rand(2, 9, 11, generator=torch.Generator().manual_seed(1))
    heat[0, 0, 0], heat[1, 8, 10] = 2.0, 2.0  # corners have neighbours, too
    score, label, row, column = find_peaks(heat, 100)
    around = torch.nn.functional.pad(heat, (1, 1, 1, 1)).unfold(1, 3, 1).unfold(2, 3, 1)
    is_peak = heat == around.amax((3, 4))
    expected = set(map(tuple, torch.nonzero(is_peak).tolist()))
    assert set(zip(label.tolist(), row.tolist(), column.tolist(), strict=True)) == expected
    assert (0, 0, 0) in expected and (1, 8, 10) in expected
    assert (score.diff() <= 0).all()
