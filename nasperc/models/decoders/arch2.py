"""The decoder of arch2 (thesis Fig. 6.2), discovered by Nekrasov et al. (CVPR 2019), built from its genotype."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasperc.models.conv_layers import ConvNormReLU
from nasperc.models.decoders.arch2_cell import CellGenotype, ContextualCell, Pair
from nasperc.models.features import FeatureSpec
from nasperc.models.segmenter import DecoderOutput
from nasperc.ops.resize import resize_to, resize_to_larger


class Genotype(NamedTuple):
    """``cell``: what is applied to every input of a connection. ``connections``: pairs of pool indices; the pool
    starts with the encoder's outputs, the finest first, and grows by each connection's result."""

    cell: CellGenotype
    connections: tuple[tuple[int, int], ...]


ARCH2 = Genotype(
    CellGenotype(5, (Pair(0, 0, 4, 1), Pair(3, 2, 0, 1), Pair(5, 6, 5, 0))), ((1, 3), (4, 3), (2, 2))
)


class Connection(nn.Module):
    """Two maps of the pool, each through a cell of its own and a 1x1; upsampled to the larger one, and summed."""

    def __init__(self, cell: CellGenotype, width: int, repeats: int, sources: tuple[int, int]) -> None:
        super().__init__()
        self.sources = sources
        self.cells = nn.ModuleList(ContextualCell(cell, width, repeats) for _ in sources)
        self.branches = nn.ModuleList(ConvNormReLU(width, width, 1) for _ in sources)

    def forward(self, pool: list[Tensor]) -> Tensor:
        one, other = (
            branch(cell(pool[source]))
            for source, cell, branch in zip(self.sources, self.cells, self.branches, strict=True)
        )
        one, other = resize_to_larger(one, other)
        return one + other


class DiscoveredDecoder(nn.Module):
    """``forward(features) -> DecoderOutput``: what no connection consumed is concatenated, ReLU, 1x1 - BN - ReLU.

    Every output of the encoder has its adapter, those that no connection reads too (arch2: level 0), as in the
    authors' release; such an adapter is not run. Auxiliary maps are the results of the connections.

    Args:
        inputs: the encoder's outputs, the finest first.
        genotype: arch2's by default.
        width: channels of all maps.
        repeats: how many times over a separable operation is applied.
    """

    def __init__(
        self,
        inputs: tuple[FeatureSpec, ...],
        genotype: Genotype = ARCH2,
        width: int = 64,
        repeats: int = 2,
    ) -> None:
        super().__init__()
        strides = [spec.stride for spec in inputs]
        self.adapters = nn.ModuleList(ConvNormReLU(spec.channels, width, 1) for spec in inputs)
        self.connections = nn.ModuleList(
            Connection(genotype.cell, width, repeats, sources) for sources in genotype.connections
        )
        self.consumed = {source for sources in genotype.connections for source in sources}
        for sources in genotype.connections:
            strides.append(min(strides[source] for source in sources))
        self.unconsumed = [index for index in range(len(inputs), len(strides)) if index not in self.consumed]
        self.project = ConvNormReLU(width * len(self.unconsumed), width, 1)
        self.out = FeatureSpec("dec", width, min(strides[index] for index in self.unconsumed))
        self.auxiliary_channels = (width,) * len(self.connections)

    def forward(self, features: list[Tensor]) -> DecoderOutput:
        # An output that nothing reads keeps its place in the pool.
        pool = [
            adapter(feature) if index in self.consumed else feature
            for index, (adapter, feature) in enumerate(zip(self.adapters, features, strict=True))
        ]
        for connection in self.connections:
            pool.append(connection(pool))
        ends = [pool[index] for index in self.unconsumed]
        largest = max(ends, key=lambda end: end.shape[2] * end.shape[3])
        size = (largest.shape[2], largest.shape[3])
        dec = self.project(F.relu(torch.cat([resize_to(end, size) for end in ends], 1)))
        return DecoderOutput(dec, pool[len(features) :])
