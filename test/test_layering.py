# SPDX-License-Identifier: Apache-2.0
"""The layer rules: only `ros` knows ROS, stages know none of their callers, nothing unpickles."""

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'mmperception'
SOURCES = sorted(PACKAGE.rglob('*.py'))
ROS_ROOTS = {
    'ament_index_python',
    'cv_bridge',
    'launch',
    'launch_ros',
    'message_filters',
    'rclpy',
    'rosbag2_py',
    'rosbags',
    'sensor_msgs_py',
    'tf2_py',
    'tf2_ros',
}
# These folders call the stages; only cli joins them with ros.
CALLERS = {'cli', 'datasets', 'evaluation', 'ros', 'simulation', 'training'}
CORE_CALLERS = CALLERS - {'cli', 'ros'}
UNPICKLERS = {'pickle', 'cPickle', 'dill', 'cloudpickle', 'joblib', 'shelve', 'marshal'}


def imported_modules(source):
    """Yield the dotted name of every module that Python source imports, wherever it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = '.' * node.level + (node.module or '')
            yield module
            yield from (f'{module}.{alias.name}' for alias in node.names)


def folder_of(path):
    """Return the folder of the package a file is in; '' for the top level."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ''


def is_ros(module):
    root = module.split('.')[0]
    return root in ROS_ROOTS or root.endswith('_msgs')


def own_folder(module):
    """Return the folder of the package that a module name points into, or ''."""
    parts = module.split('.')
    return parts[1] if parts[0] == 'mmperception' and len(parts) > 1 else ''


@cache
def modules_in(path):
    """Return what a file imports; every test asks for all files, so each is read once."""
    return frozenset(imported_modules(path.read_text(encoding='utf-8')))


def leaks(path, is_forbidden):
    found = {module for module in modules_in(path) if is_forbidden(module)}
    return [f'{path.relative_to(PACKAGE)}: {module}' for module in sorted(found)]


def can_unpickle(source):
    """Tell whether the source uses `torch.load`, or lets NumPy unpickle."""
    names = set(imported_modules(source))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names.add(f'{node.value.id}.{node.attr}')
        elif isinstance(node, ast.keyword) and node.arg == 'allow_pickle':
            names.add(f'allow_pickle={ast.unparse(node.value)}')
    return bool(names & {'torch.load', 'allow_pickle=True'})


def test_only_the_ros_folder_imports_ros():
    found = [leak for path in SOURCES if folder_of(path) != 'ros' for leak in leaks(path, is_ros)]
    assert not found, found


def test_stages_import_none_of_their_callers():
    stages = [path for path in SOURCES if folder_of(path) not in CALLERS]
    found = [leak for path in stages for leak in leaks(path, lambda m: own_folder(m) in CALLERS)]
    assert not found, found


def test_only_the_command_line_joins_ros_with_simulation_and_data():
    core = [path for path in SOURCES if folder_of(path) in CORE_CALLERS]
    found = [leak for path in core for leak in leaks(path, lambda m: own_folder(m) == 'ros')]
    ros = [path for path in SOURCES if folder_of(path) == 'ros']
    found += [
        leak for path in ros for leak in leaks(path, lambda m: own_folder(m) in CORE_CALLERS)
    ]
    assert not found, found


def test_imports_are_absolute():
    found = [leak for path in SOURCES for leak in leaks(path, lambda m: m.startswith('.'))]
    assert not found, found


def test_nothing_in_the_package_can_unpickle():
    found = [
        leak for path in SOURCES for leak in leaks(path, lambda m: m.split('.')[0] in UNPICKLERS)
    ]
    found += [str(path) for path in SOURCES if can_unpickle(path.read_text(encoding='utf-8'))]
    assert not found, found


@pytest.mark.parametrize(
    'source',
    [
        'import torch\ntorch.load("x")',
        'from torch import load',
        'import numpy\nnumpy.load("x", allow_pickle=True)',
    ],
)
def test_a_planted_unpickling_is_seen(source):
    assert can_unpickle(source)


def test_planted_imports_of_ros_are_seen_inside_functions_too():
    source = 'def f():\n    from vision_msgs.msg import Detection3D\n    import rclpy.node\n'
    assert [m for m in imported_modules(source) if is_ros(m)] == [
        'vision_msgs.msg',
        'vision_msgs.msg.Detection3D',
        'rclpy.node',
    ]


def test_there_is_something_to_check():
    assert PACKAGE / 'datatypes.py' in SOURCES
