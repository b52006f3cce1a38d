# SPDX-License-Identifier: Apache-2.0
"""
Small pictures that cover one face from edge to edge: plates, lamps, window panes, doors.

Pictures as in `surfaces`: (H, W, 4) float32, sRGB 0..1 and gloss, row 0 at the lower edge.
"""

import cv2
from mmperception.simulation.sign_faces import sign_face
from mmperception.simulation.surfaces import fine_noise, plain, shade
import numpy as np

LETTERS = 'ABCDEFGHJKLMNPRSTUVWXYZ'


def licence_plate(rng):
    """Return a European plate with random letters and digits, 0.52 m x 0.11 m."""
    picture = plain((56, 256), (0.90, 0.90, 0.88), 0.05)
    town = ''.join(rng.choice(list(LETTERS), rng.integers(1, 3)))
    words = f'{town} {"".join(rng.choice(list(LETTERS), 2))} {rng.integers(10, 9999)}'
    font = cv2.FONT_HERSHEY_SIMPLEX
    (width, _), _ = cv2.getTextSize(words, font, 1.0, 3)
    text = np.ascontiguousarray(picture[:, :, :3])
    cv2.putText(text, words, (28, 42), font, min(1.25, 216 / width), (0.05,) * 3, 4, cv2.LINE_AA)
    text[:, :20] = (0.05, 0.20, 0.60)
    cv2.rectangle(text, (0, 0), (255, 55), (0.08,) * 3, 2)
    picture[:, :, :3] = text[::-1]
    return picture


def head_lamp(rng):
    """Return a clear lamp: bright reflector, darker rim."""
    y, x = np.mgrid[0:64, 0:64] / 31.5 - 1
    picture = plain((64, 64), (0.62, 0.64, 0.66), 0.35)
    for center in (-0.35, 0.4):
        bulb = np.exp(-((x - center) ** 2 + y**2) * 9)[:, :, None]
        picture[:, :, :3] += 0.36 * bulb
    rim = np.maximum(abs(x), abs(y)) > 0.9
    picture[rim, :3] = 0.16
    return np.clip(shade(picture, fine_noise(rng, (64, 64), 6), 0.03), 0, 1)


def rear_lamp(rng):
    """Return a rear lamp: red with an amber and a white field."""
    picture = plain((64, 64), (0.56, 0.05, 0.06), 0.25)
    picture[22:32, :, :3] = (0.78, 0.70, 0.66)
    picture[32:42, :, :3] = (0.80, 0.36, 0.06)
    picture[:, 30:33, :3] *= 0.8
    picture[[0, 1, 62, 63], :, :3] *= 0.5
    return shade(picture, fine_noise(rng, (64, 64), 6), 0.04)


def window_pane(rng):
    """Return a framed window of two panes."""
    picture = plain((128, 128), (0.88, 0.88, 0.86), 0.05)
    dark = rng.uniform(0.10, 0.2)
    for left, right in ((8, 60), (68, 120)):
        picture[8:120, left:right] = (dark * 0.92, dark, dark * 1.06, 0.55)
    if rng.random() < 0.5:
        picture[8:120, 8:26, :3] = picture[8:120, 102:120, :3] = (0.68, 0.66, 0.62)
    return picture


def door(rng):
    """Return a house door with a pane."""
    colour = rng.uniform(0.1, 0.45, 3)
    picture = plain((192, 96), colour, 0.06)
    picture[:, [0, 1, 94, 95], :3] *= 0.6
    picture[110:170, 30:66] = (0.14, 0.15, 0.16, 0.5)
    for low, high in ((16, 50), (62, 96)):
        picture[low:high, 14:82, :3] *= 0.85
    picture[84:92, 82:88, :3] = 0.75
    return picture


def traffic_sign(class_id):
    """Return a sign's face, slightly shiny."""
    face = sign_face(class_id, 128).astype(np.float32) / 255
    face[:, :, 3] = 0.03
    return face[::-1].copy()
