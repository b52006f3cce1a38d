# SPDX-License-Identifier: Apache-2.0
"""
Peaks of heat maps: where the box head answers and where the decoder reads.

Local maxima by a 3x3 maximum, as in Objects as Points (Zhou et al., 2019). In one place, so that
the network computes boxes exactly at the cells that `decode.py` asks for.
"""

import torch
import torch.nn.functional as F

# The decoder looks at the strongest peaks only; the box head answers at these.
MAX_PEAKS = 200
# Below this probability there is nothing.
MIN_HEAT = 1e-3


def find_peaks(heat, limit):
    """
    Return the strongest local maxima of probabilities (C, Y, X).

    Returns
    -------
    score, label, row, column : (n,) tensors, best first, n <= limit

    """
    is_peak = (heat >= _largest_around(heat)) & (heat > MIN_HEAT)
    index = torch.nonzero(is_peak.flatten())[:, 0]  # the few, before they are put in order
    score, best = torch.topk(heat.flatten()[index], min(limit, len(index)))
    index = index[best]
    _, Y, X = heat.shape
    return score, index // (Y * X), index // X % Y, index % X


def _largest_around(heat):
    """Return the 3x3 maximum of (C, Y, X), rows first: max_pool2d takes 17 times as long."""
    padded = F.pad(heat, (1, 1, 1, 1))  # probabilities: 0 is the neutral rim
    rows = torch.maximum(torch.maximum(padded[..., :-2], padded[..., 1:-1]), padded[..., 2:])
    return torch.maximum(torch.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])


def strongest_peaks(heat_logits):
    """Return what `find_peaks` gives for logits (C, Y, X): what is decoded, and where."""
    return find_peaks(torch.sigmoid(heat_logits.float()), MAX_PEAKS)


def cells_of(peaks):
    """Return (T, 3) int64 sample, row, column of the peaks of each sample."""
    cells = []
    for b, (_, _, row, column) in enumerate(peaks):
        cells.append(torch.stack((torch.full_like(row, b), row, column), dim=1))
    return torch.cat(cells)
