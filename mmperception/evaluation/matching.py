# SPDX-License-Identifier: Apache-2.0
"""
Which truth counts, which detections count, and which of them belong together.

Per frame and class, before any figure: truth is counted or ignored, detections are dropped,
ignored, hits or false. The rules are KITTI's with the exceptions for a drive whose labels are
incomplete (docs/accuracy.md); matching is greedy from the best score down, one to one.
"""

from dataclasses import dataclass

from mmperception.datasets.kitti_labels import UNLABELLED_PREFIX
from mmperception.datatypes import CLASSES
from mmperception.evaluation.overlap import bev_iou, iou_3d
from mmperception.evaluation.viewpoint import box_area, image_boxes
from mmperception.geometry import apply, points_in_boxes, project
import numpy as np

COUNTED_KINDS = {
    'vehicle': ('car', 'van'),
    'pedestrian': ('pedestrian',),
    'cyclist': ('cyclist',),
}
IGNORED_KINDS = {
    'vehicle': ('truck', 'bus', 'tram', 'misc'),
    'pedestrian': ('person_sitting',),
    'cyclist': (),
}
MIN_HEIGHT_PX, MAX_TRUNCATION, MAX_RANGE_M, MIN_POINTS = 25.0, 0.3, 50.0, 5
# A detection belongs to a DontCare region when at least half of its image box lies in it.
MIN_DONTCARE_SHARE = 0.5
# Sweeps 129 to 153 of KITTI drive 0005, by stamp, so that a bag of it is known too: parked cars
# beyond 25 m are not labelled in them.
UNLABELLED_FROM_NS, UNLABELLED_TO_NS = 1_317_042_285_655_000_000, 1_317_042_288_136_000_000
UNLABELLED_BEYOND_M = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """
    How to compare: minimum overlap and where, and whether labels are completed.

    `space` is `3d`, `bev` (from above), `image` (clipped image boxes) or `near` (1 at the middle
    of the truth, 0.5 at 2 m from it, seen from above).
    """

    min_iou: float = 0.5
    space: str = '3d'
    with_completion: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameResult:
    """
    What became of one frame for one class.

    `score` (D,) and `is_hit` (D,) bool of the detections that count, best first; `object_id`,
    `found_score` (T,) of the counted truth: the score of its detection, or -1 when missed.
    """

    score: np.ndarray
    is_hit: np.ndarray
    object_id: tuple[str, ...]
    found_score: np.ndarray


def counted_truth(sample, viewpoint):
    """
    Tell which labelled boxes count, whatever their class.

    Returns
    -------
    is_counted : (N,) bool
        Tall enough in the image, hardly truncated, occluded little, near enough, with points.

    """
    truth = sample.truth
    boxes = (truth.center, truth.size, truth.yaw)
    is_counted = np.isin(truth.occlusion, (0, 1)) & ~truth.is_ignored & ~is_added(truth)
    is_counted &= _range_m(truth.center, viewpoint) <= MAX_RANGE_M
    if sample.frame.cloud is not None:
        points = apply(sample.frame.base_from_lidar, sample.frame.cloud.points)
        is_counted &= points_in_boxes(points, *boxes).sum(axis=1) >= MIN_POINTS
    if viewpoint.model is not None and len(truth):
        in_image = image_boxes(boxes, viewpoint)
        is_counted &= in_image.height_px >= MIN_HEIGHT_PX
        is_counted &= in_image.truncation <= MAX_TRUNCATION
    return is_counted


def kept_detections(detections, viewpoint):
    """
    Tell which detections are judged at all.

    Returns
    -------
    is_kept : (N,) bool
        Not behind the camera, centre within the image, tall enough, near enough.

    """
    is_kept = _range_m(detections.center, viewpoint) <= MAX_RANGE_M
    if viewpoint.model is None or not len(detections):
        return is_kept
    in_image = image_boxes(_boxes_of(detections), viewpoint)
    center = apply(viewpoint.camera_from_base, np.asarray(detections.center, np.float64))
    (u, v), depth_m = project(center, viewpoint.model)[0].T, center[:, 2]
    width, height = viewpoint.model.width, viewpoint.model.height
    is_inside = (u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1)
    return is_kept & (depth_m > 0) & is_inside & (in_image.height_px >= MIN_HEIGHT_PX)


class FrameJudge:
    """One frame's truth and detections, prepared once for every class and threshold."""

    def __init__(self, sample, detections, viewpoint, is_counted=None):
        self.truth = sample.truth
        is_kept = kept_detections(detections, viewpoint)
        detections = detections.select(is_kept)
        self.detections = detections.select(np.argsort(-detections.score, kind='stable'))
        self._is_counted = counted_truth(sample, viewpoint) if is_counted is None else is_counted
        self._viewpoint, self._overlaps = viewpoint, {}
        self._in_dontcare = _in_dontcare(self.detections, self.truth, viewpoint)
        is_incomplete = UNLABELLED_FROM_NS <= sample.truth.stamp_ns <= UNLABELLED_TO_NS
        is_far = _range_m(self.detections.center, viewpoint) > UNLABELLED_BEYOND_M
        self._maybe_unlabelled = is_far & is_incomplete
        self.is_completed = bool(is_incomplete or is_added(self.truth).any())

    def judge(self, class_name, matching, without=()):
        """
        Match the detections of one class to its truth.

        Parameters
        ----------
        class_name : str
            One of `CLASSES`.
        matching : Matching
            Pairs that overlap less than its `min_iou` do not belong together.
        without : collection of str
            Objects that are ignored in this figure.

        Returns
        -------
        FrameResult

        """
        is_counted, is_candidate = self._truth_roles(class_name, matching, without)
        mine = self.detections.label == CLASSES.index(class_name)
        iou = self._overlap(matching.space)[mine]
        owner = _match(iou, is_counted, is_candidate, matching.min_iou)
        is_hit = np.array([o >= 0 and is_counted[o] for o in owner], bool)
        is_excused = (owner >= 0) & ~is_hit | self._in_dontcare[mine] & (owner < 0)
        if matching.with_completion:
            is_excused |= self._maybe_unlabelled[mine] & ~is_hit
        score = self.detections.score[mine].astype(np.float64)
        found = np.full(len(self.truth), -1.0)
        found[owner[is_hit]] = score[is_hit]
        return FrameResult(
            score=score[~is_excused],
            is_hit=is_hit[~is_excused],
            object_id=tuple(np.array(self.truth.object_id, object)[is_counted]),
            found_score=found[is_counted],
        )

    def _overlap(self, space):
        """Return (D, N): how much each detection overlaps each truth; worked out once."""
        if space not in self._overlaps:
            pair = _boxes_of(self.detections), _boxes_of(self.truth)
            self._overlaps[space] = OVERLAPS[space](*pair, self._viewpoint)
        return self._overlaps[space]

    def _truth_roles(self, class_name, matching, without):
        kinds = np.array(self.truth.kinds, object)
        of_class = np.isin(kinds, COUNTED_KINDS[class_name])
        is_candidate = of_class | np.isin(kinds, IGNORED_KINDS[class_name])
        if not matching.with_completion:
            is_candidate &= ~is_added(self.truth)
        is_left_out = np.isin(np.array(self.truth.object_id, object), list(without))
        return of_class & self._is_counted & ~is_left_out, is_candidate


def _image_overlap(found, true, viewpoint):
    """Return the overlap of the boxes as the image shows them; 0 where it shows none."""
    if viewpoint.model is None or not len(found[0]) or not len(true[0]):
        return np.zeros((len(found[0]), len(true[0])))
    a, b = (image_boxes(boxes, viewpoint).clipped for boxes in (found, true))
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(2)
    return common / np.maximum(np.add.outer(box_area(a), box_area(b)) - common, 1e-9)


def _nearness(found, true, viewpoint):
    """Return 1 where both middles are at one place, falling to 0.5 at 2 m, seen from above."""
    gap = np.asarray(found[0], np.float64)[:, None, :2] - np.asarray(true[0])[None, :, :2]
    return np.clip(1 - np.hypot(gap[..., 0], gap[..., 1]) / 4.0, 0, 1)


OVERLAPS = {
    '3d': lambda found, true, viewpoint: iou_3d(found, true),
    'bev': lambda found, true, viewpoint: bev_iou(found, true),
    'image': _image_overlap,
    'near': _nearness,
}


def _match(iou, is_counted, is_candidate, min_iou):
    """Return for each detection (D,) the truth that it takes, -1 for none; best score first."""
    owner = np.full(len(iou), -1)
    is_free = is_candidate.copy()
    for d, row in enumerate(iou):
        # A counted box is preferred over an ignored one of larger overlap.
        for is_open in (is_free & is_counted, is_free & ~is_counted):
            fits = np.where(is_open, row, -1.0)
            if len(fits) and fits.max() >= min_iou:
                owner[d] = fits.argmax()
                is_free[owner[d]] = False
                break
    return owner


def is_added(truth):
    """Boxes that no labeller drew, known by their id: bags carry no other mark."""
    return np.array([name.startswith(UNLABELLED_PREFIX) for name in truth.object_id], bool)


def _boxes_of(boxes):
    return boxes.center, boxes.size, boxes.yaw


def _range_m(center, viewpoint):
    return np.hypot(*(np.asarray(center, np.float64)[:, :2] - viewpoint.lidar_xy).T)


def _in_dontcare(detections, truth, viewpoint):
    regions = [region for boxes in truth.ignore_2d.values() for region in boxes]
    inside = np.zeros(len(detections), bool)
    if viewpoint.model is None or not regions or not len(detections):
        return inside
    boxes = image_boxes(_boxes_of(detections), viewpoint).clipped
    for region in np.asarray(regions, np.float64):
        common = np.concatenate(
            (np.maximum(boxes[:, :2], region[:2]), np.minimum(boxes[:, 2:], region[2:])), axis=1
        )
        is_apart = (common[:, 2:] <= common[:, :2]).any(axis=1)
        share = box_area(common) / np.maximum(box_area(boxes), 1e-9)
        inside |= ~is_apart & (share >= MIN_DONTCARE_SHARE)
    return inside
