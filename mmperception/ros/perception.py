# SPDX-License-Identifier: Apache-2.0
"""The executable `perception`: both nodes in one process, the default of the launch file."""

import sys

from mmperception.ros.path_cost_node import PathCostNode
from mmperception.ros.perception_node import PerceptionNode
from mmperception.ros.process import run


def main():
    """Run both nodes."""
    return run([PerceptionNode, PathCostNode])


if __name__ == '__main__':
    sys.exit(main())
