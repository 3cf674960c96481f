"""The contextual cell of arch2 (Nekrasov et al., CVPR 2019; thesis Fig. 6.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from nasperc.models.conv_layers import ConvNormReLU, GlobalPooling, SeparableConv

# Kernel size and dilation by operation id.
_CONVOLUTIONS = {0: (1, 1), 1: (3, 1), 5: (3, 3), 6: (3, 12)}
_SEPARABLE = {2: (3, 1), 3: (5, 1), 7: (3, 3), 8: (5, 6)}
_GLOBAL_POOLING, _SKIP, _ZERO = 4, 9, 10


class Pair(NamedTuple):
    """Two operations, each on a map of the pool, and the sum of their results."""

    id1: int
    id2: int
    op1: int
    op2: int


class CellGenotype(NamedTuple):
    """``first``: the operation on the cell's input; then pairs.

    The pool is the input, then all results in the order in which they are made: one of ``first``, three of a pair.
    """

    first: int
    pairs: tuple[Pair, ...]


class Zero(nn.Module):
    """The operation that leaves nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class ContextualCell(nn.Module):
    """(N, C, H, W) -> (N, C, H, W): the sum of all results that nothing consumed.

    Args:
        genotype: the cell.
        channels: C.
        repeats: how many times over a separable operation is applied.
    """

    def __init__(self, genotype: CellGenotype, channels: int, repeats: int) -> None:
        super().__init__()
        self.first = build_operation(genotype.first, channels, repeats)
        self.pairs = nn.ModuleList(
            nn.ModuleList(build_operation(op, channels, repeats) for op in (pair.op1, pair.op2))
            for pair in genotype.pairs
        )
        self.sources = tuple((pair.id1, pair.id2) for pair in genotype.pairs)
        # A pair's two results are consumed by their sum.
        ends = (1, *(4 + 3 * index for index in range(len(genotype.pairs))))
        consumed = {source for sources in self.sources for source in sources}
        self.unconsumed = tuple(index for index in ends if index not in consumed)

    def forward(self, x: Tensor) -> Tensor:
        pool = [x, self.first(x)]
        for operations, sources in zip(self.pairs, self.sources, strict=True):
            one, other = (op(pool[source]) for op, source in zip(operations, sources, strict=True))  # type: ignore[call-overload]
            pool += [one, other, one + other]
        first, *others = (pool[index] for index in self.unconsumed)
        for other in others:
            first = first + other
        return first


def build_operation(op: int, channels: int, repeats: int) -> nn.Module:
    """The layers of the operation with an id, (N, C, H, W) -> (N, C, H, W); each convolution with BN and ReLU.

    Raises:
        KeyError: no operation has that id.
    """
    if op == _GLOBAL_POOLING:
        return GlobalPooling(channels, channels)
    if op == _SKIP:
        return nn.Identity()
    if op == _ZERO:
        return Zero()
    if op in _SEPARABLE:
        return nn.Sequential(*(SeparableConv(channels, channels, *_SEPARABLE[op]) for _ in range(repeats)))
    return ConvNormReLU(channels, channels, *_CONVOLUTIONS[op])
