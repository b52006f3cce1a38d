# SPDX-License-Identifier: Apache-2.0
"""
Plays a bag through DDS into the nodes and sums up what they say.

The nodes run in a process of their own, found through a ROS domain of this replay alone; the
bag's messages leave as they were recorded. In order: look at the bag, start the nodes, wait until
they are active and connected, play, wait for the last answers, stop the nodes, write the results.
"""

from collections import Counter
from contextlib import ExitStack
import json
from time import monotonic, sleep

from mmperception.ros import bag, dds
from mmperception.ros.child import NodesProcess
from mmperception.ros.headers import ns_from_time
from mmperception.ros.link import Link
from mmperception.ros.observer import Observer, OUTPUTS
from mmperception.ros.obstacle_map import write_obstacle_map
from mmperception.ros.pictures import draw, record_inputs
from mmperception.ros.player import Player, SWEEP_TOPIC
from mmperception.ros.replay_plan import check_bag, expects_grids, image_topic, prepare
from mmperception.ros.sign_map import write_sign_map
from mmperception.ros.stamps import stamp_of
from mmperception.ros.summary import summarize
from rclpy.serialization import deserialize_message
from tqdm import tqdm
from visualization_msgs.msg import MarkerArray

NODES = ('perception', 'path_cost')
MATCH_TIMEOUT_S = 15.0
REPORT_TIMEOUT_S = 3.0
# Without sweeps images are the pivots; each is known to be one only when the next is here.
IMAGES_IN_FLIGHT, IMAGE_TIMEOUT_S = 2, 1.0
# How long the last frame of mode live may take.
TAIL_S = 1.0
# After what must be known before anything else comes.
SETTLE_S = 0.3


def replay(plan, show):
    """
    Play a bag and write its results.

    Parameters
    ----------
    plan : ReplayPlan
        What is played, how, and where the results go.
    show : callable
        Takes one line for the terminal.

    Returns
    -------
    dict
        The contents of `summary.json`.

    Raises
    ------
    ValueError
        If the bag cannot be played.
    ChildDied
        If the nodes end by themselves.
    TimeoutError
        If they do not answer.

    """
    contents = check_bag(plan)
    params_path = prepare(plan)
    dds.set_up(plan.out)
    domain_id = dds.choose_domain()
    with ExitStack() as stack:
        child = stack.enter_context(
            NodesProcess(params_path, plan.out / 'nodes.log', domain_id, show)
        )
        link = stack.enter_context(Link(domain_id))
        writer = stack.enter_context(bag.BagWriter(plan.out / 'output', plan.may_overwrite))
        run = Run(plan, contents, child, link, writer)
        run.wait_for_nodes()
        for _ in range(plan.loops):
            run.play()
        run.wait_for_reports()
        child.stop()
        record_inputs(plan, contents, writer)
    summary = summarize(run.observer, plan.config)
    (plan.out / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n')
    draw(plan, run.observer.processed_stamps())
    write_obstacle_map(plan.out / 'output', plan.out / 'obstacles.geojson', plan.config)
    write_sign_map(plan.out / 'output', plan.out / 'signs.geojson', plan.config)
    return summary


class Run:
    """One replay while it runs: the player, the observer and what they write."""

    def __init__(self, plan, contents, child, link, writer):
        self.plan, self.config, self.contents = plan, plan.config, contents
        self.child, self.link, self.writer = child, link, writer
        self.player = Player(link.node, played_topics(contents), self.config.mode, plan.rate)
        has_grids = expects_grids(plan, contents)
        self.observer = Observer(link.node, self._record, has_grids, self.config.mode == 'replay')

    def wait_for_nodes(self):
        """Wait until both nodes are active and hear what will be played."""
        deadline = monotonic() + self.config.replay.startup_timeout_s
        while not all(self.link.is_active(name) for name in NODES):
            self._check(deadline, 'the nodes are not active yet')
        deadline = monotonic() + MATCH_TIMEOUT_S
        while not self._is_connected():
            self._check(deadline, 'the nodes do not listen to the topics of this bag')
            sleep(0.02)
        sleep(SETTLE_S)  # the other side of each connection learns of it a moment later

    def _check(self, deadline, complaint):
        """Raise when the nodes are dead, or the time is over."""
        self.child.check()
        if monotonic() > deadline:
            raise TimeoutError(f'{complaint}: see {self.child.log_path}')

    def _is_connected(self):
        listeners = dict.fromkeys(heard_topics(self.config), 1)
        listeners.update(dict.fromkeys(('/lidar/points', '/odom', '/tf', '/tf_static'), 2))
        publishers = self.player.publishers
        return all(
            publishers[topic].get_subscription_count() >= number
            for topic, number in listeners.items()
            if topic in publishers
        ) and all(self.link.node.count_publishers(topic) for topic in OUTPUTS)

    def play(self):
        """Play the bag once and wait for the last answer."""
        self.observer.begin_loop()
        self.is_first_sweep, self.sweep_ns, self.images = True, None, []
        begin_ns = self.contents.begin_ns
        self.player.tell_time(begin_ns)
        sleep(SETTLE_S)  # a jump of the clock must arrive before the first message
        holds = {SWEEP_TOPIC: self._before_sweep}
        for name in self.config.camera_names[:1]:  # it stands in for the LiDAR
            holds[image_topic(self.config, name)] = self._before_image
        messages = self._with_progress(bag.read_messages(self.plan.bag))
        self.player.play(messages, begin_ns, self.plan.drops, holds)
        if self.config.mode == 'replay':
            self._wait_for_answers(0)
        else:
            sleep(TAIL_S)

    def _before_sweep(self, stamp_ns):
        """Hold a sweep back until the nodes are ready for it."""
        if self.is_first_sweep or self.images:
            self.is_first_sweep = False
            # Transforms, and images that stood in for sweeps, must arrive before it.
            sleep(SETTLE_S)
        if self.config.mode == 'replay':
            self._wait_for_answers(self.config.replay.max_in_flight - 1)
        self.child.check()
        self.observer.expect(stamp_ns)
        self.sweep_ns, self.images = stamp_ns, []

    def _before_image(self, stamp_ns):
        """Hold an image back that may be the pivot because the LiDAR is silent."""
        self.child.check()
        if self.sweep_ns is None:
            self.sweep_ns = stamp_ns
        if stamp_ns - self.sweep_ns < self.config.sync.lidar_timeout_ms * 1e6:
            return
        self.images.append(stamp_ns)
        if self.config.mode == 'replay' and len(self.images) > IMAGES_IN_FLIGHT:
            earlier_ns = self.images[-1 - IMAGES_IN_FLIGHT]
            self.observer.wait_until(
                lambda: earlier_ns in self.observer.pivots, IMAGE_TIMEOUT_S, self._keep_alive
            )

    def _wait_for_answers(self, most):
        timeout_s = self.config.replay.answer_timeout_s
        is_done = self.observer.wait_until(
            lambda: self.observer.num_in_flight() <= most, timeout_s, self._keep_alive
        )
        if not is_done:
            raise TimeoutError(
                f'no answer in {timeout_s:g} s from {self.observer.unanswered()}: '
                f'see {self.child.log_path}'
            )

    def _keep_alive(self):
        """While waiting: see that the nodes live, and repeat the time for those who missed it."""
        self.child.check()
        self.player.tell_time(self.player.now_ns)

    def _with_progress(self, messages):
        """Pass messages on, showing on a terminal how far the play is."""
        with tqdm(total=self.contents.num_messages, unit=' msg', disable=None) as bar:
            for message in messages:
                bar.update()
                yield message

    def _record(self, topic, type_name, data):
        """
        Write a result; in mode replay at the time of what it is about.

        Back-pressure lets results come two sweeps after their stamp by the clock of the bag; at
        that time a viewer would show boxes behind their objects. What is sent before the bag
        begins, latched, stands at its begin.
        """
        log_ns = max(self.player.now_ns, self.contents.begin_ns)
        if self.config.mode == 'replay':
            log_ns = max(result_stamp(type_name, data) or log_ns, self.contents.begin_ns)
        self.writer.write(topic, type_name, data, log_ns)

    def wait_for_reports(self):
        """Wait for one more /diagnostics of each node, so that the last counts are in."""
        names = [f'{node}: pipeline' for node in NODES]
        before = Counter(self.observer.reports)
        self.observer.wait_until(
            lambda: all(self.observer.reports[name] > before[name] for name in names),
            REPORT_TIMEOUT_S,
            self.child.check,
        )
        self.observer.is_open = False  # what nodes say while they stop is not about the bag


def result_stamp(type_name, data):
    """Return the stamp (ns) of a serialised result; 0 of markers that show nothing."""
    if type_name != 'visualization_msgs/msg/MarkerArray':
        return stamp_of(data)
    markers = deserialize_message(data, MarkerArray).markers
    return ns_from_time(markers[0].header.stamp) if markers else 0


def played_topics(contents):
    """Return topic and type of what is played: not what the nodes publish themselves."""
    own = {f'/{topic.lstrip("/")}' for topic in OUTPUTS} | {'/clock', '/rosout'}
    return {topic: kind for topic, kind in contents.topics.items() if topic not in own}


def heard_topics(config):
    """Return the topics that the nodes of this configuration subscribe to."""
    topics = ['/lidar/points', '/gps/fix', '/imu/data', '/odom', '/tf', '/tf_static']
    for name in config.camera_names:
        topics += [image_topic(config, name), f'/{name}/camera_info']
    return topics
