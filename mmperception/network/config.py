# SPDX-License-Identifier: Apache-2.0
"""
What a network is: stored in every weights file, so that node and network cannot disagree.

These values are fixed by training; the settings a user may change live in `mmperception.config`.
"""

from dataclasses import asdict, dataclass, fields

from mmperception.datatypes import CLASSES
from mmperception.grid import centred_grid

FUSION_KINDS = ('concat', 'conv', 'recurrent', 'attention')


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """
    Shape of one network.

    Attributes
    ----------
    fusion : str
        One of `FUSION_KINDS`.
    cell_m, range_m : float
        Pillars and reach of the bird's-eye grid at inference.
    z_min_m, z_max_m : float
        Points outside are not pillarised (base_link, 0 is the ground under the robot).
    pillar_channels, bev_channels, image_channels : widths
        Of the pillar features, of the three bird's-eye scales, of the four image scales.
    feature_channels : int
        Of the image feature map that pillars sample, at a quarter of the network's image.
    image_width : int
        Pixels; the height follows the camera's aspect, rounded to a multiple of 16.
    max_fused_pillars : int
        At most this many occupied in-view pillars, nearest first, look at the image.
    refine : bool
        With the second stage, see network/refine.py.
    check_images : bool
        Boxes are held against the images, see network/image_check.py.
    classes : tuple of str

    """

    fusion: str = 'attention'
    cell_m: float = 0.2
    range_m: float = 51.2
    z_min_m: float = -2.5
    z_max_m: float = 4.0
    pillar_channels: int = 32
    bev_channels: tuple[int, ...] = (32, 64, 128)
    image_channels: tuple[int, ...] = (16, 32, 64, 96)
    feature_channels: int = 32
    image_width: int = 640
    max_fused_pillars: int = 8192
    refine: bool = False
    check_images: bool = False
    classes: tuple[str, ...] = CLASSES

    def __post_init__(self):
        if self.fusion not in FUSION_KINDS:
            raise ValueError(f'fusion: {self.fusion!r} is none of {", ".join(FUSION_KINDS)}')

    @property
    def grid(self):
        """Return the pillar grid at inference; heads answer on `grid.coarser(2)`."""
        return centred_grid(self.range_m, self.cell_m)

    def to_mapping(self):
        """Return plain values, as stored in a weights file."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_mapping(cls, values):
        """Rebuild from `to_mapping`; ValueError names a key this version does not know."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f'weights: unknown network setting {unknown[0]}')
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
