# SPDX-License-Identifier: Apache-2.0
"""What a part that is trained on proposals keeps of them: tensors, one row for each."""

from dataclasses import fields

import numpy as np
import torch


class BankRows:
    """Base of dataclasses whose fields are tensors with one row for each proposal."""

    __slots__ = ()

    def __len__(self):
        return len(self.label)

    def at(self, index):
        """Return these rows."""
        return type(self)(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @classmethod
    def of(cls, rows):
        """Return single rows (dicts of arrays) as one."""
        names = [f.name for f in fields(cls)]
        return cls(**{n: torch.from_numpy(np.stack([row[n] for row in rows])) for n in names})

    @classmethod
    def save(cls, path, parts):
        """Write the rows of many batches as one .npz, whole or not at all."""
        parts = list(parts)
        if not parts:
            raise ValueError('training: the network before it proposed nothing in any scene')
        arrays = {
            f.name: torch.cat([getattr(part, f.name) for part in parts]).numpy()
            for f in fields(cls)
        }
        partial = path.with_suffix('.partial.npz')
        np.savez(partial, **arrays)
        partial.replace(path)

    @classmethod
    def load(cls, path):
        """Return what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            return cls(**{f.name: torch.from_numpy(file[f.name]) for f in fields(cls)})
