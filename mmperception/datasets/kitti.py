# SPDX-License-Identifier: Apache-2.0
"""
KITTI raw drives as samples (frame and truth) and as recordings.

A drive may lack the camera, GPS or timestamps; what is not there is named in `Frame.missing`.
Drive 0005 gives figures only and is refused for training. Geometry: `base_link` is x forward, on
the ground below the IMU, with the axes of the IMU. Source: Geiger et al., IJRR 2013.
"""

from functools import cached_property
from pathlib import Path

from mmperception.datasets.kitti_calibration import (
    CAMERA,
    read_drive_calibration,
)
from mmperception.datasets.kitti_files import read_cloud, read_image, read_stamps
from mmperception.datasets.kitti_labels import (
    read_object_rows,
    read_tracking_rows,
    read_tracklets,
    read_unlabelled,
    truth_from_labels,
)
from mmperception.datasets.kitti_motion import OxtsTrajectory, read_oxts
from mmperception.datatypes import CameraView, Frame, Image
from mmperception.geometry import invert
from mmperception.recording import Event, Recording, Sample

TRAINING_DRIVES = ('0009', '0052', '0048', '0060')
FIGURES_ONLY_DRIVE = '0005'
# Its first sweep, by which a renamed copy is known.
FIGURES_ONLY_FIRST_STAMP = '2011-09-26 13:04:32.335337762'
# The car of all drives: the IMU sits left of its middle, and the LiDAR sees its own mirrors.
SETTINGS = {
    'ground': {'self_center_x_m': 1.3, 'self_center_y_m': -0.3, 'self_width_m': 2.9},
}
# Drives without timestamps are taken to be recorded at the sensor's 10 Hz.
FRAME_PERIOD_NS = 100_000_000


def refuse_for_training(path):
    """
    Raise ValueError if `path` is the drive that gives figures only.

    Known by its folder's name, or, when that was changed, by the time of its first sweep.
    """
    path = Path(path).resolve()
    first_line = ''
    stamps = path / 'velodyne_points' / 'timestamps.txt'
    if stamps.is_file():
        first_line = stamps.read_text(encoding='ascii').split('\n', 1)[0].strip()
    named = any(f'drive_{FIGURES_ONLY_DRIVE}' in part for part in path.parts)
    if named or first_line == FIGURES_ONLY_FIRST_STAMP:
        raise ValueError(
            f'{path}: drive {FIGURES_ONLY_DRIVE} gives figures only and may not enter training; '
            f'train on drives {", ".join(TRAINING_DRIVES)}'
        )


def training_drives(root):
    """
    Open the drives that may be trained on.

    Parameters
    ----------
    root : path
        One drive folder, or a folder that holds drives at any depth; of these the training
        drives are opened, in the order of `TRAINING_DRIVES`, and no other.

    Returns
    -------
    drives : list of KittiDrive

    Raises
    ------
    ValueError
        If `root` is the drive that gives figures only, or holds no training drive.

    """
    root = Path(root)
    refuse_for_training(root)
    if is_drive(root):
        return [KittiDrive(root)]
    found = {
        number: path
        for number in TRAINING_DRIVES
        for path in sorted(root.rglob(f'*_drive_{number}_sync'))
    }
    if not found:
        raise ValueError(f'{root}: holds none of the training drives {", ".join(TRAINING_DRIVES)}')
    for path in found.values():
        refuse_for_training(path)
    return [KittiDrive(path) for path in found.values()]


def is_drive(path):
    """Tell whether a folder is laid out as a KITTI raw drive."""
    return (Path(path) / 'velodyne_points' / 'data').is_dir()


class KittiDrive:
    """
    One raw drive (`.../2011_09_26/2011_09_26_drive_NNNN_sync`), calibration one level up.

    Stamps are those of timestamps.txt read as UTC. A drive without timestamps gets its frame
    number times 100 ms: good for order and intervals, not for the time of day.
    """

    def __init__(self, path):
        self.path = Path(path)
        if not is_drive(self.path):
            raise ValueError(f'{self.path}: no KITTI raw drive (has no velodyne_points/data)')
        self.calibration = read_drive_calibration(self.path.parent)
        files = (self.path / 'velodyne_points' / 'data').glob('*.bin')
        self.frames = sorted(int(file.stem) for file in files)
        self._stamps = {
            sensor: read_stamps(self.path / sensor)
            for sensor in ('velodyne_points', 'velodyne_points/end', 'image_02', 'oxts')
        }
        self._labels = self._read_labels()

    @property
    def name(self):
        return self.path.name

    @property
    def num_frames(self):
        return len(self.frames)

    @property
    def mounting(self):
        return self.calibration.mounting()

    @cached_property
    def records(self):
        """OXTS records by frame number; empty for a drive without GPS."""
        if not self._stamps['oxts']:
            return {}
        files = {n: self.path / 'oxts' / 'data' / f'{n:010d}.txt' for n in self.frames}
        return {
            n: read_oxts(file, self._stamps['oxts'][n])
            for n, file in files.items()
            if file.is_file()
        }

    @cached_property
    def trajectory(self):
        """Path of the car, or None for a drive without GPS."""
        if not self.records:
            return None
        return OxtsTrajectory(
            self.records.values(),
            self.calibration.base_from_imu,
            self.stamp_ns(self.frames[0]),
        )

    def stamp_ns(self, number, sensor='velodyne_points'):
        """Return the stamp of frame `number` of one sensor."""
        stamps = self._stamps[sensor]
        return stamps[number] if stamps else number * FRAME_PERIOD_NS

    def sample(self, index):
        """Return frame `index` (0 .. num_frames - 1, in order of the frame numbers)."""
        number = self.frames[index]
        stamp_ns = self.stamp_ns(number)
        image, record = self._image(number), self.records.get(number)
        missing = {}
        if image is None:
            missing[CAMERA] = 'no image in this recording'
        if record is None:
            missing['gps'] = missing['odom'] = 'no GPS in this recording'
        frame = Frame(
            stamp_ns=stamp_ns,
            cloud=self._cloud(number),
            base_from_lidar=self.calibration.base_from_lidar,
            cameras=() if image is None else (self._view(image, stamp_ns),),
            odom_from_base=self.trajectory.at(stamp_ns) if self.trajectory else None,
            gps=record.fix() if record else None,
            motion=record.motion(stamp_ns) if record else None,
            missing=missing,
        )
        return Sample(frame=frame, truth=self.truth(index), source=f'{self.name}/{number:010d}')

    def samples(self):
        """Yield every frame in order."""
        return (self.sample(index) for index in range(self.num_frames))

    def truth(self, index):
        """Return the labels of frame `index` without reading its sensors."""
        number = self.frames[index]
        return truth_from_labels(
            self.stamp_ns(number),
            self._labels.get(number, ()),
            self.calibration.base_from_lidar,
        )

    def recording(self):
        """
        Return the drive as a stream of events in the order in which they were logged.

        A sweep is logged at its end (timestamps_end, half a turn after its stamp), everything
        else at its stamp. Poses are given at each OXTS record and at the first and last stamp of
        the other sensors, so that no sweep lies outside them.
        """
        return Recording(
            mounting=self.mounting,
            events=self._events(),
            num_sweeps=self.num_frames,
            settings=SETTINGS,
        )

    def _events(self):
        plan = []
        for index, number in enumerate(self.frames):
            plan.append((self._end_ns(number), 2, self._cloud, number))
            plan.append((self._end_ns(number), 3, self.truth, index))
            if self._image_path(number).is_file():
                plan.append((self.stamp_ns(number, 'image_02'), 1, self._image, number))
        for record in self.records.values():
            plan.append((record.stamp_ns, 1, lambda r: r.fix(), record))
        plan += [(pose.stamp_ns, 0, lambda p: p, pose) for pose in self._poses()]
        for log_ns, _, load, key in sorted(plan, key=lambda entry: entry[:2]):
            value = load(key)
            camera = CAMERA if isinstance(value, Image) else None
            yield Event(log_ns=log_ns, value=value, camera=camera)

    def _poses(self):
        if self.trajectory is None:
            return []
        ends = [
            self.stamp_ns(number, sensor)
            for number in (self.frames[0], self.frames[-1])
            for sensor in ('velodyne_points', 'image_02')
            if sensor == 'velodyne_points' or self._image_path(number).is_file()
        ]
        return self.trajectory.poses(ends)

    def _end_ns(self, number):
        ends = self._stamps['velodyne_points/end']
        return ends[number] if ends else self.stamp_ns(number) + FRAME_PERIOD_NS // 2

    def _image_path(self, number):
        return self.path / 'image_02' / 'data' / f'{number:010d}.png'

    def _image(self, number):
        path = self._image_path(number)
        return read_image(path, self.stamp_ns(number, 'image_02')) if path.is_file() else None

    def _cloud(self, number):
        path = self.path / 'velodyne_points' / 'data' / f'{number:010d}.bin'
        return read_cloud(path, self.stamp_ns(number))

    def _view(self, image, stamp_ns):
        camera_from_base = self.calibration.camera_from_base
        if self.trajectory:
            image_base_from_odom = invert(self.trajectory.at(image.stamp_ns))
            camera_from_base = (
                camera_from_base @ image_base_from_odom @ self.trajectory.at(stamp_ns)
            )
        height, width, _ = image.pixels.shape
        return CameraView(
            name=CAMERA,
            image=image,
            model=self.calibration.camera_model((width, height)),
            camera_from_base=camera_from_base,
            is_compensated=self.trajectory is not None,
        )

    def _read_labels(self):
        labels = {}
        rect_from_velo = self.calibration.rect_from_velo
        for file in self.path.glob('tracklet_labels.xml'):
            labels = read_tracklets(file)
        for file in self.path.glob('label_02*.txt'):
            labels = read_tracking_rows(file, rect_from_velo)
        for file in self.path.glob('label_2/*.txt'):
            labels[int(file.stem)] = read_object_rows(file, rect_from_velo)
        for file in self.path.glob('ignore.json'):
            for number, boxes in read_unlabelled(file).items():
                labels.setdefault(number, []).extend(boxes)
        return labels
