# SPDX-License-Identifier: Apache-2.0
"""
The weather of a picture: sun, sky, clouds, haze and exposure.

Light is linear RGB in units where a white wall in full sun is about 3. Directions are unit
vectors in the world frame (z up).
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
from mmperception.simulation.surfaces import noise
import numpy as np

ZENITH = np.float32((0.30, 0.52, 1.05))
HORIZON = np.float32((1.10, 1.22, 1.38))
CLOUD = np.float32((1.75, 1.78, 1.82))
GREY_SKY = np.float32((1.25, 1.30, 1.36))
# What shiny things see below the sky: houses and trees, then the street.
SKYLINE = np.float32((0.22, 0.23, 0.22))
WOODS = np.float32((0.10, 0.13, 0.08))
STREET = np.float32((0.30, 0.29, 0.28))
CLOUD_TILE_PX = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Appearance:
    """
    How the world looks during one drive.

    Attributes
    ----------
    sun_azimuth_rad : float
        Counter-clockwise from world x, where the sun stands.
    sun_elevation_rad : float
        Above the horizon.
    overcast : float
        0 clear sky, 1 closed grey clouds without shadows.
    exposure : float
        1 normal; more is brighter.
    haze_per_m : float
        Share of light lost to haze over one metre.
    seed : int
        Chooses the clouds and which of similar ground textures is used.

    """

    sun_azimuth_rad: float = 0.9
    sun_elevation_rad: float = 0.75
    overcast: float = 0.2
    exposure: float = 1.0
    haze_per_m: float = 0.0012
    seed: int = 0

    @property
    def sun_direction(self):
        """Return the unit vector towards the sun, (3,) float64, world frame."""
        azimuth, elevation = self.sun_azimuth_rad, self.sun_elevation_rad
        flat = np.cos(elevation)
        return np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])

    @property
    def sun_light(self):
        """Return the sun's linear RGB on a face that looks at it, (3,) float32."""
        low = np.clip(1 - self.sun_elevation_rad / 0.8, 0, 1)
        warm = np.float32((2.75, 2.55 - 0.35 * low, 2.25 - 0.85 * low))
        return warm * np.float32((1 - self.overcast) ** 1.2)

    @property
    def sky_light(self):
        """Return the light of the whole sky on a level face, (3,) float32."""
        clear, grey = np.float32((0.50, 0.62, 0.84)), np.float32((1.25, 1.28, 1.32))
        return clear + (grey - clear) * np.float32(self.overcast)


def random_appearance(rng):
    """Draw the weather of a drive: mostly sunny days, some grey ones."""
    return Appearance(
        sun_azimuth_rad=float(rng.uniform(-np.pi, np.pi)),
        sun_elevation_rad=float(rng.uniform(0.35, 1.05)),
        overcast=float(rng.choice((rng.uniform(0, 0.35), rng.uniform(0.35, 1.0)), p=(0.6, 0.4))),
        exposure=float(np.exp(rng.normal(0, 0.15))),
        haze_per_m=float(rng.uniform(0.0004, 0.0015)),
        seed=int(rng.integers(1 << 30)),
    )


@lru_cache(maxsize=1)
def _cloud_tile():
    return noise(np.random.default_rng(11), (CLOUD_TILE_PX, CLOUD_TILE_PX), 1.55)


def _clouds(directions, appearance):
    """Return how much cloud each direction meets, 0..1, and its brightness around 1."""
    tile = _cloud_tile()
    shift = np.random.default_rng(appearance.seed).uniform(0, CLOUD_TILE_PX, 2)
    # A flat layer of clouds; the small constant keeps the horizon finite.
    scale = 110 / (directions[..., 2] + 0.10)
    x = (directions[..., 0] * scale + shift[0]).astype(np.float32) % (CLOUD_TILE_PX - 1)
    y = (directions[..., 1] * scale + shift[1]).astype(np.float32) % (CLOUD_TILE_PX - 1)
    density = cv2.remap(tile, x, y, cv2.INTER_LINEAR)
    cover = np.clip((density + 3.0 * appearance.overcast - 0.9) * 0.8, 0, 1)
    return cover, 1 - 0.10 * np.clip(density - 0.3, 0, 2) * (0.5 + appearance.overcast)


def sky_colour(directions, appearance):
    """
    Return the light of the sky.

    Parameters
    ----------
    directions : (H, W, 3) float32
        Unit vectors, world frame; below the horizon the horizon's colour is given.
    appearance : Appearance
        Where the sun stands, how much is overcast; its seed chooses the clouds.

    Returns
    -------
    light : (H, W, 3) float32

    """
    up = np.clip(directions[..., 2], 0.0, 1.0)
    blue = ((1 - up) ** 4)[..., None]
    clear = ZENITH + (HORIZON - ZENITH) * blue
    toward = np.clip(directions @ appearance.sun_direction.astype(np.float32), 0, 1)
    glow = (0.35 * toward**6 + 1.5 * toward**180) * np.float32(1 - appearance.overcast)
    clear = clear + glow[..., None] * np.float32((1.0, 0.93, 0.80))
    above = np.concatenate((directions[..., :2], up[..., None]), axis=-1)
    cover, brightness = _clouds(above, appearance)
    lit = CLOUD + (GREY_SKY - CLOUD) * np.float32(appearance.overcast)
    cloud = lit * brightness[..., None]
    # Clouds fade into the haze near the horizon.
    cover = (cover * np.clip(up * 12, 0.25, 1))[..., None]
    sky = clear + (cloud - clear) * cover
    return _with_far_woods(sky, directions, appearance).astype(np.float32)


def _with_far_woods(sky, directions, appearance):
    """Put a hazy line of woods and hills where the modelled ground ends."""
    tile = _cloud_tile()
    azimuth = np.arctan2(directions[..., 1], directions[..., 0])
    column = np.float32(512 / np.pi) * (azimuth + np.float32(np.pi)) * np.float32(0.99)
    row = np.full_like(column, appearance.seed % 900)
    broad = cv2.remap(tile, column * 0.5, row, cv2.INTER_LINEAR)
    ragged = cv2.remap(tile, (column * 16) % (CLOUD_TILE_PX - 2), row + 40, cv2.INTER_LINEAR)
    top = 0.020 + 0.010 * broad + 0.003 * ragged
    inside = np.clip((top - directions[..., 2]) * 500, 0, 1)[..., None]
    haze = np.float32(min(0.85, 0.35 + 220 * appearance.haze_per_m))
    woods = WOODS * appearance.sky_light.mean() * (1.5 - appearance.overcast * 0.5)
    woods = woods + (HORIZON * 0.8 - woods) * haze
    return sky + (woods - sky) * inside


def mirrored_light(directions, appearance):
    """Return what a shiny face mirrors: street, skyline or sky by elevation; (N, 3) float32."""
    up = directions[..., 2:3]
    horizon = HORIZON + (GREY_SKY - HORIZON) * np.float32(appearance.overcast)
    zenith = ZENITH + (GREY_SKY - ZENITH) * np.float32(appearance.overcast)
    sky = horizon + (zenith - horizon) * np.clip(up, 0, 1) ** 0.6
    below = STREET + (SKYLINE - STREET) * np.clip(1 + up * 6, 0, 1)
    # The skyline is ragged: wavering height by direction, some 10 to 20 degrees up.
    wobble = 0.06 * np.sin(5 * directions[..., 0:1] + 3 * directions[..., 1:2])
    is_sky = np.clip((up - 0.24 - wobble) * 12, 0, 1)
    return (below + (sky - below) * is_sky).astype(np.float32)
