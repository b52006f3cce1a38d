# SPDX-License-Identifier: Apache-2.0
"""Tests that use rclpy: a DDS domain of their own, on this machine only."""

import fcntl
import importlib.util
import os
from pathlib import Path
import tempfile

import pytest

HERE = Path(__file__).parent
# The test modules import rclpy at their top.
collect_ignore_glob = [] if importlib.util.find_spec('rclpy') else ['test_*.py']
# Above what people choose by hand, below the ports that Linux gives to clients.
DOMAINS = range(60, 102)


def claim_domain():
    """Return a domain id that no other test run on this machine holds, and its lock."""
    for domain in DOMAINS:
        path = Path(tempfile.gettempdir(), f'mmperception-test-domain-{domain}-{os.getuid()}')
        lock = path.open('w')
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return domain, lock
    raise RuntimeError(f'all of the DDS domains {DOMAINS} are in use by test runs')


# At import: before any test module creates an rclpy context. The lock lives as long as the run.
DOMAIN, LOCK = claim_domain()
os.environ['ROS_DOMAIN_ID'] = str(DOMAIN)
os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')


def pytest_collection_modifyitems(items):
    """Mark every test of this folder `ros`."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.ros)
