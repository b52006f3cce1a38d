# SPDX-License-Identifier: Apache-2.0
"""
The second stage at inference on a CPU: the answers of refine.py in a part of the time.

The layers for points are linear in the place and the size, so that their columns for place and
faces are added up beforehand; crops go through them with others of about their number of points;
what follows is done once for all boxes. `test_refine.py` holds both together.
"""

from mmperception.network.crops import crop_points, MAX_POINTS
from mmperception.network.refine import changed_boxes, MIN_POINTS
import numpy as np
import torch
import torch.nn.functional as F

# Boxes go through the layers with others of about their number of points: few are repeated.
CROP_POINTS = (16, 64, 128, MAX_POINTS)
# So many points go through the layers together: their features fit into the cache of a core.
CACHED_POINTS = 4096
# Most boxes that are looked at again, strongest first: a full street has dozens of objects.
MAX_BOXES = 80


class SwiftRefiner:
    """
    A `BoxRefiner` that looks at the boxes of a batch.

    With `is_half` the layers behind the first, which sees places, are computed in bfloat16.
    """

    def __init__(self, refiner, is_half=False):
        self.refiner = refiner.eval()
        dtype = torch.bfloat16 if is_half else torch.float32
        first, second, third = (refiner.points[k] for k in (0, 2, 4))
        place, to_front, to_back = first.weight.detach().split(3, dim=1)
        self.of_place = place - to_front + to_back
        self.of_size = (to_front + to_back) / 2, first.bias.detach()
        self.second = second.weight.detach().to(dtype), second.bias.detach().to(dtype)
        self.third, self.third_bias = third.weight.detach().to(dtype), third.bias.detach()

    @torch.inference_mode()
    def refine(self, batch, b, boxes, limit=MAX_BOXES):
        """
        Correct the decoded boxes of one sample.

        Parameters
        ----------
        batch : Batch
            On the CPU; its points are looked at.
        b : int
            Sample.
        boxes : dict of ndarray
            As `decode.decode_boxes` gives them, best first.
        limit : int
            Look at so many of the best only, and never at more than `MAX_BOXES`.

        Returns
        -------
        boxes : dict of ndarray
            `center`, `size` and `yaw` replaced.
        quality : (N,) float32
            0..1, how well each fits; NaN where there was nothing to look at.

        """
        quality = np.full(len(boxes['score']), np.nan, np.float32)
        limit = min(limit, MAX_BOXES)
        best = {name: boxes[name][:limit] for name in ('center', 'size', 'yaw', 'label')}
        crops = crop_points(batch, b, best['center'], best['size'], best['yaw'])
        rows, seen = self._see(crops, best['size'])
        if not len(rows):
            return boxes, quality
        inputs = [torch.from_numpy(value[rows]) for value in best.values()]
        count = torch.from_numpy(crops.count[rows])
        change, logit = self.refiner.judge(seen, count, *inputs)
        refined = {name: boxes[name].copy() for name in ('center', 'size', 'yaw')}
        for name, value in zip(refined, changed_boxes(change, *inputs[:3]), strict=True):
            refined[name][rows] = value.numpy()
        quality[rows] = torch.sigmoid(logit).numpy()
        return {**boxes, **refined}, quality

    def _see(self, crops, size):
        """Return which boxes have points to look at (n,), and what is seen of each (n, C)."""
        of_size = F.linear(torch.from_numpy(size), *self.of_size)  # (M, C)
        rows, seen, fewest = [], [], MIN_POINTS
        for number in CROP_POINTS:
            most = number if number < MAX_POINTS else np.inf
            group = np.flatnonzero((crops.stored >= fewest) & (crops.stored <= most))
            fewest = number + 1
            together = CACHED_POINTS // number
            for first_row in range(0, len(group), together):
                some = group[slice(first_row, first_row + together)]
                points = torch.from_numpy(crops.points(some, number))
                seen.append(self._maximum(points, of_size[some]))
                rows.append(some)
        if not rows:
            return np.zeros(0, np.int64), None
        return np.concatenate(rows), torch.cat(seen).float().add_(self.third_bias)

    def _maximum(self, points, of_size):
        hidden = F.linear(points, self.of_place).add_(of_size[:, None]).relu_()
        hidden = F.linear(hidden.to(self.third.dtype), *self.second).relu_()
        return F.linear(hidden, self.third).amax(1)
