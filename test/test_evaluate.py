# SPDX-License-Identifier: Apache-2.0
"""The accuracy suite and its commands, with detectors whose answer is known."""

import json
from types import SimpleNamespace

import cv2
from mmperception import pipeline
from mmperception.cli.main import main
from mmperception.datasets.kitti_calibration import read_object_calibration
from mmperception.datasets.kitti_object import KittiObjectFolder
from mmperception.datasets.layout import layout_of
from mmperception.datatypes import Detections, Frame, PointCloud
from mmperception.evaluation.accuracy import accuracy_metrics, judge_frames
from mmperception.evaluation.kitti_results import result_lines
from mmperception.evaluation.metrics import Metric
from mmperception.evaluation.report import as_mapping, table
from mmperception.recording import Sample, Truth
import numpy as np
import pytest

MIN_SCORES = (0.3, 0.3, 0.3)
CALIB = (
    'P2: 721 0 609 45 0 721 172 0.2 0 0 1 0.003\nR0_rect: 1 0 0 0 1 0 0 0 1\n'
    'Tr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27\n'
    'Tr_imu_to_velo: 1 0 0 -0.81 0 1 0 0.32 0 0 1 -0.8\n'
)
# Two cars ahead of one another and a cyclist, in the rectified camera frame.
ROWS = (
    'Car 0 0 0 0 0 0 0 1.5 1.7 4.0 1.0 1.6 12.0 -1.5',
    'Car 0 1 0 0 0 0 0 1.6 1.8 4.2 -4.0 1.7 18.0 1.2',
    'Cyclist 0 0 0 0 0 0 0 1.7 0.6 1.8 3.0 1.6 10.0 0.3',
)
CLASS_OF = {'car': 0, 'van': 0, 'pedestrian': 1, 'cyclist': 2}


class TruthTeller:
    """Detects the labelled boxes of each frame, moved by `shift_m` along x."""

    device, weights_name = 'cpu', 'truth'

    def __init__(self, samples, shift_m=0.0):
        self._truth = {sample.frame.stamp_ns: sample.truth for sample in samples}
        self._shift = np.array((shift_m, 0, 0), np.float32)

    def detect(self, frame):
        truth = self._truth[frame.stamp_ns]
        N = len(truth)
        return Detections(
            stamp_ns=frame.stamp_ns,
            frame_id='base_link',
            center=truth.center + self._shift,
            size=truth.size,
            yaw=truth.yaw,
            score=np.linspace(0.9, 0.6, N, dtype=np.float32),
            label=np.array([CLASS_OF[kind] for kind in truth.kinds], np.int64).reshape(N),
            covariance=np.zeros((N, 6, 6)),
            track_id=np.arange(N),
        )

    def perceive(self, frame):
        return SimpleNamespace(detections=self.detect(frame))


def sequence(num_frames=28, num_cars=6):
    """Parked cars in a row that comes closer, each with points, no camera."""
    samples = []
    for index in range(num_frames):
        x = 8.0 + 5.0 * np.arange(num_cars) - 0.1 * index
        center = np.stack((x, np.full(num_cars, 3.0), np.full(num_cars, 0.8)), axis=1)
        truth = Truth(
            stamp_ns=index + 1,
            center=center.astype(np.float32),
            size=np.tile(np.array((4, 1.8, 1.6), np.float32), (num_cars, 1)),
            yaw=np.zeros(num_cars, np.float32),
            kinds=('van', *['car'] * num_cars)[:num_cars],
            occlusion=np.zeros(num_cars, np.int64),
            object_id=tuple(map(str, range(num_cars))),
            is_ignored=np.zeros(num_cars, bool),
        )
        points = np.repeat(truth.center, 6, axis=0)
        cloud = PointCloud(stamp_ns=index + 1, frame_id='lidar', points=points)
        frame = Frame(stamp_ns=index + 1, cloud=cloud, base_from_lidar=np.eye(4))
        samples.append(Sample(frame=frame, truth=truth, source=f'test/{index}'))
    return samples


def make_folder(folder, num_frames=3):
    """Write an object folder whose boxes are full of points."""
    for name in ('velodyne', 'calib', 'label_2', 'image_2'):
        (folder / name).mkdir(parents=True)
    for index in range(num_frames):
        stem = f'{index:06d}'
        (folder / 'calib' / f'{stem}.txt').write_text(CALIB)
        (folder / 'label_2' / f'{stem}.txt').write_text('\n'.join(ROWS) + '\n')
        cv2.imwrite(str(folder / 'image_2' / f'{stem}.png'), np.zeros((375, 1242, 3), np.uint8))
        np.zeros((1, 4), np.float32).tofile(folder / 'velodyne' / f'{stem}.bin')
    samples = list(KittiObjectFolder(folder).samples())
    lidar_from_base = np.linalg.inv(samples[0].frame.base_from_lidar)
    for sample, stem in zip(samples, sorted(folder.glob('velodyne/*.bin')), strict=True):
        middle = sample.truth.center @ lidar_from_base[:3, :3].T + lidar_from_base[:3, 3]
        points = np.repeat(middle, 8, axis=0).astype(np.float32)
        np.column_stack((points, np.zeros(len(points), np.float32))).tofile(stem)
    return folder


@pytest.fixture
def teller(monkeypatch):
    """Let the commands load a detector that knows the truth of a folder."""

    def install(folder, shift_m=0.0):
        teller = TruthTeller(list(KittiObjectFolder(folder).samples()), shift_m)
        monkeypatch.setattr(pipeline, 'load_perceiver', lambda *_, **__: teller)

    return install


def test_a_detector_that_tells_the_truth_scores_100_and_a_shifted_one_less():
    samples = sequence()
    best = accuracy_metrics(list(judge_frames(samples, TruthTeller(samples))), MIN_SCORES)
    # 0.8 m of 4 m: IoU 3.2 / 4.8 = 0.67, above 0.5 and below 0.7.
    worse = accuracy_metrics(list(judge_frames(samples, TruthTeller(samples, 0.8))), MIN_SCORES)
    assert best['vehicle_ap40_3d_0.7'].value == 100.0
    assert worse['vehicle_ap40_3d_0.5'].value == 100.0
    assert worse['vehicle_ap40_3d_0.7'].value == 0.0 == worse['vehicle_ap40_bev_0.7'].value
    assert best['vehicle_ap40_bev_0.5'].count == 28 * 6
    assert (best['vehicle_found_0.5'].value, best['vehicle_found_0.5'].count) == (168, 168)


def test_figures_are_also_given_without_each_of_the_two_largest_objects():
    samples = sequence()
    metrics = accuracy_metrics(list(judge_frames(samples, TruthTeller(samples))), MIN_SCORES)
    without = [name for name in metrics if '_without_object_' in name]
    assert len(without) == 2
    assert all(metrics[name].count == 28 * 5 for name in without)


def test_recall_and_boxed_share_stand_for_each_object():
    samples = sequence()

    class LosesTheFirst(TruthTeller):
        """Publishes all but the first object of each frame."""

        def perceive(self, frame):
            return SimpleNamespace(detections=self.detect(frame).select(slice(1, None)))

    metrics = accuracy_metrics(list(judge_frames(samples, LosesTheFirst(samples))), MIN_SCORES)
    assert metrics['vehicle_recall_object_0'] == Metric(value=100.0, count=28)
    assert metrics['vehicle_boxed_object_0'].value == 0.0
    assert metrics['vehicle_boxed_object_3'].value == 100.0


def test_frames_in_which_nothing_is_published_are_misses_of_the_boxed_share():
    samples = sequence()

    class SilentAtFirst(TruthTeller):
        """Publishes nothing in a quarter of the 28 frames."""

        def perceive(self, frame):
            keep = slice(None) if frame.stamp_ns > 7 else slice(0)
            return SimpleNamespace(detections=self.detect(frame).select(keep))

    metrics = accuracy_metrics(list(judge_frames(samples, SilentAtFirst(samples))), MIN_SCORES)
    assert metrics['vehicle_boxed_object_3'] == Metric(value=75.0, count=28)


def test_few_objects_are_counted_and_get_no_average_precision():
    samples = sequence(num_cars=2)
    metrics = accuracy_metrics(list(judge_frames(samples, TruthTeller(samples))), MIN_SCORES)
    assert not any('ap40' in name for name in metrics)
    assert metrics['vehicle_found_0.25'].count == 56
    assert metrics['cyclist_found_0.5'] == Metric(value=0, count=0)


def test_frames_without_any_label_are_refused():
    samples = sequence(num_frames=2, num_cars=0)
    with pytest.raises(ValueError, match='no labelled box in any of 2 frames'):
        accuracy_metrics(list(judge_frames(samples, TruthTeller(samples))), MIN_SCORES)


def test_the_table_shows_intervals_counts_and_absent_values():
    metrics = {
        'vehicle_ap40_3d_0.5': Metric(value=51.234, low=40.0, high=60.0, count=289),
        'cyclist_found_0.5': Metric(value=12, count=154),
        'pedestrian_false_per_frame_0.5': Metric(value=None),
    }
    text = table(as_mapping('accuracy', 'drive', 'street', 'abc1234', metrics))
    assert text.splitlines()[2].split() == [
        'vehicle_ap40_3d_0.5', '51.23', '40.00', '..', '60.00', '289'
    ]  # fmt: skip
    assert text.splitlines()[-1].split() == ['pedestrian_false_per_frame_0.5', 'none', '0']


def test_result_lines_are_the_labels_they_were_read_from(tmp_path):
    folder = KittiObjectFolder(make_folder(tmp_path / 'in', 1))
    sample = folder.sample(0)
    detections = TruthTeller([sample]).detect(sample.frame)
    lines = result_lines(detections, folder.calibration(0), (1242, 375))
    assert [line.split()[0] for line in lines] == ['Car', 'Car', 'Cyclist']
    for line, row in zip(lines, ROWS, strict=True):
        have, want = (np.array(text.split()[8:15], float) for text in (line, row))
        assert np.allclose(have, want, atol=2e-4)
        trunc, occ, alpha, x1, y1, x2, y2 = map(float, line.split()[1:8])
        assert (trunc, occ) == (-1, -1)
        assert alpha == pytest.approx(want[6] - np.arctan2(want[3], want[5]), abs=2e-4)
        assert 0 <= x1 < x2 <= 1241 and 0 <= y1 < y2 <= 374


def test_boxes_behind_or_beside_the_image_give_no_line(tmp_path):
    (tmp_path / 'calib.txt').write_text(CALIB)
    sample = sequence(num_frames=1, num_cars=1)[0]
    detections = TruthTeller([sample], -30.0).detect(sample.frame)
    assert result_lines(detections, read_object_calibration(tmp_path / 'calib.txt')) == []


def test_evaluate_an_object_folder_prints_figures_and_writes_json(tmp_path, teller, capsys):
    folder = make_folder(tmp_path / 'in')
    teller(folder)
    out = tmp_path / 'figures' / 'a.json'
    assert main(['evaluate', str(folder), '--json', str(out)]) == 0
    report = json.loads(out.read_text())
    assert set(report) == {'suite', 'data', 'weights', 'commit', 'metrics'}
    metric = report['metrics']['vehicle_ap40_3d_0.5']
    assert (metric['value'], metric['count'], metric['low']) == (100.0, 6, None)
    assert report['metrics']['cyclist_found_0.5']['value'] == 3
    assert 'vehicle_ap40_3d_0.5' in capsys.readouterr().out


def test_predict_writes_a_file_a_frame_empty_when_nothing_is_found(tmp_path, teller):
    folder = make_folder(tmp_path / 'in', 2)
    (folder / 'label_2' / '000001.txt').write_text('')
    teller(folder)
    out = tmp_path / 'out'
    command = ['predict', '--format', 'kitti-object', str(folder), '--out', str(out)]
    assert main(command) == 0
    assert len((out / '000000.txt').read_text().splitlines()) == 3
    assert (out / '000001.txt').read_text() == ''
    assert main(command) == 1


@pytest.mark.parametrize(
    ('files', 'sentence'),
    [
        (['gt.txt'], 'holds no picture'),
        (['velodyne/0.bin', 'calib/0.txt'], 'has no label_2'),
        (['notes.md'], 'holds neither a bag'),
    ],
)
def test_evaluate_says_in_one_sentence_what_it_cannot_do(tmp_path, capsys, files, sentence):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('')
    assert main(['evaluate', str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert sentence in error and error.count('\n') == 1


def test_only_suites_that_exist_are_offered(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(['evaluate', str(tmp_path), '--suite', 'beauty'])
    assert exit_info.value.code == 2
    offered = capsys.readouterr().err.rpartition('choose from')[2]
    assert 'path-cost' in offered and 'fusion' in offered


def test_a_path_is_recognised_by_its_files(tmp_path):
    with pytest.raises(ValueError, match='no such file or folder'):
        layout_of(tmp_path / 'absent')
    (tmp_path / 'metadata.yaml').write_text('')
    assert layout_of(tmp_path) == 'bag'
