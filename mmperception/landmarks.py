# SPDX-License-Identifier: Apache-2.0
"""
Obstacles that stay, on the globe: grids and fixes of a drive -> GeoJSON features.

`Landmarks` counts in which grids a cell was lethal; what stayed lethal becomes an outline in
odom. `fit_odometry` lays the odometry frame over the fixes (rotation and shift, Umeyama 1991
without scale, in two dimensions) and says how well they agree. Grids are never moved by it: a
bad fix makes the features less accurate, or takes them away, and nothing else.
"""

from collections import defaultdict
from dataclasses import dataclass

import cv2
from mmperception.datatypes import OCCUPANCY_LETHAL
from mmperception.geodesy import LocalEnu
import numpy as np

TILE = 256  # cells; the world is counted in square tiles
# A cell stays if it was lethal for this long, and in this share of the grids since then.
STAYS_S, STAYS_SHARE = 2.0, 0.8
FEWEST_CELLS = 3
JOIN_CELLS = 3  # gaps up to so many cells belong to one thing
# Below this length of way the fixes do not tell how odom is turned.
SHORTEST_WAY_M = 10.0
FEWEST_FIXES = 5
# A receiver that does not say how good it is counts like this one.
UNKNOWN_SIGMA_M = 10.0
OUTLIER_SIGMAS = 4.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placing:
    """
    How odom lies in the local plane: `enu_from_odom` (3, 3) float64 for x, y, 1.

    `sigma_m` of the place and `sigma_rad` of the turn (one standard deviation) about
    `middle_xy` in odom; `num_fixes` that agree, `num_left_out` that do not.
    """

    enu: LocalEnu
    enu_from_odom: np.ndarray
    sigma_m: float
    sigma_rad: float
    middle_xy: np.ndarray
    num_fixes: int
    num_left_out: int

    def sigma_at(self, places):
        """Return one standard deviation (N,) at places (N, 2) in odom, metres."""
        return np.hypot(self.sigma_m, self.sigma_rad * np.hypot(*(places - self.middle_xy).T))


def fit_odometry(places, fixes):
    """
    Lay the odometry frame over satellite fixes; those that jump are left out.

    Errors of a receiver last longer than a drive, so they are not averaged away: the place is as
    good as a typical fix says it is, or as badly as the fixes agree with the odometry.

    Parameters
    ----------
    places : (N, 2) float64
        Where the antenna was in odom.
    fixes : list of GpsFix
        Of the same moments.

    Returns
    -------
    placing : Placing

    Raises
    ------
    LookupError
        If the fixes do not tell where or how odom lies; the message says why.

    """
    known = [index for index, fix in enumerate(fixes) if fix.has_fix]
    if len(known) < FEWEST_FIXES:
        raise LookupError(f'{len(known)} fixes with a known place, needs {FEWEST_FIXES}')
    places, fixes = np.asarray(places, np.float64)[known], [fixes[index] for index in known]
    first = fixes[len(fixes) // 2]
    enu = LocalEnu(first.latitude_deg, first.longitude_deg, first.altitude_m)
    columns = ((f.latitude_deg, f.longitude_deg, f.altitude_m) for f in fixes)
    targets = enu.enu_from_geodetic(*np.array(list(columns)).T)[:, :2]
    sigmas = np.array([_claimed_sigma_m(fix) for fix in fixes])
    keep = np.ones(len(fixes), bool)
    for _ in range(10):
        transform, middle = _rigid(places[keep], targets[keep])
        error_m = np.hypot(*(places @ transform[:2, :2].T + transform[:2, 2] - targets).T)
        typical_m = np.median(error_m[keep]) + 1e-3
        agrees = error_m <= np.maximum(OUTLIER_SIGMAS * typical_m, sigmas)
        if (agrees == keep).all() or agrees.sum() < FEWEST_FIXES:
            break
        keep = agrees
    spread_m = np.hypot(*(places[keep] - middle).T)
    if spread_m.max() < SHORTEST_WAY_M / 2:
        raise LookupError(f'the way is shorter than {SHORTEST_WAY_M:.0f} m: no heading from fixes')
    sigma_m = float(max(np.median(sigmas[keep]), np.sqrt(np.mean(error_m[keep] ** 2))))
    return Placing(
        enu=enu,
        enu_from_odom=transform,
        sigma_m=sigma_m,
        sigma_rad=float(sigma_m / (np.sqrt(np.mean(spread_m**2)) * np.sqrt(2))),
        middle_xy=middle,
        num_fixes=int(keep.sum()),
        num_left_out=int((~keep).sum()),
    )


def _claimed_sigma_m(fix):
    """Return the horizontal standard deviation that a fix claims; never none."""
    variance = 0.0 if fix.covariance is None else float(np.trace(fix.covariance[:2, :2])) / 2
    return np.sqrt(variance) if np.isfinite(variance) and variance > 0 else UNKNOWN_SIGMA_M


def _rigid(places, targets):
    """Return the (3, 3) transform of least squares and the middle (2,) of the places."""
    middle, aim = np.median(places, axis=0), np.median(targets, axis=0)
    for _ in range(3):  # from a robust guess to the mean of what agrees with it
        apart, wanted = places - middle, targets - aim
        cross = (apart[:, 0] * wanted[:, 1] - apart[:, 1] * wanted[:, 0]).sum()
        turn = np.arctan2(cross, (apart * wanted).sum())
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        aim = aim + np.median(wanted - apart @ rotation.T, axis=0)
    transform = np.eye(3)
    transform[:2, :2], transform[:2, 2] = rotation, aim - rotation @ middle
    return transform, middle


class Landmarks:
    """
    Counts, for every cell of odom that a drive saw, when it was lethal.

    Memory grows with the area seen: 0.8 MB for each 25.6 m square at 0.1 m.
    """

    def __init__(self):
        self._tiles = defaultdict(_new_tile)
        self._resolution_m = None
        self._labels = []

    def add(self, grid, tracks=None):
        """
        Take in a grid and the tracks of its sweep.

        Raises
        ------
        ValueError
            If the resolution changed.

        """
        if self._resolution_m not in (None, grid.resolution_m):
            raise ValueError(f'resolution_m: changed from {self._resolution_m} within a drive')
        self._resolution_m = grid.resolution_m
        x, y = np.round(np.array(grid.origin_xy_m) / grid.resolution_m).astype(int)
        Y, X = grid.data.shape
        for tile_y in range(y // TILE, (y + Y - 1) // TILE + 1):
            for tile_x in range(x // TILE, (x + X - 1) // TILE + 1):
                low_y, low_x = max(y, tile_y * TILE), max(x, tile_x * TILE)
                high_y, high_x = min(y + Y, (tile_y + 1) * TILE), min(x + X, (tile_x + 1) * TILE)
                rows, columns = slice(low_y - y, high_y - y), slice(low_x - x, high_x - x)
                into = (slice(low_y - tile_y * TILE, high_y - tile_y * TILE),
                        slice(low_x - tile_x * TILE, high_x - tile_x * TILE))  # fmt: skip
                _count(self._tiles[tile_y, tile_x], into, grid.data[rows, columns], grid.stamp_ns)
        if tracks is not None:
            still = tracks.is_stationary
            self._labels += zip(tracks.center[still, :2], tracks.label[still], strict=True)

    def outlines(self):
        """
        Return what stayed.

        Returns
        -------
        list of (middle_xy (2,), size_m (2,), label or None)
            In odom; `size_m` along and across the smallest turned rectangle; `label` the class
            of the standing track that was seen there most often.

        """
        if not self._tiles:
            return []
        keys = np.array(list(self._tiles))
        low, high = keys.min(axis=0), keys.max(axis=0) + 1
        stays = np.zeros((high - low) * TILE, np.uint8)
        for key, tile in self._tiles.items():
            y, x = (np.array(key) - low) * TILE
            bottom, right = y + TILE, x + TILE
            stays[y:bottom, x:right] = _stays(tile)
        kernel = np.ones((JOIN_CELLS, JOIN_CELLS), np.uint8)
        number, parts = cv2.connectedComponents(cv2.dilate(stays, kernel))
        parts[stays == 0] = 0
        row, column = np.nonzero(parts)
        order = np.argsort(parts[row, column], kind='stable')
        cells = np.stack((column, row), axis=1)[order]
        ends = np.searchsorted(parts[row, column][order], np.arange(1, number + 1))
        found = [part for part in np.split(cells, ends)[1:] if len(part) >= FEWEST_CELLS]
        corner = low[::-1] * TILE
        return [self._outline(part + corner) for part in found]

    def _outline(self, cells):
        """Return middle, size and label of the cells (K, 2) of one thing."""
        middle, size, _ = cv2.minAreaRect(cells.astype(np.float32))
        middle_xy = (np.array(middle) + 0.5) * self._resolution_m
        size_m = (np.sort(size)[::-1] + 1) * self._resolution_m
        near = [
            label for place, label in self._labels
            if np.hypot(*(place - middle_xy)) < max(size_m[0] / 2, 1.0)
        ]  # fmt: skip
        return middle_xy, size_m, max(set(near), key=near.count) if near else None


def features_of(landmarks, placing, class_names):
    """
    Return the features of what stayed, as `geodesy.geojson` takes them.

    Parameters
    ----------
    landmarks : Landmarks
        Of a whole drive.
    placing : Placing
        Of the same odometry.
    class_names : sequence of str
        Names of the labels.

    Returns
    -------
    list of (latitude_deg, longitude_deg, None, properties)
        `accuracy_m`: one standard deviation, horizontal.

    """
    outlines = landmarks.outlines()
    if not outlines:
        return []
    places = np.array([middle for middle, _, _ in outlines])
    enu = places @ placing.enu_from_odom[:2, :2].T + placing.enu_from_odom[:2, 2]
    latitude, longitude, _ = placing.enu.geodetic_from_enu(
        np.column_stack((enu, np.zeros(len(enu))))
    )
    return [
        (lat, lon, None, {
            'class': 'obstacle' if label is None else class_names[label],
            'length_m': round(float(size[0]), 1),
            'width_m': round(float(size[1]), 1),
            'accuracy_m': round(float(sigma), 2),
        })
        for lat, lon, sigma, (_, size, label)
        in zip(latitude, longitude, placing.sigma_at(places), outlines, strict=True)
    ]  # fmt: skip


def _new_tile():
    """Return lethal count, count since first lethal, first and last lethal stamp of each cell."""
    shape = (TILE, TILE)
    return {
        'lethal': np.zeros(shape, np.uint16),
        'seen': np.zeros(shape, np.uint16),
        'first_ns': np.zeros(shape, np.int64),
        'last_ns': np.zeros(shape, np.int64),
    }


def _count(tile, into, data, stamp_ns):
    lethal, seen, first_ns, last_ns = (tile[name][into] for name in tile)
    is_lethal = data == OCCUPANCY_LETHAL
    first_ns[is_lethal & (first_ns == 0)] = stamp_ns
    last_ns[is_lethal] = stamp_ns
    lethal += is_lethal
    # Not known is no evidence either way; what was free before something came does not count.
    seen += (data >= 0) & (first_ns > 0)


def _stays(tile):
    is_long = tile['last_ns'] - tile['first_ns'] >= STAYS_S * 1e9
    return is_long & (tile['lethal'] >= STAYS_SHARE * tile['seen']) & (tile['lethal'] > 0)
