"""Basic blocks over a growing pool, as tokens: what an FPN (thesis 7.3.2) and a dynamic cell (6.3.2) are made of."""

from __future__ import annotations

from typing import NamedTuple

from search_spaces.base import Decision, Tokens


class Block(NamedTuple):
    """One basic block: two pool ids, the operation on each, the aggregation (indices into their tables).

    The pool starts with the inputs and grows by the result of each block.
    """

    id1: int
    id2: int
    op1: int
    op2: int
    agg: int


FIELDS = len(Block._fields)


def read_blocks(tokens: Tokens) -> tuple[Block, ...]:
    """The blocks that ``tokens`` describe, five a block."""
    return tuple(Block(*tokens[start : start + FIELDS]) for start in range(0, len(tokens), FIELDS))


def write_blocks(blocks: tuple[Block, ...]) -> Tokens:
    """The inverse of :func:`read_blocks`."""
    return tuple(token for block in blocks for token in block)


def consumed_blocks(blocks: tuple[Block, ...], pool: int) -> frozenset[int]:
    """Indices (from 0) of the blocks that some other block reads; ``pool``: number of inputs."""
    return frozenset(source - pool for block in blocks for source in (block.id1, block.id2) if source >= pool)


def block_decisions(
    part: str,
    inputs: tuple[str, ...],
    count: int,
    operations: tuple[str, ...],
    aggregations: tuple[str, ...],
) -> tuple[Decision, ...]:
    """The decisions of a part that is ``count`` blocks over ``inputs``; the others are labels of choices."""
    decisions = []
    for block in range(1, count + 1):
        sources = (*inputs, *(f"x{earlier}" for earlier in range(1, block)))
        for field, kind, choices in (
            ("id1", "input", sources),
            ("id2", "input", sources),
            ("op1", "op", operations),
            ("op2", "op", operations),
            ("agg", "agg", aggregations),
        ):
            decisions.append(Decision(f"{part}.block{block}.{field}", kind, choices))
    return tuple(decisions)
