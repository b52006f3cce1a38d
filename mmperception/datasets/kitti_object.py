# SPDX-License-Identifier: Apache-2.0
"""
Folders laid out as the KITTI object benchmark, as samples.

Single frames, each with its own calibration: no GPS, no history. What `evaluate` and
`predict --format kitti-object` read.
"""

from pathlib import Path

from mmperception.datasets.kitti_calibration import CAMERA, read_object_calibration
from mmperception.datasets.kitti_files import read_cloud, read_image
from mmperception.datasets.kitti_labels import read_object_rows, truth_from_labels
from mmperception.datatypes import CameraView, Frame
from mmperception.recording import Sample

# Frames have no time of their own: they get distinct stamps, none of them zero.
FRAME_PERIOD_NS = 100_000_000


def is_object_folder(path):
    """Tell whether a folder is laid out as the KITTI object benchmark."""
    return all((Path(path) / name).is_dir() for name in ('velodyne', 'calib'))


class KittiObjectFolder:
    """
    Single frames of the object benchmark: velodyne, calib, and image_2 and label_2 when there.

    Each frame has its own calibration; there is no GPS and no history, and stamps are frame
    number times 100 ms (from 1, since a zero stamp means unset).
    """

    def __init__(self, path):
        self.path = Path(path)
        if not is_object_folder(self.path):
            raise ValueError(f'{self.path}: no KITTI object folder (needs velodyne and calib)')
        self.frames = sorted(file.stem for file in (self.path / 'velodyne').glob('*.bin'))

    @property
    def name(self):
        return self.path.name

    @property
    def num_frames(self):
        return len(self.frames)

    @property
    def has_labels(self):
        return (self.path / 'label_2').is_dir()

    def calibration(self, index):
        """Return the calibration of frame `index`."""
        return read_object_calibration(self.path / 'calib' / f'{self.frames[index]}.txt')

    def sample(self, index):
        """Return frame `index`; without a label file its truth is empty."""
        stem, calibration = self.frames[index], self.calibration(index)
        stamp_ns = (index + 1) * FRAME_PERIOD_NS
        missing = {'gps': 'object folders have none', 'odom': 'object folders have none'}
        path = self.path / 'image_2' / f'{stem}.png'
        cameras = ()
        if path.is_file():
            image = read_image(path, stamp_ns)
            height, width, _ = image.pixels.shape
            cameras = (
                CameraView(
                    name=CAMERA,
                    image=image,
                    model=calibration.camera_model((width, height)),
                    camera_from_base=calibration.camera_from_base,
                ),
            )
        else:
            missing[CAMERA] = 'no image in this folder'
        frame = Frame(
            stamp_ns=stamp_ns,
            cloud=read_cloud(self.path / 'velodyne' / f'{stem}.bin', stamp_ns),
            base_from_lidar=calibration.base_from_lidar,
            cameras=cameras,
            missing=missing,
        )
        truth = self._truth(stem, stamp_ns, calibration)
        return Sample(frame=frame, truth=truth, source=f'{self.name}/{stem}')

    def samples(self):
        """Yield every frame in order."""
        return (self.sample(index) for index in range(self.num_frames))

    def _truth(self, stem, stamp_ns, calibration):
        path = self.path / 'label_2' / f'{stem}.txt'
        labels = ()
        if path.is_file():
            labels = read_object_rows(path, calibration.rect_from_velo)
        return truth_from_labels(stamp_ns, labels, calibration.base_from_lidar)
