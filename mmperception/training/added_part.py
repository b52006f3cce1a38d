# SPDX-License-Identifier: Apache-2.0
"""
Training of a part that looks at what the network before it found; that network stays as it is.

The network runs once over augmented scenes; what the part needs of each proposal is kept in a
bank, which fits into memory, so that the part sees thousands of proposals a second.
"""

from dataclasses import asdict, replace
import json
import logging
from pathlib import Path

from mmperception.checkpoint import load_network, save_network
from mmperception.network.model import PerceptionNetwork
from mmperception.training.data import SceneBatches
from mmperception.training.loop import check_torch, join_processes, Trainer
import torch

logger = logging.getLogger(__name__)
SCENES_PER_BATCH = 4


class RowBatches(torch.utils.data.Dataset):
    """Item i is what step i of one of several processes draws from the bank: (rows, seed)."""

    def __init__(self, rows, train, rank, num_processes):
        self.rows, self.train, self.rank, self.num_processes = rows, train, rank, num_processes

    def __len__(self):
        return self.train.steps

    def __getitem__(self, index):
        seed = (self.train.seed << 32) + index * self.num_processes + self.rank
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randint(len(self.rows), (self.train.batch_size,), generator=generator)
        return self.rows.at(rows), seed


class AddedPartTrainer(Trainer):
    """
    One run of one part in one folder; used like Trainer.

    Subclasses name the part (`part`, its name in the network; `flag`, in the configuration of
    network and training) and its rows (`rows_kind`, of `BankRows`), make them (`make_bank`), and
    give `one_loss`.
    """

    part = flag = rows_kind = None

    def __init__(self, train, out, real, device='cpu'):
        check_torch()
        first, self.facts = load_network(train.start)
        torch.manual_seed(train.seed)
        self.whole = PerceptionNetwork(replace(first.config, **{self.flag: True}))
        fresh = getattr(self.whole, self.part).state_dict()
        known = {f'{self.part}.{name}': value for name, value in fresh.items()}
        self.whole.load_state_dict(known | first.state_dict())
        rank, size = join_processes(torch.device(device))
        rows = self._bank(train, Path(out) / 'bank.npz', real, rank)
        batches = RowBatches(rows, train, rank, size)
        self.assemble(train, out, getattr(self.whole, self.part), batches, device)

    def _bank(self, train, path, real, rank):
        """Return the rows; made once, by the first process, and kept in the folder."""
        if not rank and not path.exists():
            scenes = replace(train, batch_size=SCENES_PER_BATCH, steps=train.bank_batches)
            batches = self.scene_batches(scenes, real)
            logger.info('the network looks at %d batches of scenes', train.bank_batches)
            made = self.make_bank(self.whole.eval(), batches, range(train.bank_batches))
            self.rows_kind.save(path, made)
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        return self.rows_kind.load(path)

    def scene_batches(self, train, real):
        """Return the batches of scenes that the bank is made from."""
        return SceneBatches(train, self.whole.config, real)

    def write_weights(self, path, **metadata):
        """Write the whole network, the part as averaged, with what it was trained on."""
        average = {n: t.cpu() for n, t in self.average.items()}
        getattr(self.whole, self.part).load_state_dict(average)
        number = self.step * self.train.batch_size * self.num_processes
        run = {self.flag: json.dumps(asdict(self.train)), f'{self.flag}_rows': str(number)}
        facts = {k: v for k, v in self.facts.items() if k != 'network'}
        save_network(path, self.whole, {**facts, **run, **metadata})
