# SPDX-License-Identifier: Apache-2.0
"""Training: scenes, augmentation, targets, losses and the loop."""
