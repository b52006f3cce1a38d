# SPDX-License-Identifier: Apache-2.0
"""
The libraries that read and write rosbag2: one small class each, behind the same methods.

Written by the library `rosbags` where it is installed, since its version 8 is read by Humble and
by Jazzy alike; else by rosbag2_py. Read by rosbag2_py where it is installed, else by `rosbags`.
Used by `bag.py` alone.
"""

from importlib import import_module
from pathlib import Path
import re
import sqlite3
import struct

from rclpy.qos import DurabilityPolicy

try:
    import rosbag2_py
except ImportError:
    rosbag2_py = None
try:
    import rosbags.rosbag2
except ImportError:
    rosbags = None

NO_LIBRARY = 'neither rosbag2_py nor rosbags is installed: source a distribution or `make setup`'
DEPTH = 10

# What the libraries raise for a damaged bag, beside OSError.
ERRORS = (
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,  # a broken length is believed
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    sqlite3.Error,
    struct.error,
)
if rosbags is not None:
    from rosbags.rosbag2 import reader, ReaderError, WriterError

    ERRORS += (ReaderError, WriterError, reader.zstd.ZstdError)


def open_writer(path):
    """Return a writer of a new bag folder; its parent must exist."""
    if rosbags is not None:
        return RosbagsWriter(path)
    if rosbag2_py is not None:
        return Rosbag2Writer(path)
    raise ValueError(NO_LIBRARY)


def open_reader(path):
    """Return a reader of a bag folder or file."""
    if rosbag2_py is not None:
        return Rosbag2Reader(path)
    if rosbags is not None:
        return RosbagsReader(path)
    raise ValueError(NO_LIBRARY)


class RosbagsWriter:
    """rosbag2 version 8, MCAP, by `rosbags`."""

    def __init__(self, path):
        from rosbags.rosbag2 import StoragePlugin, Writer
        from rosbags.typesys import get_typestore, Stores

        self._types = get_typestore(Stores.ROS2_JAZZY)
        self._writer = Writer(path, version=8, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()

    def add_topic(self, topic, type_name, is_latched):
        """Announce a topic; returns what `write` takes."""
        definition, digest = self._definition(type_name)
        return self._writer.add_connection(
            topic,
            type_name,
            msgdef=definition,
            rihs01=digest,
            offered_qos_profiles=[_rosbags_qos(is_latched)],
        )

    def write(self, connection, data, log_ns):
        """Write one serialised message."""
        self._writer.write(connection, log_ns, data)

    def close(self):
        """Write index and metadata."""
        self._writer.close()

    def abort(self):
        """Close without an index: something went wrong."""
        self._writer.abort()

    def _definition(self, type_name):
        """Return the message definition and its hash, learning packages that are not known."""
        from rosbags.typesys import TypesysError

        learned = set()
        while True:
            try:
                definition, _ = self._types.generate_msgdef(type_name, ros_version=2)
                return definition, self._types.hash_rihs01(type_name)
            except (TypesysError, KeyError) as error:
                # The library names the first type that it does not know.
                packages = set(re.findall(r'(\w+)/msg/', f'{error} {type_name}')) - learned
                if not packages:
                    raise LookupError(f'message type {type_name}: {error}') from error
                for package in packages:
                    self._types.register(_types_of_package(package))
                learned |= packages


def _types_of_package(package):
    from rosbags.typesys import get_types_from_msg

    types = {}
    for path in sorted(_definitions_folder(package).glob('*.msg')):
        text = path.read_text(encoding='utf-8')
        types.update(get_types_from_msg(text, f'{package}/msg/{path.stem}'))
    return types


def _definitions_folder(package):
    """Return share/PACKAGE/msg of the prefix that the Python package was installed into."""
    try:
        home = Path(import_module(f'{package}.msg').__file__)
    except ImportError as error:
        raise LookupError(f'message package {package} is not installed') from error
    for prefix in home.parents:
        if (prefix / 'share' / package / 'msg').is_dir():
            return prefix / 'share' / package / 'msg'
    raise LookupError(f'message package {package} has no definitions in share/{package}/msg')


def _rosbags_qos(is_latched):
    from rosbags.interfaces import (
        Qos,
        QosDurability,
        QosHistory,
        QosLiveliness,
        QosReliability,
        QosTime,
    )

    for_ever = QosTime(9223372036, 854775807)
    return Qos(
        QosHistory.KEEP_LAST,
        DEPTH,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL if is_latched else QosDurability.VOLATILE,
        for_ever,
        for_ever,
        QosLiveliness.AUTOMATIC,
        for_ever,
        False,
    )


class RosbagsReader:
    """A bag folder, or a single .mcap or .db3 file, by `rosbags`."""

    def __init__(self, path):
        from rosbags.rosbag2 import Reader

        self._reader = Reader(Path(path))
        self._reader.open()
        self.begin_ns, self.end_ns = self._reader.start_time, self._reader.end_time - 1
        self.counts, self.topics, self.latched = {}, {}, set()
        for connection in self._reader.connections:
            topic = connection.topic
            self.topics[topic] = connection.msgtype
            self.counts[topic] = self.counts.get(topic, 0) + connection.msgcount
            if any(q.durability.name == 'TRANSIENT_LOCAL' for q in _offered(connection)):
                self.latched.add(topic)

    def messages(self, topics):
        """Yield (topic, type, data, log_ns) in log order."""
        chosen = [c for c in self._reader.connections if topics is None or c.topic in topics]
        if not chosen:
            return
        for connection, log_ns, data in self._reader.messages(chosen):
            yield connection.topic, connection.msgtype, bytes(data), log_ns

    def close(self):
        """Close the files."""
        self._reader.close()


def _offered(connection):
    return connection.ext.offered_qos_profiles


class Rosbag2Writer:
    """MCAP by the distribution's rosbag2_py, in its own version."""

    def __init__(self, path):
        self._writer = rosbag2_py.SequentialWriter()
        self._writer.open(
            rosbag2_py.StorageOptions(uri=str(path), storage_id='mcap'),
            rosbag2_py.ConverterOptions('cdr', 'cdr'),
        )
        self._number = 0

    def add_topic(self, topic, type_name, is_latched):
        """Announce a topic; returns what `write` takes."""
        _definitions_folder(type_name.partition('/')[0])  # rosbag2 would only warn
        fields = {'name': topic, 'type': type_name, 'serialization_format': 'cdr'}
        try:  # since Iron a topic has a number, since Jazzy its QoS is an object
            metadata = rosbag2_py.TopicMetadata(
                id=self._number, offered_qos_profiles=[_rosbag2_qos(is_latched)], **fields
            )
        except (TypeError, AttributeError):
            metadata = rosbag2_py.TopicMetadata(
                offered_qos_profiles=HUMBLE_QOS.format(1 if is_latched else 2), **fields
            )
        self._number += 1
        self._writer.create_topic(metadata)
        return topic

    def write(self, connection, data, log_ns):
        """Write one serialised message."""
        self._writer.write(connection, bytes(data), log_ns)

    def close(self):
        """Write index and metadata."""
        if hasattr(self._writer, 'close'):
            self._writer.close()
        self._writer = None

    abort = close


HUMBLE_QOS = (
    '- history: 1\n  depth: 10\n  reliability: 1\n  durability: {}\n'
    '  deadline: {{sec: 9223372036, nsec: 854775807}}\n'
    '  lifespan: {{sec: 9223372036, nsec: 854775807}}\n  liveliness: 1\n'
    '  liveliness_lease_duration: {{sec: 9223372036, nsec: 854775807}}\n'
    '  avoid_ros_namespace_conventions: false'
)


def _rosbag2_qos(is_latched):
    qos = rosbag2_py._storage.QoS(DEPTH).keep_last(DEPTH).reliable()
    return qos.transient_local() if is_latched else qos.durability_volatile()


def _is_offered_latched(profiles):
    """Read QoS profiles as YAML text (Humble), or as objects without getters (Jazzy)."""
    if isinstance(profiles, str):
        return 'durability: 1' in profiles
    policies = map(rosbag2_py.convert_rclcpp_qos_to_rclpy_qos, profiles)
    return any(policy.durability == DurabilityPolicy.TRANSIENT_LOCAL for policy in policies)


class Rosbag2Reader:
    """A bag by the distribution's rosbag2_py."""

    def __init__(self, path):
        self._path = str(path)
        info = rosbag2_py.Info().read_metadata(self._path, '')
        start_ns, span_ns = info.starting_time, info.duration
        self.begin_ns = getattr(start_ns, 'nanoseconds', start_ns)
        self.end_ns = self.begin_ns + getattr(span_ns, 'nanoseconds', span_ns)
        self.counts, self.topics, self.latched = {}, {}, set()
        for entry in info.topics_with_message_count:
            topic = entry.topic_metadata
            self.topics[topic.name] = topic.type
            self.counts[topic.name] = entry.message_count
            if _is_offered_latched(topic.offered_qos_profiles):
                self.latched.add(topic.name)

    def messages(self, topics):
        """Yield (topic, type, data, log_ns) in log order."""
        if topics is not None and not topics:
            return  # an empty filter would let everything through
        reader = rosbag2_py.SequentialReader()
        reader.open(
            rosbag2_py.StorageOptions(uri=self._path, storage_id=''),
            rosbag2_py.ConverterOptions('cdr', 'cdr'),
        )
        if topics is not None:
            reader.set_filter(rosbag2_py.StorageFilter(topics=list(topics)))
        while reader.has_next():
            topic, data, log_ns = reader.read_next()[:3]
            yield topic, self.topics[topic], data, log_ns

    def close(self):
        """Nothing is held."""
