# SPDX-License-Identifier: Apache-2.0
"""
Why a detection is there: what each sensor contributed, and where the network looked.

Contribution is leave-one-out: the score with all sensors minus the score without one, of the
detection nearest to it. Looking is attention: each in-view pillar inside a box reads a few image
positions with weights, and a gate says how much of that it trusts (network/fusion.py).
"""

from dataclasses import dataclass, replace
from itertools import product

from mmperception.canvas import draw_text
from mmperception.datatypes import CLASSES
from mmperception.geometry import points_in_boxes
from mmperception.image_view import draw_boxes_on_image
from mmperception.network.fusion import AttentionFusion
from mmperception.tensors import inputs_from_frame, make_batch
from mmperception.top_view import draw_top_view, Window
import numpy as np
import torch

# Metres within which the answer without a sensor is taken for the same object; without LiDAR
# positions are rough, so the direction counts there.
SAME_OBJECT_M, SAME_DIRECTION_RAD = 2.0, 0.05
LOOKED_COLOUR, GATE_LOW, GATE_HIGH = (255, 200, 40), (60, 90, 255), (255, 220, 60)
# How far a pillar reaches around its middle in the view from above.
GATE_REACH_PX = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Looks:
    """
    Where the pillars that a camera sees looked.

    `pixel` (P, S, 2) float32 columns and rows of the network's image, `weight` (P, S) shares of
    the attention (what is missing to 1 went to the motion token), `gate` (P,) 0..1, `place`
    (P, 3) base_link metres, `camera` (P,) its number.
    """

    pixel: np.ndarray
    weight: np.ndarray
    gate: np.ndarray
    place: np.ndarray
    camera: np.ndarray


def explain_frame(perceiver, frame, min_score=0.3):
    """
    Explain the detections of one frame.

    Parameters
    ----------
    perceiver : Perceiver
        Its tracks are not touched.
    frame : Frame
        With all the sensors that there were.
    min_score : float
        Detections below are left out.

    Returns
    -------
    entries : list of dict
        One a detection, plain values for JSON: `class`, `center`, `size`, `yaw`, `score`;
        `contribution` by sensor (None where the frame lacks it or it is the only one); `gate`
        and `attention` (mean gate, share of the attention on the image) of the pillars in it.
    detections : Detections
    looks : Looks or None
        None when the fusion is no attention, or no camera sees a pillar.

    """
    detections = perceiver.detect(frame)
    detections = detections.select(detections.score >= min_score)
    looks = look(perceiver, frame)
    without = {}
    if frame.cameras and frame.cloud is not None:
        without['camera'] = perceiver.detect(replace(frame, cameras=()))
        without['lidar'] = perceiver.detect(replace(frame, cloud=None, base_from_lidar=None))
    entries = [_entry(detections, n, without, looks) for n in range(len(detections))]
    return entries, detections, looks


def _entry(detections, n, without, looks):
    entry = {
        'class': CLASSES[detections.label[n]],
        'score': float(detections.score[n]),
        'center': [float(v) for v in detections.center[n]],
        'size': [float(v) for v in detections.size[n]],
        'yaw': float(detections.yaw[n]),
        'contribution': {'camera': None, 'lidar': None},
        'gate': None,
        'attention': None,
    }
    for sensor, found in without.items():
        left = _score_without(detections, n, found, by_direction=sensor == 'lidar')
        entry['contribution'][sensor] = entry['score'] - left
    if looks is not None:
        inside = _pillars_inside(detections, n, looks)
        if inside.any():
            entry['gate'] = float(looks.gate[inside].mean())
            entry['attention'] = float(looks.weight[inside].sum(1).mean())
    return entry


def _score_without(detections, n, found, by_direction):
    """Return the score of the same object in `found`, 0 when it is not there."""
    center = detections.center[n]
    if by_direction:
        azimuth = np.arctan2(found.center[:, 1], found.center[:, 0])
        turn = azimuth - np.arctan2(center[1], center[0])
        is_same = np.abs(np.arctan2(np.sin(turn), np.cos(turn))) < SAME_DIRECTION_RAD
    else:
        is_same = np.hypot(*(found.center[:, :2] - center[:2]).T) < SAME_OBJECT_M
    is_same &= found.label == detections.label[n]
    return float(found.score[is_same].max(initial=0.0))


def _pillars_inside(detections, n, looks):
    box = detections.center[n][None], detections.size[n][None], detections.yaw[n][None]
    return points_in_boxes(looks.place, *box, 0.2)[0]


def look(perceiver, frame):
    """Run the network once more and return its `Looks`; None without attention or cameras."""
    fusion = perceiver.network.fusion
    if not isinstance(fusion, AttentionFusion):
        return None
    config = perceiver.network.config
    batch = make_batch([inputs_from_frame(frame, config)], config.grid, config)
    fusion.trace = []
    try:
        with torch.inference_mode():
            perceiver.network(batch.to(perceiver.device))
        traces = fusion.trace
    finally:
        fusion.trace = None
    if not traces:
        return None
    size = torch.tensor([batch.images.shape[-1], batch.images.shape[-2]])
    places = torch.cat([trace['places'].cpu() for trace in traces])
    return Looks(
        pixel=((places + 1) / 2 * size - 0.5).numpy(),
        weight=torch.cat([t['weight'][:, :-1].cpu() for t in traces]).numpy(),
        gate=torch.cat([t['gate'].cpu() for t in traces]).numpy(),
        place=torch.cat([batch.pillar_mean[t['pillar'].cpu()] for t in traces]).numpy(),
        camera=np.concatenate([np.full(len(t['gate']), t['camera']) for t in traces]),
    )


def draw_attention(view, detections, looks, camera=0, image_width=640):
    """
    Draw on the image where the pillars inside each detection looked.

    Returns
    -------
    (H, W, 3) uint8
        A copy with the boxes and a dot for each position that got attention: the more, the
        larger.

    """
    pixels = draw_boxes_on_image(view, detections)
    scale = view.model.width / image_width
    for n in range(len(detections)):
        for p in np.flatnonzero(_pillars_inside(detections, n, looks) & (looks.camera == camera)):
            for (u, v), weight in zip(looks.pixel[p] * scale, looks.weight[p], strict=True):
                _dot(pixels, u, v, 1 + 3 * float(weight * looks.gate[p]))
    return pixels


def _dot(pixels, u, v, radius):
    reach = int(np.ceil(radius))
    # A place may lie beyond the rim of the image: then little or nothing of the dot is left.
    rows, columns = (
        slice(*np.clip((int(middle) - reach, int(middle) + reach + 1), 0, end))
        for middle, end in zip((v, u), pixels.shape, strict=False)
    )
    y, x = np.mgrid[rows, columns]
    pixels[rows, columns][(x - u) ** 2 + (y - v) ** 2 <= radius**2] = LOOKED_COLOUR


def draw_gates(moment, looks, window=None):
    """
    Return the view from above with every in-view pillar coloured by its gate.

    Colours run over the gates of this frame, whose ends (5 and 95 percent) stand in the corner:
    a gate seldom leaves the middle of its range.
    """
    window = window or Window(height=800, width=800)
    pixels = draw_top_view(moment, window)
    if not len(looks.gate):
        return pixels
    ends = np.percentile(looks.gate, (5, 95))
    share = np.clip((looks.gate - ends[0]) / max(np.ptp(ends), 1e-6), 0, 1)
    colours = np.rint(GATE_LOW + share[:, None] * np.subtract(GATE_HIGH, GATE_LOW))
    where = np.round(window.pixels_of(looks.place)).astype(int)
    for column, row in product(range(-GATE_REACH_PX, GATE_REACH_PX + 1), repeat=2):
        x, y = (where + (column, row)).T
        inside = (x >= 0) & (x < window.width) & (y >= 0) & (y < window.height)
        pixels[y[inside], x[inside]] = colours[inside]
    for end, colour, column in zip(ends, (GATE_LOW, GATE_HIGH), (14, 110), strict=True):
        draw_text(pixels, f'gate {end:.2f}', (column, window.height - 14), colour)
    return pixels
