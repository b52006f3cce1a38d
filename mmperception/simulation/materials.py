# SPDX-License-Identifier: Apache-2.0
"""
What the faces of the simulated street are made of.

A face carries one integer, its code: `material + 64 * variant`. The variant chooses a colour, a
facade style or a sign class. The camera turns the code into a texture, the LiDAR looks up
`REFLECTIVITY`, `SPECULARITY` and `DROP` by the same code. Reflectivities follow the usual
near-infrared figures and what the intensity channel of a 905 nm spinning LiDAR shows in streets.

Texture coordinates (u, v) of a face corner: metres for whatever tiles (u along, v across or up;
facades: u along the wall, v height above its foot; ground: x and y of the world;
car paint: v height above the road); 0..1 with v
upwards, as a reader in front of the face sees it, for SIGN_FACE, PLATE, WINDOW, DOOR and lights.
"""

import numpy as np

(
    ASPHALT,
    MARKING,
    PAVEMENT,
    KERB,
    GRASS,
    FACADE,
    ROOF,
    WINDOW,
    DOOR,
    BARK,
    FOLIAGE,
    HEDGE,
    PAINT,
    GLASS,
    TYRE,
    LIGHT_FRONT,
    LIGHT_REAR,
    PLATE,
    SKIN,
    HAIR,
    CLOTH_TOP,
    CLOTH_BOTTOM,
    SHOE,
    METAL,
    POLE,
    SIGN_FACE,
    SIGN_BACK,
    WOOD,
    BIN,
    BRICK,
) = range(30)

NUM_MATERIALS = 30
NUM_VARIANTS = 64
NUM_CODES = 64 * NUM_VARIANTS

# Car paint as seen in Central European streets, sRGB 0..255; the variant of PAINT.
PAINT_COLOURS = np.array(
    [
        (28, 29, 31),  # black
        (66, 69, 73),  # anthracite
        (122, 126, 131),  # grey
        (168, 172, 177),  # silver
        (226, 227, 224),  # white
        (34, 48, 84),  # dark blue
        (48, 86, 140),  # blue
        (130, 26, 30),  # red
        (84, 20, 26),  # dark red
        (44, 66, 52),  # green
        (146, 128, 98),  # beige
        (204, 172, 38),  # yellow
        (92, 70, 52),  # brown
        (178, 84, 30),  # orange
    ],
    np.float32,
)
# Share of each colour among cars, in the same order.
PAINT_SHARES = np.array(
    [0.19, 0.15, 0.12, 0.14, 0.16, 0.07, 0.05, 0.05, 0.01, 0.015, 0.015, 0.01, 0.01, 0.01]
)
NUM_CLOTH_COLOURS = 16
NUM_SKIN_COLOURS = 6
NUM_HAIR_COLOURS = 6
NUM_SIGN_CLASSES = 43

# material: (reflectivity 0..1 as LiDAR intensity, specularity 0..1: share of the light that is
# mirrored away unless the beam meets the face squarely, drop 0..1: chance that nothing returns)
_LIDAR = {
    ASPHALT: (0.22, 0.15, 0.01),
    MARKING: (0.55, 0.10, 0.00),
    PAVEMENT: (0.32, 0.05, 0.00),
    KERB: (0.38, 0.05, 0.00),
    GRASS: (0.36, 0.00, 0.01),
    FACADE: (0.38, 0.00, 0.00),
    ROOF: (0.30, 0.05, 0.01),
    WINDOW: (0.10, 0.85, 0.60),
    DOOR: (0.28, 0.10, 0.00),
    BARK: (0.30, 0.00, 0.00),
    FOLIAGE: (0.34, 0.00, 0.03),
    HEDGE: (0.34, 0.00, 0.02),
    PAINT: (0.30, 0.60, 0.04),
    GLASS: (0.05, 0.90, 0.80),
    TYRE: (0.07, 0.10, 0.08),
    LIGHT_FRONT: (0.55, 0.60, 0.10),
    LIGHT_REAR: (0.70, 0.40, 0.05),
    PLATE: (0.95, 0.00, 0.00),
    SKIN: (0.36, 0.00, 0.00),
    HAIR: (0.22, 0.10, 0.03),
    CLOTH_TOP: (0.36, 0.00, 0.00),
    CLOTH_BOTTOM: (0.28, 0.00, 0.00),
    SHOE: (0.20, 0.10, 0.01),
    METAL: (0.30, 0.50, 0.04),
    POLE: (0.33, 0.20, 0.00),
    SIGN_FACE: (0.97, 0.00, 0.00),
    SIGN_BACK: (0.34, 0.35, 0.02),
    WOOD: (0.36, 0.00, 0.00),
    BIN: (0.24, 0.20, 0.01),
    BRICK: (0.30, 0.00, 0.00),
}


def code(material, variant=0):
    """Return the integer of a face: `material + 64 * variant`."""
    return material + 64 * variant


def material_of(codes):
    """Return the material of each code (an integer, an array or a tensor)."""
    return codes % 64


def _by_code(column):
    table = np.zeros((NUM_VARIANTS, 64), np.float32)
    for material, row in _LIDAR.items():
        table[:, material] = row[column]
    return table


def _reflectivity_by_code():
    table = _by_code(0)
    # Dark paint swallows near infrared; beyond the named colours it repeats.
    brightness = PAINT_COLOURS.mean(axis=1) / 255
    order = np.arange(NUM_VARIANTS) % len(PAINT_COLOURS)
    table[:, PAINT] = 0.06 + 0.42 * brightness[order]
    # Fabric in near infrared has little to do with its colour: any value, fixed per variant.
    spread = np.random.default_rng(7).uniform(0.45, 1.6, (NUM_VARIANTS, 3)).astype(np.float32)
    table[:, [CLOTH_TOP, CLOTH_BOTTOM, FACADE]] *= spread
    return np.clip(table, 0.0, 1.0)


# By code, (4096,) float32.
REFLECTIVITY = _reflectivity_by_code().reshape(-1)
SPECULARITY = _by_code(1).reshape(-1)
DROP = _by_code(2).reshape(-1)
