"""What the tokens of an FCOS decoder say: blocks, connections, which block becomes which level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from search_spaces.base import Tokens
from search_spaces.block import Block, consumed_blocks, read_blocks, write_blocks

Variant = Literal["nas_fcos", "thesis"]

BLOCKS = 7
HEAD_LAYERS = 6
# Backbone features in the sampling pool: ids 0, 1, ... in this order; the blocks follow them.
POOL: dict[str, tuple[str, ...]] = {"nas_fcos": ("C2", "C3", "C4", "C5"), "thesis": ("C3", "C4", "C5")}
POOL_STRIDES = {"C2": 4, "C3": 8, "C4": 16, "C5": 32}
LEVELS = ("P3", "P4", "P5")
LEVEL_STRIDES = (8, 16, 32)
# Of seven blocks, three must be left for P3..P5 that no later block consumes (release).
MAX_CONSUMED = BLOCKS - len(LEVELS)


@dataclass(frozen=True)
class FPNGenotype:
    """The FPN part.

    ``outputs``: block indices (from 0) that become P3, P4, P5. ``dangling``: blocks added to each of them
    (equation 7.1).
    """

    variant: Variant
    blocks: tuple[Block, ...]
    outputs: tuple[int, int, int]
    dangling: tuple[int, ...]

    @classmethod
    def from_tokens(cls, tokens: Tokens, variant: Variant) -> FPNGenotype:
        """From 35 valid tokens.

        ``nas_fcos``: the last three blocks that no other consumes become, in order, P5, P4, P3. ``thesis``:
        x5, x6, x7 become P3, P4, P5. The other unconsumed blocks dangle.
        """
        blocks = read_blocks(tokens)
        consumed = consumed_blocks(blocks, len(POOL[variant]))
        unconsumed = [index for index in range(BLOCKS) if index not in consumed]
        if variant == "thesis":
            outputs = (BLOCKS - 3, BLOCKS - 2, BLOCKS - 1)
        else:
            p5, p4, p3 = unconsumed[-3:]
            outputs = (p3, p4, p5)
        dangling = tuple(index for index in unconsumed if index not in outputs)
        return cls(variant, blocks, outputs, dangling)

    @property
    def pool(self) -> tuple[str, ...]:
        """Names of the backbone features in the pool."""
        return POOL[self.variant]

    def source_name(self, source: int) -> str:
        """``C3`` or ``x4`` for a pool id."""
        return self.pool[source] if source < len(self.pool) else f"x{source - len(self.pool) + 1}"

    def strides(self) -> tuple[int, ...]:
        """Stride of each block's output: an aggregation brings its inputs to the larger size."""
        strides = [POOL_STRIDES[name] for name in self.pool]
        for block in self.blocks:
            strides.append(min(strides[block.id1], strides[block.id2]))
        return tuple(strides[len(self.pool) :])

    def tokens(self) -> Tokens:
        """The 35 tokens."""
        return write_blocks(self.blocks)


class HeadGenotype(NamedTuple):
    """The head part: six operations (indices into the variant's table) and the share index.

    Layers below ``share`` have separate weights for each level, the others share theirs.
    """

    operations: Tokens
    share: int

    @classmethod
    def from_tokens(cls, tokens: Tokens) -> HeadGenotype:
        """From seven valid tokens."""
        return cls(tokens[:HEAD_LAYERS], tokens[HEAD_LAYERS])

    def tokens(self) -> Tokens:
        """The seven tokens."""
        return (*self.operations, self.share)
