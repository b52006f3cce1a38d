# SPDX-License-Identifier: Apache-2.0
"""
sensor_msgs/PointCloud2 to PointCloud and back.

Reads any layout by the names, types and offsets of its fields: padded rows, big endian,
organised clouds, intensity and time in the types and units of the common drivers. What a cloud
says about its own size is checked before it is believed. Views into the message, one copy each.
"""

from mmperception.datatypes import PointCloud
from mmperception.ros.headers import big_field, header_from, ns_from_time
import numpy as np
from sensor_msgs.msg import PointCloud2, PointField

# PointField.datatype to NumPy; 9 to 11 came with later distributions.
NUMPY_TYPES = {
    1: 'i1', 2: 'u1', 3: 'i2', 4: 'u2', 5: 'i4', 6: 'u4', 7: 'f4', 8: 'f8',
    9: 'i8', 10: 'u8', 11: 'u1',
}  # fmt: skip
POINT_FIELD_TYPES = {np.dtype('<' + NUMPY_TYPES[number]): number for number in range(1, 9)}
INTENSITY_FIELDS = ('intensity', 'i', 'intensities', 'reflectivity', 'reflectance')
RING_FIELDS = ('ring', 'channel', 'line', 'laser_id', 'laser_number')
# The names of Ouster, Velodyne, Hesai and Robosense, Livox.
TIME_FIELDS = ('t', 'time', 'timestamp', 'offset_time', 'time_stamp', 'time_offset')
# Vendors define these as nanoseconds from the begin of the sweep.
NANOSECOND_FIELDS = ('t', 'offset_time')
NS_PER_UNIT = {'s': 1_000_000_000, 'us': 1_000, 'ns': 1}
# A point further than this from its header in time is a wrong unit, not a slow sensor.
MAX_POINT_AGE_NS = 10_000_000_000
TOO_FAR = 2 * MAX_POINT_AGE_NS


def cloud_from_msg(msg, config):
    """
    Read a PointCloud2.

    Non-finite points and those nearer than `min_range_m` or beyond `max_range_m` are dropped;
    the order of the others stays.

    Parameters
    ----------
    msg : sensor_msgs.msg.PointCloud2
        Any field layout with x, y, z.
    config : LidarConfig
        Ranges, and what stamps and point times mean.

    Returns
    -------
    PointCloud

    Raises
    ------
    ValueError
        If the cloud is not what it says; the message names the field.

    """
    records = _records(msg, config)
    points = _points(records)
    keep = _is_in_range(points, config)
    is_all = bool(keep.all())
    if not is_all:
        points, records = points[keep], records[keep]
    stamp_ns = ns_from_time(msg.header.stamp)
    return PointCloud(
        stamp_ns=stamp_ns,
        frame_id=msg.header.frame_id,
        points=points,
        intensity=_intensity(records, config.intensity_scale),
        ring=_ring(records),
        time_ns=_times(records, config, stamp_ns),
    )


def _records(msg, config):
    """Return (N,) structured view of the named fields."""
    width, height, step = msg.width, msg.height, msg.point_step
    N = width * height
    if config.max_points < N:
        raise ValueError(
            f'width x height: {width} x {height} points, more than lidar.max_points '
            f'{config.max_points}'
        )
    layout = _layout(msg, config.time_field)
    if not N:
        return np.zeros(0, layout)
    if msg.row_step < width * step:
        raise ValueError(
            f'row_step: {msg.row_step} bytes are too few for width {width} x point_step {step}'
        )
    data = np.frombuffer(msg.data, np.uint8)
    if data.size != height * msg.row_step:
        raise ValueError(
            f'data: expected height {height} x row_step {msg.row_step} = '
            f'{height * msg.row_step} bytes, got {data.size}'
        )
    if msg.row_step != width * step:
        data = np.ascontiguousarray(data.reshape(height, msg.row_step)[:, : width * step])
    return data.reshape(N, step).view(layout)[:, 0]


def _layout(msg, time_field):
    """Return the dtype that finds the fields we read in one point."""
    wanted = {'x', 'y', 'z', *INTENSITY_FIELDS, *RING_FIELDS, *TIME_FIELDS, time_field}
    order = '>' if msg.is_bigendian else '<'
    formats, offsets = {}, {}
    for field in msg.fields:
        if field.name not in wanted or field.name in formats:
            continue
        if field.datatype not in NUMPY_TYPES:
            raise ValueError(f'fields: {field.name} has the unknown datatype {field.datatype}')
        kind = np.dtype(order + NUMPY_TYPES[field.datatype])
        if field.offset + kind.itemsize > msg.point_step:
            raise ValueError(
                f'fields: {field.name} at offset {field.offset} ends beyond point_step '
                f'{msg.point_step}'
            )
        formats[field.name], offsets[field.name] = kind, field.offset
    absent = [name for name in ('x', 'y', 'z', time_field) if name and name not in formats]
    if absent and (msg.fields or msg.width * msg.height):
        raise ValueError(
            f'fields: {", ".join(absent)} missing among {[field.name for field in msg.fields]}'
        )
    return np.dtype(
        {
            'names': list(formats),
            'formats': list(formats.values()),
            'offsets': list(offsets.values()),
            'itemsize': max(1, msg.point_step),
        }
    )


def _points(records):
    points = np.empty((len(records), 3), np.float32)
    if len(records):
        with np.errstate(over='ignore', invalid='ignore'):
            for axis, name in enumerate('xyz'):
                points[:, axis] = records[name]
    return points


def _is_in_range(points, config):
    with np.errstate(over='ignore', invalid='ignore'):
        square = np.einsum('nc,nc->n', points, points)
        # NaN and infinity fail both comparisons.
        return (square >= config.min_range_m**2) & (square <= config.max_range_m**2)


def _first_of(records, names):
    return next((name for name in names if name in records.dtype.names), None)


def _intensity(records, scale):
    name = _first_of(records, INTENSITY_FIELDS)
    if name is None:
        return None
    with np.errstate(over='ignore'):  # what no float32 holds is no intensity either
        values = np.nan_to_num(records[name].astype(np.float32), posinf=0.0, neginf=0.0)
    if not scale:
        scale = _intensity_scale(records.dtype[name], values.max(initial=0.0))
    if scale != 1:
        values /= np.float32(scale)
    return np.clip(values, 0.0, 1.0, out=values)


def _intensity_scale(kind, largest):
    """Return what full intensity is, by the field's type and what it holds."""
    if kind.kind in 'iu' and kind.itemsize == 1:
        return 255.0
    if kind.kind in 'iu' and largest > 255.0:
        return 65535.0
    return 255.0 if largest > 1.0 else 1.0


def _ring(records):
    name = _first_of(records, RING_FIELDS)
    if name is None:
        return None
    values = records[name]
    if values.dtype.kind == 'f':
        values = np.nan_to_num(values)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise ValueError(f'fields: {name} holds {values.min()} to {values.max()}, not 0 to 65535')
    return values.astype(np.uint16)


def _times(records, config, stamp_ns):
    """Return (N,) int64 ns of each point after the header stamp, or None without such a field."""
    name = config.time_field or _first_of(records, TIME_FIELDS)
    if name not in (records.dtype.names or ()):
        return None
    values = records[name]
    if not len(values):
        return np.zeros(0, np.int64)
    if values.dtype.kind == 'f' and not np.isfinite(values).all():
        raise ValueError(f'fields: {name} holds times that are not finite')
    unit = config.time_unit
    if unit == 'auto':
        unit = _guess_unit(name, values, stamp_ns, config.time_relative)
    time_ns = _after_stamp(values, NS_PER_UNIT[unit], stamp_ns, config.time_relative)
    if np.abs(time_ns).max() > MAX_POINT_AGE_NS:
        raise ValueError(
            f'fields: {name} puts points {np.abs(time_ns).max() / 1e9:.1f} s from the header '
            f'(unit {unit}): set lidar.time_unit or lidar.time_relative'
        )
    if config.stamp == 'end' and config.time_relative and time_ns.min() >= 0:
        # The header is at the end, so such times count from the begin of the sweep.
        time_ns -= time_ns.max()
    return time_ns


def _guess_unit(name, values, stamp_ns, is_relative):
    """Return the unit in which a sweep lasts as long as it should, or lies near its header."""
    if name in NANOSECOND_FIELDS and values.dtype.kind in 'iu':
        return 'ns'
    largest = float(np.abs(values).max())
    if is_relative and largest < 1e9:  # a sweep takes less than two seconds
        return 's' if largest < 2.0 else 'us' if largest < 2e6 else 'ns'
    first = float(values[0])
    return min(NS_PER_UNIT, key=lambda unit: abs(first * NS_PER_UNIT[unit] - stamp_ns))


def _after_stamp(values, ns_per_unit, stamp_ns, is_relative):
    """Return times after the header; absolute ones are known by lying near the header."""
    stamp = stamp_ns / ns_per_unit
    is_near = abs(float(values[0]) - stamp) * ns_per_unit < MAX_POINT_AGE_NS
    is_absolute = not is_relative or (is_near and stamp_ns > 2 * MAX_POINT_AGE_NS)
    # Bounded before the cast: what does not fit into int64 would come back as any number.
    offset = stamp if is_absolute else 0.0
    with np.errstate(over='ignore'):
        roughly_ns = (values.astype(np.float64) - offset) * ns_per_unit
    roughly_ns = np.clip(roughly_ns, -TOO_FAR, TOO_FAR)
    if values.dtype.kind not in 'iu':
        return np.rint(roughly_ns).astype(np.int64)
    exact_ns = values.astype(np.int64) * ns_per_unit - (stamp_ns if is_absolute else 0)
    return np.where(np.abs(roughly_ns) < TOO_FAR, exact_ns, TOO_FAR)


def msg_from_cloud(cloud):
    """
    Write a PointCloud: x, y, z, intensity float32, ring uint16 and t int32 where there.

    `t` is nanoseconds after the header stamp. What is absent in the cloud has no field.
    """
    columns = [(name, '<f4', cloud.points[:, axis]) for axis, name in enumerate('xyz')]
    if cloud.intensity is not None:
        columns.append(('intensity', '<f4', cloud.intensity))
    if cloud.ring is not None:
        columns.append(('ring', '<u2', cloud.ring))
    if cloud.time_ns is not None:
        columns.append(('t', '<i4', cloud.time_ns))
    return _message(cloud, columns)


def msg_from_points(cloud, chosen, height_m):
    """
    Write some points of a sweep with their height above ground.

    Parameters
    ----------
    cloud : PointCloud
        The sweep; its frame and stamp are the message's.
    chosen : (N,) bool
        Which points of the sweep are written.
    height_m : (N,) float32
        Above the local ground, for every point of the sweep.

    Returns
    -------
    sensor_msgs.msg.PointCloud2
        x, y, z, intensity, height float32; intensity is 0 where the sensor gives none.

    """
    points = cloud.points[chosen]
    intensity = np.zeros(len(points), np.float32)
    if cloud.intensity is not None:
        intensity = cloud.intensity[chosen]
    columns = [(name, '<f4', points[:, axis]) for axis, name in enumerate('xyz')]
    columns += [('intensity', '<f4', intensity), ('height', '<f4', height_m[chosen])]
    return _message(cloud, columns)


def _message(cloud, columns):
    """Pack columns (name, dtype, values) of one length into a PointCloud2."""
    N = len(columns[0][2])
    kinds = [np.dtype(kind) for _, kind, _ in columns]
    offsets = []
    for kind in kinds:  # each field at a multiple of its size
        end = offsets[-1] + kinds[len(offsets) - 1].itemsize if offsets else 0
        offsets.append(-(-end // kind.itemsize) * kind.itemsize)
    step = -(-(offsets[-1] + kinds[-1].itemsize) // 4) * 4
    names = [name for name, _, _ in columns]
    layout = {'names': names, 'formats': kinds, 'offsets': offsets, 'itemsize': step}
    records = np.zeros(N, np.dtype(layout))
    for name, _, values in columns:
        records[name] = values
    msg = PointCloud2(
        header=header_from(cloud.stamp_ns, cloud.frame_id),
        height=1,
        width=N,
        fields=[
            PointField(name=name, offset=offset, datatype=POINT_FIELD_TYPES[kind], count=1)
            for name, offset, kind in zip(names, offsets, kinds, strict=True)
        ],
        is_bigendian=False,
        point_step=step,
        row_step=step * N,
        is_dense=True,
    )
    msg.data = big_field(records.view(np.uint8))
    return msg
