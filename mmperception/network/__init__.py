# SPDX-License-Identifier: Apache-2.0
"""The network: camera, LiDAR and motion encoders, fusion, heads; assembled in model.py."""
