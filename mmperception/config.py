# SPDX-License-Identifier: Apache-2.0
"""
Every setting of the package: one tree of frozen dataclasses, the only home of defaults.

Its sections are in `config_sections.py`. From this tree come the ROS parameters
(`ros/parameters.py` walks it), the comments of the YAML that `dump` writes, and the table in
docs/interfaces.md. YAML only overrides; an unknown or mistyped key is an error that names the
nearest valid one.
"""

from dataclasses import dataclass, field, fields, is_dataclass, replace
import difflib
import math
import re
import typing

from mmperception.config_sections import (
    CameraConfig,
    check_choices,
    DetectionConfig,
    GroundConfig,
    LidarConfig,
    option,
    PathCostConfig,
    ReplayConfig,
    require,
    SignsConfig,
    SpeedLimitConfig,
    SyncConfig,
    TrackingConfig,
)
import yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of the nodes; the root of the tree."""

    base_frame: str = option('base_link', '', 'Robot frame: x forward, on the ground.')
    odom_frame: str = option('odom', '', 'Continuous world frame (REP 105).')
    map_frame: str = option('map', '', 'Global frame (REP 105); nothing is given in it yet.')
    mode: str = option('live', '', 'live: newest first; replay: every sweep.', ('live', 'replay'))
    device: str = option('auto', '', 'auto, cpu or cuda:N.')
    threads: int = option(
        0, 'threads', 'CPU threads of the network; 0: all cores but one, of two both.'
    )
    precision: str = option(
        'auto', '', "Of the network's layers; auto: bfloat16 on a CPU that computes in it.",
        ('auto', 'float32', 'bfloat16'))  # fmt: skip
    weights: str = option('street', '', 'street, simulated or a safetensors file.')
    weights_sha256: str = option('', '', "SHA-256 of a user's own weights file.")
    allow_unverified: bool = option(False, '', 'Load own weights without a known SHA-256.')
    autostart: bool = option(True, '', 'Configure and activate without a manager.')
    publish_tf: bool = option(False, '', 'Kept for later: no node broadcasts transforms yet.')
    camera_names: list[str] = option(['camera'], '', 'Cameras; topics NAME/image_raw and so on.')
    cameras: dict[str, CameraConfig] = option({}, '', 'Settings by camera name.')
    lidar: LidarConfig = field(default_factory=LidarConfig)
    sync: SyncConfig = field(default_factory=SyncConfig)
    detection: DetectionConfig = field(default_factory=DetectionConfig)
    signs: SignsConfig = field(default_factory=SignsConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    ground: GroundConfig = field(default_factory=GroundConfig)
    path_cost: PathCostConfig = field(default_factory=PathCostConfig)
    speed_limit: SpeedLimitConfig = field(default_factory=SpeedLimitConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)

    def __post_init__(self):
        check_choices(self, '')
        require(
            re.fullmatch(r'auto|cpu|cuda(:\d+)?', self.device),
            f'device: {self.device!r} is none of auto, cpu, cuda:N',
        )
        require(len(set(self.camera_names)) == len(self.camera_names), 'camera_names: doubled')
        for name in self.cameras:
            require(
                name in self.camera_names, f'cameras.{name}: not in camera_names, add it there'
            )

    def camera(self, name):
        """Return the settings of camera `name` (defaults when none are given)."""
        return self.cameras.get(name, CameraConfig())


def leaves(section=Config, prefix=''):
    """Yield (dotted name, dataclass field, type) for every leaf below a dataclass type."""
    hints = typing.get_type_hints(section)
    for leaf in fields(section):
        kind = hints[leaf.name]
        if is_dataclass(kind):
            yield from leaves(kind, f'{prefix}{leaf.name}.')
        elif leaf.name != 'cameras':
            yield f'{prefix}{leaf.name}', leaf, kind
    if section is Config:
        yield from leaves(CameraConfig, 'cameras.NAME.')


def default_of(leaf):
    """Return the default value of a dataclass field made by `option`."""
    return leaf.default_factory() if callable(leaf.default_factory) else leaf.default


def from_mapping(values):
    """
    Build a Config from a nested mapping of overrides.

    Raises
    ------
    ValueError
        For an unknown key (naming the nearest), a wrong type or a value out of range.

    """
    return _override(Config(), values, '')


def _override(section, values, prefix):
    if not isinstance(values, dict):
        raise ValueError(f'{prefix.rstrip(".") or "settings"}: expected a mapping of settings')
    hints = typing.get_type_hints(type(section))
    changes = {}
    for key, value in values.items():
        name = f'{prefix}{key}'
        if key not in hints:
            raise ValueError(_unknown(name))
        current = getattr(section, key)
        if name == 'cameras':
            changes[key] = _cameras(value)
        elif is_dataclass(current):
            changes[key] = _override(current, value, f'{name}.')
        else:
            changes[key] = _convert(name, value, hints[key])
    return replace(section, **changes)


def _cameras(values):
    if not isinstance(values, dict):
        raise ValueError('cameras: expected a mapping from camera name to settings')
    return {
        name: _override(CameraConfig(), settings, f'cameras.{name}.')
        for name, settings in values.items()
    }


def _unknown(name):
    known = [leaf for leaf, _, _ in leaves()]
    generic = re.sub(r'^cameras\.[^.]+\.', 'cameras.NAME.', name)
    near = difflib.get_close_matches(generic, known, n=1, cutoff=0.4)
    hint = f'; did you mean {near[0]}?' if near else ''
    return f'unknown parameter {name}{hint}'


def _convert(name, value, kind):
    """Check one leaf: an int passes for a float, nothing else is bent."""
    if typing.get_origin(kind) is list:
        (item,) = typing.get_args(kind)
        if isinstance(value, list | tuple):
            return [_convert(name, entry, item) for entry in value]
        raise ValueError(f'{name}: expected a list of {item.__name__}, got {value!r}')
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise ValueError(f'{name}: expected {kind.__name__}, got {value!r}')
    if kind is float and not math.isfinite(value):
        raise ValueError(f'{name}: expected a finite number, got {value!r}')
    return value


def load(path):
    """
    Read a YAML file of overrides: plain, or in the ROS form `/**: ros__parameters:`.

    Raises
    ------
    ValueError
        If the file is no YAML mapping or a setting is wrong; the message names the file.

    """
    values = read_mapping(path)
    try:
        return from_mapping(values)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error


def read_mapping(path):
    """
    Return the overrides of a YAML file as a nested mapping, unchecked.

    Raises
    ------
    ValueError
        If the file cannot be read as YAML.

    """
    try:
        with open(path, encoding='utf-8') as file:
            values = yaml.safe_load(file) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f'{path}: cannot be read as YAML: {error}') from error
    return _without_ros_header(values)


def _without_ros_header(values):
    """Merge the `ros__parameters` of every node in file order; plain files pass through."""
    if not isinstance(values, dict):
        return values
    sections = [v['ros__parameters'] for v in values.values()
                if isinstance(v, dict) and 'ros__parameters' in v]  # fmt: skip
    if not sections:
        return values
    merged = {}
    for section in sections:
        for key, value in (section or {}).items():
            if isinstance(value, dict) and isinstance(merged.get(key), dict):
                merged[key] = {**merged[key], **value}
            else:
                merged[key] = value
    merged.pop('use_sim_time', None)
    return merged


def to_mapping(config):
    """Return the nested mapping of every resolved setting, as `from_mapping` takes it."""
    values = {}
    for leaf in fields(config):
        value = getattr(config, leaf.name)
        if leaf.name == 'cameras':
            values[leaf.name] = {name: to_mapping(camera) for name, camera in value.items()}
        else:
            values[leaf.name] = to_mapping(value) if is_dataclass(value) else value
    return values


def dump(config):
    """Return YAML text of a resolved Config, each key with its unit and meaning."""
    return '\n'.join(_dump_lines(config, 0)) + '\n'


def _dump_lines(section, depth):
    pad = '  ' * depth
    for leaf in fields(section):
        value = getattr(section, leaf.name)
        if is_dataclass(value):
            yield f'{pad}{leaf.name}:'
            yield from _dump_lines(value, depth + 1)
        elif leaf.name == 'cameras' and value:
            yield f'{pad}cameras:'
            for name, camera in value.items():
                yield f'{pad}  {name}:'
                yield from _dump_lines(camera, depth + 2)
        else:
            unit = f'[{leaf.metadata["unit"]}] ' if leaf.metadata['unit'] else ''
            text = yaml.safe_dump(value, default_flow_style=True, width=10_000).strip()
            text = text.removesuffix('...').strip()
            yield f'{pad}{leaf.name}: {text}  # {unit}{leaf.metadata["sentence"]}'
