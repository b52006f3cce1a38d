# SPDX-License-Identifier: Apache-2.0
"""
What a picture of a sign goes through before a network sees it: pose, light, weather, camera.

Faces are RGBA; the operators follow what is known to carry drawn signs over to real pictures:
perspective, brightness matched to the place, soft shadows, dirt, blur, noise (da Silva and
Fernandes, 2022). Everything is drawn from a generator that the caller seeds.
"""

import cv2
from mmperception.simulation.sign_faces import sign_outline
import numpy as np

# Of the pictures, so dark as in shade, at dusk or against the sun.
DARK = 0.15


def face_of_crop(pixels, roi, class_id):
    """
    Cut the plate out of a photographed crop.

    Parameters
    ----------
    pixels : (H, W, 3) uint8
        The crop.
    roi : (x1, y1, x2, y2)
        The sign in the crop, pixels.
    class_id : int
        Says the outline.

    Returns
    -------
    face : (h, w, 4) uint8
        RGB and alpha, the roi alone.

    """
    x1, y1, x2, y2 = (int(value) for value in roi)
    rgb = pixels[y1:y2, x1:x2]
    outline = sign_outline(class_id) * (1, -1) + (0, 1)
    outline = (outline - outline.min(0)) / np.ptp(outline, axis=0)
    alpha = np.zeros(rgb.shape[:2], np.uint8)
    corners = np.round(outline * (x2 - x1 - 1, y2 - y1 - 1) * 16).astype(np.int32)
    cv2.fillConvexPoly(alpha, corners, 255, cv2.LINE_AA, 4)
    return np.dstack((rgb, alpha))


def posed_face(rng, face, width_px):
    """
    Turn a face in space and draw it `width_px` wide.

    Returns
    -------
    posed : (S, S, 4) float32
        RGB 0..255 and alpha 0..1, cut to the plate's bounding box.

    """
    shrink = width_px / face.shape[1]
    if shrink < 1:
        size = max(4, round(width_px)), max(4, round(face.shape[0] * shrink))
        face = cv2.resize(face, size, interpolation=cv2.INTER_AREA)
    h, w = face.shape[:2]
    room = width_px * 0.25
    source = np.float32([(0, 0), (w, 0), (w, h), (0, h)])
    target = source * (width_px / w) + rng.uniform(-0.07, 0.07, (4, 2)) * width_px
    angle = np.deg2rad(np.clip(rng.normal(0, 4), -12, 12))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    middle = target.mean(0)
    squeeze = (rng.uniform(0.8, 1.0), 1.0) if rng.random() < 0.3 else (1.0, 1.0)
    target = ((target - middle) * squeeze) @ turn + middle + room
    matrix = cv2.getPerspectiveTransform(source, target.astype(np.float32))
    size = (int(np.ceil(width_px + 2 * room)), int(np.ceil(h * width_px / w + 2 * room)))
    premultiplied = face.astype(np.float32)
    premultiplied[..., 3] /= 255
    premultiplied[..., :3] *= premultiplied[..., 3:]
    posed = cv2.warpPerspective(premultiplied, matrix, size, flags=cv2.INTER_LINEAR)
    rows, columns = np.nonzero(posed[..., 3] > 0.4)
    if not len(rows):
        return posed[:4, :4]
    inside = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
    posed = posed[inside]
    posed[..., :3] /= np.maximum(posed[..., 3:], 1e-3)
    return posed


def weather_face(rng, posed, brightness):
    """Return the face in the light of its place (mean `brightness`), shadowed, dirty, covered."""
    h, w = posed.shape[:2]
    rgb, alpha = posed[..., :3], posed[..., 3]
    own = max(float((rgb.mean(2) * alpha).sum() / max(alpha.sum(), 1e-3)), 1.0)
    gain = np.clip(brightness * np.exp(rng.normal(0.25, 0.35)) / own, 0.3, 2.2)
    slope = rng.normal(0, 0.12, 2)
    light = gain * (
        1 + slope[0] * np.linspace(-1, 1, w)[None] + slope[1] * np.linspace(-1, 1, h)[:, None]
    )
    if rng.random() < 0.25:  # the edge of a shadow
        normal = rng.normal(0, 1, 2)
        side = normal[0] * np.linspace(-1, 1, w)[None] + normal[1] * np.linspace(-1, 1, h)[:, None]
        light *= np.where(side > rng.uniform(-0.7, 0.7), rng.uniform(0.4, 0.8), 1.0)
    fade = rng.uniform(0, 0.35)  # sun and haze take the colour away
    grey = rgb.mean(2, keepdims=True)
    rgb = (rgb * (1 - fade) + grey * fade) * light[..., None] * rng.normal(1, 0.04, 3)
    if rng.random() < 0.15:
        rgb, alpha = rgb.copy(), alpha.copy()
        _cover(rng, rgb, alpha)
    return np.dstack((np.clip(rgb, 0, 255), alpha))


def _cover(rng, rgb, alpha):
    """Hide a part: a branch or a post in front (in place)."""
    h, w = alpha.shape
    start, end = rng.uniform(-0.1, 1.1, 2) * (w, h), rng.uniform(-0.1, 1.1, 2) * (w, h)
    thickness = max(1, int(w * rng.uniform(0.04, 0.16)))
    colour = rng.uniform(10, 140) * np.array([0.9, 1.0, 0.8])
    cv2.line(rgb, _point(start), _point(end), colour.tolist(), thickness)


def _point(place):
    return int(place[0]), int(place[1])


def paste(image, posed, x, y):
    """
    Put a face into an image in place.

    Parameters
    ----------
    image : (H, W, 3) uint8
        Changed.
    posed : (h, w, 4) float32
        Lies wholly inside.
    x, y : int
        Upper left corner.

    """
    h, w = posed.shape[:2]
    alpha = posed[..., 3:]
    rows, columns = slice(y, y + h), slice(x, x + w)
    place = image[rows, columns]
    place[:] = np.clip(place * (1 - alpha) + posed[..., :3] * alpha, 0, 255).astype(np.uint8)


def camera_effects(rng, image):
    """Return the image with other exposure, colour, sharpness and noise: (H, W, 3) uint8."""
    if rng.random() < 0.2:
        image = _blurred(rng, image)
    gain = np.exp(rng.normal(0.05, 0.22)) * rng.normal(1, 0.04, 3)
    if rng.random() < DARK:
        gain = gain * np.exp(rng.uniform(np.log(0.25), np.log(0.8)))
    gamma = np.exp(rng.normal(0, 0.15))
    levels = np.arange(256) / 255
    table = 255 * np.clip(levels**gamma * gain[:, None], 0, 1) + rng.normal(0, 6)
    contrast = np.exp(rng.normal(0, 0.12))
    table = (table - 90) * contrast + 90
    table = np.clip(table, 0, 255).astype(np.uint8)
    image = cv2.LUT(image, np.ascontiguousarray(table.T[None]))
    if rng.random() < 0.35:
        noise = rng.normal(0, rng.uniform(2, 9), image.shape[:2] + (1,)).astype(np.float32)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    return image


def _blurred(rng, image):
    if rng.random() < 0.5:
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.3))
    length = int(rng.integers(2, 6))
    kernel = np.zeros((5, 5), np.float32)
    kernel[2, :length] = 1 / length
    if rng.random() < 0.3:
        kernel = kernel.T
    return cv2.filter2D(image, -1, kernel)
