# SPDX-License-Identifier: Apache-2.0
"""Batches as a robot with one kind of sensor sees them: the same samples, less in them."""

from dataclasses import replace

from mmperception.training.config import CAMERA, LIDAR
import torch


def with_only(batch, sensors):
    """
    Return a batch without what a sensor that is not there would have given.

    Parameters
    ----------
    batch : Batch
        With what both sensors gave.
    sensors : str
        `both` (the batch itself), `lidar` or `camera`.

    Returns
    -------
    Batch

    """
    if sensors == LIDAR:
        names = ('images', 'image_mask', 'pixel_from_base')
        return replace(batch, **{name: getattr(batch, name)[:, :0] for name in names})
    if sensors == CAMERA:
        names = ('points', 'point_pillar', 'pillar_cell', 'pillar_mean')
        gone = {name: getattr(batch, name)[:0] for name in names}
        return replace(batch, **gone, lidar_mask=torch.zeros_like(batch.lidar_mask))
    return batch
