# SPDX-License-Identifier: Apache-2.0
"""
An endless live stream out of a short bag: the same messages lap after lap, stamps ever rising.

A thread publishes each message when it is due, stamped as far before now as in the bag, and
`/clock` beside them. Time runs as fast as that of the machine, but can be set (`jump`) and can
stand still for the nodes (`has_clock`). A `Meddler` may change what leaves.
"""

from dataclasses import dataclass
import threading
from time import monotonic, sleep, time_ns

from mmperception.ros import bag
from mmperception.ros.soak_meddling import stamped, TF
from mmperception.ros.stamps import stamp_of
import numpy as np
from rclpy.serialization import deserialize_message, serialize_message
from tf2_msgs.msg import TFMessage

NS = 1_000_000_000
CLOCK_STEP_S = 0.02
# A publisher that was held up for longer goes on from now instead of hurrying after.
STALL_S = 0.2
TICK_S = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """
    A message of the lap.

    Attributes
    ----------
    sensor : str
        `lidar`, `camera`, `gps`, `imu`, `odom` or `tf`; of a second camera its name.
    topic, type_name : str
    data : bytes
    due_s : float
        Since the begin of the lap.
    lag_ns : int
        How long before it is due it was measured.

    """

    sensor: str
    topic: str
    type_name: str
    data: bytes
    due_s: float
    lag_ns: int


def sensors_of(config):
    """Return {topic: sensor} of what is played; the first camera is `camera`."""
    topics = {'/lidar/points': 'lidar', '/gps/fix': 'gps', '/imu/data': 'imu'}
    topics.update({'/odom': 'odom', '/tf': 'tf'})
    for number, name in enumerate(config.camera_names):
        sensor = name if number else 'camera'
        for part in ('image_raw', 'image_raw/compressed', 'camera_info'):
            topics[f'/{name}/{part}'] = sensor
    return topics


def load_lap(path, topics, rate_hz):
    """
    Return the messages of a lap, and how long it takes.

    Parameters
    ----------
    path : path
        A bag.
    topics : dict of str to str
        See `sensors_of`.
    rate_hz : float
        Sweeps and pictures are thinned out to this rate.

    Returns
    -------
    lap : list of Recorded
        In order.
    length_s : float

    Raises
    ------
    ValueError
        If the bag has fewer than two sweeps.

    """
    begin_ns, lap, sweeps, due_s = None, [], [], {}
    for topic, type_name, data, log_ns in bag.read_messages(path, list(topics)):
        begin_ns = log_ns if begin_ns is None else begin_ns
        since_s = (log_ns - begin_ns) / 1e9
        is_big = topics[topic] == 'lidar' or 'image' in topic or topic.endswith('camera_info')
        if is_big:
            if since_s < due_s.get(topic, 0.0) - 0.25 / rate_hz:
                continue
            due_s[topic] = max(due_s.get(topic, since_s), since_s - 0.5 / rate_hz) + 1 / rate_hz
        if topics[topic] == 'lidar':
            sweeps.append(since_s)
        for one, stamp_ns in _split(type_name, data):
            lap.append(
                Recorded(
                    sensor=topics[topic],
                    topic=topic,
                    type_name=type_name,
                    data=one,
                    due_s=since_s,
                    lag_ns=log_ns - stamp_ns,
                )
            )
    if len(sweeps) < 2:
        raise ValueError(f'{path}: fewer than two sweeps: give another bag')
    length_s = sweeps[-1] - sweeps[0] + float(np.median(np.diff(sweeps)))
    return [message for message in lap if message.due_s < length_s], length_s


def _split(type_name, data):
    """Yield (data, stamp_ns): messages as they are, of transforms each by itself."""
    if type_name != TF:
        yield data, stamp_of(data)
        return
    for one in deserialize_message(data, TFMessage).transforms:
        stamp_ns = one.header.stamp.sec * NS + one.header.stamp.nanosec
        yield serialize_message(TFMessage(transforms=[one])), stamp_ns


class Stream:
    """
    The thread that publishes laps; a context manager.

    Parameters
    ----------
    player : Player
        Its publishers and its clock.
    lap : list of Recorded
    length_s : float

    """

    def __init__(self, player, lap, length_s):
        self.player, self.lap, self.length_s = player, lap, length_s
        self.has_clock, self.meddler = True, None
        self.num_stalls, self.failure = 0, None
        self._offset_ns = time_ns() - int(monotonic() * NS)
        self._lock = threading.Lock()
        self._is_running = True
        self._told_s = 0.0
        self._thread = threading.Thread(target=self._run, name='soak stream', daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_running = False
        self._thread.join()

    def now_ns(self):
        """Return the time that the sensors live in."""
        return int(monotonic() * NS) + self._offset_ns

    def jump(self, seconds):
        """Set the clock; return the time it shows now."""
        with self._lock:
            self._offset_ns += int(seconds * NS)
            self._tell_time()
            return self.now_ns()

    def meddle(self, meddler):
        """Let a Meddler (or None) change what leaves from now on; what the last held leaves."""
        with self._lock:
            last, self.meddler = self.meddler, meddler
            if last is not None:
                self._release(last, float('inf'))

    def _run(self):
        try:
            started_s = monotonic()
            while self._is_running:
                for message in self.lap:
                    started_s += self._wait_until(started_s + message.due_s)
                    if not self._is_running:
                        return
                    with self._lock:
                        self._send(message)
                started_s += self.length_s
        except Exception as error:  # a silent stream would be taken for dead sensors
            self.failure = error

    def _wait_until(self, due_s):
        """Wait; return by how much the stream is late when it was held up, else 0."""
        while self._is_running:
            now_s = monotonic()
            with self._lock:
                if now_s - self._told_s >= CLOCK_STEP_S:
                    self._tell_time()
                if self.meddler is not None:
                    self._release(self.meddler, now_s)
            if due_s <= now_s:
                break
            sleep(min(due_s - now_s, TICK_S))
        late_s = monotonic() - due_s
        if late_s < STALL_S:
            return 0.0
        self.num_stalls += 1
        return late_s

    def _send(self, message):
        stamp_ns = self.now_ns() - message.lag_ns
        if self.meddler is None:
            data = [stamped(message, stamp_ns)]
        else:
            data = self.meddler.change(message, stamp_ns, monotonic())
        for one in data:
            self.player.publishers[message.topic].publish(one)

    def _release(self, meddler, now_s):
        for topic, data in meddler.release(now_s):
            self.player.publishers[topic].publish(data)

    def _tell_time(self):
        self._told_s = monotonic()
        if self.has_clock:
            self.player.tell_time(self.now_ns())
