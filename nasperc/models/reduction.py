"""Sums over the processes that share a batch: losses are normalised by those of the whole batch."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

# The sum of a tensor over all processes that share a batch.
Reduce = Callable[[Tensor], Tensor]


def reduce_alone(values: Tensor) -> Tensor:
    """The :data:`Reduce` of a process that has the whole batch."""
    return values
