# SPDX-License-Identifier: Apache-2.0
"""What all tests share: marks that skip with a reason, the real data, one thread for torch."""

import importlib.util
import logging
import os
from pathlib import Path

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile('steady', deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile('steady')


def pytest_collection_modifyitems(items):
    """Skip tests marked `ros` without rclpy and tests marked `gpu` without a GPU."""
    absent = {}
    if importlib.util.find_spec('rclpy') is None:
        absent['ros'] = pytest.mark.skip(reason='rclpy is not installed: run `make setup`')
    if not torch.cuda.is_available():
        absent['gpu'] = pytest.mark.skip(reason='no GPU')
    for item in items:
        for mark, skip in absent.items():
            if item.get_closest_marker(mark):
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def heard_loggers():
    """Let `caplog` hear the package where the pytest plugins of launch forbid loggers to speak."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.split('.')[0] == 'mmperception' and isinstance(logger, logging.Logger):
            logger.propagate = True


@pytest.fixture(scope='session')
def real_data():
    """Return the folder with the real recordings; skip where MMPERCEPTION_DATA names none."""
    folder = os.environ.get('MMPERCEPTION_DATA')
    if not folder:
        pytest.skip('MMPERCEPTION_DATA is not set: no real recordings here')
    if not Path(folder).is_dir():
        pytest.fail(f'MMPERCEPTION_DATA={folder}: no such folder')
    return Path(folder)
