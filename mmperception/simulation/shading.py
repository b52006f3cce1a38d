# SPDX-License-Identifier: Apache-2.0
"""
The light that each seen point of the street sends to the camera.

Diffuse sun and sky, shadows, mirrored sky on shiny faces (Schlick 1994), haze with distance.
All arrays are rows of samples as in `view_samples`; light is linear RGB.
"""

from functools import lru_cache

import cv2
from mmperception.simulation import materials
from mmperception.simulation.shadows import ContactShade, DepthMap
from mmperception.simulation.sky import mirrored_light, sky_colour
from mmperception.simulation.surfaces import noise
from mmperception.simulation.textures import street_atlas
from mmperception.simulation.view_samples import unit
import numpy as np

GROUND = (materials.ASPHALT, materials.MARKING, materials.PAVEMENT, materials.GRASS)
LEAFY = (materials.FOLIAGE, materials.HEDGE)
SHADOW_TEXELS = 1024


def shade(scene, samples, world_from_camera, appearance):
    """Return linear light (R, ROW_LENGTH, 3) of every sample."""
    view = samples.rays / samples.length[..., None]
    if not len(scene.codes):
        return sky_colour(view, appearance)
    surface = _Surface(scene, samples, view, appearance)
    lit, ambient = _visibility(scene, samples, surface, world_from_camera, appearance)
    light = surface.reflected(lit, ambient, appearance)
    distance = (samples.depth * samples.length)[..., None]
    clear = np.exp(-np.float32(appearance.haze_per_m) * distance)
    haze = np.float32((0.95, 1.02, 1.12)) * appearance.sky_light.mean() * np.float32(1.1)
    light = light * clear + haze * (1 - clear)
    rows = samples.is_sky.any(axis=1)
    if not rows.any():
        return light
    sky = sky_colour(view[rows], appearance)
    light[rows] = np.where(samples.is_sky[rows][..., None], sky, light[rows])
    return light


class _Surface:
    """Colour, gloss and direction of what each sample sees."""

    def __init__(self, scene, samples, view, appearance):
        codes = scene.codes[samples.face]
        self.material = materials.material_of(codes)
        # Each drive has its own asphalt, paving and grass.
        is_ground = np.isin(self.material, GROUND)
        codes = np.where(is_ground, codes + 64 * (appearance.seed % 6), codes)
        self.view, self.points = view, samples.points
        triangles = scene.triangles.astype(np.float32)[samples.face]
        weights = _barycentric(triangles, samples.points)
        uv = np.einsum('rsk,rskc->rsc', weights, scene.uv[samples.face])
        normal = np.einsum('rsk,rskc->rsc', weights, scene.corner_normals[samples.face])
        self.flat = _facing(scene.normals[samples.face], view)
        self.normal = _facing(unit(normal), view)
        self.slant = np.clip(-np.sum(self.flat * view, axis=-1), 0.02, 1)
        spread = samples.depth * samples.pixel_angle / np.sqrt(self.slant)
        footprint = spread * _uv_per_metre(scene)[samples.face]
        self.albedo, self.gloss = street_atlas().sample(codes, uv, footprint)
        self._vary(appearance)
        self._trim(uv[..., 1])

    def _vary(self, appearance):
        """Break the repetition of ground, plants and walls by broad light and dark."""
        tile = _broad_noise()
        shift = np.float32(appearance.seed % 997)
        x, y, z = np.moveaxis(self.points, -1, 0)
        size = tile.shape[0] - 1
        u, v = (x * 14 + z * 9 + shift) % size, (y * 14 + z * 17) % size
        field = cv2.remap(tile, u, v, cv2.INTER_LINEAR)
        amount = np.zeros(materials.NUM_MATERIALS, np.float32)
        amount[list(GROUND)], amount[list(LEAFY)] = 0.09, 0.16
        amount[materials.FACADE] = amount[materials.BRICK] = 0.04
        self.albedo *= np.exp(field * amount[self.material])[..., None]

    def _trim(self, height_m):
        """Give car bodies a dark sill and apron; their v is the height above the road."""
        is_side = (self.material == materials.PAINT) & (np.abs(self.flat[..., 2]) < 0.75)
        dark = np.where(is_side, np.clip((0.31 - height_m) * 40, 0, 1), 0)[..., None]
        self.albedo += (np.float32(0.012) - self.albedo) * dark
        self.gloss *= 1 - 0.8 * dark[..., 0]

    def reflected(self, lit, ambient, appearance):
        """Return the light that leaves towards the camera."""
        sun = appearance.sun_direction.astype(np.float32)
        facing = self.normal @ sun
        is_leafy = np.isin(self.material, LEAFY)
        # Leaves let light through and point everywhere: their light wraps around.
        diffuse = np.where(is_leafy, np.clip(0.35 + 0.65 * facing, 0.08, 1), np.clip(facing, 0, 1))
        up = self.normal[..., 2:3]
        open_sky = ambient[..., None] * (0.62 + 0.38 * up)
        bounce = np.float32((0.17, 0.16, 0.15)) * (appearance.sun_light.mean() * 0.6 + 0.4)
        light = appearance.sun_light * (diffuse * lit)[..., None]
        light = light + appearance.sky_light * open_sky + bounce * (0.5 - 0.5 * up)
        mirrored = self._mirrored(sun, lit, appearance)
        return self.albedo * light * np.float32(0.62) + mirrored

    def _mirrored(self, sun, lit, appearance):
        out = np.zeros(self.albedo.shape, np.float32)
        shiny = self.gloss > 0.02
        normal, view = self.normal[shiny], self.view[shiny]
        across = -np.sum(normal * view, axis=-1, keepdims=True)
        mirror = view + 2 * across * normal
        share = 0.18 + 0.82 * np.clip(1 - across, 0, 1) ** 4
        light = mirrored_light(mirror, appearance)
        glint = np.clip(mirror @ sun, 0, 1) ** 90 * lit[shiny]
        light = light + 5 * glint[:, None] * appearance.sun_light
        out[shiny] = self.gloss[shiny][:, None] * share * light
        return out


def _facing(normals, view):
    """Turn normals towards the camera."""
    away = np.sum(normals * view, axis=-1, keepdims=True) > 0
    return np.where(away, -normals, normals)


def _uv_per_metre(scene):
    """Return how many uv units one metre is on each face, (F,) float32; 1 where uv is metres."""
    edges = np.linalg.norm(np.diff(scene.triangles, axis=1), axis=2).sum(axis=1)
    extent = np.linalg.norm(np.diff(scene.uv, axis=1), axis=2).sum(axis=1)
    return (extent / np.maximum(edges, 1e-6)).astype(np.float32)


@lru_cache(maxsize=1)
def _broad_noise():
    return noise(np.random.default_rng(5), (512, 512), 1.1)


def _barycentric(triangles, points):
    """Return weights (..., 3) float32 of the corners; points lie in the triangles' planes."""
    a, b, c = triangles[..., 0, :], triangles[..., 1, :], triangles[..., 2, :]
    u, v, w = b - a, c - a, points - a
    uu, uv, vv = (np.sum(p * q, axis=-1) for p, q in ((u, u), (u, v), (v, v)))
    wu, wv = np.sum(w * u, axis=-1), np.sum(w * v, axis=-1)
    area = np.maximum(uu * vv - uv * uv, 1e-12)
    second, third = (vv * wu - uv * wv) / area, (uu * wv - uv * wu) / area
    weights = np.stack((1 - second - third, second, third), axis=-1)
    weights = np.clip(weights, 0, 1)
    return weights / weights.sum(axis=-1, keepdims=True)


def _visibility(scene, samples, surface, world_from_camera, appearance):
    """Return how much of the sun and of the open sky each sample sees, both (R, ROW_LENGTH)."""
    forward = world_from_camera[:3, 2] * (1, 1, 0)
    forward = forward / max(np.linalg.norm(forward), 1e-6)
    eye = world_from_camera[:3, 3]
    dark = ContactShade(scene, eye + 22 * forward).at(samples.points)
    is_ground = np.isin(surface.material, GROUND)
    ambient = np.where(is_ground, 1 - 0.85 * dark, 1).astype(np.float32)
    if appearance.overcast > 0.97:
        return np.zeros_like(ambient), ambient
    near, far = (
        _sun_seen(scene, samples, surface, appearance, eye + ahead * forward, reach)
        for ahead, reach in ((18.0, 20.0), (70.0, 80.0))
    )
    return np.where(near[1], near[0], far[0]), ambient


def _sun_seen(scene, samples, surface, appearance, center, reach_m):
    sun_map = DepthMap(scene.triangles, appearance.sun_direction, center, reach_m, SHADOW_TEXELS)
    lifted = samples.points + surface.flat * np.float32(0.7 * sun_map.texel_m)
    return sun_map.lit(lifted, 0.03 + sun_map.texel_m)
