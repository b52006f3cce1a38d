# SPDX-License-Identifier: Apache-2.0
"""
What a replay plays and where its results go: checked before anything is started.

`--drop SENSOR[@FROM-TO]` becomes a `Drop`, the settings become the nodes' parameter file.
"""

from dataclasses import dataclass
from pathlib import Path
import re

from mmperception.config import Config, to_mapping
from mmperception.ros import bag
from mmperception.ros.player import Drop
import yaml

RESULTS = ('summary.json', 'overview.png', 'overview.mp4', 'signs.png')
SENSOR_TOPICS = {
    'lidar': ('/lidar/points',),
    'gps': ('/gps/fix',),
    'imu': ('/imu/data',),
    'odom': ('/odom',),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPlan:
    """What to play, how, and where the results go."""

    bag: Path
    out: Path
    config: Config
    drops: tuple[Drop, ...] = ()
    rate: float = 1.0
    loops: int = 1
    has_video: bool = False
    may_overwrite: bool = False


def drop_from_text(text, config):
    """
    Return the Drop of `SENSOR[@FROM-TO]`.

    Raises
    ------
    ValueError
        If there is no such sensor, or the times are none.

    """
    found = re.fullmatch(r'([^@]+)(?:@([\d.]+)-([\d.]+))?', text)
    cameras = {
        name: (f'/{name}/image_raw', f'/{name}/image_raw/compressed', f'/{name}/camera_info')
        for name in config.camera_names
    }
    topics = {**SENSOR_TOPICS, **cameras}
    if not found or found[1] not in topics:
        raise ValueError(f'--drop {text}: give one of {", ".join(topics)}, or such as lidar@2-4.5')
    try:
        from_s, to_s = float(found[2] or 0.0), float(found[3] or 'inf')
    except ValueError as error:
        raise ValueError(f'--drop {text}: times are seconds, such as lidar@2-4.5') from error
    if from_s >= to_s:
        raise ValueError(f'--drop {text}: begins at {from_s} s but ends at {to_s} s')
    return Drop(topics=topics[found[1]], from_s=from_s, to_s=to_s)


def check_bag(plan):
    """
    Look at a bag before anything is started.

    Raises
    ------
    ValueError
        If it has no sweeps and no images, or no transforms.

    """
    contents = bag.contents_of(plan.bag, plan.config.odom_frame)
    if not {'/tf', '/tf_static'} & set(contents.topics):
        raise ValueError(
            f'{plan.bag}: neither /tf nor /tf_static is in it: record them too, they say where '
            'the sensors sit'
        )
    pivots = ['/lidar/points', *(image_topic(plan.config, n) for n in plan.config.camera_names)]
    if not any(contents.counts.get(topic) for topic in pivots):
        raise ValueError(
            f'{plan.bag}: nothing is in it on {" or ".join(pivots)}: rename its topics, '
            'or set camera_names; `mmperception check` lists them'
        )
    return contents


def expects_grids(plan, contents):
    """
    Return whether a grid can be expected for every sweep: whether there is odometry.

    Parameters
    ----------
    plan : ReplayPlan
        What it withholds may be the odometry.
    contents : BagContents
        Of the bag that will be played.

    """
    (topic,) = SENSOR_TOPICS['odom']
    is_whole = not any(topic in drop.topics for drop in plan.drops)
    return contents.has_odom or bool(is_whole and contents.counts.get(topic))


def image_topic(config, name):
    """Return the topic of a camera's images."""
    is_raw = config.camera(name).transport == 'raw'
    return f'/{name}/image_raw' if is_raw else f'/{name}/image_raw/compressed'


def prepare(plan):
    """
    Make the folder of the results and the nodes' parameter file in it.

    Raises
    ------
    ValueError
        If the folder is there already and may not be overwritten.

    """
    if plan.out.exists() and not plan.may_overwrite:
        raise ValueError(f'{plan.out} exists: give another --out, or --force to overwrite it')
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
        for name in RESULTS:  # of an earlier run: never taken for those of this one
            (plan.out / name).unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(f'{plan.out}: {error.strerror}: give another --out') from error
    values = {**to_mapping(plan.config), 'autostart': True, 'use_sim_time': True}
    values = {name: value for name, value in values.items() if value != {}}
    path = plan.out / 'params.yaml'
    path.write_text(yaml.safe_dump({'/**': {'ros__parameters': values}}, sort_keys=False))
    return path
