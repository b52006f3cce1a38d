# SPDX-License-Identifier: Apache-2.0
"""The map of signs: placed by fixes, merged over passes, written, read and continued."""

from mmperception.datatypes import GpsFix
from mmperception.geodesy import LocalEnu
from mmperception.geometry import apply, invert, transform_from_yaw
from mmperception.sign_atlas import (
    MappedSign,
    merged_on_globe,
    read_atlas,
    SignAtlas,
    write_atlas,
)
from mmperception.sign_facing import Facing
from mmperception.sign_tracking import Signs
import numpy as np
import pytest

ENU = LocalEnu(49.0, 8.4, 110.0)
START_NS, STOP, LIMIT_30 = 1_317_046_448_123_456_789, 14, 1


class Drive:
    """A robot with odometry and fixes; odom's x is north and its origin at `origin` in ENU."""

    def __init__(self, atlas, origin=(0.0, 0.0), has_fixes=True):
        self.atlas, self.origin, self.has_fixes = atlas, np.array(origin), has_fixes
        self.now_ns = START_NS

    def to(self, metres, plates=(), track=1):
        """Drive along odom's x in steps of 2 m; see the plates (class, x, y) that are ahead."""
        for x in np.arange(0.0, metres, 2.0):
            self.now_ns += 200_000_000
            pose = transform_from_yaw((x, 0.0, 0.0), 0.0)
            if self.has_fixes:
                self.atlas.locate(pose[:2, 3], self._fix(pose[:2, 3]))
            ahead = [p for p in plates if 1 < p[1] - x < 25]
            self.atlas.see(self._signs(ahead, pose, plates, track), pose)

    def _fix(self, place):
        enu = [[self.origin[0] - place[1], self.origin[1] + place[0], 0.0]]
        latitude, longitude, _ = (float(v[0]) for v in ENU.geodetic_from_enu(enu))
        return GpsFix(stamp_ns=self.now_ns, frame_id='gps', latitude_deg=latitude, status=0,
                      longitude_deg=longitude, altitude_m=110.0,
                      covariance=np.eye(3) * 0.25)  # fmt: skip

    def _signs(self, ahead, pose, plates, track):
        number = len(ahead)
        places = np.array([(x, y, 2.0) for _, x, y in ahead]).reshape(-1, 3)
        return Signs(
            stamp_ns=self.now_ns,
            frame_id='base_link',
            position=apply(invert(pose), places),
            covariance=np.tile(np.eye(3) * 0.04, (number, 1, 1)),
            width_m=np.full(number, 0.6),
            class_id=np.array([c for c, _, _ in ahead], np.int64),
            score=np.ones(number),
            certainty=np.ones(number),
            source=('lidar',) * number,
            track_id=np.array([track + plates.index(p) for p in ahead], np.int64),
            is_seen=np.ones(number, bool),
            facing=(Facing(np.pi - 0.2, 0.1),) * number,
        )


def east_north(sign):
    return ENU.enu_from_geodetic([sign.latitude_deg], [sign.longitude_deg], [110.0])[0, :2]


def test_a_sign_stands_where_it_is_and_looks_where_it_does():
    atlas = SignAtlas()
    Drive(atlas).to(40.0, [(STOP, 30.0, -3.0)])
    (sign,), _ = atlas.signs()
    assert east_north(sign) == pytest.approx([3.0, 30.0], abs=0.1)
    assert sign.name == 'stop' and sign.passes == 1
    # Odom's yaw of pi is south; 0.2 rad less lies east of it.
    assert sign.heading_deg == pytest.approx(180 + np.degrees(0.2), abs=0.5)
    assert 0.4 < sign.accuracy_m < 1.5


def test_the_next_pass_in_another_odometry_is_the_same_sign():
    atlas = SignAtlas()
    Drive(atlas).to(40.0, [(STOP, 30.0, -3.0), (LIMIT_30, 30.0, 9.0)])
    atlas.forget_odometry()
    # The robot starts 5 m further north: odom lies elsewhere on the globe.
    Drive(atlas, (0.0, 5.0)).to(40.0, [(STOP, 25.0, -3.0)])
    signs, _ = atlas.signs()
    assert sorted((s.name, s.passes) for s in signs) == [('speed_limit_30', 1), ('stop', 2)]


def test_two_signs_of_one_class_on_both_sides_of_a_street_stay_two():
    atlas = SignAtlas()
    Drive(atlas).to(40.0, [(LIMIT_30, 30.0, -4.0), (LIMIT_30, 30.0, 4.0)])
    assert len(atlas.signs()[0]) == 2


def test_one_pole_with_a_sign_for_each_direction_has_two():
    here = {'name': 'stop', 'latitude_deg': 49.0, 'longitude_deg': 8.4, 'accuracy_m': 0.5,
            'first_ns': 1, 'last_ns': 2}  # fmt: skip
    one, other = (MappedSign(heading_deg=heading, **here) for heading in (350.0, 170.0))
    again = MappedSign(heading_deg=10.0, **here)
    assert len(merged_on_globe([one, other, again])) == 2


def test_without_fixes_there_is_no_place_and_the_note_says_why():
    atlas = SignAtlas()
    Drive(atlas, has_fixes=False).to(40.0, [(STOP, 30.0, -3.0)])
    signs, note = atlas.signs()
    assert signs == [] and '1 signs are not placed' in note


def test_tracks_that_are_over_keep_their_place_and_no_memory():
    atlas, drive = SignAtlas(), None
    for lap in range(5):
        drive = Drive(atlas)
        drive.now_ns += lap * 60_000_000_000
        drive.to(40.0, [(STOP, 30.0, -3.0)], track=lap + 1)
    assert len(atlas.followed) == 1 and not atlas.unplaced and len(atlas.placed) == 1
    assert atlas.signs()[0][0].passes == 5


def test_a_written_map_is_read_and_continued(tmp_path):
    path, atlas = tmp_path / 'signs.geojson', SignAtlas()
    Drive(atlas).to(40.0, [(STOP, 30.0, -3.0)])
    write_atlas(path, *atlas.signs())
    again = SignAtlas(read_atlas(path))
    Drive(again).to(40.0, [(STOP, 30.0, -3.0)])
    (sign,), _ = again.signs()
    assert sign.passes == 2
    assert [p.name for p in tmp_path.iterdir()] == ['signs.geojson']


@pytest.mark.parametrize('text', ['', '[]', '{"features": [{}]}', '{"type": "FeatureCollection"}'])
def test_a_file_that_is_no_map_is_not_overwritten(tmp_path, text):
    path = tmp_path / 'mine.json'
    path.write_text(text)
    with pytest.raises(ValueError, match=r'mine\.json: is no map of signs'):
        read_atlas(path)
