"""The allowed rewrites of an FCOS decoder: small moves that lead to every other way to write the same network.

Stated here once more, and not taken from the code of the canonical form, which they judge.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from moves import as_blocks, as_tokens, exchanged
from raw_networks import RawNetworks, Rewritten
from raw_weights import State
from torch import Tensor, nn

from nasperc.assembly.detector import FCOSContext
from nasperc.models.fcos.preset import PRESETS
from nasperc.models.features import FeatureSpec
from search_spaces.base import ORIGINAL, Architecture, Part, Tokens
from search_spaces.fcos_decoder import FcosDecoder
from search_spaces.fcos_recipe import FcosDecoderRecipe

INPUTS = tuple(FeatureSpec(f"C{level}", 4, 2**level) for level in range(2, 6))
POOL = {"nas_fcos": 4, "thesis": 3}
# Tokens of the aggregations whose operands may be swapped: the learnable sum; the plain sum and the plain 1x1.
SYMMETRIC = {"nas_fcos": (0,), "thesis": (0, 1)}
SKIP = {"nas_fcos": 4, "thesis": 3}
TOWERS = ("head.towers.cls_tower", "head.towers.box_tower")


class FcosNetworks(RawNetworks):
    """``fcos_decoder`` with an FPN of the smallest width, on a backbone that has the strides of either pool."""

    inputs = INPUTS
    context = FCOSContext(num_classes=3, preset=PRESETS["nas_fcos"])

    def __init__(self, variant: str, head_width: int = 32) -> None:
        self.widths = {"fpn": 32, "head": head_width}
        self.space = FcosDecoder(FcosDecoderRecipe.model_validate({"variant": variant}))
        self.pool, self.skip, self.symmetric = POOL[variant], SKIP[variant], SYMMETRIC[variant]
        self.rewrites = (self.swap_operands, self.exchange_blocks, self.exchange_layers, self.move_share)

    def outputs(self, modules: nn.ModuleDict, features: list[Tensor]) -> list[Tensor]:
        return [level for levels in modules["head"](modules["neck"](features)) for level in levels]

    def swap_operands(self, architecture: Architecture, rng: np.random.Generator) -> Rewritten | None:
        """Swap the operands of one block with a symmetric aggregation."""
        fpn, index = architecture.parts["fpn"], int(rng.integers(7))
        if fpn == ORIGINAL:
            return None
        blocks = as_blocks(fpn)
        id1, id2, op1, op2, aggregation = blocks[index]
        if aggregation not in self.symmetric:
            return None
        blocks[index] = (id2, id1, op2, op1, aggregation)
        name = f"neck.blocks.{index}"

        def carry(state: State) -> State:
            state = exchanged(state, f"{name}.op1.", f"{name}.op2.")
            state = exchanged(state, f"{name}.aggregation.a", f"{name}.aggregation.b")
            plain = f"{name}.aggregation.conv.weight"
            if plain in state:
                # The first half of its input channels comes from the first operand.
                state[plain] = state[plain].roll(state[plain].shape[1] // 2, dims=1)
            return state

        return self._rewritten(architecture, "fpn", as_tokens(blocks), carry)

    def exchange_blocks(self, architecture: Architecture, rng: np.random.Generator) -> Rewritten | None:
        """Exchange two neighbouring blocks, the second of which does not read the first.

        Every order of the blocks that the connections allow is reached by such steps.
        """
        fpn, index = architecture.parts["fpn"], int(rng.integers(6))
        if fpn == ORIGINAL:
            return None
        blocks = as_blocks(fpn)
        first, second = self.pool + index, self.pool + index + 1
        if first in blocks[index + 1][:2]:
            return None
        new_id = {first: second, second: first}
        levels, dangling = self._roles(blocks)
        blocks[index], blocks[index + 1] = blocks[index + 1], blocks[index]
        blocks = [(new_id.get(id1, id1), new_id.get(id2, id2), *rest) for id1, id2, *rest in blocks]
        # The same blocks, under their new numbers, must become the same levels.
        wanted = [new_id.get(level, level) for level in levels], {new_id.get(one, one) for one in dangling}
        if self._roles(blocks) != wanted:
            return None
        names = (f"neck.blocks.{index}.", f"neck.blocks.{index + 1}.")
        return self._rewritten(architecture, "fpn", as_tokens(blocks), lambda state: exchanged(state, *names))

    def exchange_layers(self, architecture: Architecture, rng: np.random.Generator) -> Rewritten | None:
        """Exchange a skip of the head with its neighbour, both separate or both shared by the levels."""
        head, index = architecture.parts["head"], int(rng.integers(5))
        if head == ORIGINAL:
            return None
        *layers, share = head
        if self.skip not in layers[index : index + 2] or share == index + 1:
            return None
        layers[index], layers[index + 1] = layers[index + 1], layers[index]

        def carry(state: State) -> State:
            for tower in TOWERS:
                state = exchanged(state, f"{tower}.layers.{index}.", f"{tower}.layers.{index + 1}.")
            return state

        return self._rewritten(architecture, "head", (*layers, share), carry)

    def move_share(self, architecture: Architecture, rng: np.random.Generator) -> Rewritten | None:
        """Move the share index over a skip, which has no weights to be shared or not."""
        head, down = architecture.parts["head"], bool(rng.integers(2))
        if head == ORIGINAL:
            return None
        *layers, share = head
        passed = share - 1 if down else share
        if not 0 <= passed < len(layers) or layers[passed] != self.skip:
            return None
        tokens = (*layers, share - 1 if down else share + 1)
        return self._rewritten(architecture, "head", tokens, lambda state: state)

    def _roles(self, blocks: list[Tokens]) -> tuple[list[int], set[int]]:
        """Ids of the blocks that become levels, in order, and of those that are added to each."""
        ids = range(self.pool, self.pool + 7)
        unread = [block for block in ids if all(block not in other[:2] for other in blocks)]
        levels = unread[-3:] if self.space.variant == "nas_fcos" else list(ids[-3:])
        return levels, set(unread) - set(levels)

    def _rewritten(
        self, architecture: Architecture, part: str, tokens: Part, carry: Callable[[State], State]
    ) -> Rewritten:
        return Rewritten(self.space.architecture({**architecture.parts, part: tokens}), carry)
