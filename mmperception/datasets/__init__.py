# SPDX-License-Identifier: Apache-2.0
"""Recorded data sets as frames with truth; nothing here knows of ROS or of networks."""
