# SPDX-License-Identifier: Apache-2.0
"""
Training of the image check on a bank of boxes; all else of the network stays as it is.

Loss: binary cross entropy of whether a box is right. The scores as they are, made probabilities
by a line for each class, are the base; what the image adds to it is learned.
"""

from mmperception.network.image_check import log_odds
from mmperception.training.added_part import AddedPartTrainer
from mmperception.training.check_bank import make_bank, Regions
from mmperception.training.data import SceneBatches, simulated_files
import torch
import torch.nn.functional as F

# Overlap at which a box begins to be right, and where it is.
RIGHT_FROM, RIGHT_AT = 0.2, 0.5
# The score among the facts is known only so well: it stands in the base already.
SCORE_NOISE = 0.15


def check_loss(check, regions, generator):
    """Return the loss of `Regions` and its parts; `alone` is that of the scores as they are."""
    facts = regions.facts.clone()
    facts[:, -1] += SCORE_NOISE * torch.randn(len(facts), generator=generator)
    target = ((regions.overlap - RIGHT_FROM) / (RIGHT_AT - RIGHT_FROM)).clamp(0, 1)
    base = log_odds(regions.score) * check.slope[regions.label] + check.offset[regions.label]
    evidence = check(regions.read.float(), facts, regions.label)
    weighed = F.binary_cross_entropy_with_logits(base + evidence, target)
    alone = F.binary_cross_entropy_with_logits(base, target)
    return weighed + alone, {'weighed': float(weighed.detach()), 'alone': float(alone.detach())}


class SeenBatches(SceneBatches):
    """Batches of scenes with images, all of which are shown."""

    camera_drop = 0.0

    def __init__(self, train, network, real):
        super().__init__(train, network, [scene for scene in real if scene.pixels.size])
        self.simulated = simulated_files(train, 'camera_*.npz')


class CheckTrainer(AddedPartTrainer):
    """One run of the image check in one folder; used like Trainer."""

    part, flag, rows_kind = 'image_check', 'check_images', Regions
    make_bank = staticmethod(make_bank)

    def scene_batches(self, train, real):
        """Return batches in which every scene has an image."""
        return SeenBatches(train, self.whole.config, real)

    def one_loss(self, batch, targets):
        """Return the loss of one batch of regions and its parts; `targets` is the seed."""
        return check_loss(self.network, batch, torch.Generator().manual_seed(targets + 1))
