# SPDX-License-Identifier: Apache-2.0
"""
Object paste: cut objects and simulated things are put into other scenes, at their own range.

After Yan et al., SECOND, 2018, but as a sensor would see it: what a pasted object hides is
removed, what the scene hides of it is not pasted, and hard negatives come without a box.
"""

from dataclasses import replace

from mmperception.geometry import points_in_boxes, rotation_about
from mmperception.training.galleries import NEGATIVE
from mmperception.training.scenes import IGNORED, SENSOR_M
import numpy as np

# Angular cell in which a pasted object hides what is behind it: about the LiDAR's resolution.
SHADOW_CELL_RAD = np.radians(0.4)
NUM_ROWS, NUM_COLUMNS = 400, int(round(2 * np.pi / SHADOW_CELL_RAD)) + 1


def cut_objects(scene, min_points=10):
    """
    Take labelled objects out of a scene, for pasting into others.

    Returns
    -------
    list of dict
        `points`, `intensity`, `ring`, `center`, `size`, `yaw`, `label` of one object each.

    """
    inside = points_in_boxes(scene.points, scene.center, scene.size, scene.yaw, 0.05)
    objects = []
    for m in np.flatnonzero((scene.label != IGNORED) & (inside.sum(1) >= min_points)):
        objects.append(
            {
                'points': scene.points[inside[m]],
                'intensity': scene.intensity[inside[m]],
                'ring': scene.ring[inside[m]],
                'center': scene.center[m],
                'size': scene.size[m],
                'yaw': scene.yaw[m],
                'label': scene.label[m],
            }
        )
    return objects


def paste_objects(scene, objects, rng):
    """
    Put objects into a scene at their own range, turned about the sensor.

    The range is kept because the density of the points belongs to it; the height follows the
    scene's ground. What lies behind a pasted object is removed, and so is what of it the scene
    hides; an object that would touch another or stand in something is left out. Things labelled
    `NEGATIVE` come without a box. The caller masks the camera: it saw nothing of this.

    Parameters
    ----------
    scene : Scene
        Not turned yet: its sensor stands at `SENSOR_M`.
    objects : sequence of dict
        As `cut_objects` or `load_gallery` give them, about the sensor (`about_sensor`).
    rng : numpy Generator
        Of the directions.

    Returns
    -------
    Scene

    """
    canvas = _Canvas(scene)
    for found in objects:
        canvas.paste(found, rng)
    return canvas.scene()


def about_sensor(found):
    """Return a cut object with the sensor as origin, as galleries have it."""
    return {**found, 'points': found['points'] - SENSOR_M, 'center': found['center'] - SENSOR_M}


class _Canvas:
    """A scene while objects are pasted: points about the sensor, with their angular cells."""

    def __init__(self, scene):
        self._scene = scene
        self.points = scene.points - SENSOR_M
        self.kept = np.ones(len(self.points), bool)
        row, column, self.distance = _angles(self.points)
        self.cell = row * NUM_COLUMNS + column
        self.nearest = np.full(NUM_ROWS * NUM_COLUMNS, np.inf, np.float32)
        self._mask = self.nearest.copy()
        np.minimum.at(self.nearest, self.cell, self.distance)
        self.center, self.size = [*(scene.center - SENSOR_M)], [*scene.size]
        self.yaw, self.label = [*scene.yaw], [*scene.label]
        self.taken = [(*c[:2], 0.5 * np.hypot(*s[:2])) for c, s in
                      zip(self.center, self.size, strict=True)]  # fmt: skip
        self.added = []

    def paste(self, found, rng):
        """Find a direction in which the object fits, and put it there; else leave it out."""
        radius = 0.5 * np.hypot(*found['size'][:2]) + 0.3
        for _ in range(6):
            angle = self._direction(found, rng)
            turn = rotation_about(np.array([0.0, 0.0, 1.0]), angle)[:3, :3].astype(np.float32)
            center, yaw = turn @ found['center'], np.float32(found['yaw'] + angle)
            taken = np.array(self.taken, np.float32).reshape(-1, 3)
            if (np.hypot(*(taken[:, :2] - center[:2]).T) < taken[:, 2] + radius).any():
                continue
            lift = self._lift(center, found['size'], yaw)
            if lift is not None:
                center = center + np.array((0, 0, lift), np.float32)
                points = found['points'] @ turn.T + np.array((0, 0, lift), np.float32)
                if self._merge(found, points, center, yaw):
                    self.taken.append((*center[:2], radius))
                    return

    def _direction(self, found, rng):
        x, y = found['center'][:2]
        if self._scene.view_size.any():
            return rng.uniform(-0.68, 0.68) - np.arctan2(y, x)
        return rng.uniform(-np.pi, np.pi)

    def _lift(self, center, size, yaw):
        """Return how far to move up onto the ground; None where it is unseen or not free."""
        near = np.flatnonzero(_is_near(self.points, center, size[0] / 2 + 0.7))
        if len(near) < 5:
            return None
        ground = np.percentile(self.points[near, 2], 10)
        lift = np.float32(ground - (center[2] - size[2] / 2))
        above = near[(self.points[near, 2] > ground + 0.35) & self.kept[near]]
        box = center[None], size[None], np.array([yaw])
        is_free = points_in_boxes(self.points[above], box[0] + (0, 0, lift), *box[1:]).sum() <= 3
        # On a slope the sensor would see the object from another height.
        return lift if abs(lift) < 0.6 and is_free else None

    def _merge(self, found, points, center, yaw):
        row, column, distance = _angles(points)
        mine = row * NUM_COLUMNS + column
        reach = 0.5 * np.linalg.norm(found['size'])
        # Nearer than the object as a whole: the ground at its foot hides nothing of it.
        seen = self.nearest[mine] > np.linalg.norm(center) - reach - 0.3
        if seen.sum() < max(4, 0.15 * len(points)):
            return False
        mine = mine[seen]
        np.minimum.at(self._mask, mine, distance[seen])
        np.minimum.at(self.nearest, mine, distance[seen])
        hidden = self._mask[self.cell] < self.distance - 0.3
        near = np.flatnonzero(_is_near(self.points, center, reach + 0.2))
        box = center[None], found['size'][None], np.array([yaw])
        hidden[near] |= points_in_boxes(self.points[near], *box, 0.1)[0]
        self.kept &= ~hidden
        for k, (points_k, intensity, ring, cell, away) in enumerate(self.added):
            free = self._mask[cell] >= away - 0.3
            self.added[k] = points_k[free], intensity[free], ring[free], cell[free], away[free]
        self._mask[mine] = np.inf
        self.added.append(
            (points[seen], found['intensity'][seen], found['ring'][seen], mine, distance[seen])
        )
        if found['label'] != NEGATIVE:
            self.center.append(center)
            self.size.append(found['size'])
            self.yaw.append(yaw)
            self.label.append(found['label'])
        return True

    def scene(self):
        """Return the scene with everything that was pasted."""
        old, kept = self._scene, self.kept
        points = [self.points[kept], *(a[0] for a in self.added)]
        points = np.concatenate(points).astype(np.float32) + SENSOR_M
        center = np.array(self.center, np.float32).reshape(-1, 3) + SENSOR_M
        size = np.array(self.size, np.float32).reshape(-1, 3)
        yaw = np.array(self.yaw, np.float32)
        return replace(
            old,
            points=points,
            intensity=np.concatenate((old.intensity[kept], *(a[1] for a in self.added))),
            ring=np.concatenate((old.ring[kept], *(a[2] for a in self.added))),
            center=center,
            size=size,
            yaw=yaw,
            label=np.array(self.label, np.int64),
            num_points=_count_points(points, center, size, yaw),
        )


def _is_near(points, center, reach):
    """Return (N,) bool: within a square around a place (maxima over rows are much slower)."""
    dx, dy = points[:, 0] - center[0], points[:, 1] - center[1]
    return (np.abs(dx) < reach) & (np.abs(dy) < reach)


def _count_points(points, center, size, yaw):
    """Count the points in each box; most points are nowhere near it."""
    counts = np.zeros(len(center), np.int64)
    for m in range(len(center)):
        reach = 0.5 * np.hypot(*size[m, :2])
        near = points[_is_near(points, center[m], reach)]
        counts[m] = points_in_boxes(near, center[m][None], size[m][None], yaw[m][None]).sum()
    return counts


def _angles(rays):
    """Return angular cell (row, column) and distance of points about the sensor."""
    distance = np.linalg.norm(rays, axis=1)
    azimuth = np.arctan2(rays[:, 1], rays[:, 0]) + np.pi
    elevation = np.arcsin(np.clip(rays[:, 2] / np.maximum(distance, 1e-3), -1, 1)) + np.pi / 4
    row = np.clip(elevation / SHADOW_CELL_RAD, 0, NUM_ROWS - 1).astype(np.int64)
    return row, np.minimum(azimuth / SHADOW_CELL_RAD, NUM_COLUMNS - 1).astype(np.int64), distance
