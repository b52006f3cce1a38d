# SPDX-License-Identifier: Apache-2.0
"""Settings: one tree, overridden by YAML, and every mistake named."""

from dataclasses import FrozenInstanceError

from mmperception import config
from mmperception.config import Config, from_mapping, leaves, load
import pytest
import yaml

OVERRIDES = {
    'device': 'cuda:1',
    'camera_names': ['left', 'right'],
    'cameras': {'left': {'offset_ms': -12.5, 'required': True}},
    'lidar': {'stamp': 'middle', 'max_points': 500000},
    'path_cost': {'class_margin_m': [1, 2.5, 3]},
}


def write(tmp_path, text):
    path = tmp_path / 'settings.yaml'
    path.write_text(text)
    return path


def test_overrides_change_what_they_name_and_nothing_else():
    made = from_mapping(OVERRIDES)
    assert (made.device, made.lidar.stamp, made.lidar.max_points) == ('cuda:1', 'middle', 500000)
    assert made.camera('left').offset_ms == -12.5 and made.camera('left').required
    assert made.camera('right').offset_ms == 0.0
    assert made.path_cost.class_margin_m == [1.0, 2.5, 3.0]
    assert made.sync == Config().sync


def test_no_overrides_are_the_defaults():
    assert from_mapping({}) == Config()


@pytest.mark.parametrize(
    ('values', 'sentence'),
    [
        ({'devise': 'cpu'}, 'unknown parameter devise; did you mean device?'),
        ({'lidar': {'max_pionts': 1}}, 'lidar.max_pionts; did you mean lidar.max_points?'),
        ({'camera_names': ['a'], 'cameras': {'a': {'ofset_ms': 1.0}}}, 'cameras.NAME.offset_ms'),
        ({'lidar': 5}, 'lidar: expected a mapping'),
        ({'cameras': ['left']}, 'cameras: expected a mapping'),
        ({'lidar': {'max_points': 1.5}}, 'lidar.max_points: expected int, got 1.5'),
        ({'lidar': {'max_points': True}}, 'lidar.max_points: expected int, got True'),
        ({'autostart': 1}, 'autostart: expected bool, got 1'),
        ({'weights': 3}, 'weights: expected str, got 3'),
        ({'camera_names': 'left'}, 'camera_names: expected a list of str'),
        ({'path_cost': {'class_margin_m': [1.0, 'wide', 2.0]}}, 'expected float'),
        ({'path_cost': {'class_margin_m': [1.0, 2.0]}}, 'class_margin_m: needs vehicle'),
        ({'lidar': {'stamp': 'begin'}}, "lidar.stamp: 'begin' is none of start, middle, end"),
        ({'mode': 'fast'}, "mode: 'fast' is none of live, replay"),
        ({'device': 'gpu'}, "device: 'gpu' is none of auto, cpu, cuda:N"),
        ({'sync': {'max_wait_ms': 0}}, 'sync.max_wait_ms: must be positive'),
        ({'cameras': {'rear': {}}}, 'cameras.rear: not in camera_names'),
        ({'camera_names': ['a', 'a']}, 'camera_names: doubled'),
        ({'detection': {'score_threshold': [0.5, 1.0, 0.3]}}, 'detection.score_threshold: needs'),
        ([1, 2], 'settings: expected a mapping'),
    ],
)
def test_a_mistake_is_named_with_the_way_out(values, sentence):
    with pytest.raises(ValueError) as error:
        from_mapping(values)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    'values',
    [
        {'lidar': {'max_range_m': float('nan')}},
        {'sync': {'max_wait_ms': float('inf')}},
        {'path_cost': {'class_margin_m': [1.0, float('nan'), 1.0]}},
    ],
)
def test_a_number_that_is_no_number_is_refused(values):
    with pytest.raises(ValueError, match='finite'):
        from_mapping(values)


def test_what_is_dumped_is_loaded_again_with_all_its_values(tmp_path):
    made = from_mapping(OVERRIDES)
    text = config.dump(made)
    assert load(write(tmp_path, text)) == made
    assert load(write(tmp_path, config.dump(Config()))) == Config()
    assert '  stamp: middle  # What the header stamp of a sweep means.' in text
    assert 'max_points: 500000  # [points]' in text


def test_a_text_that_looks_like_something_else_survives_a_dump(tmp_path):
    odd = from_mapping({'weights': 'no', 'map_frame': 'a: b # c', 'camera_names': ['1', 'null']})
    assert load(write(tmp_path, config.dump(odd))) == odd


def test_the_mapping_of_a_config_makes_the_config_again():
    made = from_mapping(OVERRIDES)
    assert from_mapping(config.to_mapping(made)) == made


def test_a_parameter_file_of_ros_is_read_for_all_its_nodes(tmp_path):
    text = """
/**:
  ros__parameters:
    use_sim_time: true
    lidar: {stamp: end}
path_cost:
  ros__parameters:
    lidar: {max_range_m: 80.0}
    path_cost: {rate_hz: 10.0}
"""
    made = load(write(tmp_path, text))
    assert (made.lidar.stamp, made.lidar.max_range_m) == ('end', 80.0)
    assert made.path_cost.rate_hz == 10.0


def test_an_empty_file_is_no_override(tmp_path):
    assert load(write(tmp_path, '')) == Config()
    assert load(write(tmp_path, '/**:\n  ros__parameters:\n')) == Config()


@pytest.mark.parametrize('text', ['lidar: [1', '- 1\n- 2\n', 'lidar: {stamp: begin}\n'])
def test_a_bad_file_is_named(tmp_path, text):
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match='settings.yaml'):
        load(path)
    with pytest.raises(ValueError, match='absent.yaml'):
        load(tmp_path / 'absent.yaml')


def test_every_leaf_has_a_sentence_and_its_default_passes_its_own_check():
    names = []
    for name, leaf, kind in leaves():
        names.append(name)
        assert leaf.metadata['sentence'].endswith('.'), name
        config._convert(name, config.default_of(leaf), kind)
    assert len(set(names)) == len(names)
    assert {'base_frame', 'lidar.stamp', 'cameras.NAME.offset_ms'} <= set(names)


def test_names_with_a_unit_in_them_say_the_same_unit_in_the_tree():
    units = {'_ms': 'ms', '_m': 'm', '_s': 's', '_hz': 'Hz', '_mps': 'm/s', '_mps2': 'm/s^2'}
    for name, leaf, _ in leaves():
        suffix = '_' + name.rsplit('_', 1)[-1]
        assert suffix not in units or leaf.metadata['unit'] == units[suffix], name


def test_a_config_cannot_be_changed_and_defaults_are_not_shared():
    one, other = Config(), Config()
    with pytest.raises(FrozenInstanceError):
        one.device = 'cpu'
    one.camera_names.append('rear')
    assert other.camera_names == ['camera']


def test_the_default_dump_is_valid_yaml_without_nulls():
    values = yaml.safe_load(config.dump(Config()))
    assert values == config.to_mapping(Config())
