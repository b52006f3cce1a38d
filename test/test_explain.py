# SPDX-License-Identifier: Apache-2.0
"""Explanations: leave-one-out adds up, attention is a share, pictures show what was looked at."""

from dataclasses import replace

from mmperception.config import from_mapping
from mmperception.drawing import Moment
from mmperception.evaluation.explain import (
    _dot,
    draw_attention,
    draw_gates,
    explain_frame,
    GATE_HIGH,
    GATE_LOW,
    look,
    Looks,
)
from mmperception.geometry import project
from mmperception.network.model import PerceptionNetwork
from mmperception.pipeline import Perceiver
from mmperception.top_view import draw_top_view, Window
import numpy as np
import pytest
from synthetic import SMALL_NETWORK
from test_pipeline import make_frame, make_perceiver
import torch


def test_contributions_are_the_scores_that_vanish_without_a_sensor():
    perceiver, frame = make_perceiver(), make_frame()
    entries, detections, _ = explain_frame(perceiver, frame, min_score=0.05)
    assert len(entries) == len(detections) > 0
    blind = perceiver.detect(replace(frame, cameras=()))
    best = entries[0]
    near = np.hypot(*(blind.center[:, :2] - best['center'][:2]).T) < 2
    near &= blind.label == detections.label[0]
    left = blind.score[near].max(initial=0)
    assert best['contribution']['camera'] == pytest.approx(best['score'] - left, abs=1e-6)


def test_without_a_camera_nothing_is_said_about_it():
    frame = replace(make_frame(), cameras=())
    entries, _, looks = explain_frame(make_perceiver(), frame, min_score=0.05)
    assert looks is None
    assert all(entry['contribution'] == {'camera': None, 'lidar': None} for entry in entries)
    assert all(entry['gate'] is None for entry in entries)


def test_a_pillar_looks_at_its_own_projection_first():
    perceiver, frame = make_perceiver(), make_frame()
    looks = look(perceiver, frame)
    assert perceiver.network.fusion.trace is None  # nothing is kept afterwards
    assert ((looks.weight >= 0) & (looks.weight <= 1)).all() and (looks.weight.sum(1) <= 1).all()
    assert ((looks.gate > 0) & (looks.gate < 1)).all()
    view = frame.cameras[0]
    seen = looks.place @ view.camera_from_base[:3, :3].T + view.camera_from_base[:3, 3]
    pixels, _ = project(seen.astype(np.float32), view.model)
    scale = SMALL_NETWORK.image_width / view.model.width
    expected = (pixels + 0.5) * scale - 0.5
    assert np.abs(looks.pixel[:, 0] - expected).max() < 1.0


def test_other_fusions_have_no_attention_to_show():
    torch.manual_seed(0)
    network = PerceptionNetwork(replace(SMALL_NETWORK, fusion='concat'))
    config = from_mapping({'device': 'cpu', 'precision': 'float32'})
    assert look(Perceiver(network, config), make_frame()) is None


def test_pictures_differ_from_the_plain_ones_where_pillars_are():
    perceiver, frame = make_perceiver(), make_frame()
    _, detections, looks = explain_frame(perceiver, frame, min_score=0.05)
    view = frame.cameras[0]
    drawn = draw_attention(view, detections, looks, 0, SMALL_NETWORK.image_width)
    assert drawn.shape == view.image.pixels.shape
    moment = Moment(frame=frame, detections=detections)
    window = Window(height=200, width=200)
    gates = draw_gates(moment, looks, window)
    assert (gates != draw_top_view(moment, window)).any()


def test_the_widest_gate_is_yellow_and_the_narrowest_blue():
    frame = make_frame()
    moment = Moment(frame=frame, detections=make_perceiver().detect(frame))
    window = Window(height=200, width=200)
    place = np.array([[20.0, 5, 0], [30, -8, 0], [900, 0, 0]])
    looks = Looks(
        pixel=np.zeros((3, 1, 2)), weight=np.ones((3, 1)), gate=np.array([0.4, 0.6, 0.5]),
        place=place, camera=np.zeros(3, int),
    )  # fmt: skip
    gates = draw_gates(moment, looks, window)
    column, row = np.round(window.pixels_of(place)).astype(int).T
    assert tuple(gates[row[0], column[0]]) == GATE_LOW
    assert tuple(gates[row[1], column[1]]) == GATE_HIGH


def test_a_dot_beyond_the_rim_of_the_image_is_cut_off():
    pixels = np.zeros((20, 30, 3), np.uint8)
    for u, v in ((-40.0, 5.0), (5.0, 60.0), (80.0, -30.0)):
        _dot(pixels, u, v, 2.0)
    assert not pixels.any()
    _dot(pixels, -1.0, 10.0, 2.0)
    assert pixels[:, 0].any() and not pixels[:, 2:].any()
