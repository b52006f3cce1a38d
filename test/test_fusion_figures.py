# SPDX-License-Identifier: Apache-2.0
"""The fusion suite with detectors whose use of each sensor is known, and alignment of features."""

from dataclasses import replace
import json
from pathlib import Path
from types import SimpleNamespace

from mmperception import pipeline
from mmperception.checkpoint import save_network
from mmperception.cli.main import main
from mmperception.config import from_mapping
from mmperception.datatypes import CameraView, Detections, Frame, Image, PointCloud
from mmperception.evaluation.fusion import count_gflop, facts_of, FusionSuite, Row, swap_images
from mmperception.evaluation.homogeneity import (
    features_of,
    homogeneity_metrics,
    linear_cka,
    overlap_of_errors,
)
from mmperception.evaluation.metrics import difference_of, mean_of, metric_of, precision_of
from mmperception.network.model import PerceptionNetwork
from mmperception.pipeline import Perceiver
from mmperception.recording import Sample, Truth
from mmperception.tensors import inputs_from_frame, make_batch
import numpy as np
import pytest
from synthetic import SMALL_NETWORK
from test_matching import CAMERA_FROM_BASE, MODEL
from test_metrics import result
import torch

NUM_FRAMES = 8
CENTER = np.array([[6, 1, 0], [12, -2, 0], [40, 0, 0]], np.float32)
SIZE = np.array([[4, 1.8, 1.6], [0.8, 0.8, 3.2], [4, 1.8, 20.0]], np.float32)


def make_samples():
    """Return frames with a car, a pedestrian and a far car; each image shows its own number."""
    samples = []
    for number in range(NUM_FRAMES):
        truth = Truth(
            stamp_ns=number + 1,
            center=CENTER,
            size=SIZE,
            yaw=np.zeros(3, np.float32),
            kinds=('car', 'pedestrian', 'car'),
            occlusion=np.zeros(3, np.int64),
            object_id=('a', 'b', 'c'),
            is_ignored=np.zeros(3, bool),
        )
        points = np.repeat(CENTER, 40, axis=0)
        pixels = np.full((100, 200, 3), number * 10, np.uint8)
        image = Image(stamp_ns=number + 1, frame_id='camera_optical', pixels=pixels)
        view = CameraView(
            name='camera', image=image, model=MODEL, camera_from_base=CAMERA_FROM_BASE
        )
        frame = Frame(
            stamp_ns=number + 1,
            cloud=PointCloud(stamp_ns=number + 1, frame_id='lidar', points=points),
            base_from_lidar=np.eye(4),
            odom_from_base=np.eye(4),
            cameras=(view,),
        )
        samples.append(Sample(frame=frame, truth=truth, source=str(number)))
    return samples


class Detector:
    """
    Finds cars by LiDAR, people by their own image; blind, cars 1.4 m off.

    With `remembers` people are found only right after the frame before.
    """

    def __init__(self, remembers=False, finds_people=True):
        self.network = SimpleNamespace(fusion=SimpleNamespace(has_memory=remembers))
        self.config = SimpleNamespace(detection=SimpleNamespace(score_threshold=(0.5, 0.5, 0.5)))
        self._finds_people = finds_people

    def detect(self, frame, timings_ms=None, past=None):
        number = frame.stamp_ns - 1
        sees = bool(frame.cameras) and frame.cameras[0].image.pixels[0, 0, 0] == number * 10
        knows = True
        if self.network.fusion.has_memory:
            knows = past is not None and past.state is not None
        if past is not None:
            past.previous_from_base(frame)
            past.keep('seen', frame)
        rows = [0] * (frame.cloud is not None or bool(frame.cameras))
        rows += [1] * bool(sees and knows and self._finds_people and frame.cloud is not None)
        center = CENTER[rows].copy()
        if frame.cloud is None:
            center[:, 0] += 1.4
        N = len(rows)
        return Detections(
            stamp_ns=frame.stamp_ns,
            frame_id='base_link',
            center=center,
            size=SIZE[rows],
            yaw=np.zeros(N, np.float32),
            score=np.full(N, 0.9, np.float32),
            label=np.array(rows, np.int64),
            covariance=np.zeros((N, 6, 6)),
            track_id=np.arange(N),
        )


def suite(**changes):
    samples = make_samples()
    changes = {'range_m': 25.6, 'block_frames': 1} | changes
    return FusionSuite(samples, changes.pop('is_judged', np.ones(NUM_FRAMES, bool)), **changes)


def row(**changes):
    sensors = changes.pop('sensors', 'both')
    return Row(perceiver=Detector(**changes), sensors=sensors, facts={})


def test_swapped_images_cost_people_and_no_cars():
    metrics = suite().metrics(row())
    assert metrics['vehicle_ap40_3d_0.5'].value == 100.0
    assert metrics['macro_ap40_3d_0.5'].value == 100.0
    assert metrics['beams_16_swapped_pedestrian_ap40_3d_0.5'].value == 0.0
    assert metrics['camera_use_vehicle'].value == 0.0
    use = metrics['camera_use_macro']
    assert (use.value, use.low, use.high) == (50.0, 50.0, 50.0)
    assert metrics['camera_gain_macro'].value == 50.0


def test_a_detector_that_neglects_the_camera_is_seen_to():
    metrics = suite().metrics(row(finds_people=False))
    assert metrics['camera_use_macro'].value == metrics['camera_gain_macro'].value == 0.0


def test_without_lidar_cars_are_found_in_the_image_and_within_two_metres():
    metrics = suite().metrics(row())
    assert metrics['lidar_gone_vehicle_ap40_3d_0.5'].value == 0.0
    assert metrics['lidar_gone_vehicle_ap40_2m'].value == 100.0
    assert metrics['lidar_gone_vehicle_ap40_2d_0.5'].value == 100.0


def test_boxes_beyond_the_reach_of_the_networks_do_not_count():
    assert suite().metrics(row())['vehicle_ap40_3d_0.5'].count == NUM_FRAMES
    far = suite(range_m=50.0).metrics(row())['vehicle_ap40_3d_0.5']
    assert far.count == 2 * NUM_FRAMES and far.value < 60


def test_memory_is_empty_unless_the_figure_says_full():
    is_judged = np.arange(NUM_FRAMES) % 2 == 1
    metrics = suite(is_judged=is_judged).metrics(row(remembers=True))
    assert metrics['pedestrian_ap40_3d_0.5'].value == 0.0
    assert metrics['full_memory_pedestrian_ap40_3d_0.5'].value == 100.0
    assert metrics['memory_gain_macro'].value == 50.0
    assert 'full_memory_vehicle_ap40_3d_0.5' not in suite().metrics(row())


def test_rows_of_one_sensor_get_that_one_only():
    lidar, camera = (suite().metrics(row(sensors=name)) for name in ('lidar', 'camera'))
    assert lidar['pedestrian_ap40_3d_0.5'].value == 0.0 and 'camera_use_macro' not in lidar
    assert camera['vehicle_ap40_2m'].value == 100.0
    assert camera['vehicle_ap40_3d_0.5'].value == 0.0


def test_two_rows_are_compared_on_the_same_frames():
    difference = suite().compare(row(), row(finds_people=False), 'one/minus_other')
    assert difference['one/minus_other_vehicle'].value == 0.0
    assert difference['one/minus_other_macro'].low == 50.0


def test_images_of_another_drive_are_resized_and_keep_their_stamp():
    frame = make_samples()[0].frame
    swapped = swap_images(frame, np.full((50, 60, 3), 255, np.uint8))
    assert swapped.cameras[0].image.pixels.shape == (100, 200, 3)
    assert (swapped.cameras[0].image.pixels == 255).all()
    assert swapped.cameras[0].image.stamp_ns == frame.cameras[0].image.stamp_ns
    others = [np.full((50, 60, 3), 255, np.uint8)]
    assert suite(others=others).metrics(row())['camera_use_macro'].value == 50.0


def test_frames_without_an_image_are_named():
    samples = [replace(s, frame=replace(s.frame, cameras=())) for s in make_samples()]
    with pytest.raises(ValueError, match='has no image'):
        FusionSuite(samples, np.ones(NUM_FRAMES, bool))


def test_a_paired_difference_is_narrower_than_its_sides():
    rng = np.random.default_rng(0)
    one, other = [], []
    for _ in range(40):
        hit = bool(rng.random() < 0.6)
        found = [0.9 if hit else -1]
        one.append(result([0.9], [hit], found))
        other.append(result([0.9], [hit], found))
    figures = precision_of(one), precision_of(other)
    side = metric_of(figures[0], 40, 40, block_frames=1)
    difference = metric_of(difference_of(*figures), 40, 40, block_frames=1)
    assert side.high - side.low > 10
    assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)


def test_the_mean_over_classes_leaves_out_classes_without_truth():
    none = precision_of([result()])
    half = precision_of([result([0.9], [1], [0.9, -1])])
    assert mean_of([none, half])(np.ones(1)) == pytest.approx(50.0)
    assert mean_of([none])(np.ones(1)) is None


def make_perceiver(fusion='attention', seed=3):
    torch.manual_seed(seed)
    network = PerceptionNetwork(replace(SMALL_NETWORK, fusion=fusion)).eval()
    return Perceiver(network, from_mapping({'device': 'cpu', 'precision': 'float32'}))


def test_operations_are_counted_as_by_hand():
    layer = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
    found = count_gflop(lambda: layer(torch.zeros(1, 3, 10, 20)))
    assert found == pytest.approx(2 * 3 * 9 * 8 * 200 * 1e-9)


def test_facts_of_a_network_are_counts_times_and_what_its_file_says():
    perceiver = make_perceiver()
    facts = facts_of(perceiver, make_samples()[0].frame, {'samples': '12', 'step_s': '7'})
    assert facts['samples'].value == 12 and facts['step_s'].value == 7
    assert facts['parameters'].value > 10_000 and facts['gflop'].value > 0
    assert facts['network_ms'].value > 0


def test_a_memory_is_among_the_operations_of_a_network_that_has_one():
    network = make_perceiver('recurrent').network
    inputs = inputs_from_frame(make_samples()[0].frame, network.config)
    inputs = replace(inputs, previous_from_base=np.eye(4))
    batch = make_batch([inputs], network.config.grid, network.config)
    with torch.inference_mode():
        memory = network.remember(batch)
        empty = count_gflop(lambda: network.remember(batch))
        full = count_gflop(lambda: network.remember(batch, memory))
    # On 64 x 64 cells: the gate, 16 to 8 channels and 3 x 3, and the turn of each place.
    assert full - empty == pytest.approx(2 * (16 * 9 * 8 + 2 * 2) * 64 * 64 * 1e-9, rel=1e-6)


def features(seed=0, n=3000, channels=6):
    return np.random.default_rng(seed).normal(size=(n, channels))


def test_equal_features_are_aligned_by_one():
    x = features()
    assert linear_cka(x, x) == pytest.approx(1.0, abs=1e-12)


def test_turned_shifted_and_scaled_features_are_aligned_by_one():
    x = features()
    turn = np.linalg.qr(features(seed=1, n=6))[0]
    assert linear_cka(x, -3.0 * x @ turn + 5.0) == pytest.approx(1.0, abs=1e-9)


def test_independent_and_shuffled_features_are_not_aligned():
    x = features() @ np.diag((3.0, 2.0, 1.0, 1.0, 0.1, 0.1))
    assert abs(linear_cka(x, features(seed=2, channels=4))) < 0.01
    assert abs(linear_cka(x, x[np.random.default_rng(0).permutation(len(x))])) < 0.01


def test_debiased_alignment_of_few_independent_rows_is_zero_on_average():
    # The plain estimate is about 0.45 here: as many channels as rows fit anything.
    values = [linear_cka(features(k, 20, 12), features(k + 500, 20, 12)) for k in range(200)]
    assert abs(np.mean(values)) < 0.02


def test_alignment_equals_its_definition_with_whole_kernel_matrices():
    x, y = features(0, 12, 3), features(1, 12, 2) + features(0, 12, 3)[:, :2]

    def dependence(a, b):
        k, m = a @ a.T, b @ b.T
        np.fill_diagonal(k, 0)
        np.fill_diagonal(m, 0)
        n = len(a)
        value = np.trace(k @ m) + k.sum() * m.sum() / ((n - 1) * (n - 2))
        return (value - 2 / (n - 2) * (k @ m).sum()) / (n * (n - 3))

    expected = dependence(x, y) / np.sqrt(dependence(x, x) * dependence(y, y))
    assert linear_cka(x, y) == pytest.approx(expected, rel=1e-9)


def test_rows_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match='3 and 3 rows'):
        linear_cka(features(n=3), features(n=3))
    with pytest.raises(ValueError, match='5 and 6 rows'):
        linear_cka(features(n=5), features(n=6))


def spread_samples():
    """Return frames with many points before the camera, so that many pillars are in view."""
    rng = np.random.default_rng(0)
    samples = []
    for sample in make_samples()[:2]:
        points = rng.uniform((5, -4, -1), (24, 4, 1), (2000, 3)).astype(np.float32)
        pixels = rng.integers(0, 255, (100, 200, 3), dtype=np.uint8)
        view = sample.frame.cameras[0]
        view = replace(view, image=replace(view.image, pixels=pixels))
        cloud = PointCloud(stamp_ns=sample.frame.stamp_ns, frame_id='lidar', points=points)
        samples.append(replace(sample, frame=replace(sample.frame, cloud=cloud, cameras=(view,))))
    return samples


def test_features_are_those_of_the_pillars_in_view_and_both_at_the_same_ones():
    perceiver, samples = make_perceiver(), spread_samples()
    lidar, camera = features_of(perceiver.network, [samples[0].frame])
    assert len(lidar) == len(camera) > 300
    behind = samples[0].frame
    points = behind.cloud.points * np.array([-1, 1, 1], np.float32)
    behind = replace(behind, cloud=replace(behind.cloud, points=points))
    assert len(features_of(perceiver.network, [behind])[0]) == 0


def test_homogeneity_has_its_references_beside_it():
    samples = spread_samples()
    metrics = homogeneity_metrics(samples, make_perceiver(), against=make_perceiver(seed=4))
    assert abs(metrics['cka_shuffled'].value) < 0.05
    assert metrics['cka_lidar_of_both'].value > metrics['cka_shuffled'].value
    assert metrics['cka'].count == metrics['cka_camera_of_both'].count > 600
    same = homogeneity_metrics(samples, make_perceiver(), against=make_perceiver())
    assert same['cka_camera_of_both'].value == pytest.approx(1.0)


def test_errors_of_both_sensors_are_counted_one_by_one():
    metrics = overlap_of_errors(make_samples(), Detector())
    # The near car is found by both (blind 1.4 m off), the far one by neither.
    assert metrics['vehicles_found_by_both'].value == NUM_FRAMES
    assert metrics['vehicles_found_by_neither'].value == NUM_FRAMES
    assert metrics['vehicles_found_by_camera_alone'].value == 0
    assert metrics['vehicles_found_by_both'].count == 2 * NUM_FRAMES


@pytest.fixture
def simulated(monkeypatch, tmp_path):
    """Let the commands meet these frames instead of simulated ones; return two weights files."""

    def clip(seed, number, with_camera, length):
        return spread_samples()[-length:] if length < 3 else spread_samples() * 2

    monkeypatch.setattr('mmperception.simulation.drive.simulate_clip', clip)
    names = []
    for fusion in ('concat', 'recurrent'):
        path = tmp_path / fusion / 'weights.safetensors'
        torch.manual_seed(0)
        network = PerceptionNetwork(replace(SMALL_NETWORK, fusion=fusion))
        save_network(path, network, {'samples': '5', 'train': json.dumps({'sensors': 'both'})})
        names.append(str(path))
    (tmp_path / 'p.yaml').write_text('allow_unverified: true\nsigns: {enabled: false}\n')
    return names


def run_suite(tmp_path, weights, suite, against):
    out = tmp_path / 'figures.json'
    arguments = ['evaluate', 'simulated', '--suite', suite, '--weights', weights, '--scenes', '2']
    arguments += ['--params', str(tmp_path / 'p.yaml'), '--json', str(out), '--device', 'cpu']
    assert main([*arguments, '--against', *against]) == 0
    return json.loads(out.read_text())


def test_the_command_makes_the_table_of_several_weights(simulated, tmp_path):
    report = run_suite(tmp_path, simulated[0], 'fusion', simulated)
    assert report['weights'] == 'concat, recurrent' and report['suite'] == 'fusion'
    metrics = report['metrics']
    assert metrics['concat/samples']['value'] == 5
    assert 'recurrent/full_memory_macro_ap40_3d_0.5' in metrics
    assert 'recurrent/minus_concat_vehicle' in metrics


def test_the_command_compares_the_features_of_two_networks(simulated, tmp_path):
    metrics = run_suite(tmp_path, simulated[0], 'homogeneity', simulated[1:])['metrics']
    assert {'cka', 'cka_untrained', 'cka_lidar_of_both'} <= set(metrics)
    assert metrics['cka']['count'] > 300


def test_two_weights_of_one_name_are_refused(simulated, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(pipeline, 'load_perceiver', lambda config, name: None)
    namesake = tmp_path / 'elsewhere' / 'concat' / 'weights.safetensors'
    namesake.parent.mkdir(parents=True)
    namesake.write_bytes(Path(simulated[0]).read_bytes())
    arguments = ['evaluate', 'simulated', '--suite', 'fusion', '--weights', simulated[0]]
    assert main([*arguments, '--against', str(namesake)]) == 2
    assert 'two networks are called concat' in capsys.readouterr().err
