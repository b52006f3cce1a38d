# SPDX-License-Identifier: Apache-2.0
"""
The training loop: AdamW, one-cycle rate, moving average of the weights, resumable.

State is written every two minutes as safetensors and JSON, whole or not at all; samples are a
function of (seed, step), so a resumed run sees what the unbroken one would have seen. Started by
`torchrun`, each process takes its own batches and the gradients are averaged.
"""

from dataclasses import asdict
import json
import logging
import math
import os
from pathlib import Path
import time

from mmperception.checkpoint import load_network, read_tensors, save_network, save_tensors
from mmperception.network.model import ADDED_PARTS, PerceptionNetwork
from mmperception.training.data import SceneBatches
from mmperception.training.losses import decorrelation_loss, total_loss
from mmperception.training.senses import with_only
from mmperception.training.settle import settle_batch_norm
import torch

logger = logging.getLogger(__name__)
SAVE_EVERY_S = 120.0
# The average moves every few steps: every step would cost a tenth of the step on a CPU.
EMA_EVERY, EMA_DECAY = 4, 0.98
CLIP_NORM = 10.0
# Its fused optimiser is the first that is as fast on a CPU; nodes and evaluation run from 2.1 on.
OLDEST_TORCH = (2, 11)


def join_processes(device):
    """Return (rank, number of processes); joins those that torchrun started."""
    size = int(os.environ.get('WORLD_SIZE', '1'))
    if size > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group('nccl' if device.type == 'cuda' else 'gloo')
    return int(os.environ.get('RANK', '0')), size


def check_torch():
    """Raise ValueError where torch is too old to train with."""
    version = tuple(int(part) for part in torch.__version__.split('.')[:2])
    if version < OLDEST_TORCH:
        raise ValueError(f'torch: training needs 2.11 or later, this is {torch.__version__}')


class Trainer:
    """One run in one folder: `run(on_step)` trains to the end and writes `weights.safetensors`."""

    batches_kind = SceneBatches

    def __init__(self, train, out, real, device='cpu'):
        check_torch()
        device = torch.device(device)
        rank, size = join_processes(device)
        self.config = train.network
        torch.manual_seed(train.seed)
        network = PerceptionNetwork(self.config)
        if train.start:
            # What looks at boxes belongs to the network that it was trained on: this one changes.
            old = load_network(train.start)[0].state_dict()
            network.load_state_dict(
                {name: value for name, value in old.items() if not name.startswith(ADDED_PARTS)}
            )
        network.trunk.to(memory_format=torch.channels_last)
        network.backbone.to(memory_format=torch.channels_last)
        batches = self.batches_kind(train, self.config, real, rank, size)
        self.assemble(train, out, network, batches, device)

    def assemble(self, train, out, network, batches, device):
        """Set up everything that does not depend on what is trained."""
        self.train, self.out, self.device = train, Path(out), torch.device(device)
        self.rank, self.num_processes = join_processes(self.device)
        self.network = network.to(self.device)
        self.average = {n: t.detach().clone() for n, t in self.network.state_dict().items()}
        self.network.requires_grad_(False)
        for part in self.trained_parts():
            part.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(
            [p for p in self.network.parameters() if p.requires_grad],
            train.learning_rate,
            weight_decay=train.weight_decay,
            fused=True,
        )
        self.batches = batches
        self.step, self.elapsed_s = 0, 0.0
        # Of the steps alone, without the preparation of samples.
        self.step_s = 0.0
        self._begun_s = time.monotonic()

    def trained_parts(self):
        """Return the parts of the network that learn."""
        if not self.train.camera_fixed:
            return [self.network]
        return [part for part in self.network.children() if part not in self._fixed(self.network)]

    def _fixed(self, network):
        """Return the parts that stay as `start` has them."""
        return [network.trunk, network.camera_head] if self.train.camera_fixed else []

    def run(self, on_step):
        """
        Train to the end.

        Parameters
        ----------
        on_step : callable
            Called with (step, parts of the loss) after every step.

        """
        saved = time.monotonic()
        self._begun_s = saved - self.elapsed_s
        loader = torch.utils.data.DataLoader(
            torch.utils.data.Subset(self.batches, range(self.step, self.train.steps)),
            batch_size=None,
            num_workers=self.train.workers,
        )
        for batch, targets in loader:
            on_step(self.step, self.one_step(batch, targets))
            if self.progress >= 1:
                break
            if time.monotonic() - saved > SAVE_EVERY_S:
                self.save()
                saved = time.monotonic()
        self.save()
        if not self.rank:
            self.write_weights(self.out / 'weights.safetensors')

    @property
    def progress(self):
        """Share of the run that is over, 0..1: by steps or, when set, by minutes."""
        by_time = self.elapsed_s / (60 * self.train.minutes) if self.train.minutes else 0.0
        return max(self.step / self.train.steps, by_time)

    def one_step(self, batch, targets):
        """Learn from one item of the batches; return the parts of its loss."""
        begun = time.monotonic()
        parts = self._one_step(batch, targets)
        self.step += 1
        self.step_s += time.monotonic() - begun
        return parts

    def _one_step(self, batch, targets):
        for group in self.optimizer.param_groups:
            group['lr'] = self.train.learning_rate * rate(self.progress)
        self.network.train()
        for part in self._fixed(self.network):
            part.eval()
        loss, parts = self.one_loss(batch, targets)
        if not math.isfinite(loss.item()):
            raise ValueError(f'training: the loss is not finite at step {self.step}: {parts}')
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._average_gradients()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), CLIP_NORM)
        self.optimizer.step()
        self._update_average()
        return parts

    def one_loss(self, batch, targets):
        """Return the loss of one batch and its parts; of a clip, the last sweep has targets."""
        *earlier, batch = batch if isinstance(batch, list) else [batch]
        batch = with_only(batch, self.train.sensors).to(self.device)
        device_type, is_half = self.device.type, self.train.bfloat16
        targets = targets.to(self.device)
        with torch.autocast(device_type, torch.bfloat16, enabled=is_half):
            memory = None
            for sweep in earlier:
                memory = self.network.remember(sweep.to(self.device), memory)
            with_pairs = self.train.decorrelation > 0
            heads = self.network(batch, targets.where, memory, with_pairs)
        loss, parts = total_loss(heads, targets, batch.grid.cell_m * 2)
        if with_pairs:
            alike = decorrelation_loss(*heads.pairs)
            loss = loss + self.train.decorrelation * alike
            parts['decorrelation'] = float(alike.detach())
        return loss, parts

    @torch.no_grad()
    def _average_gradients(self):
        """Mean over processes; a path that one of them did not use counts as zero there."""
        clock_s = time.monotonic() - self._begun_s
        if self.num_processes == 1:
            self.elapsed_s = clock_s
            return
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        flat = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]
            # The clock is the first one's: all must agree on the rate, and on when to end.
            + [torch.tensor([0.0 if self.rank else clock_s], device=self.device)]
        )
        torch.distributed.all_reduce(flat)
        self.elapsed_s = float(flat[-1])
        flat = flat[:-1] / self.num_processes
        for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            p.grad = part.view_as(p)

    @torch.no_grad()
    def _update_average(self):
        if self.step % EMA_EVERY:
            return
        # A short warm-up, so that the average forgets the random start.
        decay = min(EMA_DECAY, (1 + self.step) / (10 + self.step))
        state = self.network.state_dict()
        moving = [name for name, value in state.items() if value.dtype.is_floating_point]
        torch._foreach_lerp_(
            [self.average[name] for name in moving], [state[name] for name in moving], 1 - decay
        )
        for name in state.keys() - set(moving):
            self.average[name].copy_(state[name])

    def save(self):
        """Write everything that a resumed run needs; the first process does it for all."""
        if self.rank:
            return
        state = {f'network.{n}': t for n, t in self.network.state_dict().items()}
        state |= {f'average.{n}': t for n, t in self.average.items()}
        for i, values in self.optimizer.state_dict()['state'].items():
            state |= {f'optimizer.{i}.{n}': t for n, t in values.items()}
        metadata = {'step': str(self.step), 'elapsed_s': str(self.elapsed_s)}
        metadata |= {'step_s': str(self.step_s)}
        metadata |= {'train': json.dumps(asdict(self.train))}
        save_tensors(self.out / 'state.safetensors', state, metadata)

    def resume(self):
        """
        Continue from the folder's state.

        Raises
        ------
        ValueError
            If there is none, or it belongs to other settings.

        """
        tensors, metadata = read_tensors(self.out / 'state.safetensors')
        settings = json.loads(metadata['train'])
        free = {
            'workers': 0,
            'threads': 0,
            'steps': 0,
            'minutes': 0,
        }  # these may change on the way
        # Settings that came later were at their defaults.
        settings = asdict(type(self.train)()) | settings
        if json.loads(json.dumps(settings | free)) != json.loads(
            json.dumps(asdict(self.train) | free)
        ):
            raise ValueError(f'{self.out}: its state was trained with other settings')
        self.step = int(metadata['step'])
        self.elapsed_s = float(metadata.get('elapsed_s', 0.0))
        self.step_s = float(metadata.get('step_s', 0.0))
        parts = {'network': {}, 'average': {}, 'optimizer': {}}
        for name, value in tensors.items():
            group, key = name.split('.', 1)
            parts[group][key] = torch.from_numpy(value.copy())
        self.network.load_state_dict(parts['network'])
        self.average = {n: t.to(self.device) for n, t in parts['average'].items()}
        self.optimizer.load_state_dict(_optimizer_state(self.optimizer, parts['optimizer']))

    def write_weights(self, path, **metadata):
        """Write the averaged network, with what it was trained on."""
        network = PerceptionNetwork(self.config)
        network.load_state_dict({n: t.cpu() for n, t in self.average.items()})
        self.settle(network)
        samples = self.step * self.train.batch_size * self.num_processes
        facts = {'samples': str(samples), 'train': json.dumps(asdict(self.train)), **metadata}
        facts |= {'step_s': f'{self.step_s:.0f}'}
        save_network(path, network, facts)

    def settle(self, network):
        """Take the statistics of the finished network's batch norms from real scenes."""
        fixed = self._fixed(network)
        settle_batch_norm(network, self.batches.real, self.batches.window(0), fixed)


def rate(progress):
    """Return the share of the learning rate at `progress` 0..1: 5 percent warm-up, then cosine."""
    if progress < 0.05:
        return 0.05 + 0.95 * progress / 0.05
    return 0.5 * (1 + math.cos(math.pi * (progress - 0.05) / 0.95)) + 1e-3


def _optimizer_state(optimizer, tensors):
    """Rebuild AdamW's state_dict from `INDEX.NAME` tensors."""
    state = {}
    for key, value in tensors.items():
        index, name = key.split('.', 1)
        state.setdefault(int(index), {})[name] = value
    return {**optimizer.state_dict(), 'state': state}
