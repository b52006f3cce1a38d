# SPDX-License-Identifier: Apache-2.0
"""The package in a colcon workspace, built from a copy of the source: what is where, and runs."""

import os
from pathlib import Path
import shutil
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[1]
EXECUTABLES = {'mmperception', 'perception', 'perception_node', 'path_cost_node'}
LEFT_OUT = ('.*', 'output', 'build', 'install', 'log', '__pycache__', '*.egg-info')
BESIDE_PYTHON = os.pathsep.join((str(Path(sys.executable).parent), os.environ['PATH']))


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """Return a workspace in which `colcon build` has succeeded."""
    if shutil.which('colcon', path=BESIDE_PYTHON) is None:
        pytest.skip('colcon is not installed')
    folder = tmp_path_factory.mktemp('workspace')
    source = folder / 'src' / 'mmperception'
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*LEFT_OUT))
    done = run(folder, 'colcon', 'build')
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def run(workspace, *command):
    """Run a command in a workspace, with what was installed there in front."""
    prefix = workspace / 'install' / 'mmperception'
    packages = [str(path) for path in prefix.glob('lib/python*/site-packages')]
    packages.append(os.environ.get('PYTHONPATH', ''))
    environment = {**os.environ, 'PATH': BESIDE_PYTHON, 'PYTHONPATH': os.pathsep.join(packages)}
    return subprocess.run(
        list(map(str, command)),
        cwd=workspace,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_executables_launch_files_settings_and_weights_are_where_ros_looks(workspace):
    prefix = workspace / 'install' / 'mmperception'
    share = prefix / 'share' / 'mmperception'
    assert {path.name for path in (prefix / 'lib' / 'mmperception').iterdir()} == EXECUTABLES
    for kind, beside in (('launch', set()), ('config', {'fastdds.xml'})):
        files = {path.name for path in (ROOT / kind).iterdir() if path.is_file()}
        assert {path.name for path in (share / kind).iterdir()} == files | beside
    (marker,) = prefix.glob('share/ament_index/resource_index/packages/mmperception')
    assert marker.is_file() and (share / 'package.xml').is_file()
    (weights,) = prefix.glob('lib/python*/site-packages/mmperception/weights/street.safetensors')
    shipped = ROOT / 'mmperception' / 'weights' / 'street.safetensors'
    assert weights.stat().st_size == shipped.stat().st_size


def test_the_installed_command_runs_from_the_installed_copy(workspace):
    installed = workspace / 'install' / 'mmperception'
    done = run(workspace, installed / 'lib' / 'mmperception' / 'mmperception', '--version')
    assert done.returncode == 0 and done.stdout.startswith('mmperception '), done.stderr
    where = run(
        workspace, sys.executable, '-c', 'import mmperception; print(mmperception.__file__)'
    )
    assert Path(where.stdout.strip()).is_relative_to(installed)


def test_colcon_test_runs_the_tests_of_the_package_and_reads_their_result(workspace):
    done = run(workspace, 'colcon', 'test', '--pytest-args', '-k', 'test_grid')
    assert done.returncode == 0, done.stdout + done.stderr
    result = run(workspace, 'colcon', 'test-result')
    assert result.returncode == 0, result.stdout
    assert 'Summary: ' in result.stdout and ' 0 failures' in result.stdout
    assert not result.stdout.startswith('Summary: 0 tests')
