# SPDX-License-Identifier: Apache-2.0
"""
The sign stage of the pipeline: from the images of a frame to followed signs in space.

    image -> SignReader (signs.py) -> place_signs (sign_range.py) -> SignTracker (sign_tracking.py)

Looks at every n-th image of a camera; between looks the boxes of an image are those that the
tracks predict.
"""

from dataclasses import dataclass

from mmperception.geometry import apply, invert, project
from mmperception.sign_classes import UNREAD
from mmperception.sign_range import place_signs, SweepPoints
from mmperception.sign_tracking import SignTracker
import numpy as np

# Of the published threshold: weaker sightings still help a track along.
JOINING_SHARE = 0.7


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageSigns:
    """
    Signs in one image.

    `boxes` (N, 4) px, `class_id` (N,) by the vote of the track, `score` (N,), `track_id` (N,),
    `distance_m` (N,) from the camera; `is_predicted`: the image itself was not looked at.
    """

    boxes: np.ndarray
    class_id: np.ndarray
    score: np.ndarray
    track_id: np.ndarray
    distance_m: np.ndarray
    is_predicted: bool = False

    def __len__(self):
        return len(self.boxes)


class SignStage:
    """Finds, places and follows the signs of frames."""

    def __init__(self, reader, config):
        self.reader, self.settings = reader, config.signs
        self.tracker = SignTracker(config.signs, config.base_frame)
        self.num_images = {}

    def clear(self):
        """Forget everything about the past: time has jumped."""
        self.tracker.clear()
        self.num_images.clear()

    def look(self, frame):
        """
        Follow the signs through one frame.

        Parameters
        ----------
        frame : Frame
            In order of time.

        Returns
        -------
        signs : Signs
        in_images : dict of str to ImageSigns
            By camera.

        """
        in_images, sweep = {}, None
        for view in frame.cameras:
            number = self.num_images.get(view.name, 0)
            self.num_images[view.name] = number + 1
            if number % self.settings.every:
                in_images[view.name] = self._predicted(view, frame.odom_from_base)
                continue
            sweep = SweepPoints(frame) if sweep is None else sweep
            in_images[view.name] = self._seen(view, frame, sweep)
        return self.tracker.signs(frame.odom_from_base, frame.stamp_ns), in_images

    def _seen(self, view, frame, sweep):
        limit = JOINING_SHARE * self.settings.score_threshold
        found = self.reader.find(view.image.pixels, limit, self.settings.max_read)
        found = found.select(found.score >= limit)
        best = np.where(found.class_id == UNREAD, found.probability[:, :-1].argmax(1),
                        found.class_id)  # fmt: skip
        placed = place_signs(found.boxes, best, view, sweep, self.settings.min_points)
        tracker = self.tracker
        ids = tracker.update(view, found, placed, frame.odom_from_base, frame.stamp_ns)
        by_id = {track.track_id: track for track in tracker.tracks}
        shown = [
            n
            for n, i in enumerate(ids)
            if found.score[n] >= self.settings.score_threshold or self._is_followed(by_id.get(i))
        ]
        tracks = [by_id.get(ids[n]) for n in shown]
        return ImageSigns(
            boxes=found.boxes[shown],
            class_id=np.array(
                [
                    found.class_id[n] if track is None else tracker.reading(track)[0]
                    for n, track in zip(shown, tracks, strict=True)
                ],
                np.int64,
            ),
            score=found.score[shown],
            track_id=ids[shown],
            distance_m=np.array(
                [
                    np.linalg.norm(apply(view.camera_from_base, placed[n].position[None]))
                    if track is None
                    else self._distance(view, track, frame.odom_from_base)
                    for n, track in zip(shown, tracks, strict=True)
                ]
            ),
        )

    def _is_followed(self, track):
        return track is not None and self.tracker.is_confirmed(track)

    def _distance(self, view, track, odom_from_base):
        camera_from_odom = view.camera_from_base
        if odom_from_base is not None:
            camera_from_odom = camera_from_odom @ invert(odom_from_base)
        return float(np.linalg.norm(apply(camera_from_odom, track.position[None])))

    def _predicted(self, view, odom_from_base):
        """Return the boxes of the tracks that the latest look saw, where they are by now."""
        tracker = self.tracker
        tracks = [
            track
            for track in tracker.tracks
            if track.seen_ns == tracker.stamp_ns and tracker.is_confirmed(track)
        ]
        camera_from_odom = view.camera_from_base
        if odom_from_base is not None:
            camera_from_odom = camera_from_odom @ invert(odom_from_base)
        places = np.array([track.position for track in tracks]).reshape(-1, 3)
        camera_places = apply(camera_from_odom, places)
        pixels, depth_m = project(camera_places, view.model)
        widths = np.array([track.width_m for track in tracks])
        half = widths * view.model.intrinsics[0, 0] / np.maximum(depth_m, 0.5) / 2
        boxes = np.concatenate((pixels - half[:, None], pixels + half[:, None]), axis=1) + 0.5
        limit = np.array([view.model.width, view.model.height] * 2, np.float64)
        boxes = np.clip(boxes, 0, limit)
        kept = np.flatnonzero((depth_m > 0.5) & (boxes[:, 2:] - boxes[:, :2] > 4).all(axis=1))
        return ImageSigns(
            boxes=boxes[kept].astype(np.float32),
            class_id=np.array([tracker.reading(tracks[k])[0] for k in kept], np.int64),
            score=np.array([tracks[k].score for k in kept]),
            track_id=np.array([tracks[k].track_id for k in kept], np.int64),
            distance_m=np.linalg.norm(camera_places[kept], axis=1),
            is_predicted=True,
        )
