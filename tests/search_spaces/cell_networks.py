"""The allowed rewrites of a dynamic cell: small moves that lead to every other way to write the same network.

Stated here once more, and not taken from the code of the canonical form, which they judge.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from moves import as_blocks, as_tokens, exchanged
from raw_networks import RawNetworks, Rewritten
from raw_weights import State
from torch import Tensor, nn

from nasperc.models.features import FeatureSpec
from nasperc.models.video_segmenter import State as FrameState
from search_spaces.base import Architecture, Tokens
from search_spaces.dynamic_cell import DynamicCell, DynamicCellRecipe

# Layer 4 and dec of the frame before, layers 2, 3 and 4 of this one.
POOL = 5
# Tokens of the aggregations whose operands may be swapped: the learnable sum, the 3D convolution.
SYMMETRIC = (0, 4)


class CellNetworks(RawNetworks):
    """``dynamic_cell``, so wide that hardly any layer is silent in all of its channels."""

    inputs = (
        FeatureSpec("layer2", 4, 8),
        FeatureSpec("layer3", 4, 16),
        FeatureSpec("layer4", 4, 32),
        FeatureSpec("dec", 4, 8),
    )

    def __init__(self, variant: str) -> None:
        self.widths = {"cell": 8}
        self.space = DynamicCell(DynamicCellRecipe(variant=variant, width=self.widths["cell"]))
        self.layers = self.space.recipe.layers
        self.symmetric = SYMMETRIC
        self.rewrites = (self.swap_operands, self.exchange_blocks)

    def features(self, batch: int, dtype: torch.dtype, generator: torch.Generator) -> list[Tensor]:
        """Those of this frame and dec of the one before, as ``inputs``, then layer 4 of the one before."""
        features = super().features(batch, dtype, generator)
        return [*features, torch.randn(features[2].shape, dtype=dtype, generator=generator)]

    def outputs(self, modules: nn.ModuleDict, features: list[Tensor]) -> list[Tensor]:
        *levels, dec, layer4 = features
        return list(modules["cell"](FrameState(layer4, dec), levels))

    def alike_state(self, modules: nn.Module) -> State:
        """All slices of the output's 1x1 are the same too: it reads the results in any order."""
        state = super().alike_state(modules)
        weight, width = state["cell.project.0.weight"], self.widths["cell"]
        state["cell.project.0.weight"] = weight[:, :width].repeat(1, weight.shape[1] // width, 1, 1)
        return state

    def swap_operands(self, architecture: Architecture, rng: np.random.Generator) -> Rewritten | None:
        """Swap the operands of one layer with a symmetric aggregation."""
        blocks, index = as_blocks(architecture.parts["cell"]), int(rng.integers(self.layers))
        id1, id2, op1, op2, aggregation = blocks[index]
        if aggregation not in self.symmetric:
            return None
        blocks[index] = (id2, id1, op2, op1, aggregation)
        name = f"cell.blocks.{index}"

        def carry(state: State) -> State:
            state = exchanged(state, f"{name}.op1.", f"{name}.op2.")
            if f"{name}.aggregation.a" in state:
                state = exchanged(state, f"{name}.aggregation.a", f"{name}.aggregation.b")
            return exchanged(state, f"{name}.aggregation.slices.0.", f"{name}.aggregation.slices.1.")

        return self._rewritten(blocks, carry)

    def exchange_blocks(self, architecture: Architecture, rng: np.random.Generator) -> Rewritten | None:
        """Exchange two neighbouring layers, the second of which does not read the first.

        Every order of the layers that the connections allow is reached by such steps.
        """
        blocks, index = as_blocks(architecture.parts["cell"]), int(rng.integers(self.layers - 1))
        first, second = POOL + index, POOL + index + 1
        if first in blocks[index + 1][:2]:
            return None
        read = {source for block in blocks for source in block[:2]}
        unread = [each for each in range(POOL, POOL + self.layers) if each not in read]
        new_id = {first: second, second: first}
        blocks[index], blocks[index + 1] = blocks[index + 1], blocks[index]
        blocks = [(new_id.get(id1, id1), new_id.get(id2, id2), *rest) for id1, id2, *rest in blocks]

        def carry(state: State) -> State:
            state = exchanged(state, f"cell.blocks.{index}.", f"cell.blocks.{index + 1}.")
            if first in unread and second in unread:
                # Both are concatenated for the output, now in the other order.
                slices = list(state["cell.project.0.weight"].chunk(len(unread), 1))
                place = unread.index(first)
                slices[place], slices[place + 1] = slices[place + 1], slices[place]
                state["cell.project.0.weight"] = torch.cat(slices, 1)
            return state

        return self._rewritten(blocks, carry)

    def _rewritten(self, blocks: list[Tokens], carry: Callable[[State], State]) -> Rewritten:
        return Rewritten(self.space.architecture({"cell": as_tokens(blocks)}), carry)
