# SPDX-License-Identifier: Apache-2.0
"""
The soak: both nodes for as long as wanted, with a fault every few seconds, over real DDS.

The nodes run in a process of their own, on the time of this one. A stream publishes; for each
fault of the schedule it is meddled with, the clock is set, or a node is sent through its states;
what `/diagnostics` and the results then say is recorded, beside memory and threads. Nothing is
judged here (`evaluation/soak.py`).
"""

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from mmperception.ros import bag, dds
from mmperception.ros.child import NodesProcess
from mmperception.ros.link import Link
from mmperception.ros.player import Player
from mmperception.ros.replay_plan import image_topic
from mmperception.ros.soak_observer import SoakObserver
from mmperception.ros.soak_run import SoakRun
from mmperception.ros.soak_stream import load_lap, sensors_of, Stream

NODES = ('perception', 'path_cost')
STATIC = {'/tf_static': 'tf2_msgs/msg/TFMessage'}
POLL_S, MATCH_TIMEOUT_S = 0.02, 15.0
# The sensors' places must be known before the first sweep.
SETTLE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakPlan:
    """
    What is played, and how.

    Attributes
    ----------
    bag : Path
    out : Path
        Folder for what is needed meanwhile.
    params : Path
        The nodes' parameter file, with `use_sim_time`.
    log : Path
        Where the nodes' log goes.
    config : Config
    rate_hz : float
        Sweeps and pictures per second.
    seconds : float

    """

    bag: Path
    out: Path
    params: Path
    log: Path
    config: object
    rate_hz: float
    seconds: float


def sensors_in(path, config):
    """Return the sensors of which a bag has messages."""
    counts = bag.contents_of(path, config.odom_frame).counts
    return {sensor for topic, sensor in sensors_of(config).items() if counts.get(topic)}


def soak(plan, faults, progress):
    """
    Run the nodes through a schedule.

    Parameters
    ----------
    plan : SoakPlan
        What is played.
    faults : sequence of Fault
        In order, not overlapping.
    progress : callable
        Takes what was recorded so far, once a minute and at the end.

    Returns
    -------
    dict
        What `evaluation.soak.judge` takes.

    Raises
    ------
    TimeoutError
        If the nodes do not start.

    """
    dds.set_up(plan.out)
    domain_id, log = dds.choose_domain(), Counter()
    topics = sensors_of(plan.config)
    lap, length_s = load_lap(plan.bag, topics, plan.rate_hz)
    with ExitStack() as stack:
        child = stack.enter_context(NodesProcess(plan.params, plan.log, domain_id, _counting(log)))
        link = stack.enter_context(Link(domain_id))
        kinds = {message.topic: message.type_name for message in lap}
        player = Player(link.node, {**kinds, **STATIC}, 'live', 1.0)
        stream = Stream(player, lap, length_s)
        observer = SoakObserver(link.node, _renamed(plan.config), stream.now_ns)
        _wait_for_nodes(plan, child, link, player)
        for _, _, data, _ in bag.read_messages(plan.bag, list(STATIC)):
            player.publishers['/tf_static'].publish(data)
        sleep(SETTLE_S)
        stack.enter_context(stream)
        run = SoakRun(plan, child, link, stream, observer, log)
        run.play(faults, progress)
    return run.result()


def _counting(log):
    """Return what takes a line of the nodes' log and counts it by level."""

    def show(line):
        log['warnings' if '[WARN]' in line else 'errors'] += 1

    return show


def _renamed(config):
    """Return which status stands for the first camera."""
    if not config.camera_names:
        return {}
    topic = image_topic(config, config.camera_names[0]).lstrip('/')
    return {f'perception: {topic}': 'perception: camera/image_raw'}


def _wait_for_nodes(plan, child, link, player):
    def wait(condition, timeout_s, complaint):
        deadline = monotonic() + timeout_s
        while not condition():
            child.check()
            if monotonic() > deadline:
                raise TimeoutError(f'{complaint}: see {child.log_path}')
            sleep(POLL_S)

    wait(
        lambda: all(link.is_active(name) for name in NODES),
        plan.config.replay.startup_timeout_s,
        'the nodes are not active yet',
    )
    wait(
        lambda: all(one.get_subscription_count() for one in player.publishers.values()),
        MATCH_TIMEOUT_S,
        'the nodes do not listen to the topics of this bag',
    )
