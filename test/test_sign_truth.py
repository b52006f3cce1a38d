# SPDX-License-Identifier: Apache-2.0
"""Figures of simulated signs by hand-made sightings, and where the plates of a street stand."""

from types import SimpleNamespace

from mmperception.config_sections import SignsConfig
from mmperception.evaluation import sign_truth
from mmperception.evaluation.sign_truth import judge_signs, Sighting, sighting_metrics
from mmperception.sign_range import LABEL_MARGIN_PX
from mmperception.simulation.drive import SimulatedDrive
from mmperception.simulation.sign_plates import picture_with_plates, plates_of
import numpy as np
import pytest
from test_sign_range import found_at


def test_errors_are_told_by_where_the_range_is_from():
    metrics = sighting_metrics([
        Sighting(range_m=20.0, source='lidar', error_m=0.2, by_size_error_m=1.0, is_read=True),
        Sighting(range_m=30.0, source='lidar', error_m=9.0, by_size_error_m=1.5, is_read=True),
        Sighting(range_m=20.0, source='size', error_m=3.0, by_size_error_m=3.0),
        Sighting(range_m=18.0),
    ])  # fmt: skip
    assert metrics['sign_sightings_found'].value == 75.0
    assert metrics['sign_sightings_read'].value == pytest.approx(200 / 3)
    assert metrics['lidar_error_m_p90'].value == pytest.approx(0.2)
    # Placed without the LiDAR, all three count: 5, 5 and 15 percent.
    assert metrics['size_error_percent_p50'].value == pytest.approx(5.0)
    assert metrics['size_error_percent_p90'].value == pytest.approx(13.0)
    assert metrics['size_error_percent_p90'].count == 3


def test_no_sighting_gives_no_figure():
    metrics = sighting_metrics([])
    assert all(metric.value is None for metric in metrics.values())


def test_plates_of_a_street_are_as_wide_as_signs_and_stand_above_the_road():
    plates = plates_of(SimulatedDrive(2.0, 3)._street)
    assert len(plates) >= 3
    for class_id, corners in plates:
        assert 0 <= class_id < 43
        size = np.ptp(corners, axis=0)
        assert 0.4 < np.hypot(*size[:2]) < 1.0 and corners[:, 2].min() > 0.3


def test_a_picture_of_a_street_shows_its_plates_where_their_boxes_are():
    pixels, boxes, class_id = picture_with_plates(4300, 2)
    assert pixels.shape == (375, 1242, 3) and len(boxes) == len(class_id) > 0
    # The nearest plate, a triangle: red rim around a white middle.
    x1, y1, x2, y2 = boxes[0].round().astype(int)
    parts = [part.astype(int) for part in (pixels[y1:y2, x1:x2], pixels[y2:, x1:x2][:20])]
    red = [(part[..., 0] - part[..., 1:].max(-1) > 40).mean() for part in parts]
    assert class_id[0] == 27 and red[0] > 0.1 > red[1]


def test_a_sign_whose_box_is_exact_is_placed_by_lidar_and_by_its_size(monkeypatch):
    """The reader is told what there is, so that only the places are judged."""
    shown, told = sign_truth._shown, []

    def tell(corners, view):
        told.append(shown(corners, view))
        return told[-1]

    def judge(one, class_id, found, place):
        around = LABEL_MARGIN_PX * np.array([-1, -1, 1, 1])
        found = found_at([one[0] + around], class_id, score=0.9)
        return sign_truth_judge(one, class_id, found, place)

    sign_truth_judge = sign_truth._judge
    monkeypatch.setattr(sign_truth, '_shown', tell)
    monkeypatch.setattr(sign_truth, '_judge', judge)
    reader = SimpleNamespace(find=lambda pixels, score, limit: found_at([], 0))
    sightings = judge_signs(101, 0.2, reader, SignsConfig())
    assert len(sightings) == sum(one is not None for one in told) >= 2
    metrics = sighting_metrics(sightings)
    assert metrics['sign_sightings_found'].value == 100.0
    assert metrics['size_error_percent_p90'].value < 10.0
