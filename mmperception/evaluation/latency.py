# SPDX-License-Identifier: Apache-2.0
"""
How long one frame takes on this machine, stage by stage (docs/benchmarks.md).

The same frames go round and round through the pipeline and the path cost, after a warm-up;
a matrix product in the same run tells how fast the machine was at that moment.
"""

from dataclasses import replace
from pathlib import Path
import platform
from time import monotonic, perf_counter

import cv2
from mmperception.cost import sweep_from_frame
import numpy as np
import torch

WARM_UP = 5
ENOUGH = 200  # frames, for a 99th percentile that means something
MATRIX = 2048


def measure_frames(frames, perceiver, mapper, seconds=None, progress=lambda: None):
    """
    Time the stages of frames.

    Parameters
    ----------
    frames : sequence of Frame
        Used in turn.
    perceiver : Perceiver
        Gives the stages that `perceive` times itself.
    mapper : CostMapper
        Timed on frames that have a cloud and odometry.
    seconds : float, optional
        How long; by default as long as `ENOUGH` frames take.
    progress : callable
        Called after each frame.

    Returns
    -------
    dict of str to ndarray
        Stage to milliseconds, one for each frame that had it; `frame` is all of it. `signs` and
        `frame` are also given apart for images that were looked at for signs and skipped ones.

    """
    rows = []
    for number in range(WARM_UP):
        time_frame(frames[number % len(frames)], perceiver, mapper)
    end = None if seconds is None else monotonic() + seconds
    while not rows or (len(rows) < ENOUGH if end is None else monotonic() < end):
        rows.append(time_frame(frames[len(rows) % len(frames)], perceiver, mapper))
        progress()
    stages = dict.fromkeys(stage for row in rows for stage in row)
    return {stage: np.array([row[stage] for row in rows if stage in row]) for stage in stages}


def time_frame(frame, perceiver, mapper):
    """Return {stage: ms} of one frame."""
    started = perf_counter()
    perception = perceiver.perceive(frame)
    row = dict(perception.timings_ms)
    if frame.cloud is not None and frame.odom_from_base is not None:
        cost_started = perf_counter()
        mapper.integrate(sweep_from_frame(frame, perception.tracks))
        row['path_cost'] = (perf_counter() - cost_started) * 1e3
    row['frame'] = (perf_counter() - started) * 1e3
    in_images = perception.image_signs.values()
    if in_images:
        kind = 'skipped' if all(seen.is_predicted for seen in in_images) else 'looked'
        row |= {f'{stage}_{kind}': row[stage] for stage in ('signs', 'frame')}
    return row


def with_image_size(frame, size_px):
    """Return a frame whose images are as large as (width, height) and show the same."""
    cameras = []
    for view in frame.cameras:
        pixels = cv2.resize(view.image.pixels, size_px, interpolation=cv2.INTER_LINEAR)
        scale = np.array([size_px[0] / view.model.width, size_px[1] / view.model.height, 1.0])
        intrinsics = view.model.intrinsics * scale[:, None]
        intrinsics[:2, 2] += scale[:2] / 2 - 0.5  # the middle of the first pixel is (0, 0)
        model = replace(view.model, width=size_px[0], height=size_px[1], intrinsics=intrinsics)
        cameras.append(replace(view, image=replace(view.image, pixels=pixels), model=model))
    return replace(frame, cameras=tuple(cameras))


def describe_machine(device, is_half=False):
    """Return the processor, its matrix instructions, threads, type and a matrix product."""
    return {
        'processor': processor_name(),
        'instructions': [
            flag for flag in ('avx2', 'avx512f', 'avx512_bf16', 'amx_bf16') if flag in cpu_flags()
        ],  # fmt: skip
        'threads': torch.get_num_threads(),
        'torch': torch.__version__,
        'device': str(device),
        'dtype': 'bfloat16' if is_half else 'float32',
        f'matmul_{MATRIX}_ms': round(matmul_ms(device), 2),
    }


def processor_name():
    """Return the name of the processor."""
    for line in _cpuinfo():
        if line.startswith('model name'):
            return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()


def cpu_flags():
    """Return the instruction sets of the processor; empty where they cannot be read."""
    for line in _cpuinfo():
        if line.startswith('flags'):
            return set(line.partition(':')[2].split())
    return set()


def _cpuinfo():
    path = Path('/proc/cpuinfo')
    return path.read_text().splitlines() if path.is_file() else []


def matmul_ms(device):
    """Return the median time of a square float32 product."""
    a = torch.ones((MATRIX, MATRIX), device=device)
    times = []
    for _ in range(5):
        started = perf_counter()
        (a @ a)[0, 0].item()
        times.append((perf_counter() - started) * 1e3)
    return float(np.median(times))
