# SPDX-License-Identifier: Apache-2.0
"""Figures of signs by hand-made answers, and the two commands that write sign results."""

import json

from mmperception.checkpoint import save_network
from mmperception.cli import signs as sign_commands
from mmperception.cli.main import main
from mmperception.evaluation.sign_failures import failure_sheet, failures_of, summary_of
from mmperception.evaluation.signs import (
    detection_metrics,
    JudgedImage,
    match_signs,
    reading_metrics,
)
from mmperception.network.signs import (
    build_sign_network,
    CLASSIFIER,
    default_config,
    DETECTOR,
    REJECT,
)
from mmperception.signs import SignDetections
import numpy as np
import pytest
from test_sign_data import BOX, write_gtsdb, write_gtsrb


def detections(boxes, score, class_id):
    number = len(boxes)
    return SignDetections(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        score=np.array(score, np.float32),
        class_id=np.array(class_id, np.int64),
        probability=np.zeros((number, REJECT + 1), np.float32),
    )


def judged(boxes, classes, found, name='a'):
    return JudgedImage(
        file=name,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        class_id=np.array(classes, np.int64),
        found=found,
    )


def test_the_better_of_two_detections_of_one_sign_is_the_hit():
    box = [10, 10, 40, 40]
    image = judged([box], [14], detections([box, [12, 10, 42, 40]], [0.9, 0.8], [14, 14]))
    result, matched = match_signs(image)
    assert result.is_hit.tolist() == [True, False] and matched.tolist() == [0, -1]
    assert result.found_score == pytest.approx([0.9])


def test_a_sign_read_wrongly_is_found_but_not_of_its_class():
    box = [10, 10, 40, 40]
    image = judged([box], [14], detections([box], [0.9], [13]))
    assert match_signs(image)[0].is_hit.tolist() == [True]
    assert match_signs(image, 14)[0].found_score.tolist() == [-1]
    assert match_signs(image, 13)[0].is_hit.tolist() == [False]


def test_figures_of_five_signs_one_missed_one_misread_one_false():
    boxes = [[20 * n, 10, 20 * n + 16, 26] for n in range(5)]
    images = [
        judged([box], [2], detections([box], [0.9], [2 if n != 1 else 1]), str(n))
        for n, box in enumerate(boxes[:4])
    ]
    images.append(judged([boxes[4]], [2], detections([[200, 0, 230, 30]], [0.7], [2]), '4'))
    metrics = detection_metrics(images, 0.5)
    assert metrics['sign_ap_0.5'].value == pytest.approx(80.0)
    assert metrics['sign_recall_0_24px'].value == pytest.approx(80.0)
    assert metrics['sign_recall_32px_up'].value is None
    assert metrics['sign_false_per_image'].value == pytest.approx(0.2)
    assert metrics['read_right'].value == pytest.approx(75.0)
    assert metrics['class_mean_ap_0.5'].value == pytest.approx(60.0)


def test_images_without_signs_and_detections_give_figures_too():
    metrics = detection_metrics([judged([], [], detections([], [], []))], 0.5)
    assert metrics['sign_ap_0.5'].value is None
    assert metrics['sign_false_per_image'].value == 0


def test_reading_counts_right_classes_and_what_a_threshold_keeps():
    probability = np.zeros((4, REJECT + 1), np.float32)
    for n, (class_id, share) in enumerate(((3, 0.95), (3, 0.6), (5, 0.4), (7, 0.8))):
        probability[n, class_id] = share
    metrics = reading_metrics(np.array([3, 3, 5, 8]), list('aabc'), probability)
    assert metrics['reading_accuracy'].value == 75.0
    assert metrics['kept_at_0.5'].value == 75.0
    assert metrics['wrong_at_0.5'].value == pytest.approx(100 / 3)
    assert metrics['wrong_at_0.9'].value == 0.0


@pytest.fixture
def weights(tmp_path):
    """Return options that name a folder with untrained networks."""
    folder = tmp_path / 'weights'
    for kind in (DETECTOR, CLASSIFIER):
        network = build_sign_network(default_config(kind))
        if kind == DETECTOR:
            network.head.bias.data[0] = -1.0
        save_network(folder / f'{kind}.safetensors', network, {})
    params = tmp_path / 'own.yaml'
    params.write_text('allow_unverified: true\n')
    return ['--weights', str(folder), '--params', str(params), '--device', 'cpu']


def test_predict_writes_one_line_a_sign_in_the_form_of_gtsdb(tmp_path, weights):
    write_gtsdb(tmp_path / 'in' / 'sub', suffix='.ppm')
    out = tmp_path / 'result' / 'signs.csv'
    command = ['predict', '--format', 'gtsdb', str(tmp_path / 'in'), '--out', str(out), *weights]
    assert main(command) == 0
    lines = [line.split(';') for line in out.read_text().splitlines()]
    assert lines and {line[0] for line in lines} <= {f'sub/{n:05d}.ppm' for n in range(3)}
    for _, x1, y1, x2, y2, class_id, score in lines:
        assert 0 <= float(x1) < float(x2) <= 180 and 0 <= float(y1) < float(y2) <= 120
        assert -1 <= int(class_id) < 43 and 0 <= float(score) <= 1
    assert main(command) == 1
    assert main([*command, '--force']) == 0


def test_predict_gives_every_crop_its_best_class(tmp_path, weights):
    write_gtsrb(tmp_path / 'in')
    out = tmp_path / 'signs.csv'
    assert main(['predict', '--format', 'gtsrb', str(tmp_path / 'in'), '--out', str(out),
                 *weights]) == 0  # fmt: skip
    lines = [line.split(';') for line in out.read_text().splitlines()]
    assert len(lines) == 20 and lines[0][0] == 'Train/14/00000_00000.png'
    assert all(0 <= int(class_id) < 43 and 0 < float(score) < 1 for _, class_id, score in lines)


def test_a_broken_picture_is_named(tmp_path, weights, capsys):
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in' / 'broken.png').write_bytes(b'no picture')
    out = str(tmp_path / 'x.csv')
    assert (
        main(['predict', '--format', 'gtsrb', str(tmp_path / 'in'), '--out', out, *weights]) == 1
    )
    assert 'broken.png: cannot be read as a picture' in capsys.readouterr().err


class Teller:
    """A reader that knows the box of every test image and the class of every crop."""

    calibration = None

    def peaks(self, pixels):
        box, score = np.array([BOX], np.float32), np.array([0.9], np.float32)
        return box, score, self.read([None])

    def weighed(self, boxes, score, probability, size_px):
        return detections(boxes, score, [14])

    def read(self, crops):
        probability = np.zeros((len(crops), REJECT + 1), np.float32)
        probability[:, 14] = 0.9
        return probability


@pytest.mark.parametrize(
    ('write', 'name', 'value'),
    # Of three images the last shows a sign that is not listed: found last, it costs nothing.
    [(write_gtsdb, 'sign_recall_32px_up', 100.0), (write_gtsrb, 'reading_accuracy', 50.0)],
)
def test_evaluate_knows_the_sign_folders_by_their_files(tmp_path, monkeypatch, write, name, value):
    monkeypatch.setattr(sign_commands, '_readers', lambda config, fold: {-1: Teller()})
    write(tmp_path / 'in')
    out = tmp_path / 'figures.json'
    assert main(['evaluate', str(tmp_path / 'in'), '--json', str(out)]) == 0
    report = json.loads(out.read_text())
    assert report['suite'] == 'signs' and report['weights'] == 'signs'
    assert report['metrics'][name]['value'] == pytest.approx(value)


def test_each_fold_is_judged_with_the_calibration_of_the_others(tmp_path, monkeypatch, capsys):
    readers = {0: Teller(), 1: Teller()}
    monkeypatch.setattr(sign_commands, '_readers', lambda config, fold: readers)
    monkeypatch.setattr('mmperception.datasets.gtsdb.gtsdb_folds', lambda pixels: [0, 1, 1])
    fitted_on = []

    def fit(images):
        fitted_on.append(len(images))
        return f'fitted on {len(images)}'

    monkeypatch.setattr('mmperception.evaluation.sign_fit.fit_calibration', fit)
    write_gtsdb(tmp_path / 'in')
    assert main(['evaluate', str(tmp_path / 'in'), '--calibrate']) == 0
    assert 'fitted on 3' in capsys.readouterr().out
    assert readers[0].calibration == 'fitted on 2' and readers[1].calibration == 'fitted on 1'


def test_one_network_alone_cannot_be_calibrated(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sign_commands, '_readers', lambda config, fold: {-1: Teller()})
    monkeypatch.setattr('mmperception.evaluation.sign_fit.fit_calibration', lambda images: None)
    write_gtsdb(tmp_path / 'in')
    assert main(['evaluate', str(tmp_path / 'in'), '--calibrate']) == 2
    assert 'at least two folds' in capsys.readouterr().err


def test_each_failure_says_why(tmp_path):
    boxes = [[10, 10, 40, 40], [60, 10, 90, 40], [110, 10, 140, 40], [10, 60, 40, 90]]
    found = detections(
        # Hit but misread, weak, beside its sign, double of the first, on nothing.
        [boxes[0], boxes[1], [125, 10, 155, 40], [12, 10, 42, 40], [100, 60, 130, 90]],
        [0.95, 0.2, 0.8, 0.7, 0.6],
        [13, 14, 14, 14, 2],
    ).select([0, 2, 3, 4, 1])
    image = judged(boxes, [14, 14, 14, 14], found)
    pixels = np.zeros((100, 180, 3), np.uint8)
    pixels[10:40, 60:90] = 200
    failures = failures_of(image, pixels, 0.5)
    why = sorted((failure.kind, failure.reason) for failure in failures)
    assert why == [
        ('false', 'double'), ('false', 'nothing there'), ('false', 'overlap'),
        ('misread', 'class'),
        ('missed', 'no peak'), ('missed', 'overlap'), ('missed', 'score'),
    ]  # fmt: skip
    (weak,) = [failure for failure in failures if failure.reason == 'score']
    assert weak.words == ('stop', '30 px, score 0.20')
    assert weak.patch[56, 56].min() > 190 and weak.patch[2, 2].max() < 10
    assert summary_of(failures)[1].startswith('false: 3 (')
    sheet = failure_sheet([f for f in failures if f.kind == 'missed'] * 20)
    assert sheet.shape[1] <= 800 and sheet.shape[0] <= 800


def test_evaluate_leaves_pictures_of_its_failures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sign_commands, '_readers', lambda config, fold: {-1: Teller()})
    write_gtsdb(tmp_path / 'in')
    pictures = str(tmp_path / 'pictures')
    assert main(['evaluate', str(tmp_path / 'in'), '--pictures', pictures]) == 0
    assert [path.name for path in (tmp_path / 'pictures').iterdir()] == ['false.png']
    assert 'false: 1 (nothing there 1)' in capsys.readouterr().out


def test_networks_of_a_fold_judge_their_fold_and_those_without_the_data_all(tmp_path):
    from mmperception.config import from_mapping

    detector, classifier = (
        build_sign_network(default_config(kind)) for kind in (DETECTOR, CLASSIFIER)
    )
    for fold in (0, 3):
        train = json.dumps({'gtsdb_fold': fold, 'sources': ['gtsdb', 'drawn']})
        save_network(tmp_path / f'd{fold}.safetensors', detector, {'train': train})
    train = json.dumps({'gtsdb_fold': -1, 'gtsrb_fold': 0, 'sources': ['gtsrb', 'drawn']})
    save_network(tmp_path / 'c.safetensors', classifier, {'train': train})
    config = from_mapping({'signs': {'weights': str(tmp_path)}, 'allow_unverified': True})
    assert sorted(sign_commands._readers(config, 'gtsdb_fold')) == [0, 3]
    assert sorted(sign_commands._readers(config, 'gtsrb_fold')) == [0]
