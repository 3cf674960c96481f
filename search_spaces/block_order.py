"""The canonical order of basic blocks: one representative of all token sequences that are the same network.

Two blocks are never merged, even where they compute the same expression: their weights differ.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from search_spaces.base import Tokens
from search_spaces.block import Block


def smallest_order(
    blocks: tuple[Block, ...],
    pool: int,
    symmetric: Collection[int],
    before: tuple[frozenset[int], ...],
    candidates: Callable[[int], Iterable[int]] | None = None,
) -> Tokens:
    """The lexicographically smallest tokens that are reached by swapping operands and reordering blocks.

    Blocks are placed one by one, each time the ones with the smallest tokens. Any placed prefix of an order
    must be one that can be completed, so that the smallest prefix leads to the smallest sequence; prefixes with
    equal tokens are all followed.

    Args:
        blocks: in some valid order.
        pool: number of inputs.
        symmetric: aggregations whose operands may be swapped.
        before: for each block, the blocks that must stand before it in every equivalent order.
        candidates: the blocks that may stand at a position; None: all.
    """
    prefixes: list[tuple[int, ...]] = [()]
    smallest: Tokens = ()
    for position in range(len(blocks)):
        allowed = range(len(blocks)) if candidates is None else candidates(position)
        reached: dict[Block, list[tuple[int, ...]]] = {}
        for placed in prefixes:
            for index in allowed:
                if index not in placed and before[index] <= set(placed):
                    block = _renumbered(blocks[index], placed, pool, symmetric)
                    reached.setdefault(block, []).append((*placed, index))
        block = min(reached)
        prefixes = reached[block]
        smallest += tuple(block)
    return smallest


def read_before(blocks: tuple[Block, ...], pool: int) -> tuple[frozenset[int], ...]:
    """For each block, the blocks that it reads."""
    return tuple(
        frozenset(source - pool for source in (block.id1, block.id2) if source >= pool) for block in blocks
    )


def _renumbered(block: Block, placed: tuple[int, ...], pool: int, symmetric: Collection[int]) -> Block:
    def new_id(source: int) -> int:
        return source if source < pool else pool + placed.index(source - pool)

    first, second = (new_id(block.id1), block.op1), (new_id(block.id2), block.op2)
    if block.agg in symmetric:
        first, second = sorted((first, second))
    return Block(first[0], second[0], first[1], second[1], block.agg)
