# SPDX-License-Identifier: Apache-2.0
"""One frame through the whole pipeline: every sensor may be absent, and nothing is invented."""

from dataclasses import replace
import gc
import itertools

from mmperception import checkpoint, devices, pipeline
from mmperception.config import from_mapping
from mmperception.datasets import kitti
from mmperception.datatypes import CameraView, Frame, PointCloud
from mmperception.devices import choose_device, choose_precision
from mmperception.geometry import apply, invert, transform_from_yaw
from mmperception.network.model import PerceptionNetwork
from mmperception.pipeline import (
    load_perceiver,
    Perceiver,
    untrained_perceiver,
)
from mmperception.tensors import inputs_from_frame, make_batch
import numpy as np
import pytest
import synthetic
from synthetic import SMALL_NETWORK
import torch


def make_network(**shape):
    """Return a small network whose random weights let images speak, too: as made, they do not."""
    torch.manual_seed(3)
    network = PerceptionNetwork(replace(SMALL_NETWORK, **shape)).eval()
    torch.nn.init.normal_(network.bev_head.residual.weight, std=0.5)
    torch.nn.init.constant_(network.bev_head.heat[-1].bias, -2.0)
    torch.nn.init.constant_(network.camera_head.heat[-1].bias, -1.0)
    return network


def make_perceiver(**settings):
    return Perceiver(
        make_network(), from_mapping({'device': 'cpu', 'precision': 'float32', **settings})
    )


def make_view(name='camera', seed=0, yaw_rad=0.0):
    """Return a camera of the synthetic mounting, turned left by `yaw_rad`."""
    base_from_camera = synthetic.mounting().base_from_camera['camera']
    turned = transform_from_yaw((0.0, 0.0, 0.0), yaw_rad) @ base_from_camera
    return CameraView(
        name=name,
        image=synthetic.image(seed=seed),
        model=synthetic.camera_model(),
        camera_from_base=invert(turned),
    )


def make_frame(cloud=True, cameras=None, stamp_ns=synthetic.START_NS):
    sensors = {}
    if cloud:
        sensors['cloud'] = synthetic.cloud(stamp_ns)
        sensors['base_from_lidar'] = synthetic.mounting().base_from_lidar
    return Frame(
        stamp_ns=stamp_ns,
        cameras=(make_view(),) if cameras is None else cameras,
        odom_from_base=np.eye(4),
        **sensors,
    )


def threshold_between(perceiver, frame):
    """Return a score with half of a frame's detections above it."""
    return float(np.median(perceiver.detect(frame).score))


def test_detections_carry_the_frame_and_the_stamp_of_the_sweep():
    perceiver = make_perceiver(base_frame='robot', odom_frame='world')
    perception = perceiver.perceive(make_frame())
    assert perception.detections.stamp_ns == synthetic.START_NS
    assert perception.detections.frame_id == 'robot'
    assert perception.tracks.stamp_ns == synthetic.START_NS
    assert perception.tracks.frame_id == 'world'


def test_the_stages_are_timed_in_the_order_in_which_they_run():
    timings_ms = make_perceiver().perceive(make_frame()).timings_ms
    assert list(timings_ms) == ['prepare', 'network', 'decode', 'track']
    assert min(timings_ms.values()) > 0


def test_images_weigh_what_a_camera_sees_and_nothing_else():
    network = make_network(check_images=True)
    before = Perceiver(network, from_mapping({'device': 'cpu', 'precision': 'float32'}))
    found, blind = (before.detect(make_frame(cameras=c)) for c in (None, ()))
    with torch.no_grad():
        network.image_check.out.bias += 1.0
    after = Perceiver(network, from_mapping({'device': 'cpu', 'precision': 'float32'}))
    timings_ms = {}
    weighed = after.detect(make_frame(), timings_ms)
    assert 'check' in timings_ms
    is_ahead = weighed.center[:, 0] > np.abs(weighed.center[:, 1])
    # Of the same boxes those before the camera gain, as far as it sees them; none loses.
    before_of = {
        (*c, k): x for c, k, x in zip(found.center, found.label, found.score, strict=True)
    }
    same = ((*c, k) for c, k in zip(weighed.center, weighed.label, strict=True))
    gain = weighed.score - np.array([before_of[key] for key in same])
    assert np.max(gain[is_ahead]) > 0.05 and np.min(gain) > -1e-6
    behind = weighed.center[:, 0] < -2.0
    assert behind.any() and np.abs(np.array(gain)[behind]).max() < 1e-6
    assert np.array_equal(after.detect(make_frame(cameras=())).score, blind.score)


def test_small_operations_stay_on_one_thread_and_the_network_keeps_its_own(monkeypatch):
    seen = []

    def note(*arguments):
        seen.append(torch.get_num_threads())
        return make_batch(*arguments)

    monkeypatch.setattr(pipeline, 'make_batch', note)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        make_perceiver(threads=2).perceive(make_frame())
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


def test_only_what_reaches_the_threshold_is_given_out():
    frame = make_frame()
    found = make_perceiver().detect(frame)
    threshold = threshold_between(make_perceiver(), frame)
    perceiver = make_perceiver(detection={'score_threshold': [threshold] * 3})
    given = perceiver.perceive(frame).detections
    assert 0 < len(given) < len(found)
    assert given.score.min() >= threshold
    np.testing.assert_array_equal(given.center, found.center[found.score >= threshold])
    assert (given.track_id > 0).all() and (found.track_id == -1).all()


def test_no_more_detections_are_given_out_than_are_allowed():
    perceiver = make_perceiver(detection={'max_detections': 3})
    found = perceiver.detect(make_frame())
    assert len(found) == 3
    assert (np.diff(found.score) <= 0).all()


def test_an_untrained_network_sees_nothing_in_an_empty_sweep():
    empty = PointCloud(
        stamp_ns=synthetic.START_NS, frame_id='lidar', points=np.zeros((0, 3), np.float32)
    )
    frame = replace(make_frame(cameras=()), cloud=empty)
    perception = make_perceiver().perceive(frame)
    assert len(perception.detections) == len(perception.tracks) == 0


def test_boxes_without_a_camera_are_the_ones_of_the_lidar():
    perceiver = make_perceiver()
    alone = perceiver.detect(make_frame(cameras=()))
    with_camera = perceiver.detect(make_frame())
    assert len(alone) > 0
    np.testing.assert_allclose(alone.covariance[:, 0, 0], 0.15**2, rtol=1e-6)
    assert not np.array_equal(alone.score, with_camera.score)  # else the camera says nothing


def test_without_lidar_boxes_stand_before_the_camera_as_unsure_as_they_are_far():
    view = make_view(yaw_rad=0.7)
    found = make_perceiver().detect(make_frame(cloud=False, cameras=(view,)))
    assert len(found) > 0
    depth_m = apply(view.camera_from_base, found.center.astype(np.float64))[:, 2]
    assert depth_m.min() > 0
    np.testing.assert_allclose(np.sqrt(found.covariance[:, 0, 0]), 0.1 * depth_m, rtol=1e-3)


@pytest.mark.parametrize('cloud', [True, False])
def test_the_order_of_the_cameras_changes_nothing(cloud):
    ahead, left = make_view('ahead', seed=1), make_view('left', seed=2, yaw_rad=1.0)
    perceiver = make_perceiver()
    first = perceiver.detect(make_frame(cloud, (ahead, left)))
    second = perceiver.detect(make_frame(cloud, (left, ahead)))
    assert len(first) == len(second) > 0
    np.testing.assert_allclose(first.score, second.score, atol=1e-5)
    np.testing.assert_allclose(first.center, second.center, atol=1e-3)
    alone = perceiver.detect(make_frame(cloud, (ahead,)))
    assert not np.array_equal(alone.score, first.score)


def test_a_frame_comes_back_as_it_went_in():
    frame = make_frame()
    points, pixels = frame.cloud.points.copy(), frame.cameras[0].image.pixels.copy()
    make_perceiver().perceive(frame)
    np.testing.assert_array_equal(frame.cloud.points, points)
    np.testing.assert_array_equal(frame.cameras[0].image.pixels, pixels)


def test_reset_forgets_the_tracks_and_gives_no_number_twice():
    frame = make_frame()
    threshold = threshold_between(make_perceiver(), frame)
    perceiver = make_perceiver(detection={'score_threshold': [threshold] * 3})
    later = [replace(frame, stamp_ns=frame.stamp_ns + n * 100_000_000) for n in range(3)]
    first = perceiver.perceive(later[0])
    followed = perceiver.perceive(later[1])
    assert len(first.tracks) == 0 < len(followed.tracks)  # a second match confirms
    np.testing.assert_array_equal(first.detections.track_id, followed.detections.track_id)
    perceiver.reset()
    again = perceiver.perceive(later[2])
    assert len(again.tracks) == 0
    assert again.detections.track_id.min() > first.detections.track_id.max()


def test_untrained_perceiver_of_one_seed_finds_the_same():
    config = from_mapping({'device': 'cpu', 'detection': {'max_detections': 5}})
    one, other = (untrained_perceiver(config, seed=2).detect(make_frame()) for _ in range(2))
    assert len(one) == 5
    np.testing.assert_array_equal(one.center, other.center)


def test_own_weights_are_loaded_only_when_they_are_trusted(tmp_path):
    path = str(tmp_path / 'own.safetensors')
    checkpoint.save_network(path, make_network(), {'licence': 'none'})
    with pytest.raises(ValueError, match='allow_unverified'):
        load_perceiver(from_mapping({'device': 'cpu'}), path)
    trusting = from_mapping({'device': 'cpu', 'precision': 'float32', 'allow_unverified': True})
    loaded = load_perceiver(trusting, path)
    assert loaded.weights_name == path
    frame = make_frame()
    np.testing.assert_allclose(
        loaded.detect(frame).center, make_perceiver().detect(frame).center, atol=1e-4
    )


def test_a_device_that_is_not_there_is_an_error_that_names_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    assert choose_device('cuda:0') == torch.device('cuda:0')
    with pytest.raises(ValueError, match='device: cuda:1 is not there; use auto or cpu'):
        choose_device('cuda:1')
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    with pytest.raises(ValueError, match='cuda is not there'):
        choose_device('cuda')


def test_auto_takes_the_processor_where_there_is_no_gpu_and_says_so(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert choose_device('auto') == torch.device('cpu')
    assert 'on the CPU' in caplog.text
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    assert choose_device('auto') == torch.device('cuda:0')


def test_bfloat16_is_close_and_is_refused_where_it_is_emulated(monkeypatch, caplog):
    monkeypatch.setattr(devices, 'has_bfloat16', lambda device: False)
    assert not choose_precision('bfloat16', torch.device('cpu'))
    assert 'float32 is used' in caplog.text
    monkeypatch.setattr(devices, 'has_bfloat16', lambda device: True)
    plain, half = make_perceiver(), make_perceiver(precision='bfloat16')
    assert half.is_half and not plain.is_half
    assert make_perceiver(precision='auto').is_half
    batch = make_batch(
        [inputs_from_frame(make_frame(), SMALL_NETWORK)], SMALL_NETWORK.grid, SMALL_NETWORK
    )
    with torch.inference_mode():
        expected = plain.network(batch)
        with torch.autocast('cpu', torch.bfloat16):
            found = half.network(batch)
    for name in ('heat_lidar', 'heat_fused', 'camera_box'):
        exact, rounded = getattr(expected, name), getattr(found, name).float()
        assert 0 < (exact - rounded).abs().mean() < 0.02 * exact.abs().mean(), name
    assert len(half.detect(make_frame())) > 0


@pytest.mark.skipif(
    not devices.has_bfloat16(torch.device('cpu')),
    reason='needs a CPU with avx512_bf16 or amx_bf16',
)
def test_bfloat16_finds_the_same_boxes_on_a_real_drive(real_data):
    drive = kitti.KittiDrive(real_data / 'kitti_raw/2011_09_26/2011_09_26_drive_0009_sync')
    found = {}
    for precision in ('float32', 'bfloat16'):
        perceiver = load_perceiver(from_mapping({
            **kitti.SETTINGS, 'device': 'cpu', 'precision': precision, 'signs': {'enabled': False},
        }))  # fmt: skip
        samples = itertools.islice(drive.samples(), 0, 40, 10)
        found[precision] = [perceiver.detect(sample.frame) for sample in samples]
    gaps = []
    for exact, rounded in zip(found['float32'], found['bfloat16'], strict=True):
        for n in np.flatnonzero(exact.score > 0.5):
            same = rounded.label == exact.label[n]
            away = np.linalg.norm(rounded.center[same] - exact.center[n], axis=1)
            gaps.append(away.min(initial=np.inf))
    assert len(gaps) > 20
    assert np.percentile(gaps, 95) < 0.03  # metres


@pytest.mark.gpu
def test_the_gpu_answers_like_the_processor():
    network, frame = make_network(), make_frame()
    batch = make_batch(
        [inputs_from_frame(frame, SMALL_NETWORK)], SMALL_NETWORK.grid, SMALL_NETWORK
    )
    torch.backends.cudnn.allow_tf32 = False
    with torch.inference_mode():
        expected, found = network(batch), network.cuda()(batch.to('cuda:0'))
    for name in ('heat_lidar', 'heat_fused', 'box', 'camera_heat', 'camera_box'):
        difference = getattr(found, name).cpu() - getattr(expected, name)
        assert difference.abs().max() < 1e-3, name


def test_a_second_thread_that_looks_at_images_changes_no_box():
    alone, together = make_perceiver(threads=1), make_perceiver(threads=2)
    assert alone.second is None and together.second is not None
    frames = (
        make_frame(),
        make_frame(cameras=()),
        make_frame(cloud=False),
    )
    for frame in frames:
        one, other = alone.detect(frame), together.detect(frame)
        assert len(one) > 0
        for name in ('center', 'size', 'yaw', 'score', 'label'):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-4), name


def test_an_image_that_cannot_be_used_fails_the_frame_with_a_second_thread_too(monkeypatch):
    def refuse(*arguments):
        raise ValueError('camera: of another world')

    monkeypatch.setattr(pipeline, 'images_from_frame', refuse)
    perceiver = make_perceiver(threads=2)
    with pytest.raises(ValueError, match='another world'):
        perceiver.detect(make_frame())
    monkeypatch.undo()
    assert len(perceiver.detect(make_frame())) > 0  # and the next one goes through


def test_the_second_thread_ends_with_its_perceiver():
    perceiver = make_perceiver(threads=2)
    (thread,) = perceiver.second._threads
    del perceiver
    gc.collect()
    thread.join(5.0)
    assert not thread.is_alive()


@pytest.mark.parametrize('cores, threads', [(1, 1), (2, 2), (3, 2), (8, 7)])
def test_one_core_is_left_alone_where_there_are_more_than_two(cores, threads):
    assert pipeline.default_threads(cores) == threads
