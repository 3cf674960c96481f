"""The order in which the records of a cache are read: for training, for statistics, for measuring."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import islice
from typing import Generic, TypeVar

import torch
from torch import Tensor

BatchT = TypeVar("BatchT")


class CachedRecords(ABC, Generic[BatchT]):
    """What candidates are trained and measured on, numbered: those of meta-train first, then those of meta-val.

    Args:
        train: number of meta-train records.
        val: number of meta-val records.
        device: of the batches.
    """

    def __init__(self, train: int, val: int, device: torch.device) -> None:
        self.train, self.val, self.device = train, val, device

    @abstractmethod
    def load(self, indices: Tensor, dtype: torch.dtype = torch.float32) -> BatchT:
        """The records at ``indices`` (N,), all of one part, the features in ``dtype``."""

    def training_order(self, batch_size: int, seed: int) -> Iterator[Tensor]:
        """Endless batches of meta-train indices: one permutation after another, each batch ascending."""
        generator = torch.Generator().manual_seed(seed)
        pool = torch.empty(0, dtype=torch.int64)
        while True:
            while len(pool) < batch_size:
                pool = torch.cat((pool, torch.randperm(self.train, generator=generator)))
            # Ascending: a file is read faster forwards, and no loss depends on the order within a batch.
            yield pool[:batch_size].sort().values
            pool = pool[batch_size:]

    def statistics_batches(
        self, count: int, batch_size: int, seed: int, dtype: torch.dtype = torch.float32
    ) -> Iterator[BatchT]:
        """The fixed meta-train batches that BatchNorm statistics are estimated on."""
        for indices in islice(self.training_order(min(batch_size, self.train), seed), count):
            yield self.load(indices, dtype)

    def val_batches(self, batch_size: int, dtype: torch.dtype = torch.float32) -> Iterator[BatchT]:
        """All meta-val records in order, in batches of nearly the same size, at most ``batch_size``."""
        for indices in self.val_indices(batch_size):
            yield self.load(indices, dtype)

    def val_indices(self, batch_size: int) -> tuple[Tensor, ...]:
        """What :meth:`val_batches` loads."""
        records = torch.arange(self.train, self.train + self.val)
        return records.tensor_split(-(-self.val // batch_size))
