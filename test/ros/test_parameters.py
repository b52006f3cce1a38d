# SPDX-License-Identifier: Apache-2.0
"""Settings as ROS parameters: every one is there, described, read-only; a wrong one is named."""

from pathlib import Path

from mmperception.config import Config, from_mapping, load, read_mapping, to_mapping
from mmperception.ros.parameters import declare_config, nested, settings
import pytest
import rclpy
from rclpy.parameter import Parameter


@pytest.fixture(scope='module')
def context():
    context = rclpy.Context()
    rclpy.init(context=context)
    yield context
    rclpy.shutdown(context=context)


@pytest.fixture
def node_with(context):
    """Return a function that makes a node with parameter overrides."""
    nodes = []

    def make(**overrides):
        values = [Parameter(name.replace('__', '.'), value=v) for name, v in overrides.items()]
        nodes.append(
            rclpy.create_node(
                'settings',
                context=context,
                parameter_overrides=values,
                automatically_declare_parameters_from_overrides=True,
                start_parameter_services=False,
                enable_rosout=False,
            )
        )
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()


def test_without_overrides_every_default_is_declared(node_with):
    node = node_with()
    config = declare_config(node)
    assert to_mapping(config) == to_mapping(Config())
    for name, value, _ in settings(config):
        assert node.get_parameter(name).value == value, name


def test_an_override_reaches_the_config_and_an_integer_passes_for_a_float(node_with):
    node = node_with(path_cost__rate_hz=4, lidar__stamp='middle')
    config = declare_config(node)
    assert config.path_cost.rate_hz == 4.0
    assert node.get_parameter('path_cost.rate_hz').value == 4.0
    assert config.lidar.stamp == 'middle'


def test_each_camera_has_its_own_settings(node_with):
    node = node_with(camera_names=['left', 'rear'], cameras__rear__offset_ms=12.5)
    config = declare_config(node)
    assert config.camera('rear').offset_ms == 12.5
    assert node.get_parameter('cameras.rear.offset_ms').value == 12.5
    assert node.get_parameter('cameras.left.offset_ms').value == 0.0
    assert not node.has_parameter('cameras.camera.offset_ms')


def test_a_parameter_is_described_with_unit_and_choices_and_cannot_be_changed(node_with):
    node = node_with()
    declare_config(node)
    assert '[Hz]' in node.describe_parameter('path_cost.rate_hz').description
    assert 'middle' in node.describe_parameter('lidar.stamp').description
    (answer,) = node.set_parameters([Parameter('mode', value='replay')])
    assert not answer.successful
    assert node.get_parameter('mode').value == 'live'


@pytest.mark.parametrize(
    ('overrides', 'words'),
    [
        ({'lidar__stmp': 'middle'}, r'unknown parameter lidar\.stmp.*lidar\.stamp'),
        ({'path_cost__rate_hz': 'fast'}, r"path_cost\.rate_hz: expected float, got 'fast'"),
        ({'cameras__rear__offset_ms': 1.0}, r'cameras\.rear: not in camera_names'),
        ({'device': 'tpu'}, r'device: .*auto, cpu, cuda:N'),
        ({'camera_names': [1, 2]}, r'camera_names: expected str'),
    ],
)
def test_a_wrong_override_is_an_error_that_says_what_is_right(node_with, overrides, words):
    with pytest.raises(ValueError, match=words):
        declare_config(node_with(**overrides))


def test_what_rclpy_declares_itself_is_no_unknown_parameter(node_with):
    node = node_with(use_sim_time=True, **{'qos_overrides./lidar/points.subscription.depth': 3})
    assert declare_config(node) is not None
    assert node.get_parameter('use_sim_time').value is True


def test_dotted_names_become_sections_and_a_clash_is_named():
    assert nested({}) == {}
    assert nested({'a.b.c': 1, 'a.d': (2, 3)}) == {'a': {'b': {'c': 1}, 'd': [2, 3]}}
    with pytest.raises(ValueError, match=r'a\.b'):
        nested({'a': 1, 'a.b': 2})


SHIPPED = Path(__file__).parents[2] / 'config' / 'perception.yaml'


def test_the_shipped_parameter_file_is_valid_and_holds_defaults_only():
    assert to_mapping(load(SHIPPED)) == to_mapping(from_mapping({}))


def test_other_cameras_on_the_command_line_do_not_clash_with_the_shipped_file():
    config = from_mapping({**read_mapping(SHIPPED), 'camera_names': ['front', 'rear']})
    assert list(config.camera_names) == ['front', 'rear']


def test_the_camera_settings_that_the_shipped_file_shows_are_valid(tmp_path):
    shown = SHIPPED.read_text().replace('    #   ', '    ')
    (tmp_path / 'shown.yaml').write_text(shown)
    camera = load(tmp_path / 'shown.yaml').camera('camera')
    assert (camera.transport, camera.offset_ms, camera.rectified) == ('compressed', -20.0, True)
