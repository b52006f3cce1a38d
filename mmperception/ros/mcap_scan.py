# SPDX-License-Identifier: Apache-2.0
"""
How far an MCAP file that was cut off can still be read.

A recorder that dies leaves a file without its end; this walks over the records that are whole.
Source: the MCAP specification (records: opcode, uint64 length, content; little endian).
"""

from pathlib import Path
import struct

MAGIC = b'\x89MCAP0\r\n'
MESSAGE, CHUNK = 0x05, 0x06
RECORD_HEAD = struct.Struct('<BQ')
# Channel id, sequence, log time, publish time.
MESSAGE_HEAD = struct.Struct('<HIQQ')
# First and last log time, uncompressed size, CRC, length of the compression's name.
CHUNK_HEAD = struct.Struct('<QQQII')


def is_mcap(path):
    """Tell whether a file begins like an MCAP file, or is one of which nothing was written."""
    with Path(path).open('rb') as file:
        return file.read(len(MAGIC)) in (MAGIC, b'')


def is_whole(path):
    """Tell whether an MCAP file has both its begin and its end."""
    path = Path(path)
    size = path.stat().st_size
    if size < 2 * len(MAGIC):
        return False
    with path.open('rb') as file:
        begin = file.read(len(MAGIC))
        file.seek(size - len(MAGIC))
        return begin == MAGIC and file.read() == MAGIC


def last_readable_ns(path):
    """Return the latest log time (ns) in the whole records of a file, or None."""
    path = Path(path)
    size, stamps = path.stat().st_size, []
    with path.open('rb') as file:
        if file.read(len(MAGIC)) != MAGIC:
            return None
        while (head := _record_head(file)) is not None:
            opcode, length = head
            begin = file.tell()
            is_complete = begin + length <= size
            if opcode == CHUNK:
                stamps += _chunk_stamps(file, is_complete)
            elif opcode == MESSAGE and is_complete:
                stamps.append(MESSAGE_HEAD.unpack(file.read(MESSAGE_HEAD.size))[2])
            if not is_complete:
                break
            file.seek(begin + length)
    return max(stamps, default=None)


def _record_head(file):
    data = file.read(RECORD_HEAD.size)
    return RECORD_HEAD.unpack(data) if len(data) == RECORD_HEAD.size else None


def _chunk_stamps(file, is_complete):
    """Return log times of a chunk: the last of a whole one, all readable ones of a cut one."""
    data = file.read(CHUNK_HEAD.size)
    if len(data) < CHUNK_HEAD.size:
        return []
    _, end_ns, _, _, name_length = CHUNK_HEAD.unpack(data)
    if is_complete:
        return [end_ns]
    if name_length:  # compressed: no part of it can be read
        return []
    file.read(8)  # length of the records
    return _message_stamps(file.read())


def _message_stamps(data):
    stamps, position = [], 0
    while position + RECORD_HEAD.size <= len(data):
        opcode, length = RECORD_HEAD.unpack_from(data, position)
        position += RECORD_HEAD.size
        if position + length > len(data):
            break
        if opcode == MESSAGE:
            stamps.append(MESSAGE_HEAD.unpack_from(data, position)[2])
        position += length
    return stamps
