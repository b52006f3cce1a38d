# SPDX-License-Identifier: Apache-2.0
"""
Weights files: read by a small bounds-checked reader, written by the safetensors library.

The format is 8 bytes of header length, a JSON header, raw little-endian data. Everything is
checked before memory is taken: lengths, JSON, names, shapes, types, offsets, finiteness. No code
can hide in such a file. The network's configuration travels in the header.
Source: the format description of the safetensors project.
"""

import hashlib
import json
import math
from pathlib import Path

from mmperception.network.config import NetworkConfig
from mmperception.network.model import PerceptionNetwork
import numpy as np
import torch

WEIGHTS_FOLDER = Path(__file__).parent / 'weights'
# SHA-256 of the files that ship with the package.
SHIPPED = {
    'street': '11d9fb97c0016a05baf8227b2d65376bf7a9e5acb133051eb4c492bf0463a5e7',
    'simulated': 'a13a624fc7199d1e3f4468bc3a21648ef8a52de635e5a9fe8dd2f405a83167c5',
    'sign_detector': '50b03b308f7a63869ae8f52a19f6315dcbd40c4c0534bb33a529f9f26ebdc51f',
    'sign_classifier': 'cef353694d29d4bbf02bbe28cffe3579d2704bbcdb567c4b9eb47749e13132e7',
    'sign_detector_drawn': 'b88e9cb31021876a59b0b68827d285a05deecffe15689c1fae532f669a8a52bc',
    'sign_classifier_drawn': '9c1708adf75142cf35ea90c96c9daf9bc3b2ff1faa0c31d6a628730e75fd87a9',
}
MAX_HEADER_BYTES = 4 << 20
MAX_FILE_BYTES = 256 << 20
DTYPES = {'F32': '<f4', 'F16': '<f2', 'I64': '<i8'}


def read_tensors(path):
    """
    Read a safetensors file.

    Parameters
    ----------
    path : path
        Up to `MAX_FILE_BYTES`; read whole.

    Returns
    -------
    tensors : dict of str to ndarray
        Read-only views of the file's bytes.
    metadata : dict of str to str

    Raises
    ------
    ValueError
        If the file is missing, truncated, too large or not of this format; names the file.

    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ValueError(f'weights {path}: {size} bytes are more than {MAX_FILE_BYTES}')
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f'weights {path}: cannot be read: {error.strerror}') from error
    header, start = _read_header(path, data)
    metadata = header.pop('__metadata__', {})
    body = memoryview(data)[start:]  # a slice of bytes would be a copy, and one for each tensor
    return {name: _tensor(path, name, entry, body) for name, entry in header.items()}, metadata


def _read_header(path, data):
    length = int.from_bytes(data[:8], 'little')
    if len(data) < 8 or length > min(MAX_HEADER_BYTES, len(data) - 8):
        raise ValueError(f'weights {path}: not a safetensors file, or cut short')
    end = 8 + length
    try:
        header = json.loads(data[8:end])
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f'weights {path}: its header is not JSON') from error
    if not isinstance(header, dict):
        raise ValueError(f'weights {path}: its header is not a mapping')
    return header, end


def _tensor(path, name, entry, data):
    """Return one array; every number of its header entry is distrusted."""
    try:
        dtype = np.dtype(DTYPES[entry['dtype']])
        shape = [int(n) for n in entry['shape']]
        begin, end = (int(n) for n in entry['data_offsets'])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'weights {path}: tensor {name} has a broken entry') from error
    expected = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or not 0 <= begin <= end <= len(data) or end - begin != expected:
        raise ValueError(f'weights {path}: tensor {name} does not fit into the file')
    array = np.frombuffer(data, dtype, math.prod(shape), begin).reshape(shape)
    if dtype.kind == 'f' and not np.isfinite(array).all():
        raise ValueError(f'weights {path}: tensor {name} is not finite')
    return array


def weights_path(name):
    """Return the file of a shipped name such as `street`, or `name` itself as a path."""
    shipped = WEIGHTS_FOLDER / f'{name}.safetensors'
    return shipped if name.isidentifier() and shipped.is_file() else Path(name)


def verify(path, expected, allow_unverified):
    """
    Check a file against its SHA-256.

    Raises
    ------
    ValueError
        If it differs, or if none is known and `allow_unverified` is False.

    """
    try:
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(
            f'weights {path}: cannot be read: {error.strerror}; give street, simulated or '
            'a safetensors file'
        ) from error
    if expected and digest != expected:
        raise ValueError(f'weights {path}: SHA-256 is {digest[:12]}..., not {expected[:12]}...')
    if not expected and not allow_unverified:
        raise ValueError(
            f'weights {path}: give its SHA-256 as weights_sha256, or set allow_unverified: true'
        )


def load_network(path):
    """
    Build the network that a weights file describes and fill it.

    Returns
    -------
    network : PerceptionNetwork
        In evaluation mode, on the CPU.
    metadata : dict of str to str

    Raises
    ------
    ValueError
        If names or shapes are not those of the network in the header.

    """
    tensors, metadata = read_tensors(path)
    try:
        config = NetworkConfig.from_mapping(json.loads(metadata['network']))
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f'weights {path}: no network configuration in its header') from error
    return filled(PerceptionNetwork(config), tensors, path), metadata


def filled(network, tensors, path):
    """
    Return the network with its tensors replaced, in evaluation mode.

    Raises
    ------
    ValueError
        If names or shapes are not those of the network; names `path`.

    """
    state = network.state_dict()
    if set(state) != set(tensors):
        odd = sorted(set(state) ^ set(tensors))[0]
        raise ValueError(f'weights {path}: tensor {odd} is missing or unknown')
    for name, value in tensors.items():
        if tuple(value.shape) != tuple(state[name].shape):
            raise ValueError(
                f'weights {path}: tensor {name} has shape {value.shape}, '
                f'expected {tuple(state[name].shape)}'
            )
    network.load_state_dict({n: torch.from_numpy(v.copy()) for n, v in tensors.items()})
    return network.eval()


def save_network(path, network, metadata, float16=False):
    """
    Write a network with its configuration.

    Parameters
    ----------
    path : path
        The file.
    network : nn.Module
        With a `config`.
    metadata : dict of str to str
        Data, licence, seed.
    float16 : bool
        Store 16 bits of each number; it is read back into 32.

    """
    tensors = network.state_dict()
    if float16:
        tensors = {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}
    save_tensors(
        path,
        tensors,
        {**metadata, 'network': json.dumps(network.config.to_mapping())},
    )


def save_tensors(path, tensors, metadata):
    """Write tensors and a str-to-str header; the file appears whole or not at all."""
    from safetensors.torch import save_file  # training only: the library has no rosdep key

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix('.partial')
    save_file({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, partial, metadata)
    partial.chmod(0o644)  # the library makes files for their owner alone
    partial.replace(path)
