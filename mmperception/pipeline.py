# SPDX-License-Identifier: Apache-2.0
"""
The pipeline: what happens to one frame, in reading order. Start here.

    Frame -> inputs (tensors.py) -> network (network/model.py) -> boxes (decode.py)
          -> boxes corrected from their points (network/refine.py), held against the images
          (network/image_check.py) -> tracks (tracking.py)
          -> signs (sign_stage.py): networks, ranges and tracks of their own

On a CPU with two threads or more the images' part of the network runs beside the pillars and their
features, in the time of `prepare`.

The path cost has a pipeline of its own (cost.py), on purpose: geometry keeps a robot safe also
when nothing was learned, so it never waits for this one. Message handling is in ros/.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
import logging
import os
from time import perf_counter

from mmperception import checkpoint
from mmperception.datatypes import Detections, Tracks
from mmperception.decode import (
    decode_boxes,
    detections_from_boxes,
    hold_against_images,
    look_again,
)
from mmperception.devices import choose_device, choose_precision
from mmperception.network.config import NetworkConfig
from mmperception.network.model import fold_batch_norm, PerceptionNetwork
from mmperception.network.swift import SwiftNetwork
from mmperception.network.swift_refine import SwiftRefiner
from mmperception.sign_stage import SignStage
from mmperception.sign_tracking import Signs
from mmperception.sign_weights import load_sign_reader
from mmperception.sweep_memory import SweepMemory
from mmperception.tensors import images_from_frame, inputs_from_frame, make_batch
from mmperception.tracking import Tracker
import numpy as np
import torch

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Perception:
    """
    What was found in one frame; `timings_ms` maps each stage to its milliseconds.

    `signs` is None and `image_signs` (by camera) empty where signs are not looked for.
    """

    detections: Detections
    tracks: Tracks
    signs: Signs | None = None
    image_signs: dict = field(default_factory=dict)
    timings_ms: dict = field(default_factory=dict)


class Perceiver:
    """Finds obstacles and signs in frames; holds the networks and the tracks."""

    def __init__(self, network, config, weights_name='untrained', sign_reader=None):
        self.config = config
        self.weights_name = weights_name
        self.device = choose_device(config.device)
        self.network = fold_batch_norm(network).to(self.device)
        self.is_half = choose_precision(config.precision, self.device)
        self.swift = None
        if self.device.type == 'cpu' and not network.fusion.has_memory:
            self.swift = SwiftNetwork(self.network, self.is_half)
        # Points are cut out on the CPU, and a few dozen crops are done before a copy would be.
        self.refiner, self.image_check = None, network.image_check
        if network.refiner is not None:
            is_half = self.is_half and self.device.type == 'cpu'
            self.refiner = SwiftRefiner(network.refiner, is_half)
        # Only networks that remember sweeps put something in.
        self.past = SweepMemory()
        self.tracker = Tracker(config.tracking, len(network.config.classes), config.odom_frame)
        self.signs = None if sign_reader is None else SignStage(sign_reader, config)
        number = config.threads or default_threads(len(os.sched_getaffinity(0)))
        # While this thread sorts points a second one looks at the images.
        self.second = second_thread() if self.swift is not None and number > 1 else None
        torch.set_num_threads(number)

    def perceive(self, frame):
        """
        Find and follow the obstacles and signs of one frame.

        Parameters
        ----------
        frame : Frame
            In order of time: after a stamp that goes back, tracks begin anew.

        Returns
        -------
        Perception

        """
        timings_ms = {}
        detections = self.detect(frame, timings_ms, self.past)
        thresholds = np.array(self.config.detection.score_threshold)
        is_sure = detections.score >= thresholds[detections.label]
        with _timed(timings_ms, 'track'):
            detections, tracks = self.tracker.update(
                detections.select(is_sure), frame.odom_from_base, frame.stamp_ns
            )
        signs, image_signs = None, {}
        if self.signs is not None:
            with _timed(timings_ms, 'signs'):
                signs, image_signs = self.signs.look(frame)
        return Perception(
            detections=detections,
            tracks=tracks,
            signs=signs,
            image_signs=image_signs,
            timings_ms=timings_ms,
        )

    def detect(self, frame, timings_ms=None, past=None):
        """
        Find the obstacles of one frame, before tracking and without the published threshold.

        `timings_ms`, when given, receives the milliseconds of each stage. `past` (SweepMemory)
        of the frames before is used and brought up to date; without one each frame stands alone.

        Returns
        -------
        Detections
            In `base_link`, score >= 0.05, best first.

        """
        timings_ms = {} if timings_ms is None else timings_ms
        with _timed(timings_ms, 'prepare'), one_thread():
            batch, read = self._prepare(frame, past)
        with _timed(timings_ms, 'network'), torch.inference_mode():
            heads = self._heads(batch, read, None if past is None else past.state)
            if past is not None:
                past.keep(heads.memory, frame)
        with _timed(timings_ms, 'decode'), one_thread(), torch.inference_mode():
            boxes = decode_boxes(heads, batch, self.config.detection.max_detections)[0]
        if self.refiner is not None:
            with _timed(timings_ms, 'refine'):
                boxes = look_again(self.refiner, batch, 0, boxes)
        if self.image_check is not None:
            with _timed(timings_ms, 'check'), one_thread():
                boxes = hold_against_images(self.image_check, heads, batch, 0, boxes)
        return detections_from_boxes(boxes, frame.stamp_ns, self.config.base_frame)

    def _prepare(self, frame, past):
        """Return the batch, and what two threads have read of images and points meanwhile."""
        network = self.network.config
        looked = None if self.second is None else self.second.submit(self._look_at_images, frame)
        inputs = inputs_from_frame(frame, network, with_cameras=looked is None)
        if past is not None:
            inputs = replace(inputs, previous_from_base=past.previous_from_base(frame))
        batch = make_batch([inputs], network.grid, network)
        if looked is None:
            return batch, ()
        pillars = self.swift.read_points(batch)
        images, seen = looked.result()
        return replace(batch, **images), (seen, pillars)

    def _look_at_images(self, frame):
        images = images_from_frame(frame, self.network.config)
        has_lidar = frame.cloud is not None
        return images, self.swift.read_images(images['images'], images['image_mask'], has_lidar)

    def _heads(self, batch, read, memory):
        if self.swift is not None:
            return self.swift(batch, *read)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_half):
            heads = self.network(batch.to(self.device), memory=memory)
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
        return heads

    def reset(self):
        """Forget everything about the past: time has jumped."""
        self.tracker.clear()
        self.past.clear()
        if self.signs is not None:
            self.signs.clear()


def default_threads(num_cores):
    """
    Return how many threads the network gets: one core is left to drivers and other nodes.

    Of two cores it gets both: a third less time on a quiet machine, which is what it is bought
    for; docs/benchmarks.md has the price beside a busy neighbour.
    """
    return max(num_cores - 1, min(num_cores, 2))


def second_thread():
    """Return an executor of one thread, in which torch uses no others; it ends when forgotten."""
    executor = ThreadPoolExecutor(1, 'perception', torch.set_num_threads, (1,))
    # Begun at once: what torch is told here is also what threads that come later begin with.
    executor.submit(int).result()
    return executor


@contextmanager
def one_thread():
    """
    Keep torch to the calling thread.

    Filling tables and other small operations gain nothing from a second thread, and on busy cores
    each waits milliseconds for it: five times the time of all of `prepare`.
    """
    number = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(number)


def load_perceiver(config, weights=None):
    """
    Load the weights that the configuration (or `weights`) names and build a Perceiver.

    Raises
    ------
    ValueError
        If the file cannot be read or is not what its SHA-256 says.

    """
    name = weights or config.weights
    path = checkpoint.weights_path(name)
    expected = checkpoint.SHIPPED.get(name, config.weights_sha256)
    checkpoint.verify(path, expected, config.allow_unverified)
    network, metadata = checkpoint.load_network(path)
    logger.info('weights %s: %s, licence %s', name, path.name, metadata.get('licence', 'unknown'))
    reader = None
    if config.signs.enabled:
        reader = load_sign_reader(config, choose_device(config.device))
    return Perceiver(network, config, name, reader)


def untrained_perceiver(config, seed=0):
    """Return a Perceiver with random weights: shape and speed are real, the output is not."""
    torch.manual_seed(seed)
    network = PerceptionNetwork(NetworkConfig(refine=True, check_images=True)).eval()
    # Some peaks, so that boxes are made as in earnest: heat begins below what is ever given out.
    torch.nn.init.constant_(network.bev_head.heat[-1].bias, -2.0)
    return Perceiver(network, config)


@contextmanager
def _timed(timings_ms, stage):
    start = perf_counter()
    yield
    timings_ms[stage] = (perf_counter() - start) * 1e3
