# SPDX-License-Identifier: Apache-2.0
"""Multi-modal perception for ROS 2: camera, LiDAR and GPS to obstacles, signs and path cost."""

__version__ = '0.1.0'
