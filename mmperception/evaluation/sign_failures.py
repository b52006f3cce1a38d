# SPDX-License-Identifier: Apache-2.0
"""
Pictures of what goes wrong with signs in whole images: missed, false and wrongly read.

    JudgedImage + pixels -> failures_of -> Failure -> failure_sheet

Each failure says why: no peak at all, a score below what is published, or a box that overlaps
too little. Sheets are at most 800 px wide, for docs.
"""

from collections import Counter
from dataclasses import dataclass

import cv2
from mmperception.canvas import blank, draw_text, FAINT_TEXT, TEXT, text_width
from mmperception.evaluation.signs import match_signs, MIN_IOU
from mmperception.sign_classes import sign_name
from mmperception.signs import box_ious
import numpy as np

MISSED, FALSE, MISREAD = 'missed', 'false', 'misread'
KINDS = (MISSED, FALSE, MISREAD)
NO_PEAK, WEAK, LOOSE, DOUBLE, NOTHING = 'no peak', 'score', 'overlap', 'double', 'nothing there'
# Below this overlap a detection is about something else.
NEAR_IOU = 0.1
TILE_PX, COLUMNS, CONTEXT = 112, 7, 0.9
CELL_PX, LINE_PX, TITLE_PX = TILE_PX + 2, 13, 24


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Failure:
    """
    One thing that went wrong.

    `kind` of KINDS; `reason` in a word; `words` two short lines below the picture; `patch`
    (112, 112, 3) uint8, the sign and as much around it; `rank` the worst highest.
    """

    kind: str
    reason: str
    words: tuple
    patch: np.ndarray
    rank: float


def failures_of(judged, pixels, min_score):
    """
    Return the Failures of one image.

    Parameters
    ----------
    judged : JudgedImage
        Truth and detections.
    pixels : (H, W, 3) uint8
        The image.
    min_score : float
        What is published.

    Returns
    -------
    list of Failure

    """
    result, matched = match_signs(judged)
    found, failures = judged.found, []
    for index, score in enumerate(result.found_score):
        if score < min_score:
            failures.append(_missed(judged, index, score, pixels))
    for index, truth in enumerate(matched):
        score, said = float(found.score[index]), int(found.class_id[index])
        if score < min_score or (truth >= 0 and said == judged.class_id[truth]):
            continue
        box = found.boxes[index]
        if truth >= 0:
            words = (sign_name(int(judged.class_id[truth])), f'as {sign_name(said)}')
            failures.append(_failure(MISREAD, 'class', words, pixels, box, score))
            continue
        overlap = box_ious(box, judged.boxes).max() if len(judged.boxes) else 0.0
        reason = DOUBLE if overlap >= MIN_IOU else LOOSE if overlap > NEAR_IOU else NOTHING
        words = (sign_name(said), f'{score:.2f}, {reason}')
        failures.append(_failure(FALSE, reason, words, pixels, box, score))
    return failures


def _missed(judged, index, score, pixels):
    box = judged.boxes[index]
    if score >= 0:
        reason, words = WEAK, f'score {score:.2f}'
    else:
        boxes = judged.found.boxes
        overlap = float(box_ious(box, boxes).max()) if len(boxes) else 0.0
        reason = LOOSE if overlap > NEAR_IOU else NO_PEAK
        words = f'overlap {overlap:.2f}' if reason == LOOSE else NO_PEAK
    width = f'{box[2] - box[0]:.0f} px, {words}'
    words = (sign_name(int(judged.class_id[index])), width)
    return _failure(MISSED, reason, words, pixels, box, -score)


def _failure(kind, reason, words, pixels, box, rank):
    side = CONTEXT * float((box[2:] - box[:2]).max())
    middle = (box[:2] + box[2:]) / 2
    low = np.maximum(np.floor(middle - side), 0).astype(int)
    high = np.ceil(middle + side).astype(int)
    patch = pixels[slice(low[1], high[1]), slice(low[0], high[0])]
    patch = cv2.resize(patch, (TILE_PX, TILE_PX), interpolation=cv2.INTER_CUBIC)
    return Failure(kind=kind, reason=reason, words=words, patch=patch, rank=float(rank))


def summary_of(failures):
    """Return lines that say how often each kind went wrong, and why."""
    lines = []
    for kind in KINDS:
        reasons = Counter(f.reason for f in failures if f.kind == kind)
        why = ', '.join(f'{reason} {count}' for reason, count in reasons.most_common())
        lines.append(f'{kind}: {sum(reasons.values())}{f" ({why})" if why else ""}')
    return lines


def failure_sheet(failures, rows=4):
    """
    Draw failures of one kind: the worst first where there are few, evenly spread else.

    Parameters
    ----------
    failures : sequence of Failure
        At least one.
    rows : int
        Most rows of seven.

    Returns
    -------
    canvas : (H, W, 3) uint8

    """
    ordered = sorted(failures, key=lambda failure: -failure.rank)
    number = min(len(ordered), rows * COLUMNS)
    chosen = [ordered[i] for i in np.linspace(0, len(ordered) - 1, number).round().astype(int)]
    height = TILE_PX + 2 * LINE_PX + 4
    canvas = blank(TITLE_PX + -(-number // COLUMNS) * height, COLUMNS * CELL_PX)
    title = f'{chosen[0].kind}: {number} of {len(ordered)}, the worst first'
    draw_text(canvas, title, (4, 16))
    for place, failure in enumerate(chosen):
        top, left = TITLE_PX + place // COLUMNS * height, place % COLUMNS * CELL_PX
        bottom, right = top + TILE_PX, left + TILE_PX
        canvas[top:bottom, left:right] = failure.patch
        for line, (words, colour) in enumerate(
            zip(failure.words, (TEXT, FAINT_TEXT), strict=True)
        ):
            at = (left + 2, bottom + (line + 1) * LINE_PX - 2)
            draw_text(canvas, words, at, colour, _cap_that_fits(words))
    return canvas


def _cap_that_fits(words):
    """Return the height of capitals at which words stay under their own picture, px."""
    sizes = [cap for cap in (8, 7, 6) if text_width(words, cap) <= TILE_PX - 2]
    return sizes[0] if sizes else 5
