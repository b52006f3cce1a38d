# SPDX-License-Identifier: Apache-2.0
"""Figures: how detections are matched to truth, and what is made of it (docs/accuracy.md)."""
