"""What the tokens of a dynamic cell say: blocks, connections, which results become its output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from search_spaces.base import Tokens
from search_spaces.block import Block, consumed_blocks, read_blocks, write_blocks


class CellInput(NamedTuple):
    """One of the inputs: ``spec`` names the static network's feature; ``previous``: of the frame before."""

    name: str
    spec: str
    stride: int
    previous: bool


# Thesis 6.3.1: ids 0 to 4 of the pool in this order; the blocks follow them.
CELL_INPUTS = (
    CellInput("previous layer 4", "layer4", 32, True),
    CellInput("previous dec", "dec", 8, True),
    CellInput("layer 2", "layer2", 8, False),
    CellInput("layer 3", "layer3", 16, False),
    CellInput("layer 4", "layer4", 32, False),
)
POOL = len(CELL_INPUTS)
OUTPUT_STRIDE = 8


@dataclass(frozen=True)
class CellGenotype:
    """The cell: ``outputs`` are the blocks (from 0) that no other consumes, which the output is made of."""

    blocks: tuple[Block, ...]
    outputs: tuple[int, ...]

    @classmethod
    def from_tokens(cls, tokens: Tokens) -> CellGenotype:
        """From valid tokens, five a block."""
        blocks = read_blocks(tokens)
        consumed = consumed_blocks(blocks, POOL)
        return cls(blocks, tuple(index for index in range(len(blocks)) if index not in consumed))

    def tokens(self) -> Tokens:
        """The tokens."""
        return write_blocks(self.blocks)

    @property
    def used(self) -> frozenset[int]:
        """Ids of the pool that some block reads."""
        return frozenset(source for block in self.blocks for source in (block.id1, block.id2))

    def source_name(self, source: int) -> str:
        """``layer 2`` or ``x3`` for a pool id."""
        return CELL_INPUTS[source].name if source < POOL else f"x{source - POOL + 1}"

    def strides(self) -> tuple[int, ...]:
        """Stride of each block's result: an aggregation brings its inputs to the larger size."""
        strides = [each.stride for each in CELL_INPUTS]
        for block in self.blocks:
            strides.append(min(strides[block.id1], strides[block.id2]))
        return tuple(strides[POOL:])
