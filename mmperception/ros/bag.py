# SPDX-License-Identifier: Apache-2.0
"""
rosbag2 recordings: what is in them, their messages, and new ones.

Messages are raw CDR here and are (de)serialised by rclpy's own classes. A new bag appears as a
whole or not at all: it is written beside its place and renamed. Errors are sentences that name
the bag; of a truncated MCAP they name the last stamp that can be read.
"""

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
import shutil
import tempfile

from mmperception.config import from_mapping, read_mapping
from mmperception.ros import bag_storage
from mmperception.ros.mcap_scan import is_mcap, is_whole, last_readable_ns
from rclpy.serialization import deserialize_message, serialize_message
from tf2_msgs.msg import TFMessage
import yaml

# What the sensors of a bag need, such as `rectified`; absent in bags from robots.
SETTINGS = 'perception.yaml'
# The last name of topics that are offered to late subscribers too.
LATCHED = {'tf_static', 'label_info', 'costmap_filter_info', 'path_cost'}


@dataclass(frozen=True, slots=True, kw_only=True)
class BagContents:
    """
    What a bag holds.

    Attributes
    ----------
    topics : dict of str to str
        Topic to type, `package/msg/Name`.
    counts : dict of str to int
        Topic to its number of messages.
    latched : frozenset of str
        Topics that were recorded as transient local.
    begin_ns, end_ns : int
        First and last log time.
    num_messages : int
    has_odom : bool
        Whether transforms say where the robot is in the odometry frame.

    """

    topics: dict
    counts: dict
    latched: frozenset
    begin_ns: int
    end_ns: int
    num_messages: int
    has_odom: bool

    @property
    def duration_s(self):
        return (self.end_ns - self.begin_ns) / 1e9


def contents_of(path, odom_frame='odom'):
    """
    Return the BagContents of a bag folder or file.

    Raises
    ------
    ValueError
        If there is no readable bag; names the bag.

    """
    with _reading(path) as reader:
        return BagContents(
            topics=dict(reader.topics),
            counts=dict(reader.counts),
            latched=frozenset(reader.latched),
            begin_ns=reader.begin_ns,
            end_ns=reader.end_ns,
            num_messages=sum(reader.counts.values()),
            has_odom=_has_frame(reader, odom_frame),
        )


def _has_frame(reader, frame):
    for _, _, data, _ in reader.messages(_own_topics(reader, {'/tf', '/tf_static'})):
        for one in deserialize_message(data, TFMessage).transforms:
            if frame in (one.header.frame_id.lstrip('/'), one.child_frame_id.lstrip('/')):
                return True
    return False


def _own_topics(reader, topics):
    return {topic for topic in reader.topics if topics is None or topic in topics}


def read_messages(path, topics=None):
    """
    Yield the messages of a bag in log order.

    Parameters
    ----------
    path : path
        Folder, .mcap or .db3 file.
    topics : collection of str, optional
        Only these, with the leading slash.

    Yields
    ------
    topic : str
    type_name : str
        `package/msg/Name`.
    data : bytes
        Serialised.
    log_ns : int

    Raises
    ------
    ValueError
        If there is no readable bag; of a truncated MCAP with the last readable stamp.

    """
    with _reading(path) as reader:
        yield from reader.messages(None if topics is None else _own_topics(reader, topics))


@contextmanager
def _reading(path):
    """Open a bag; whatever the library finds wrong with it becomes a ValueError."""
    path = Path(path)
    place = _storage_place(path)
    reader = None
    try:
        reader = bag_storage.open_reader(place)
        yield reader
    except bag_storage.ERRORS as error:
        raise ValueError(f'{path}: cannot be read as a bag: {error}') from error
    finally:
        if reader is not None:
            reader.close()


def _storage_place(path):
    """Return what to open: the folder, or the only file in it when its metadata is absent."""
    if not path.exists():
        raise ValueError(f'{path}: there is no such bag')
    files = [path] if path.is_file() else sorted([*path.glob('*.mcap'), *path.glob('*.db3')])
    if not files:
        raise ValueError(f'{path}: no bag: neither .mcap nor .db3 is in it')
    if path.is_file() and path.suffix not in ('.mcap', '.db3'):
        raise ValueError(f'{path}: no bag: give a folder, an .mcap or a .db3 file')
    for file in files:
        if file.suffix == '.mcap' and not is_whole(file):
            raise ValueError(_cut_off(file))
    if path.is_dir() and not (path / 'metadata.yaml').is_file():
        if len(files) > 1:
            raise ValueError(f'{path}: has no metadata.yaml: run `ros2 bag reindex {path}`')
        return files[0]
    return path


def _cut_off(file):
    if not is_mcap(file):
        return f'{file}: no MCAP file, whatever its name says; give a bag'
    stamp_ns = last_readable_ns(file)
    if stamp_ns is None:
        return f'{file}: truncated, no message in it can be read; record it again'
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    return (
        f'{file}: truncated; the last readable stamp is {seconds}.{nanoseconds:09d} '
        f'({stamp_ns} ns); repair it with `mcap recover` or record it again'
    )


class BagWriter:
    """
    A new bag, complete when the `with` block ends and absent when it fails.

    Parameters
    ----------
    path : path
        Folder of the bag.
    force : bool
        Replace a bag that is there. Anything but a bag or an empty folder is never replaced.

    Raises
    ------
    ValueError
        If there is something at `path` already.

    """

    def __init__(self, path, force=False):
        self.path = Path(path)
        check_place(self.path, force)
        self._topics, self._storage, self._place = {}, None, None

    def __enter__(self):
        parent = self.path.absolute().parent
        parent.mkdir(parents=True, exist_ok=True)
        self._place = Path(tempfile.mkdtemp(prefix=f'.{self.path.name}.', dir=parent))
        self._storage = bag_storage.open_writer(self._place / self.path.name)
        return self

    def __exit__(self, kind, error, trace):
        try:
            if kind is None:
                self._storage.close()
                self._move()
            else:
                self._storage.abort()
        finally:
            shutil.rmtree(self._place, ignore_errors=True)

    def _move(self):
        if self.path.exists():
            self.path.rename(self._place / '.replaced')
        (self._place / self.path.name).rename(self.path)

    def write(self, topic, type_name, data, log_ns):
        """
        Write one serialised message.

        Parameters
        ----------
        topic : str
            With the leading slash.
        type_name : str
            `package/msg/Name`.
        data : bytes
            CDR.
        log_ns : int
            When it was received.

        """
        if topic not in self._topics:
            is_latched = topic.rpartition('/')[2] in LATCHED
            self._topics[topic] = self._storage.add_topic(topic, type_name, is_latched)
        self._storage.write(self._topics[topic], data, log_ns)

    def write_message(self, topic, message, log_ns):
        """Serialise and write one message."""
        self.write(topic, type_name_of(message), serialize_message(message), log_ns)

    def write_settings(self, values):
        """Leave nested settings beside the messages, as a parameter file of the nodes."""
        text = yaml.safe_dump({'/**': {'ros__parameters': values}}, sort_keys=False)
        (self._place / self.path.name / SETTINGS).write_text(text, encoding='utf-8')


def settings_of(path):
    """
    Return the nested settings that a bag brings along; {} when it brings none.

    Raises
    ------
    ValueError
        If they are not valid; names their file.

    """
    path = Path(path)
    file = (path.parent if path.is_file() else path) / SETTINGS
    if not file.is_file():
        return {}
    values = read_mapping(file)
    try:
        from_mapping(values)
    except ValueError as error:
        raise ValueError(f'{file}: {error}') from error
    return values


def check_place(path, force):
    """
    See that a bag may be written at a path.

    Raises
    ------
    ValueError
        If there is something already: without `force` anything, with it anything but a bag.

    """
    path = Path(path)
    is_empty = path.is_dir() and not any(path.iterdir())
    if is_empty or not path.exists():
        return
    if not force:
        raise ValueError(f'{path} exists: give another place, or --force to replace it')
    if not (path / 'metadata.yaml').is_file() and not any(path.glob('*.mcap')):
        raise ValueError(f'{path} exists and is no bag: it is not replaced, give another place')


def type_name_of(message):
    """Return `package/msg/Name` of a message or its class."""
    kind = message if isinstance(message, type) else type(message)
    return f'{kind.__module__.partition(".")[0]}/msg/{kind.__name__}'
