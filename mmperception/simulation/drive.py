# SPDX-License-Identifier: Apache-2.0
"""
Labelled frames of simulated streets, one by one or as a whole recorded drive.

`simulate_samples` makes independent scenes for training; `SimulatedDrive` drives along one
street and records it with all its sensors, for bags, demonstrations and evaluation.
"""

from concurrent.futures import ProcessPoolExecutor
from functools import cached_property
from multiprocessing import get_context
import os

from mmperception.datatypes import CameraView, Frame, Image, Motion, PointCloud
from mmperception.geometry import invert
from mmperception.recording import Event, Recording, Sample
from mmperception.simulation.camera import random_appearance, render
from mmperception.simulation.ego import Ego
from mmperception.simulation.inertial import gps_fixes, imu_samples, poses
from mmperception.simulation.lidar import PERIOD_S, scan, SweepPath
from mmperception.simulation.mounting import CAMERA, make_mounting
from mmperception.simulation.road import Road
from mmperception.simulation.roadside import fill_sides
from mmperception.simulation.street import Layout, random_section, random_style
from mmperception.simulation.tour import make_tour
from mmperception.simulation.traffic import fill_road, random_openings, Traffic
from mmperception.simulation.truth import boxes_as_seen, boxes_at_stamp, truth_of
import numpy as np
import torch

# How far a single scene reaches to either end of the ego car.
REACH_M = 84.0
CAMERA_DELAY_S = 0.01
START_NS = 1_700_000_000_000_000_000
_NS = 1_000_000_000
_PERIOD_NS = int(PERIOD_S * _NS)
# Kinds of a drive's events, in the order in which equal log times are written.
_READY, _PICTURE, _SWEEP = 1, 2, 3
# Shorter drives are made in this process: starting others takes longer.
_FEW_SWEEPS = 15


def simulate_samples(seed, with_camera=False, num=None):
    """
    Make labelled frames, each of a scene of its own.

    Parameters
    ----------
    seed : int
        Scene k of a seed always has the same street and sweep, with or without camera.
    with_camera : bool
        Pictures too, at about a second each.
    num : int or None
        How many; None: without end.

    Yields
    ------
    Sample
        Truth covers the full turn: every actor of which at least one point was measured. Clouds
        have no point times; truth boxes stand where the uncorrected sweep shows each object.

    """
    number = 0
    while num is None or number < num:
        yield simulate_clip(seed, number, with_camera)[-1]
        number += 1


def simulate_clip(seed, number, with_camera=False, length=1):
    """
    Return scene `number` of a seed with the sweeps before it, oldest first.

    The last is what `simulate_samples` gives, whatever the length; poses in `odom` join them.
    """
    rng = np.random.default_rng((seed, number))
    street, ego = _random_scene(rng)
    scene = street, ego, make_mounting(rng)
    source = f'simulated/{seed}/{number}'
    swept = _sweep_at(scene, 0.0, rng)
    appearance = random_appearance(rng) if with_camera else None
    clip = [_single_sample(scene, 0, swept, (appearance, rng), source)]
    for age in range(1, length):
        rng = np.random.default_rng((seed, number, age))
        swept = _sweep_at(scene, -age * PERIOD_S, rng)
        earlier = _single_sample(scene, age, swept, (appearance, rng), f'{source}/-{age}')
        clip.insert(0, earlier)
    return clip


def simulate_picture(seed, number):
    """Return the street of a scene without LiDAR, world_from_camera, its model and the picture."""
    rng = np.random.default_rng((seed, number))
    street, ego = _random_scene(rng)
    mounting = make_mounting(rng)
    pixels = _picture((street, ego, mounting), 0.0, random_appearance(rng), rng)
    world_from_camera = ego.pose(0.0) @ mounting.base_from_camera[CAMERA]
    return street, world_from_camera, mounting.camera_models[CAMERA], pixels


def _sweep_at(scene, time_s, rng):
    """Return the street at a time, the sensor's path there and what it saw."""
    street, ego, mounting = scene
    moment = street.moment(time_s, ego.pose(time_s)[:2, 3])
    path = SweepPath(lambda later: ego.pose(time_s + later) @ mounting.base_from_lidar)
    return moment, path, scan(moment, path, rng)


def _single_sample(scene, age, swept, look, source):
    """Return the labelled frame of a sweep without point times, `age` sweeps before the last."""
    _, ego, mounting = scene
    (moment, path, sweep), (appearance, rng) = swept, look
    time_s, stamp_ns = -age * PERIOD_S, START_NS - age * _PERIOD_NS
    views = ()
    if appearance is not None:
        pixels = _picture(scene, time_s + CAMERA_DELAY_S, appearance, rng)
        views = (_view(scene, time_s, stamp_ns, pixels),)
    frame = Frame(
        stamp_ns=stamp_ns,
        cloud=_cloud(sweep, stamp_ns, is_timed=False),
        base_from_lidar=mounting.base_from_lidar,
        cameras=views,
        odom_from_base=ego.pose(time_s),
        motion=_motion(ego, time_s),
    )
    boxes = boxes_as_seen(moment, path, mounting.base_from_lidar)
    truth = truth_of(moment, sweep, boxes, stamp_ns)
    return Sample(frame=frame, truth=truth, source=source)


def _random_scene(rng):
    """Draw a street with an ego car at station 0 and time 0."""
    style, section = random_style(rng), random_section(rng)
    openings = random_openings(rng, (-25, 50), 0.3)
    road = Road(rng, section, (-REACH_M, REACH_M), openings)
    speed = float(rng.choice((0.0, rng.uniform(0.5, 15)), p=(0.2, 0.8)))
    ego = Ego(road, rng, 0.0, speed, -section.lane / 2 + rng.normal(0, 0.25))
    layout = Layout(rng, road, style)
    # Nothing stands where the ego car is.
    layout.take(1.0, -section.lane / 2, (3.0, 1.2))
    fill_sides(layout)
    fill_road(Traffic(layout, ego.place, 0.1), 0.0, speed)
    return layout.street(), ego


def _cloud(sweep, stamp_ns, is_timed):
    return PointCloud(
        stamp_ns=stamp_ns,
        frame_id='lidar',
        points=sweep.points,
        intensity=sweep.intensity,
        ring=sweep.ring,
        time_ns=sweep.time_ns if is_timed else None,
    )


def _motion(ego, time_s):
    speed, yaw_rate = ego.motion(time_s)
    return Motion(speed_mps=speed, yaw_rate_radps=yaw_rate, age_ns=0, source='tf')


def _picture(scene, time_s, appearance, rng):
    """Render the camera's image at a time; `scene` is (street, ego, mounting)."""
    street, ego, mounting = scene
    world_from_base = ego.pose(time_s)
    mesh = street.mesh_at(time_s, world_from_base[:2, 3])
    world_from_camera = world_from_base @ mounting.base_from_camera[CAMERA]
    return render(mesh, world_from_camera, mounting.camera_models[CAMERA], appearance, rng)


def _view(scene, time_s, stamp_ns, pixels):
    """Return the view that belongs to a sweep at `time_s`, stamped a little later."""
    _, ego, mounting = scene
    later = time_s + CAMERA_DELAY_S
    image = Image(
        stamp_ns=stamp_ns + int(CAMERA_DELAY_S * _NS), frame_id='camera_optical', pixels=pixels
    )
    camera_from_base = invert(mounting.base_from_camera[CAMERA])
    camera_from_base = camera_from_base @ invert(ego.pose(later)) @ ego.pose(time_s)
    return CameraView(
        name=CAMERA,
        image=image,
        model=mounting.camera_models[CAMERA],
        camera_from_base=camera_from_base,
        is_compensated=True,
    )


class SimulatedDrive:
    """
    A recorded drive along a simulated street.

    The same seconds and seed give the same drive on every machine. Sweeps carry point times;
    their stamp is the moment the LiDAR faces forward, the first at 0.05 s.

    Parameters
    ----------
    seconds : float
        Length of the drive; ten sweeps a second.
    seed : int

    """

    def __init__(self, seconds, seed):
        self.num_sweeps = max(1, round(seconds / PERIOD_S))
        self.seed = int(seed)
        self.mounting = make_mounting()
        self._street, self._ego = make_tour(self._rng(0), self.num_sweeps * PERIOD_S)

    def _rng(self, *purpose):
        return np.random.default_rng((self.seed, *purpose))

    @cached_property
    def _appearance(self):
        return random_appearance(self._rng(1))

    @property
    def _scene(self):
        return self._street, self._ego, self.mounting

    def recording(self):
        """Return the drive as a stream of events in the order in which they were logged."""
        return Recording(mounting=self.mounting, events=self._events(), num_sweeps=self.num_sweeps)

    def samples(self):
        """Yield one labelled frame a sweep, as if every input had arrived."""
        fixes = self._fixes()
        start = invert(self._ego.pose(0.0))
        for index in range(self.num_sweeps):
            time_s, stamp_ns = self._moment(index)
            cloud, truth = self._sweep(index)
            pixels = self._pixels(index)
            frame = Frame(
                stamp_ns=stamp_ns,
                cloud=cloud,
                base_from_lidar=self.mounting.base_from_lidar,
                cameras=(_view(self._scene, time_s, stamp_ns, pixels),),
                odom_from_base=start @ self._ego.pose(time_s),
                gps=fixes[index],
                motion=_motion(self._ego, time_s),
            )
            source = f'simulated drive {self.seed}/{index}'
            yield Sample(frame=frame, truth=truth, source=source)

    def _moment(self, index):
        """Return when a sweep faces forward: seconds of the drive, and its stamp."""
        return (index + 0.5) * PERIOD_S, START_NS + index * _PERIOD_NS + _PERIOD_NS // 2

    def _sweep(self, index):
        """Return cloud and truth of a sweep."""
        time_s, stamp_ns = self._moment(index)
        world_from_base = self._ego.pose(time_s)
        moment = self._street.moment(time_s, world_from_base[:2, 3])
        path = SweepPath(
            lambda offset: self._ego.pose(time_s + offset) @ self.mounting.base_from_lidar
        )
        sweep = scan(moment, path, self._rng(2, index))
        truth = truth_of(moment, sweep, boxes_at_stamp(moment, world_from_base), stamp_ns)
        return _cloud(sweep, stamp_ns, is_timed=True), truth

    def _pixels(self, index):
        """Return the picture that belongs to a sweep, taken a little later."""
        time_s = self._moment(index)[0] + CAMERA_DELAY_S
        return _picture(self._scene, time_s, self._appearance, self._rng(3, index))

    def _fixes(self):
        times = np.arange(self.num_sweeps) * PERIOD_S + 0.03
        return gps_fixes(self._ego, self.mounting, times, START_NS, self._rng(4))

    def _events(self):
        """Yield events by log time: a sweep (with its truth) is logged at its end."""
        seconds = self.num_sweeps * PERIOD_S
        # Poses begin before the first point was measured and end after the last.
        fine = np.arange(-5, round(seconds * 100) + 6) * 0.01
        values = [*poses(self._ego, fine, START_NS), *self._fixes()]
        values += imu_samples(self._ego, self.mounting, fine, START_NS, self._rng(5))
        due = [(value.stamp_ns, _READY, value) for value in values]
        for index in range(self.num_sweeps):
            _, stamp_ns = self._moment(index)
            due.append((stamp_ns + int(CAMERA_DELAY_S * _NS), _PICTURE, index))
            due.append((stamp_ns + _PERIOD_NS // 2, _SWEEP, index))
        due.sort(key=lambda entry: entry[:2])
        made = self._made([entry[1:] for entry in due if entry[1] != _READY])
        for log_ns, kind, value in due:
            parts = (value,) if kind == _READY else next(made)
            for part in parts:
                camera = CAMERA if isinstance(part, Image) else None
                yield Event(log_ns=log_ns, value=part, camera=camera)

    def _made(self, jobs):
        """Yield the values of (kind, index) jobs in order, made by a process a core."""
        if self.num_sweeps < _FEW_SWEEPS:
            yield from (self.make(*job) for job in jobs)
            return
        seconds = self.num_sweeps * PERIOD_S
        with ProcessPoolExecutor(
            max_workers=os.cpu_count(),
            # Forking a process in which torch has started threads can hang.
            mp_context=get_context('spawn'),
            initializer=_start_worker,
            initargs=(seconds, self.seed),
        ) as pool:
            yield from pool.map(_work, jobs)

    def make(self, kind, index):
        """Return the parts of one event: an image, or a cloud and its truth."""
        if kind == _SWEEP:
            return self._sweep(index)
        _, stamp_ns = self._moment(index)
        stamp_ns += int(CAMERA_DELAY_S * _NS)
        pixels = self._pixels(index)
        return (Image(stamp_ns=stamp_ns, frame_id='camera_optical', pixels=pixels),)


_worker_drive = None


def _start_worker(seconds, seed):
    """Make the same drive in a worker process; one thread each, or they fight for the cores."""
    global _worker_drive
    torch.set_num_threads(1)
    _worker_drive = SimulatedDrive(seconds, seed)


def _work(job):
    return _worker_drive.make(*job)
