# SPDX-License-Identifier: Apache-2.0
"""
Scene: one labelled frame in network terms, ready to be augmented; and its file on disk.

Real samples are kept in memory; simulated ones are made once and cached as plain .npz arrays
(5 mm steps, no pickled objects). Everything is in `base_link`, and the image is already the
network's: preprocessing happened in `tensors.inputs_from_frame`, as at inference.
"""

from dataclasses import dataclass, field, fields
from pathlib import Path

from mmperception.geometry import points_in_boxes
from mmperception.tensors import image_size, inputs_from_frame
import numpy as np

STEP_M = 0.005
# Where the sensor stands in `base_link` on the car of the drives, and within centimetres on the
# simulated one: objects and views are turned about it.
SENSOR_M = np.array([0.81, -0.31, 1.733], np.float32)
IGNORED = -1
LABEL_OF_KIND = {
    'car': 0,
    'van': 0,
    'truck': 0,
    'bus': 0,
    'pedestrian': 1,
    'cyclist': 2,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """
    Arrays of one labelled frame.

    Attributes
    ----------
    points : (N, 3) float32
        base_link metres.
    intensity : (N,) float32
    ring : (N,) uint16
    pixels : (h, w, 3) uint8
        The network's image; size 0 when there is none.
    pixel_from_base : (3, 4) float64
        Of the camera whose view is labelled, with or without pixels.
    view_size : (2,) int64
        h, w of that view; 0, 0 when labels cover the full turn.
    center, size, yaw : (M, 3), (M, 3), (M,) float32
    label : (M,) int64
        Class, or -1 for what must count neither as object nor as background.
    num_points : (M,) int64
        LiDAR points inside each box.
    ignore_2d : (D, 4) float32
        DontCare boxes x1 y1 x2 y2 in pixels of the network's image.
    motion : (2,) float32
        Speed and yaw rate; NaN when unknown.
    stamp_ns : int
    odom_from_base : (4, 4) float64
        NaN when unknown.

    """

    points: np.ndarray
    intensity: np.ndarray
    ring: np.ndarray
    pixels: np.ndarray
    pixel_from_base: np.ndarray
    view_size: np.ndarray
    center: np.ndarray
    size: np.ndarray
    yaw: np.ndarray
    label: np.ndarray
    num_points: np.ndarray
    ignore_2d: np.ndarray
    motion: np.ndarray
    stamp_ns: int = 0
    odom_from_base: np.ndarray = field(default_factory=lambda: np.full((4, 4), np.nan))


def scene_from_sample(sample, config, view=None):
    """
    Bring a labelled frame into network terms.

    Parameters
    ----------
    sample : Sample
        With a cloud.
    config : NetworkConfig
        Its `image_width` is that of the image.
    view : (CameraModel, (4, 4) camera_from_base) or None
        The camera's view that the labels cover; None when they cover the full turn.

    Returns
    -------
    Scene

    """
    frame, truth = sample.frame, sample.truth
    inputs = inputs_from_frame(frame, config)
    pixels, pixel_from_base = np.zeros((0, 0, 3), np.uint8), np.zeros((3, 4))
    view_size, scale = (0, 0), np.ones(2)
    if view is not None:
        view_size = image_size(view[0], config.image_width)
        scale = np.array([view_size[1] / view[0].width, view_size[0] / view[0].height])
        pixel_from_base = np.diag((*scale, 1.0)) @ view[0].intrinsics @ view[1][:3]
    if inputs.cameras:
        pixels = inputs.cameras[0].pixels
        pixel_from_base = inputs.cameras[0].pixel_from_base
    N = len(inputs.points)
    ignore_2d = next(iter(truth.ignore_2d.values()), np.zeros((0, 4), np.float32))
    motion = inputs.motion or (np.nan, np.nan)
    inside = points_in_boxes(inputs.points, truth.center, truth.size, truth.yaw)
    return Scene(
        points=inputs.points,
        intensity=np.zeros(N, np.float32) if inputs.intensity is None else inputs.intensity,
        ring=np.zeros(N, np.uint16) if frame.cloud.ring is None else frame.cloud.ring,
        pixels=pixels,
        pixel_from_base=pixel_from_base,
        view_size=np.array(view_size, np.int64),
        center=truth.center,
        size=truth.size,
        yaw=truth.yaw,
        label=np.array([LABEL_OF_KIND.get(k, IGNORED) for k in truth.kinds], np.int64),
        num_points=inside.sum(1).astype(np.int64),
        ignore_2d=(ignore_2d * np.tile(scale, 2)).astype(np.float32),
        motion=np.array(motion, np.float32),
        stamp_ns=frame.stamp_ns,
        odom_from_base=np.full((4, 4), np.nan)
        if frame.odom_from_base is None
        else frame.odom_from_base,
    )


def save_scene(path, scene):
    """Write a scene as .npz; points in 5 mm steps, intensity in 1/255. Whole or not at all."""
    _save(path, _packed(scene))


def load_scene(path):
    """Read what `save_scene` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return _unpacked({name: file[name] for name in file.files})


def past_path(path):
    """Return the file of the sweeps before a scene: a folder below, so that no list shows it."""
    path = Path(path)
    return path.parent / 'past' / path.name


def save_past(path, scenes):
    """Write the sweeps before the scene at `path`, oldest first."""
    past_path(path).parent.mkdir(exist_ok=True)
    arrays = {f'{k}.{n}': a for k, scene in enumerate(scenes) for n, a in _packed(scene).items()}
    _save(past_path(path), arrays)


def load_past(path):
    """Return the sweeps before the scene at `path`, oldest first; none where none were made."""
    if not past_path(path).exists():
        return []
    clip = {}
    with np.load(past_path(path), allow_pickle=False) as file:
        for name in file.files:
            number, field_name = name.split('.', 1)
            clip.setdefault(int(number), {})[field_name] = file[name]
    return [_unpacked(clip[number]) for number in sorted(clip)]


def _packed(scene):
    arrays = {f.name: getattr(scene, f.name) for f in fields(Scene)}
    steps = np.round(scene.points / STEP_M)
    arrays['points'] = np.clip(steps, -32768, 32767).astype(np.int16)
    arrays['intensity'] = np.round(np.clip(scene.intensity, 0, 1) * 255).astype(np.uint8)
    return arrays


def _unpacked(arrays):
    arrays['points'] = arrays['points'].astype(np.float32) * np.float32(STEP_M)
    arrays['intensity'] = arrays['intensity'].astype(np.float32) / 255
    arrays['stamp_ns'] = int(arrays.get('stamp_ns', 0))
    return Scene(**arrays)


def _save(path, arrays):
    path = Path(path)
    partial = path.with_suffix('.partial.npz')
    np.savez(partial, **arrays)
    partial.replace(path)
