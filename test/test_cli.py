# SPDX-License-Identifier: Apache-2.0
"""The command line: help at once, errors as one sentence with the right exit code."""

from importlib.util import find_spec
from pathlib import Path
import subprocess
import sys
from types import SimpleNamespace

from mmperception.cli import main as cli
from mmperception.cli import WrongUse
from mmperception.cli.evaluate import settings_of_path
from mmperception.cli.settings import config_of, merged, parameter_table
from mmperception.config import from_mapping, leaves
from mmperception.datasets import layout
import pytest


def run_verb(monkeypatch, error):
    """Run a stand-in verb that raises `error`; return its exit code."""

    def run(args):
        raise error

    module = SimpleNamespace(add_arguments=lambda parser: None, run=run)
    monkeypatch.setattr(cli.importlib, 'import_module', lambda name: module)
    return cli.main(['check'])


@pytest.mark.parametrize('verb', cli.VERBS)
def test_every_verb_of_the_table_has_a_module(verb):
    assert find_spec(f'mmperception.cli.{cli.VERBS[verb][0]}') is not None


def test_help_names_every_verb_and_imports_none_of_them():
    code = (
        'import sys; from mmperception.cli.main import main\n'
        'try: main(["--help"])\n'
        'except SystemExit: pass\n'
        'heavy = {"torch", "numpy", "cv2", "rclpy", "yaml"} & set(sys.modules)\n'
        'assert not heavy, heavy'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(verb in done.stdout for verb in cli.VERBS)


@pytest.mark.parametrize(
    ('error', 'exit_code'),
    [
        (ValueError('weights x: cut short'), 1),
        (LookupError('no transform'), 1),
        (FileNotFoundError(2, 'No such file', 'bag'), 1),
        (WrongUse('unknown parameter lidar.stmp'), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_leaves_with_its_exit_code(monkeypatch, capsys, error, exit_code):
    assert run_verb(monkeypatch, error) == exit_code
    said = capsys.readouterr().err
    assert said.count('\n') == (0 if exit_code == 130 else 1)
    assert 'Traceback' not in said


def test_an_error_is_one_sentence_after_the_verb(monkeypatch, capsys):
    run_verb(monkeypatch, KeyError('no transform\nfrom lidar'))
    assert capsys.readouterr().err == 'mmperception check: no transform from lidar\n'


def test_a_path_that_cannot_be_used_is_named_without_an_error_number(monkeypatch, capsys):
    run_verb(monkeypatch, NotADirectoryError(20, 'Not a directory', '/dev/null/x'))
    said = capsys.readouterr().err
    assert said.startswith('mmperception check: /dev/null/x: Not a directory: give another path')


@pytest.mark.parametrize('seconds', ['0', '-1', 'nan', 'inf'])
def test_a_drive_of_no_or_endless_length_is_wrong_use(tmp_path, capsys, seconds):
    assert cli.main(['simulate', str(tmp_path / 'bag'), f'--seconds={seconds}']) == 2
    assert '--seconds' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('settings', 'options', 'exit_code', 'word'),
    [
        ('stepz: 5\n', [], 2, 'stepz'),
        ('steps: 5\n', ['--device', 'cuda:99'], 1, 'cuda:99'),
        ('steps: 5\n', ['--device', 'gpu'], 2, 'gpu'),
    ],
)
def test_training_with_wrong_settings_ends_before_a_folder_is_made(
    tmp_path, capsys, settings, options, exit_code, word
):
    file = tmp_path / 'train.yaml'
    file.write_text(settings)
    argv = ['train', str(file), '--out', str(tmp_path / 'run'), *options]
    assert cli.main(argv) == exit_code
    assert word in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('argv', [[], ['fly'], ['check', '--no-such-option', 'bag']])
def test_wrong_use_exits_with_2(argv, capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.main(argv)
    assert exit_info.value.code == 2


def test_an_option_that_is_given_wins_over_the_file_and_the_file_over_the_bag(tmp_path):
    params = tmp_path / 'params.yaml'
    params.write_text('device: cpu\nlidar: {stamp: end}\nweights: simulated\n')
    args = SimpleNamespace(params=str(params), weights='street', device=None)
    config = config_of(args, defaults={'lidar': {'stamp': 'middle', 'max_range_m': 80.0}})
    assert (config.weights, config.device) == ('street', 'cpu')
    assert (config.lidar.stamp, config.lidar.max_range_m) == ('end', 80.0)


def test_an_unknown_parameter_in_a_file_is_wrong_use_and_names_the_nearest(tmp_path):
    params = tmp_path / 'params.yaml'
    params.write_text('/**:\n  ros__parameters:\n    lidar: {stmp: middle}\n')
    args = SimpleNamespace(params=str(params), weights=None, device=None)
    with pytest.raises(WrongUse, match=r'params\.yaml.*lidar\.stmp.*lidar\.stamp'):
        config_of(args)


@pytest.mark.parametrize('kind', [layout.BAG, layout.KITTI_DRIVE, layout.KITTI_OBJECTS])
def test_figures_are_of_float32_unless_bfloat16_is_asked_for(tmp_path, kind):
    asked = tmp_path / 'own.yaml'
    asked.write_text('precision: bfloat16\n')
    defaults = settings_of_path(tmp_path, kind)
    for params, expected in ((None, 'float32'), (str(asked), 'bfloat16')):
        args = SimpleNamespace(params=params, weights=None, device=None)
        assert config_of(args, defaults).precision == expected
    assert from_mapping({}).precision == 'auto'  # nodes and replay: what the CPU is fast at


def test_merging_keeps_what_only_one_side_says_and_changes_neither():
    below, above = {'a': {'b': 1, 'c': 2}}, {'a': {'c': 3}, 'd': None, 'e': 4}
    assert merged(below, above) == {'a': {'b': 1, 'c': 3}, 'e': 4}
    assert below == {'a': {'b': 1, 'c': 2}}
    assert merged({}, {}) == {}


def test_the_documented_parameters_are_those_of_the_code():
    text = (Path(__file__).parents[1] / 'docs' / 'interfaces.md').read_text()
    assert text.endswith(parameter_table()), (
        'docs/interfaces.md: replace its last table by what '
        '`python -m mmperception.cli.settings` prints'
    )
    assert len(parameter_table().splitlines()) == 2 + len(list(leaves()))
