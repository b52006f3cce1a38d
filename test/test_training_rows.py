# SPDX-License-Identifier: Apache-2.0
"""Rows of a comparison: the same samples for all, one sensor less where a row says so."""

from dataclasses import replace
import json

from mmperception.checkpoint import load_network, read_tensors
from mmperception.cli.main import main
from mmperception.training import loop
from mmperception.training.config import TrainConfig
from mmperception.training.loop import Trainer
from mmperception.training.losses import decorrelation_loss
from mmperception.training.rows import load_rows, RowTrainers
from mmperception.training.scenes import save_scene
from mmperception.training.senses import with_only
import pytest
from test_recurrent import clip_of_two
from test_training import make_scene
import torch
import yaml

pytestmark = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split('.')[:2])) < loop.OLDEST_TORCH,
    reason='training needs torch 2.11',
)
SHARED = {
    'steps': 3,
    'batch_size': 1,
    'window_m': [12.8, 12.8],
    'cell_m': 0.4,
    'range_m': 12.8,
    'camera_batches': 1.0,
    'workers': 0,
}


def write(path, **values):
    path.write_text(yaml.safe_dump(SHARED | values))
    return path


def test_rows_share_what_they_do_not_say(tmp_path):
    rows = {'one': {'fusion': 'concat'}, 'lidar': {'sensors': 'lidar'}}
    trains = load_rows(write(tmp_path / 'rows.yaml', rows=rows))
    assert trains['one'].fusion == 'concat' and trains['lidar'].fusion == 'attention'
    assert trains['one'].network.cell_m == 0.4 and trains['lidar'].steps == 3


@pytest.mark.parametrize(
    'values, words',
    [
        ({'rows': {}}, 'none is named'),
        ({'rows': ['concat']}, 'expected a mapping'),
        ({'rows': {'a': {}, 'b': {'seed': 1}}}, 'row b differs'),
        ({'rows': {'a': {'fusoin': 'conv'}}}, 'unknown setting fusoin'),
        ({'rows': {'a': {}}, 'minutes': 1.0}, 'rows end by steps'),
    ],
)
def test_rows_that_cannot_be_compared_are_named(tmp_path, values, words):
    with pytest.raises(ValueError, match=words):
        load_rows(write(tmp_path / 'rows.yaml', **values))


def test_a_row_learns_what_it_would_have_learned_alone(tmp_path):
    rows = {name: {'fusion': name} for name in ('concat', 'recurrent')}
    trains = load_rows(write(tmp_path / 'rows.yaml', rows=rows))
    together = RowTrainers(trains, tmp_path / 'both', clip_of_two())
    heard = []
    together.run(lambda name, step, parts: heard.append((name, step)))
    assert heard[:4] == [('concat', 0), ('recurrent', 0), ('concat', 1), ('recurrent', 1)]
    alone = Trainer(trains['concat'], tmp_path / 'alone', clip_of_two())
    alone.run(lambda step, parts: None)
    for name, value in alone.average.items():
        assert torch.equal(together.trainers['concat'].average[name], value), name
    network, facts = load_network(tmp_path / 'both' / 'recurrent' / 'weights.safetensors')
    assert network.config.fusion == 'recurrent' and network.config.cell_m == 0.4
    assert facts['samples'] == '3' and float(facts['step_s']) >= 0


def test_rows_begin_alike_where_they_have_the_same_parts(tmp_path):
    rows = {name: {'fusion': name} for name in ('attention', 'conv')}
    trains = load_rows(write(tmp_path / 'r.yaml', rows=rows))
    trainers = RowTrainers(trains, tmp_path, [make_scene()])
    states = [trainer.network.state_dict() for trainer in trainers.trainers.values()]
    shared = states[0].keys() & states[1].keys()
    assert any(name.startswith('bev_head') for name in shared)
    for name in shared:
        assert torch.equal(states[0][name], states[1][name]), name
        assert torch.equal(trainers.trainers['conv'].average[name], states[0][name]), name


def test_rows_that_were_killed_go_on_each_from_its_state(tmp_path):
    trains = load_rows(write(tmp_path / 'rows.yaml', rows={'a': {}, 'b': {'fusion': 'conv'}}))
    whole = RowTrainers(trains, tmp_path / 'whole', [make_scene()])
    whole.run(lambda name, step, parts: None)
    first = RowTrainers(trains, tmp_path / 'cut', [make_scene()])
    first.trainers['a'].one_step(*first._drawing.batches[0])
    first.trainers['a'].save()
    second = RowTrainers(trains, tmp_path / 'cut', [make_scene()])
    second.resume()
    assert second.trainers['a'].step == 1 and second.step == 0
    second.run(lambda name, step, parts: None)
    for name in trains:
        for key, value in whole.trainers[name].average.items():
            found = second.trainers[name].average[key]
            assert torch.allclose(found.float(), value.float(), atol=1e-5), key


def test_the_command_trains_rows(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv('MMPERCEPTION_DATA', raising=False)
    (tmp_path / 'scenes').mkdir()
    save_scene(tmp_path / 'scenes' / 'a.npz', make_scene())
    rows = {'lidar': {'sensors': 'lidar'}, 'camera': {'sensors': 'camera'}}
    path = write(tmp_path / 'r.yaml', rows=rows, scenes=str(tmp_path / 'scenes'), steps=1)
    assert main(['train', str(path), '--out', str(tmp_path / 'out')]) == 0
    assert 'weights of camera' in capsys.readouterr().out
    assert (tmp_path / 'out' / 'lidar' / 'weights.safetensors').exists()
    assert main(['train', str(path), '--out', str(tmp_path / 'out')]) == 1


def test_a_row_of_one_sensor_never_sees_the_other(tmp_path):
    trains = load_rows(write(tmp_path / 'r.yaml', rows={'a': {}}))
    batches = Trainer(trains['a'], tmp_path, [make_scene()]).batches
    batch = next(batch for batch, _ in (batches[i] for i in range(20)) if batch.image_mask.any())
    assert with_only(batch, 'lidar').images.shape[1] == 0
    blind = with_only(batch, 'camera')
    assert len(blind.points) == len(blind.pillar_cell) == 0 and not blind.lidar_mask.any()
    assert with_only(batch, 'both') is batch


def test_a_state_from_before_a_setting_existed_still_resumes(tmp_path):
    trains = load_rows(write(tmp_path / 'r.yaml', rows={'a': {}}))
    train = replace(trains['a'], cell_m=0.2, range_m=51.2, camera_batches=0.25)
    trainer = Trainer(train, tmp_path, [make_scene()])
    trainer.save()
    tensors, metadata = read_tensors(tmp_path / 'state.safetensors')
    old = {k: v for k, v in json.loads(metadata['train']).items() if k != 'decorrelation'}
    metadata = {**metadata, 'train': json.dumps(old)}
    loop.save_tensors(
        tmp_path / 'state.safetensors',
        {name: torch.from_numpy(value.copy()) for name, value in tensors.items()},
        metadata,
    )
    Trainer(train, tmp_path, [make_scene()]).resume()
    with pytest.raises(ValueError, match='other settings'):
        Trainer(replace(train, decorrelation=0.1), tmp_path, [make_scene()]).resume()


def test_unknown_sensors_are_named():
    with pytest.raises(ValueError, match='sonar'):
        TrainConfig(sensors='sonar')


def test_decorrelation_is_one_for_one_shared_channel_and_small_for_independent_ones():
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(2000, 1, generator=generator)
    assert decorrelation_loss(one, -3 * one + 2) == pytest.approx(1.0, abs=1e-3)
    other = torch.randn(2000, 8, generator=generator)
    assert decorrelation_loss(one, other) < 0.01
    assert decorrelation_loss(one[:5], other[:5]) == 0


def test_decorrelation_has_a_gradient_that_lowers_it():
    generator = torch.Generator().manual_seed(1)
    lidar = torch.randn(500, 4, generator=generator)
    camera = (lidar @ torch.randn(4, 4, generator=generator)).requires_grad_()
    before = decorrelation_loss(lidar, camera)
    before.backward()
    with torch.no_grad():
        assert decorrelation_loss(lidar, camera - 50 * camera.grad) < before
