# SPDX-License-Identifier: Apache-2.0
"""
The Config tree as read-only ROS parameters.

A node is made with `automatically_declare_parameters_from_overrides=True`, so that every setting
of its parameter file can be seen; `declare_config` then turns these overrides into a `Config`
(unknown names and wrong types are errors, as in any YAML file of the package) and declares each
leaf with its sentence and unit. Source: rcl_interfaces/msg/ParameterDescriptor.
"""

from mmperception.config import from_mapping, leaves
from rcl_interfaces.msg import ParameterDescriptor

# Declared by rclpy itself on any node.
FOREIGN = ('use_sim_time', 'start_type_description_service')
FOREIGN_PREFIX = 'qos_overrides.'


def declare_config(node):
    """
    Build the Config of a node from its overrides and declare every setting read-only.

    Parameters
    ----------
    node : rclpy.node.Node
        Made with `automatically_declare_parameters_from_overrides=True`.

    Returns
    -------
    Config

    Raises
    ------
    ValueError
        For an unknown parameter (naming the nearest), a wrong type or a value out of range.

    """
    overrides = {
        name: parameter.value
        for name, parameter in node.get_parameters_by_prefix('').items()
        if name not in FOREIGN and not name.startswith(FOREIGN_PREFIX)
    }
    config = from_mapping(nested(overrides))
    for name in overrides:
        node.undeclare_parameter(name)
    for name, value, leaf in settings(config):
        descriptor = ParameterDescriptor(description=describe(leaf), read_only=True)
        node.declare_parameter(name, value, descriptor, ignore_override=True)
    return config


def nested(values):
    """
    Turn dotted names into nested mappings.

    Raises
    ------
    ValueError
        If a name is both a value and a section.

    """
    tree = {}
    for name, value in sorted(values.items()):
        *sections, last = name.split('.')
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ValueError(f'unknown parameter {name}: {section} is no section')
        place[last] = list(value) if isinstance(value, list | tuple) else _plain(value)
    return tree


def _plain(value):
    """Return an array of numbers as a list, anything else as it is."""
    return value.tolist() if hasattr(value, 'tolist') else value


def settings(config):
    """Yield (dotted name, value, dataclass field) of a Config, cameras by their names."""
    for name, leaf, _ in leaves():
        if not name.startswith('cameras.NAME.'):
            yield name, _value(config, name), leaf
            continue
        for camera in config.camera_names:
            value = getattr(config.camera(camera), leaf.name)
            yield name.replace('NAME', camera), value, leaf


def _value(section, name):
    for part in name.split('.'):
        section = getattr(section, part)
    return section


def describe(leaf):
    """Return what `ros2 param describe` says of a setting."""
    unit = f' [{leaf.metadata["unit"]}]' if leaf.metadata['unit'] else ''
    choices = leaf.metadata['choices']
    words = f' One of {", ".join(choices)}.' if choices else ''
    return f'{leaf.metadata["sentence"]}{unit}{words}'
