# SPDX-License-Identifier: Apache-2.0
"""
Hills below a simulated street: the flat world of `simulation/` lifted, its cars tilted.

Used by `simulated_streets.py`: a ground model that is only tried on flat roads proves little.
"""

from dataclasses import replace

from mmperception.geometry import rotation_about
import numpy as np
import torch

STEEPEST_HILL = 0.08


class Hills:
    """A wave that lifts the whole street: up to `STEEPEST_HILL` rise over run."""

    def __init__(self, rng):
        length, angle = rng.uniform(90, 160), rng.uniform(-0.5, 0.5)
        self._frequency = 2 * np.pi / length * np.array((np.cos(angle), np.sin(angle)))
        self._amplitude = rng.uniform(0, STEEPEST_HILL) * length / (2 * np.pi)
        self._phase = rng.uniform(0, 2 * np.pi)

    def height(self, x, y):
        """Return how far places are lifted, metres."""
        turn = self._frequency[0] * x + self._frequency[1] * y + self._phase
        return self._amplitude * np.sin(turn)

    def lifted(self, mesh):
        """Return the mesh with every vertex lifted by the hill below it."""
        vertices = mesh.vertices.numpy().copy()
        vertices[:, 2] += self.height(vertices[:, 0], vertices[:, 1])
        return replace(mesh, vertices=torch.from_numpy(vertices))

    def placed(self, pose):
        """Return a pose lifted and pitched and rolled by the slope below it."""
        x, y = pose[:2, 3]
        turn = self._frequency @ pose[:2, 3] + self._phase
        along = self._amplitude * np.cos(turn) * self._frequency @ pose[:2, 0]
        aside = self._amplitude * np.cos(turn) * self._frequency @ pose[:2, 1]
        placed = pose.copy()
        placed[2, 3] += self.height(x, y)
        tilt = rotation_about((0, 1, 0), -np.arctan(along))
        tilt = tilt @ rotation_about((1, 0, 0), np.arctan(aside))
        placed[:3, :3] = pose[:3, :3] @ tilt
        return placed
