# SPDX-License-Identifier: Apache-2.0
"""
Rows of a comparison: several networks trained side by side, on the same samples in one order.

`mmperception train CONFIG` with `rows:` in its YAML. Each row is a run of its own (loop.py) in a
folder of its own; what they share is drawn once. They differ in what `DIFFERENT` names only.
"""

from dataclasses import replace
import time

from mmperception.training.config import from_values, read_mapping, TrainConfig
from mmperception.training.loop import SAVE_EVERY_S, Trainer
import torch

DIFFERENT = ('fusion', 'sensors', 'decorrelation')


def load_rows(path):
    """
    Read the rows of a training YAML: settings of all, and under `rows` what each has of its own.

    Returns
    -------
    dict of str to TrainConfig

    Raises
    ------
    ValueError
        If the file cannot be read, holds an unknown setting, or rows differ in the samples.

    """
    values = read_mapping(path)
    rows = values.pop('rows', None)
    if not isinstance(rows, dict) or not all(isinstance(own, dict) for own in rows.values()):
        raise ValueError(f'{path}: rows: expected a mapping of names to settings')
    if not rows:
        raise ValueError(f'{path}: rows: none is named')
    trains = {str(name): from_values(values | own, TrainConfig, path)
              for name, own in rows.items()}  # fmt: skip
    first = next(iter(trains.values()))
    for name, train in trains.items():
        if train.minutes:
            raise ValueError(f'{path}: rows end by steps, not by minutes: all see the same')
        if replace(train, **_of(first)) != first:
            raise ValueError(f'{path}: row {name} differs in more than {", ".join(DIFFERENT)}')
    return trains


def _of(train):
    return {name: getattr(train, name) for name in DIFFERENT}


class RowTrainers:
    """The runs of all rows; `run(on_step)` trains them to the end, each to its own weights."""

    def __init__(self, trains, out, real, device='cpu'):
        self.trainers = {n: Trainer(t, out / n, real, device) for n, t in trains.items()}
        _begin_alike(list(self.trainers.values()))
        # A clip ends with the very sample that networks without memory see.
        with_memory = [t for t in self.trainers.values() if t.batches.has_memory]
        self._drawing = (with_memory or list(self.trainers.values()))[0]

    @property
    def step(self):
        """Return the step of the row that is furthest behind."""
        return min(trainer.step for trainer in self.trainers.values())

    def resume(self):
        """Continue each row that has a state; those that have none begin."""
        for trainer in self.trainers.values():
            if (trainer.out / 'state.safetensors').exists():
                trainer.resume()

    def run(self, on_step):
        """Train to the end; `on_step(name, step, parts of the loss)` after every step of a row."""
        train, saved = self._drawing.train, time.monotonic()
        loader = torch.utils.data.DataLoader(
            torch.utils.data.Subset(self._drawing.batches, range(self.step, train.steps)),
            batch_size=None,
            num_workers=train.workers,
        )
        for step, (sweeps, targets) in enumerate(loader, self.step):
            for name, trainer in self.trainers.items():
                if trainer.step == step:
                    batch = sweeps if trainer.batches.has_memory else _last(sweeps)
                    on_step(name, step, trainer.one_step(batch, targets))
            if time.monotonic() - saved > SAVE_EVERY_S:
                self._save()
                saved = time.monotonic()
        self._save()
        for trainer in self.trainers.values():
            trainer.write_weights(trainer.out / 'weights.safetensors')

    def _save(self):
        for trainer in self.trainers.values():
            trainer.save()


@torch.no_grad()
def _begin_alike(trainers):
    """Give all rows the random start of the first in the parts that they share with it."""
    start = trainers[0].network.state_dict()
    for trainer in trainers[1:]:
        for state in (trainer.network.state_dict(), trainer.average):
            for name, value in state.items():
                if name in start and start[name].shape == value.shape:
                    value.copy_(start[name])


def _last(sweeps):
    return sweeps[-1] if isinstance(sweeps, list) else sweeps
