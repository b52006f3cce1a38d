# SPDX-License-Identifier: Apache-2.0
"""Streets with known truth: geometry, LiDAR, camera pictures, whole drives."""
