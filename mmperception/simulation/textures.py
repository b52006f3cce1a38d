# SPDX-License-Identifier: Apache-2.0
"""
The texture atlas: which picture and tint each face code shows, and fast lookups in it.

All pictures, with their smaller versions for distance, lie in one big image, so that a whole
rendered view is looked up with two calls of `cv2.remap` (the two nearest levels of detail,
blended: trilinear filtering after Williams, "Pyramidal parametrics", 1983).
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
from mmperception.simulation import facades, materials, panels, surfaces
import numpy as np

ATLAS_WIDTH = 8192
MARGIN = 2  # pixels around each picture, wrapped or repeated, for interpolation
NUM_LEVELS = 8
NUM_PLATES = 12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Texture:
    """
    One picture and how faces use it.

    `size_m` is its extent along u and v; `is_panel`: one picture a face, uv 0..1, not repeated;
    `repeat_above_m`: below this v the picture shows once, from there to its top it repeats.
    """

    picture: np.ndarray
    size_m: tuple = (1.0, 1.0)
    is_panel: bool = False
    repeat_above_m: float = 0.0


def _linear(colour):
    """Turn sRGB 0..1 into linear light, by the plain 2.2 power."""
    return np.asarray(colour, np.float32) ** 2.2


# Fabric, skin and hair as sRGB 0..1, indexed by variant.
CLOTH_COLOURS = np.array(
    [
        (0.10, 0.11, 0.14), (0.16, 0.20, 0.32), (0.30, 0.38, 0.52), (0.55, 0.56, 0.58),
        (0.84, 0.83, 0.80), (0.62, 0.14, 0.16), (0.20, 0.34, 0.24), (0.66, 0.55, 0.38),
        (0.34, 0.26, 0.20), (0.78, 0.62, 0.20), (0.42, 0.22, 0.36), (0.24, 0.45, 0.60),
        (0.80, 0.50, 0.50), (0.28, 0.28, 0.30), (0.50, 0.58, 0.42), (0.88, 0.44, 0.16),
    ]
)  # fmt: skip
SKIN_COLOURS = np.array(
    [(0.86, 0.68, 0.57), (0.80, 0.60, 0.48), (0.91, 0.75, 0.65),
     (0.60, 0.42, 0.31), (0.42, 0.29, 0.22), (0.76, 0.58, 0.42)]
)  # fmt: skip
HAIR_COLOURS = np.array(
    [(0.16, 0.12, 0.09), (0.30, 0.21, 0.14), (0.50, 0.38, 0.22),
     (0.08, 0.07, 0.07), (0.58, 0.56, 0.54), (0.42, 0.22, 0.12)]
)  # fmt: skip
BIN_COLOURS = np.array(
    [(0.16, 0.17, 0.18), (0.30, 0.22, 0.15), (0.12, 0.22, 0.40), (0.62, 0.54, 0.12)]
)
POLE_COLOURS = np.array(
    [(0.56, 0.57, 0.57), (0.22, 0.30, 0.25), (0.20, 0.21, 0.22), (0.68, 0.69, 0.68)]
)
LEAF_COLOURS = np.array(
    [
        [(0.40, 0.50, 0.24), (0.34, 0.44, 0.21), (0.48, 0.55, 0.29)],
        [(0.29, 0.39, 0.20), (0.25, 0.35, 0.18), (0.36, 0.44, 0.24)],
        [(0.45, 0.48, 0.26), (0.40, 0.43, 0.24), (0.54, 0.54, 0.31)],
        [(0.35, 0.46, 0.27), (0.30, 0.41, 0.25), (0.43, 0.52, 0.32)],
    ]
)


def _ground_textures(rng):
    return {
        materials.ASPHALT: [
            Texture(picture=surfaces.asphalt(rng, tone, num, patched), size_m=(10.0, 10.0))
            for tone, num, patched in ((0.42, 10, False), (0.37, 5, False), (0.45, 16, True))
        ],
        materials.MARKING: [Texture(picture=surfaces.marking(rng), size_m=(4.0, 4.0))],
        materials.PAVEMENT: [
            Texture(picture=surfaces.paving(rng, cell, colour, spread), size_m=size)
            for cell, colour, spread, size in (
                ((64, 64), (0.60, 0.59, 0.57), 0.05, (2.8, 2.8)),
                ((16, 32), (0.56, 0.50, 0.46), 0.07, (3.2, 3.2)),
                ((32, 64), (0.62, 0.61, 0.59), 0.06, (2.4, 2.4)),
            )
        ],
        materials.KERB: [Texture(picture=surfaces.kerb(rng), size_m=(4.0, 2.0))],
        materials.GRASS: [
            Texture(picture=surfaces.grass(rng, (0.36, 0.44, 0.20), dry), size_m=(4.0, 4.0))
            for dry in (0.25, 0.5)
        ],
    }


def _plant_textures(rng):
    crowns = [surfaces.leaves(rng, colours, 11, 4200) for colours in LEAF_COLOURS]
    hedges = [surfaces.leaves(rng, colours * 0.85, 8, 6500) for colours in LEAF_COLOURS[[1, 0]]]
    return {
        materials.BARK: [Texture(picture=surfaces.bark(rng), size_m=(1.0, 2.0))],
        materials.FOLIAGE: [Texture(picture=picture, size_m=(2.6, 2.6)) for picture in crowns],
        materials.HEDGE: [Texture(picture=picture, size_m=(1.6, 1.6)) for picture in hedges],
    }


def _house_textures(rng):
    size = (facades.WIDTH_M, facades.HEIGHT_M)
    roofs = ((0.56, 0.30, 0.22), (0.42, 0.26, 0.21), (0.30, 0.30, 0.31), (0.62, 0.36, 0.25))
    return {
        materials.FACADE: [
            Texture(
                picture=facades.facade(rng, style),
                size_m=size,
                repeat_above_m=facades.GROUND_FLOOR_M,
            )
            for style in facades.STYLES
        ],
        materials.ROOF: [
            Texture(picture=surfaces.roof(rng, colour), size_m=(4.0, 5.0)) for colour in roofs
        ],
        materials.BRICK: [
            Texture(picture=surfaces.bricks(rng, colour), size_m=(2.56, 2.56))
            for colour in ((0.56, 0.33, 0.26), (0.62, 0.52, 0.40), (0.45, 0.27, 0.22))
        ],
        materials.WINDOW: _panels(panels.window_pane(rng) for _ in range(4)),
        materials.DOOR: _panels(panels.door(rng) for _ in range(4)),
    }


def _panels(pictures):
    return [Texture(picture=picture, is_panel=True) for picture in pictures]


def _vehicle_textures(rng):
    return {
        materials.PAINT: [Texture(picture=surfaces.smooth(rng, (1, 1, 1), 0.22, 0.01, 0.015))],
        materials.GLASS: [Texture(picture=surfaces.pane(rng), size_m=(2.4, 2.4))],
        materials.TYRE: [Texture(picture=surfaces.smooth(rng, (0.12, 0.12, 0.125), 0.03, 0.1))],
        materials.METAL: [Texture(picture=surfaces.streaked(rng, (0.60, 0.61, 0.62), 0.30))],
        materials.LIGHT_FRONT: _panels([panels.head_lamp(rng)]),
        materials.LIGHT_REAR: _panels([panels.rear_lamp(rng)]),
        materials.PLATE: _panels(panels.licence_plate(rng) for _ in range(NUM_PLATES)),
    }


def _object_textures(rng):
    tops = [Texture(picture=surfaces.cloth(rng, kind)) for kind in (0, 0, 2, 1)]
    white = surfaces.smooth(rng, (1, 1, 1), 0.02, 0.05, 0.05)
    signs = [panels.traffic_sign(index) for index in range(materials.NUM_SIGN_CLASSES)]
    return {
        materials.CLOTH_TOP: tops,
        materials.CLOTH_BOTTOM: tops[:2],
        materials.SKIN: [Texture(picture=white)],
        materials.HAIR: [Texture(picture=surfaces.streaked(rng, (0.95,) * 3, 0.05))],
        materials.SHOE: [Texture(picture=surfaces.smooth(rng, (0.15, 0.14, 0.14), 0.08))],
        materials.POLE: [Texture(picture=surfaces.streaked(rng, (0.98,) * 3, 0.10))],
        materials.SIGN_FACE: _panels(signs),
        materials.SIGN_BACK: [Texture(picture=surfaces.streaked(rng, (0.56, 0.57, 0.58), 0.15))],
        materials.WOOD: [Texture(picture=surfaces.planks(rng), size_m=(2.0, 2.0))],
        materials.BIN: [Texture(picture=surfaces.smooth(rng, (1, 1, 1), 0.10, 0.03, 0.05))],
    }


TINTS = {
    materials.PAINT: materials.PAINT_COLOURS / 255,
    materials.CLOTH_TOP: CLOTH_COLOURS,
    # Trousers: denim and dark tones come first, whatever the top.
    materials.CLOTH_BOTTOM: CLOTH_COLOURS[[0, 1, 2, 13, 8, 7, 3, 0, 1, 2, 13, 11, 0, 4, 1, 6]],
    materials.SKIN: SKIN_COLOURS,
    materials.HAIR: HAIR_COLOURS,
    materials.BIN: BIN_COLOURS,
    materials.POLE: POLE_COLOURS,
}


def _shrunk(picture, num):
    """Return the picture and its halvings down to about two pixels."""
    levels = [picture]
    while len(levels) < num and min(levels[-1].shape[:2]) >= 4:
        H, W, _ = levels[-1].shape
        levels.append(cv2.resize(levels[-1], (W // 2, H // 2), interpolation=cv2.INTER_AREA))
    return levels


class Atlas:
    """
    Every picture at every level of detail in one image.

    Rows of the tables are textures, columns levels: `origin` (T, L, 2) and `size` (T, L, 2) in
    atlas pixels (x, y), `span_m` (T, 2), `texel_m` (T,), `repeat_above` (T,), `is_panel` (T,).
    By face code: `texture` (4096,) and linear-light `tint` (4096, 3).
    """

    def __init__(self, by_material):
        textures = [texture for group in by_material.values() for texture in group]
        self._pack(textures)
        self.span_m = np.array([t.size_m for t in textures], np.float32)
        self.texel_m = self.span_m[:, 0] / self.size[:, 0, 0]
        self.is_panel = np.array([t.is_panel for t in textures])
        self.repeat_above = np.array([t.repeat_above_m for t in textures], np.float32)
        self.texture = np.zeros(materials.NUM_CODES, np.int32)
        self.tint = np.ones((materials.NUM_CODES, 3), np.float32)
        first = 0
        for material, group in by_material.items():
            variant = np.arange(materials.NUM_VARIANTS)
            codes = materials.code(material, variant)
            self.texture[codes] = first + variant % len(group)
            if material in TINTS:
                tint = TINTS[material]
                self.tint[codes] = _linear(tint[variant % len(tint)])
            first += len(group)

    def _pack(self, textures):
        """Place all levels on shelves, tallest first."""
        T = len(textures)
        self.origin = np.zeros((T, NUM_LEVELS, 2), np.float32)
        self.size = np.ones((T, NUM_LEVELS, 2), np.float32)
        tiles = []
        for index, texture in enumerate(textures):
            levels = _shrunk(texture.picture, NUM_LEVELS)
            tiles += [(index, level, picture) for level, picture in enumerate(levels)]
        tiles.sort(key=lambda tile: -tile[2].shape[0])
        shelves, places, x, y, shelf = [], [], 0, 0, 0
        for _, _, picture in tiles:
            H, W = (length + 2 * MARGIN for length in picture.shape[:2])
            if x + W > ATLAS_WIDTH:
                x, y = 0, y + shelf
                shelf = 0
            shelf = max(shelf, H)
            places.append((x, y))
            shelves.append(y + shelf)
            x += W
        self.pixels = np.zeros((max(shelves), ATLAS_WIDTH, 4), np.uint8)
        for (index, level, picture), place in zip(tiles, places, strict=True):
            self._place(textures[index], index, level, picture, place)

    def _place(self, texture, index, level, picture, place):
        mode = cv2.BORDER_REPLICATE if texture.is_panel else cv2.BORDER_WRAP
        framed = cv2.copyMakeBorder(picture, MARGIN, MARGIN, MARGIN, MARGIN, mode)
        H, W, _ = framed.shape
        x, y = place
        rows, columns = slice(y, y + H), slice(x, x + W)
        self.pixels[rows, columns] = np.clip(framed * 255 + 0.5, 0, 255)
        # Coarser levels than this one fall back to it until they are placed themselves.
        self.origin[index, level:] = (x + MARGIN, y + MARGIN)
        self.size[index, level:] = (W - 2 * MARGIN, H - 2 * MARGIN)

    def _fractions(self, texture, uv):
        """Return where in its picture each pixel looks, 0..1 along u and v."""
        span = self.span_m[texture]
        u, v = uv[..., 0] / span[..., 0], uv[..., 1]
        start = self.repeat_above[texture]
        above = v - start
        period = span[..., 1] - start
        wrapped = start + above - period * np.floor(above / period)
        v = np.where((start > 0) & (above < 0), np.maximum(v, 0), wrapped) / span[..., 1]
        is_panel = self.is_panel[texture]
        u = np.where(is_panel, np.clip(u, 0, 1), u - np.floor(u))
        return u, np.where(is_panel, np.clip(uv[..., 1], 0, 1), v)

    def _look_up(self, texture, level, u, v):
        slot = texture * NUM_LEVELS + level
        origin, size = self.origin.reshape(-1, 2)[slot], self.size.reshape(-1, 2)[slot]
        x = origin[..., 0] + u * size[..., 0] - 0.5
        y = origin[..., 1] + v * size[..., 1] - 0.5
        return cv2.remap(self.pixels, x, y, cv2.INTER_LINEAR)

    def sample(self, codes, uv, footprint):
        """
        Look up the colour of every pixel of a view.

        Parameters
        ----------
        codes : (H, W) int
            Face codes.
        uv : (H, W, 2) float32
            Metres on the surface; shares of the picture on panels.
        footprint : (H, W) float32
            How much of the surface a pixel covers, in the unit of its uv.

        Returns
        -------
        albedo : (H, W, 3) float32
            Linear light, 0..1.
        gloss : (H, W) float32

        """
        texture = self.texture[codes]
        u, v = self._fractions(texture, uv)
        depth = np.log2(np.maximum(footprint / self.texel_m[texture], 1e-6))
        depth = np.clip(depth, 0, NUM_LEVELS - 1.001)
        level = depth.astype(np.int32)
        part = (depth - level)[..., None]
        fine = self._look_up(texture, level, u, v)
        coarse = self._look_up(texture, level + 1, u, v)
        mixed = fine.astype(np.float32)
        mixed += part * (coarse.astype(np.float32) - mixed)
        mixed /= 255
        albedo = cv2.pow(np.ascontiguousarray(mixed[..., :3]), 2.2)
        return albedo * self.tint[codes], mixed[..., 3]


@lru_cache(maxsize=1)
def street_atlas():
    """Build the atlas of all materials (a few seconds, once per process)."""
    rng = np.random.default_rng(2026)
    return Atlas(
        {
            **_ground_textures(rng),
            **_plant_textures(rng),
            **_house_textures(rng),
            **_vehicle_textures(rng),
            **_object_textures(rng),
        }
    )
