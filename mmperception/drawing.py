# SPDX-License-Identifier: Apache-2.0
"""
The picture of what the package saw: moments in rows, camera left, the world from above right.

The last step of replay and evaluation. Colours and text are in canvas.py, drawing on images in
image_view.py, the view from above in top_view.py; this file arranges them and is where others
import them from. OpenCV and NumPy only; everything is RGB.
"""

from dataclasses import dataclass

import cv2
from mmperception import canvas as paint
from mmperception.canvas import write_png
from mmperception.datatypes import CLASSES, CostGrid, Detections, Frame, Tracks
from mmperception.image_view import (
    draw_boxes_on_image,
    draw_lidar_on_image,
    overlay_image,
    scaled_view,
)
from mmperception.recording import Truth
from mmperception.top_view import cost_colours, draw_top_view, height_colours, Window
import numpy as np

__all__ = [
    'draw_boxes_on_image',
    'draw_lidar_on_image',
    'draw_moment',
    'draw_top_view',
    'Moment',
    'overlay_image',
    'overview',
    'VideoWriter',
    'Window',
    'write_png',
]

# Pixels. Wide images decide the height of a row, others are fitted into it.
CAMERA_WIDTH, TOP_WIDTH, GAP, CAPTION, HEADER = 1400, 640, 14, 44, 58
MIN_CAMERA_HEIGHT, MAX_CAMERA_HEIGHT = 400, 640


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moment:
    """
    One frame and what was made of it; anything but the frame may be None.

    `obstacle_points_odom` (N, 3) and `driven_odom` (P, 3), where `base_link` was before and after,
    are metres in the odometry frame; `caption` is what tells the
    moment from others, such as its time and number.
    """

    frame: Frame
    detections: Detections | None = None
    tracks: Tracks | None = None
    obstacle_points_odom: np.ndarray | None = None
    driven_odom: np.ndarray | None = None
    grid: CostGrid | None = None
    truth: Truth | None = None
    caption: str = ''


def overview(moments, title='mmperception'):
    """
    Draw moments below each other under a title and a legend.

    Parameters
    ----------
    moments : sequence of Moment
        About six at most make a readable picture; none gives one that says so.
    title : str
        On the left of the header, in the line of the legend.

    Returns
    -------
    pixels : (H, W, 3) uint8 RGB

    """
    height = camera_height(moments)
    rows = [draw_moment(moment, height) for moment in moments]
    if not rows:
        rows = [paint.blank(120, CAMERA_WIDTH + TOP_WIDTH + GAP)]
        paint.draw_text(rows[0], 'nothing was processed', (24, 66), paint.WARNING, 13)
    W = rows[0].shape[1] + 2 * GAP
    picture = paint.blank(HEADER + sum(len(r) + GAP for r in rows), W, paint.BACKGROUND)
    _draw_header(picture[:HEADER, GAP:-GAP], title)
    top = HEADER
    for row in rows:
        bottom = top + len(row)
        picture[top:bottom, GAP:-GAP] = row
        top = bottom + GAP
    return picture


def camera_height(moments):
    """Return the height of the camera column that suits the images of these moments."""
    shapes = [view.image.pixels.shape for m in moments for view in m.frame.cameras[:1]]
    wanted = max((CAMERA_WIDTH * H / W for H, W, _ in shapes), default=MIN_CAMERA_HEIGHT)
    return int(np.clip(round(wanted), MIN_CAMERA_HEIGHT, MAX_CAMERA_HEIGHT))


def draw_moment(moment, height=MIN_CAMERA_HEIGHT):
    """
    Draw one moment: caption and cameras on the left, the view from above on the right.

    `height` is that of the camera column. Returns (height + caption, W, 3) uint8 RGB.
    """
    H = height + CAPTION
    row = paint.blank(H, CAMERA_WIDTH + GAP + TOP_WIDTH, paint.BACKGROUND)
    row[:, :CAMERA_WIDTH] = paint.PANEL
    _draw_caption(row[:CAPTION, :CAMERA_WIDTH], moment)
    row[CAPTION:, :CAMERA_WIDTH] = _camera_panel(moment, height)
    row[:, -TOP_WIDTH:] = draw_top_view(moment, Window(height=H, width=TOP_WIDTH))
    return row


def _camera_panel(moment, height):
    """Draw every camera with its boxes, side by side; words where there is none."""
    views = moment.frame.cameras
    if not views:
        panel = paint.blank(height, CAMERA_WIDTH)
        line, reasons = 'no camera image', list(moment.frame.missing.items())
        paint.draw_text(panel, line, (24, height // 2), paint.WARNING, 15)
        for number, (name, why) in enumerate(reasons[:5]):
            at = (24, height // 2 + 28 + 22 * number)
            paint.draw_text(panel, f'{name}: {why}', at, paint.FAINT_TEXT, 11)
        return panel
    edges = np.linspace(0, CAMERA_WIDTH, len(views) + 1).round().astype(int)
    columns = zip(views, edges[:-1], edges[1:], strict=True)
    return np.concatenate(
        [_view_panel(moment, view, height, right - left) for view, left, right in columns], axis=1
    )


def _view_panel(moment, view, height, width):
    """Draw on the image at its final size, so that lines and words stay sharp."""
    view = scaled_view(view, min(height / view.model.height, width / view.model.width))
    pixels = view.image.pixels
    for boxes in (moment.truth, moment.detections):  # words last: no line strikes them through
        if boxes is not None:
            pixels = draw_boxes_on_image(view, boxes, pixels)
    return paint.fit(pixels, height, width)


def _draw_caption(strip, moment):
    """Write the caption, then how many of each class, then what is missing."""
    column = 14
    paint.draw_text(strip, moment.caption, (column, 29), paint.TEXT, 13)
    column += paint.text_width(moment.caption, 13) + 34 if moment.caption else 0
    for words, colour in _counts(moment):
        paint.draw_text(strip, words, (column, 29), colour, 11)
        column += paint.text_width(words, 11) + 20
    absent = [f'{name}: {why}' for name, why in moment.frame.missing.items()]
    if moment.frame.cameras and absent:
        paint.draw_text(strip, '; '.join(absent), (column, 29), paint.WARNING, 10)


def _counts(moment):
    if moment.detections is None:
        yield 'no detections', paint.FAINT_TEXT
        return
    for label, name in enumerate(CLASSES):
        number = int((moment.detections.label == label).sum())
        yield f'{number} {name}{"" if number == 1 else "s"}', paint.CLASS_COLOURS[label]
    if moment.tracks is not None:
        yield f'{len(moment.tracks)} tracks', paint.FAINT_TEXT
    if moment.truth is not None:
        yield f'{len(moment.truth)} labelled', paint.TRUTH


def _draw_header(strip, title):
    """Write the title and the legend, from right to left so that it ends at the edge."""
    paint.draw_text(strip, title, (2, 38), paint.TEXT, 18)
    column = strip.shape[1]
    for draw_sample, words in reversed(_legend()):
        column -= paint.text_width(words, 10)
        paint.draw_text(strip, words, (column, 36), paint.FAINT_TEXT, 10)
        column -= 6 + draw_sample(strip, column - 6)
        column -= 22


def _legend():
    """Return (a function that draws a sample left of a column and gives its width, words)."""
    return [
        *(
            (_swatch(colour), name)
            for name, colour in zip(CLASSES, paint.CLASS_COLOURS, strict=True)
        ),
        (_swatch(paint.TRUTH, 1), 'label'),
        (_arrow, 'motion in 1 s'),
        (_swatch(paint.EGO), 'robot and its way'),
        (_dots, 'obstacle points'),
        (_ramp(height_colours()), 'height 0 to 2.5 m'),
        (_ramp(cost_colours()[:101]), 'path cost 0 to 100'),
    ]


def _swatch(colour, thickness=2):
    def draw(strip, right):
        if thickness > 1:
            corners = [(right - 24, 25), (right, 25), (right, 37), (right - 24, 37)]
            paint.fill_polygon(strip, np.array(corners), colour, 0.3)
        cv2.rectangle(strip, (right - 24, 25), (right - 1, 37), colour, thickness, cv2.LINE_AA)
        return 24

    return draw


def _arrow(strip, right):
    start, end = (right - 24, 31), (right, 31)
    cv2.arrowedLine(strip, start, end, (255, 255, 255), 2, cv2.LINE_AA, tipLength=0.35)
    return 24


def _dots(strip, right):
    rng = np.random.default_rng(5)
    rows, columns = rng.integers(24, 38, 40), rng.integers(right - 20, right, 40)
    strip[rows, columns] = paint.OBSTACLE
    return 20


def _ramp(colours):
    def draw(strip, right):
        index = np.rint(np.linspace(0, len(colours) - 1, 90)).astype(int)
        left = right - 90
        strip[25:38, left:right] = colours[index][None]
        return 90

    return draw


class VideoWriter:
    """
    A video with one moment a picture; use it in a `with` block.

    Parameters
    ----------
    path : str or Path
        An `.mp4` file.
    rate_hz : float
        Pictures a second.

    Raises
    ------
    OSError
        At the first picture, if the file cannot be written.

    """

    def __init__(self, path, rate_hz=10.0):
        self._path, self._rate_hz = str(path), rate_hz
        self._writer, self._size = None, None

    def write(self, moment):
        """Append one moment."""
        self.write_pixels(draw_moment(moment, camera_height([moment])))

    def write_pixels(self, pixels):
        """Append one picture; the first decides the size."""
        if self._writer is None:
            # Codecs want even sides.
            self._size = tuple(side + side % 2 for side in pixels.shape[:2])
            code = cv2.VideoWriter_fourcc(*'mp4v')
            self._writer = cv2.VideoWriter(self._path, code, self._rate_hz, self._size[::-1])
            if not self._writer.isOpened():
                raise OSError(f'{self._path}: no video can be written there')
        if pixels.shape[:2] != self._size:
            pixels = paint.fit(pixels, *self._size)
        self._writer.write(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))

    def close(self):
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()
