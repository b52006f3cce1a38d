# SPDX-License-Identifier: Apache-2.0
"""The set-up for machines without ROS: original message fields, and one sentence if stuck."""

import ast
from collections import namedtuple
import importlib.util
from pathlib import Path
import shutil
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[1]
INTERFACES = ROOT / 'environment' / 'interfaces'
SCRIPT = ROOT / 'environment' / 'set_up.py'
HEADER = 'std_msgs/Header header'
RESULTS = 'ObjectHypothesisWithPose[] results'
ORIENTATION = 'UNAVAILABLE=0 SIGN_UNKNOWN=1 AVAILABLE=2'
KINEMATICS = [
    'geometry_msgs/PoseWithCovariance pose_with_covariance',
    'geometry_msgs/TwistWithCovariance twist_with_covariance',
]
OBJECT = [
    'float32 existence_probability',
    'ObjectClassification[] classification',
]

# Field order is the wire format. Sources: vision_msgs 4.1.1, nav2_msgs 1.3 (Jazzy), tf2_msgs of
# geometry2 (Jazzy), autoware_perception_msgs 1.13.
FIELDS = {
    'vision_msgs/BoundingBox2D': ['Pose2D center', 'float64 size_x', 'float64 size_y'],
    'vision_msgs/BoundingBox3D': ['geometry_msgs/Pose center', 'geometry_msgs/Vector3 size'],
    'vision_msgs/Detection2D': [HEADER, RESULTS, 'BoundingBox2D bbox', 'string id'],
    'vision_msgs/Detection2DArray': [HEADER, 'Detection2D[] detections'],
    'vision_msgs/Detection3D': [HEADER, RESULTS, 'BoundingBox3D bbox', 'string id'],
    'vision_msgs/Detection3DArray': [HEADER, 'Detection3D[] detections'],
    'vision_msgs/LabelInfo': [HEADER, 'VisionClass[] class_map', 'float32 threshold'],
    'vision_msgs/ObjectHypothesis': ['string class_id', 'float64 score'],
    'vision_msgs/ObjectHypothesisWithPose': [
        'ObjectHypothesis hypothesis',
        'geometry_msgs/PoseWithCovariance pose',
    ],
    'vision_msgs/Point2D': ['float64 x', 'float64 y'],
    'vision_msgs/Pose2D': ['Point2D position', 'float64 theta'],
    'vision_msgs/VisionClass': ['uint16 class_id', 'string class_name'],
    'tf2_msgs/TFMessage': ['geometry_msgs/TransformStamped[] transforms'],
    'nav2_msgs/Costmap': [HEADER, 'CostmapMetaData metadata', 'uint8[] data'],
    'nav2_msgs/CostmapFilterInfo': [
        HEADER,
        'uint8 type',
        'string filter_mask_topic',
        'float32 base',
        'float32 multiplier',
    ],
    'nav2_msgs/SpeedLimit': [HEADER, 'bool percentage', 'float64 speed_limit'],
    'autoware_perception_msgs/ObjectClassification': ['uint8 label', 'float32 probability'],
    'autoware_perception_msgs/Shape': [
        'uint8 type',
        'geometry_msgs/Polygon footprint',
        'geometry_msgs/Vector3 dimensions',
    ],
    'autoware_perception_msgs/DetectedObject': [
        *OBJECT,
        'DetectedObjectKinematics kinematics',
        'Shape shape',
    ],
    'autoware_perception_msgs/DetectedObjectKinematics': [
        KINEMATICS[0],
        'bool has_position_covariance',
        'uint8 orientation_availability',
        KINEMATICS[1],
        'bool has_twist',
        'bool has_twist_covariance',
    ],
    'autoware_perception_msgs/TrackedObject': [
        'unique_identifier_msgs/UUID object_id',
        *OBJECT,
        'TrackedObjectKinematics kinematics',
        'Shape shape',
    ],
    'autoware_perception_msgs/TrackedObjectKinematics': [
        *KINEMATICS,
        'geometry_msgs/AccelWithCovariance acceleration_with_covariance',
        'uint8 orientation_availability',
        'bool is_stationary',
    ],
    'autoware_perception_msgs/TrackedObjects': [HEADER, 'TrackedObject[] objects'],
}
CONSTANTS = {
    'autoware_perception_msgs/ObjectClassification': (
        'UNKNOWN=0 CAR=1 TRUCK=2 BUS=3 TRAILER=4 MOTORCYCLE=5 BICYCLE=6 PEDESTRIAN=7 ANIMAL=8 '
        'HAZARD=9 OVER_DRIVABLE=10 UNDER_DRIVABLE=11'
    ),
    'autoware_perception_msgs/Shape': 'BOUNDING_BOX=0 CYLINDER=1 POLYGON=2',
    'autoware_perception_msgs/DetectedObjectKinematics': ORIENTATION,
    'autoware_perception_msgs/TrackedObjectKinematics': ORIENTATION,
    'tf2_msgs/TF2Error': (
        'NO_ERROR=0 LOOKUP_ERROR=1 CONNECTIVITY_ERROR=2 EXTRAPOLATION_ERROR=3 '
        'INVALID_ARGUMENT_ERROR=4 TIMEOUT_ERROR=5 TRANSFORM_ERROR=6'
    ),
}


def lines_of(name):
    """Return the declarations of a message file, without comments and own package name."""
    package, message = name.split('/')
    text = (INTERFACES / package / 'msg' / f'{message}.msg').read_text(encoding='utf-8')
    lines = (line.split('#')[0].strip().replace(f'{package}/', '') for line in text.splitlines())
    return list(filter(None, lines))


@pytest.fixture
def set_up(tmp_path, monkeypatch):
    """Return the set-up script as a module that would write into a folder of its own."""
    spec = importlib.util.spec_from_file_location('set_up', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    venv = tmp_path / '.venv'
    monkeypatch.setattr(module, 'VENV', venv)
    monkeypatch.setattr(module, 'STAMPS', venv / 'set_up')
    monkeypatch.setattr(module, 'LOG', venv / 'set_up' / 'log.txt')
    monkeypatch.setattr(module, 'PYTHON', venv / 'bin' / 'python')
    monkeypatch.delenv('ROS_DISTRO', raising=False)  # as on a machine without ROS
    return module


def fill_stamps(set_up):
    set_up.STAMPS.mkdir(parents=True)
    for name, _, digest in set_up.steps():
        (set_up.STAMPS / name).write_text(digest)


@pytest.mark.parametrize('name', FIELDS)
def test_fields_are_those_of_the_original_in_its_order(name):
    assert [line for line in lines_of(name) if '=' not in line] == FIELDS[name]


@pytest.mark.parametrize('name', CONSTANTS)
def test_constants_are_those_of_the_original(name):
    found = [line.split(' ', 1)[1].replace(' ', '') for line in lines_of(name) if '=' in line]
    assert found == CONSTANTS[name].split()


def test_a_python_that_is_too_old_is_told_so(set_up, monkeypatch, capsys):
    monkeypatch.setattr(set_up, 'OLDEST_PYTHON', (99, 0))
    assert set_up.main() == 1
    assert 'too old' in capsys.readouterr().err


def test_an_old_python_can_read_the_script():
    ast.parse(SCRIPT.read_text(encoding='utf-8'), feature_version=(3, 7))


def test_a_python_without_venv_is_told_what_to_install(set_up, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(set_up.Missing, match='python3-venv'):
        set_up.check_python()


@pytest.mark.parametrize(
    ('absent', 'sentence'),
    [
        ({'cc', 'gcc', 'clang'}, 'no C compiler'),
        ({'c++', 'g++', 'clang++'}, r'no C\+\+ compiler'),
        ({'make'}, 'make not found'),
    ],
)
def test_a_missing_tool_is_named(set_up, monkeypatch, absent, sentence):
    monkeypatch.delenv('CC', raising=False)
    monkeypatch.delenv('CXX', raising=False)
    monkeypatch.setattr(shutil, 'which', lambda name: None if name in absent else f'/bin/{name}')
    with pytest.raises(set_up.Missing, match=sentence):
        set_up.check_machine()


def test_missing_headers_of_python_are_named(set_up, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, 'which', lambda name: f'/bin/{name}')
    monkeypatch.setattr(set_up.sysconfig, 'get_paths', lambda: {'include': str(tmp_path)})
    with pytest.raises(set_up.Missing, match='python3-dev'):
        set_up.check_machine()


def test_a_full_disk_is_told_how_much_is_needed(set_up, monkeypatch):
    usage = namedtuple('usage', 'free')(1_500_000_000)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)
    with pytest.raises(set_up.Missing, match=r'4 GB of disk are needed and 1\.5 GB are free'):
        set_up.check_disk('cpu')


@pytest.mark.parametrize(
    ('log', 'sentence'),
    [
        ('WARNING: Retrying after NewConnectionError(...)\nERROR: no match', 'cannot be reached'),
        ('OSError: [Errno 28] No space left on device', 'disk is full'),
        ('ok\nERROR: Could not find a version of x\n\n', 'pip failed: ERROR: Could not find a'),
        ('', 'it wrote nothing'),
    ],
)
def test_a_failure_of_pip_is_one_sentence(set_up, log, sentence):
    message = set_up.pip_failure(log)
    assert sentence in message
    assert '\n' not in message


def test_a_finished_set_up_starts_nothing(set_up, monkeypatch):
    fill_stamps(set_up)
    monkeypatch.setattr(subprocess, 'run', None)
    monkeypatch.setattr(set_up, 'check_machine', None)
    assert set_up.main() == 0


def test_a_change_of_a_message_repeats_only_the_interfaces(set_up, monkeypatch, tmp_path):
    copy = tmp_path / 'interfaces'
    shutil.copytree(INTERFACES, copy)
    monkeypatch.setattr(set_up, 'INTERFACES', copy)
    fill_stamps(set_up)
    with (copy / 'nav2_msgs' / 'msg' / 'SpeedLimit.msg').open('a') as file:
        file.write('bool is_new\n')
    assert [name for name, _, _ in set_up.todo()] == ['interfaces']


def test_an_interrupted_installation_is_not_built_upon(set_up):
    packages = set_up.site_packages() / 'pip'
    packages.mkdir(parents=True)
    (packages / '__main__.py').touch()
    set_up.PYTHON.parent.mkdir()
    set_up.PYTHON.touch()
    assert set_up.is_usable()
    set_up.STAMPS.mkdir()
    (set_up.STAMPS / 'wheels').write_text(set_up.UNFINISHED)
    assert not set_up.is_usable()


def test_cmake_files_lose_the_paths_of_the_machine_that_built_them(set_up):
    file = set_up.VENV / 'share' / 'x' / 'xExport.cmake'
    file.parent.mkdir(parents=True)
    file.write_text(
        'set(A "/opt/python/cp311-cp311/include/python3.11")\n'
        'set(B "/opt/python/cp311-cp311/lib/python3.11/site-packages/numpy/_core/include")\n'
    )
    set_up.point_cmake_at_this_python()
    text = file.read_text()
    assert '/opt/python' not in text
    assert f'"{set_up.site_packages()}/numpy/_core/include"' in text


@pytest.mark.ros
def test_generated_messages_import_from_any_folder(tmp_path):
    names = {name.split('/')[0] for name in FIELDS}
    code = ';'.join(f'import {name}.msg' for name in sorted(names))
    subprocess.run([sys.executable, '-c', code], cwd=tmp_path, check=True)


@pytest.mark.ros
@pytest.mark.parametrize('name', FIELDS)
def test_generated_messages_have_the_fields_in_order(name):
    package, message = name.split('/')
    kind = getattr(importlib.import_module(f'{package}.msg'), message)
    fields = [line.split()[1] for line in FIELDS[name]]
    assert list(kind.get_fields_and_field_types()) == fields
