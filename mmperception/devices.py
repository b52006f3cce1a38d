# SPDX-License-Identifier: Apache-2.0
"""On what networks run, and in which precision: what the settings ask for and the machine has."""

import logging
from pathlib import Path

import torch

logger = logging.getLogger(__name__)


def choose_device(name):
    """
    Return the torch device for `auto`, `cpu` or `cuda:N`.

    Raises
    ------
    ValueError
        If a CUDA device is asked for and there is none.

    """
    if name == 'auto':
        if torch.cuda.is_available():
            return torch.device('cuda:0')
        logger.warning('no CUDA device: the network runs on the CPU')
        return torch.device('cpu')
    device = torch.device(name)
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f'device: {name} is not there; use auto or cpu')
    return device


def choose_precision(name, device):
    """Tell whether layers run in bfloat16: a CPU that only emulates it is slower, not faster."""
    if name == 'auto':
        return device.type == 'cpu' and has_bfloat16(device)
    if name == 'bfloat16' and device.type == 'cpu' and not has_bfloat16(device):
        logger.warning('precision: this CPU has neither avx512_bf16 nor amx_bf16; float32 is used')
        return False
    return name == 'bfloat16'


def has_bfloat16(device):
    """Tell whether a device computes in bfloat16 by itself."""
    if device.type == 'cuda':
        return torch.cuda.is_bf16_supported()
    try:
        flags = Path('/proc/cpuinfo').read_text(encoding='ascii', errors='replace').split()
    except OSError:
        return False
    return 'avx512_bf16' in flags or 'amx_bf16' in flags
