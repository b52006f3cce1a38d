# SPDX-License-Identifier: Apache-2.0
"""Weights files: what was written is read, and nothing else is believed."""

import argparse
import json

from mmperception import checkpoint
from mmperception.cli import export
from mmperception.network.config import NetworkConfig
from mmperception.network.model import PerceptionNetwork
from mmperception.sign_weights import load_sign_network
import pytest
import torch


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp('weights') / 'w.safetensors'
    network = PerceptionNetwork(NetworkConfig(fusion='concat'))
    checkpoint.save_network(path, network, {'licence': 'Apache-2.0'})
    return path, network


def test_network_comes_back_with_its_kind_and_its_numbers(weights):
    path, network = weights
    loaded, metadata = checkpoint.load_network(path)
    assert loaded.config.fusion == 'concat' and metadata['licence'] == 'Apache-2.0'
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_reader_agrees_with_the_library(weights):
    from safetensors.numpy import load_file

    path, _ = weights
    tensors, _ = checkpoint.read_tensors(path)
    for name, value in load_file(path).items():
        assert (tensors[name] == value).all(), name


def broken(path, tmp_path, change):
    data = bytearray(path.read_bytes())
    out = tmp_path / 'broken.safetensors'
    out.write_bytes(change(data))
    return out


def rewrite_header(data, edit):
    length = int.from_bytes(data[:8], 'little')
    end = 8 + length
    header = json.loads(bytes(data[8:end]))
    edit(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, 'little') + text + data[end:]


def edit_first(**changes):
    def edit(header):
        name = next(n for n in header if n != '__metadata__')
        header[name].update(changes)

    return edit


@pytest.mark.parametrize(
    'change',
    [
        lambda d: d[:5],
        lambda d: b'hello, I am no weights file at all',
        lambda d: d[:-100],
        lambda d: (1 << 60).to_bytes(8, 'little') + d[8:],
        lambda d: rewrite_header(d, edit_first(shape=[-4, 9])),
        lambda d: rewrite_header(d, edit_first(shape=[10**9, 10**9])),
        lambda d: rewrite_header(d, edit_first(data_offsets=[0, 10**15])),
        lambda d: rewrite_header(d, edit_first(dtype='OBJECT')),
        lambda d: rewrite_header(d, lambda h: h.pop('__metadata__')),
        lambda d: rewrite_header(d, lambda h: h.pop('motion.unknown')),
        lambda d: (4).to_bytes(8, 'little') + b'[1] ' + d[8:],
    ],
)
def test_a_damaged_file_is_refused_with_its_name(weights, tmp_path, change):
    path = broken(weights[0], tmp_path, change)
    with pytest.raises(ValueError, match=r'weights .*broken\.safetensors'):
        checkpoint.load_network(path)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    network = PerceptionNetwork(NetworkConfig())
    with torch.no_grad():
        network.motion.unknown[0] = float('nan')
    checkpoint.save_network(tmp_path / 'nan.safetensors', network, {})
    with pytest.raises(ValueError, match=r'motion\.unknown is not finite'):
        checkpoint.load_network(tmp_path / 'nan.safetensors')


def test_own_weights_need_their_hash_or_a_declared_waiver(weights):
    path, _ = weights
    with pytest.raises(ValueError, match='allow_unverified'):
        checkpoint.verify(path, '', False)
    checkpoint.verify(path, '', True)
    with pytest.raises(ValueError, match='SHA-256'):
        checkpoint.verify(path, '0' * 64, True)


def test_missing_weights_say_what_to_give():
    with pytest.raises(ValueError, match='give street, simulated or a safetensors file'):
        checkpoint.verify(checkpoint.weights_path('nowhere'), '', True)


@pytest.mark.parametrize('name', sorted(checkpoint.SHIPPED))
def test_shipped_weights_are_the_ones_whose_hash_stands_in_the_code(name):
    path = checkpoint.weights_path(name)
    checkpoint.verify(path, checkpoint.SHIPPED[name], False)
    load = load_sign_network if name.startswith('sign_') else checkpoint.load_network
    _, metadata = load(path)
    assert {'licence', 'data', 'commit', 'samples'} <= set(metadata)


@pytest.mark.parametrize(
    ('drives', 'licence'), [(['0009'], 'CC-BY-NC-SA-3.0'), ([], 'Apache-2.0')]
)
def test_an_exported_file_names_the_data_of_both_stages_and_no_folder(tmp_path, drives, licence):
    network = PerceptionNetwork(NetworkConfig(refine=True))
    first = {'data': '', 'drives': ['0052'], 'scenes': 'folder/of/scenes', 'start': ''}
    second = {'data': 'folder/of/drives', 'drives': drives, 'galleries': 'folder/of/things'}
    facts = {'train': json.dumps(first), 'refine': json.dumps(second)}
    checkpoint.save_network(tmp_path / 'run.safetensors', network, facts)
    out = tmp_path / 'release.safetensors'
    arguments = argparse.Namespace(
        weights=tmp_path / 'run.safetensors',
        out=out,
        second=None,
        check=None,
        float16=False,
        force=False,
    )
    assert export.run(arguments) == 0
    _, metadata = checkpoint.load_network(out)
    assert metadata['licence'] == licence
    assert ('0009' in metadata['data']) == bool(drives) and '0052' not in metadata['data']
    assert 'simulated scenes' in metadata['data'] and 'folder/of' not in ''.join(metadata.values())


def test_an_exported_file_may_take_its_second_stage_from_another(tmp_path):
    paths = [tmp_path / name for name in ('first.safetensors', 'second.safetensors')]
    torch.manual_seed(0)
    configs = NetworkConfig(), NetworkConfig(refine=True, check_images=True)
    networks = [PerceptionNetwork(config) for config in configs]
    facts = [{'train': '{"seed": 1}'}, {'train': '{"seed": 2}', 'refine': '{"seed": 3}'}]
    facts[1]['check_images'] = '{"seed": 4}'
    for path, network, fact in zip(paths, networks, facts, strict=True):
        checkpoint.save_network(path, network, fact)
    arguments = argparse.Namespace(
        weights=paths[0],
        out=tmp_path / 'release.safetensors',
        second=paths[1],
        check=None,
        float16=False,
        force=False,
    )
    assert export.run(arguments) == 0
    joined, metadata = checkpoint.load_network(arguments.out)
    for name, value in joined.state_dict().items():
        source = networks[name.startswith(('refiner.', 'image_check.'))]
        assert torch.equal(value, source.state_dict()[name]), name
    assert json.loads(metadata['train'])['seed'] == 1
    assert json.loads(metadata['refine'])['seed'] == 3
    assert json.loads(metadata['check_images'])['seed'] == 4
    arguments.second = paths[0]
    arguments.force = True
    with pytest.raises(ValueError, match='no second stage'):
        export.run(arguments)


def test_an_exported_file_takes_an_image_check_only_of_its_own_camera_branch(tmp_path):
    paths = [tmp_path / f'{name}.safetensors' for name in ('plain', 'same', 'other')]
    plain = PerceptionNetwork(NetworkConfig(refine=True))
    checked = [PerceptionNetwork(NetworkConfig(check_images=True)) for _ in range(2)]
    checked[0].trunk.load_state_dict(plain.trunk.state_dict())
    checked[0].camera_head.load_state_dict(plain.camera_head.state_dict())
    for path, network in zip(paths, (plain, *checked), strict=True):
        checkpoint.save_network(path, network, {'check_images': f'{{"seed": "{path.stem}"}}'})
    arguments = argparse.Namespace(
        weights=paths[0],
        out=tmp_path / 'release.safetensors',
        second=None,
        check=paths[1],
        float16=False,
        force=False,
    )
    assert export.run(arguments) == 0
    joined, metadata = checkpoint.load_network(arguments.out)
    for name, value in joined.image_check.state_dict().items():
        assert torch.equal(value, checked[0].image_check.state_dict()[name]), name
    name = 'heat.0.0.weight'
    assert torch.equal(joined.bev_head.state_dict()[name], plain.bev_head.state_dict()[name])
    assert joined.refiner is not None
    assert json.loads(metadata['check_images'])['seed'] == 'same'
    arguments.force = True
    for path, words in ((paths[2], 'another camera branch'), (paths[0], 'no image check')):
        arguments.check = path
        with pytest.raises(ValueError, match=words):
            export.run(arguments)
