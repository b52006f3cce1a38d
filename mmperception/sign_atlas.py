# SPDX-License-Identifier: Apache-2.0
"""
The map of signs: what was followed in odom, placed on the globe and merged over passes.

    Signs + pose + fix -> SignAtlas -> MappedSign -> GeoJSON features

A sign is placed by the fixes around the moment when it was last seen, so that an odometry that
drifts over the hours bends nothing; a file that exists is read and continued.
"""

from collections import deque
from dataclasses import dataclass, replace
import json

from mmperception.geodesy import geojson
from mmperception.geometry import apply, wrap_angle, yaw_of
from mmperception.landmarks import fit_odometry
from mmperception.sign_classes import sign_name
import numpy as np

# Signs of one class, looking the same way, this near to each other are one; on the globe as near
# as both places are sure, up to the width of a street, on whose other side the next one stands.
SAME_M, SAME_AT_MOST_M, SAME_HEADING_DEG = 3.0, 7.0, 60.0
# The way, and the number of fixes along it, that place what was seen last.
FIX_STEP_M, NUM_FIXES = 1.0, 200
# A track unseen for so long is over; those that no fix can place are kept up to this number.
OVER_NS, MOST_UNPLACED = 10_000_000_000, 256
METRES_PER_DEGREE = 111_320.0
NOTE = 'accuracy_m is one standard deviation, horizontal; heading_deg is that of the face'


@dataclass(slots=True, kw_only=True)
class FollowedSign:
    """One track: its latest name and place in odom, variance, yaw of its face, and when."""

    name: str
    place_xy: np.ndarray
    variance: float
    yaw: float
    first_ns: int
    last_ns: int
    passes: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedSign:
    """One sign on the globe; `heading_deg` of its face from north, clockwise."""

    name: str
    latitude_deg: float
    longitude_deg: float
    accuracy_m: float
    heading_deg: float
    first_ns: int
    last_ns: int
    passes: int = 1


class SignAtlas:
    """Takes in signs and fixes as they come; `signs` at any time."""

    def __init__(self, known=()):
        self.placed = list(known)
        self.followed = {}
        self.unplaced = deque(maxlen=MOST_UNPLACED)
        self.places, self.fixes = deque(maxlen=NUM_FIXES), deque(maxlen=NUM_FIXES)

    def locate(self, place_xy, fix):
        """Take in a GpsFix and where its antenna was in odom; standing still adds nothing."""
        if not self.places or np.hypot(*(place_xy - self.places[-1])) >= FIX_STEP_M:
            self.places.append(np.asarray(place_xy, np.float64))
            self.fixes.append(fix)

    def see(self, signs, odom_from_base):
        """
        Take in the confirmed Signs of a frame.

        Parameters
        ----------
        signs : Signs
            In `base_link`.
        odom_from_base : (4, 4) float64
            At their stamp.

        """
        for i in np.flatnonzero(signs.is_seen):
            track = int(signs.track_id[i])
            self.followed[track] = follow(
                self.followed.get(track),
                sign_name(int(signs.class_id[i])),
                (signs.position[i], signs.covariance[i]),
                signs.facing[i],
                odom_from_base,
                signs.stamp_ns,
            )
        is_over = [t for t, s in self.followed.items() if signs.stamp_ns - s.last_ns > OVER_NS]
        if is_over:
            self.unplaced.extend(self.followed.pop(track) for track in is_over)
            self._place()

    def forget_odometry(self):
        """Place what there is: from now on odom lies elsewhere, or time has jumped."""
        self.unplaced.extend(self.followed.values())
        self.followed = {}
        self._place()
        for gone in (self.unplaced, self.places, self.fixes):
            gone.clear()

    def signs(self):
        """
        Return all that can be placed, those that are followed just now too.

        Returns
        -------
        list of MappedSign
        note : str
            What the numbers mean, or why signs are missing.

        """
        waiting = [*self.unplaced, *self.followed.values()]
        try:
            now = placed_signs(merged(waiting), self._placing()) if waiting else []
        except LookupError as error:
            return self.placed, f'{NOTE}; {len(waiting)} signs are not placed: {error}'
        return merged_on_globe([*self.placed, *now]), NOTE

    def _placing(self):
        return fit_odometry(list(self.places), list(self.fixes))

    def _place(self):
        try:
            now = placed_signs(merged(list(self.unplaced)), self._placing())
        except LookupError:
            return  # they wait for more fixes
        self.placed = merged_on_globe([*self.placed, *now])
        self.unplaced.clear()


def follow(known, name, position, facing, odom_from_base, stamp_ns):
    """
    Bring a track up to date.

    Parameters
    ----------
    known : FollowedSign or None
        The track so far.
    name : str
        Class, as read now.
    position : (3,) and (3, 3) or larger
        Place in `base_link` and its covariance.
    facing : Facing
        Of the face, in `base_link`; unknown: as before, else against the way.
    odom_from_base : (4, 4) float64
        At the stamp.
    stamp_ns : int
        When it was seen.

    Returns
    -------
    FollowedSign

    """
    place, covariance = position
    way = yaw_of(odom_from_base)
    turned = facing.turned(way)
    return FollowedSign(
        name=name,
        place_xy=apply(odom_from_base, np.asarray(place)[None])[0, :2],
        variance=float(np.trace(covariance[:2, :2]) / 2),
        yaw=turned.yaw_rad if turned.is_known else known.yaw if known else way + np.pi,
        first_ns=known.first_ns if known else stamp_ns,
        last_ns=stamp_ns,
    )


def merged(signs):
    """Join FollowedSigns of one name at one place: the more certain position weighs more."""
    kept = []
    for sign in signs:
        same = next((other for other in kept if _are_one(sign, other)), None)
        if same is None:
            kept.append(replace(sign))
            continue
        share = same.variance / max(same.variance + sign.variance, 1e-9)
        same.place_xy = same.place_xy + share * (sign.place_xy - same.place_xy)
        same.variance = min(same.variance, sign.variance)
        same.first_ns = min(same.first_ns, sign.first_ns)
        same.last_ns = max(same.last_ns, sign.last_ns)
        same.passes += sign.passes
    return kept


def _are_one(a, b):
    turn = abs(wrap_angle(a.yaw - b.yaw))
    is_near = np.hypot(*(a.place_xy - b.place_xy)) < SAME_M
    return a.name == b.name and is_near and turn < np.deg2rad(SAME_HEADING_DEG)


def placed_signs(signs, placing):
    """Return MappedSigns of FollowedSigns; `placing` says how odom lies on the globe."""
    if not signs:
        return []
    places = np.array([sign.place_xy for sign in signs])
    turn = placing.enu_from_odom[:2, :2]
    enu = np.column_stack((places @ turn.T + placing.enu_from_odom[:2, 2], np.zeros(len(signs))))
    latitude, longitude, _ = placing.enu.geodetic_from_enu(enu)
    odom_yaw, sigmas = np.arctan2(turn[1, 0], turn[0, 0]), placing.sigma_at(places)
    return [
        MappedSign(
            name=sign.name,
            latitude_deg=float(latitude[n]),
            longitude_deg=float(longitude[n]),
            accuracy_m=float(np.hypot(sigmas[n], np.sqrt(sign.variance))),
            heading_deg=float(90.0 - np.degrees(sign.yaw + odom_yaw)) % 360,
            first_ns=sign.first_ns,
            last_ns=sign.last_ns,
            passes=sign.passes,
        )
        for n, sign in enumerate(signs)
    ]


def merged_on_globe(signs):
    """Join MappedSigns of one name and heading that lie as near as their places are sure."""
    kept = []
    for sign in signs:
        at = next((n for n, other in enumerate(kept) if _are_one_on_globe(sign, other)), None)
        if at is None:
            kept.append(sign)
            continue
        same = kept[at]
        share = same.accuracy_m**2 / max(same.accuracy_m**2 + sign.accuracy_m**2, 1e-9)
        better = sign if sign.accuracy_m < same.accuracy_m else same
        kept[at] = replace(
            better,
            latitude_deg=same.latitude_deg + share * (sign.latitude_deg - same.latitude_deg),
            longitude_deg=same.longitude_deg + share * (sign.longitude_deg - same.longitude_deg),
            first_ns=min(same.first_ns, sign.first_ns),
            last_ns=max(same.last_ns, sign.last_ns),
            passes=same.passes + sign.passes,
        )
    return kept


def _are_one_on_globe(a, b):
    if a.name != b.name:
        return False
    north = (a.latitude_deg - b.latitude_deg) * METRES_PER_DEGREE
    east = (a.longitude_deg - b.longitude_deg) * METRES_PER_DEGREE
    apart_m = np.hypot(north, east * np.cos(np.radians(a.latitude_deg)))
    turn_deg = abs((a.heading_deg - b.heading_deg + 180) % 360 - 180)
    reach_m = np.clip(2 * np.hypot(a.accuracy_m, b.accuracy_m), SAME_M, SAME_AT_MOST_M)
    return apart_m < reach_m and turn_deg < SAME_HEADING_DEG


def write_atlas(path, signs, note):
    """Write MappedSigns as GeoJSON, whole or not at all."""
    features = [
        (
            sign.latitude_deg,
            sign.longitude_deg,
            None,
            {
                'class': sign.name,
                'heading_deg': round(sign.heading_deg, 1),
                'accuracy_m': round(sign.accuracy_m, 2),
                'first_seen_ns': sign.first_ns,
                'last_seen_ns': sign.last_ns,
                'passes': sign.passes,
            },
        )
        for sign in signs
    ]
    collection = {**geojson(features), 'note': note}
    unfinished = path.with_name(f'.{path.name}.part')
    text = json.dumps(collection, indent=1, allow_nan=False) + '\n'
    unfinished.write_text(text, encoding='utf-8')
    unfinished.replace(path)


def read_atlas(path):
    """
    Return the MappedSigns of a file that `write_atlas` wrote.

    Raises
    ------
    ValueError
        If it is not such a file; names it.

    """
    try:
        features = json.loads(path.read_text(encoding='utf-8'))['features']
        return [_mapped(feature) for feature in features]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(f'{path}: is no map of signs ({error}); move it away') from error


def _mapped(feature):
    facts, (longitude, latitude, *_) = feature['properties'], feature['geometry']['coordinates']
    return MappedSign(
        name=str(facts['class']),
        latitude_deg=float(latitude),
        longitude_deg=float(longitude),
        accuracy_m=float(facts['accuracy_m']),
        heading_deg=float(facts['heading_deg']),
        first_ns=int(facts['first_seen_ns']),
        last_ns=int(facts['last_seen_ns']),
        passes=int(facts['passes']),
    )
