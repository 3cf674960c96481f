"""The canonical form of an FCOS decoder: one representative of all token sequences that are the same network.

Two blocks are never merged, even where they compute the same expression: their weights differ.
"""

from __future__ import annotations

from search_spaces.aggregations import SYMMETRIC
from search_spaces.base import Tokens
from search_spaces.fcos_genotype import BLOCKS, LEVELS, Block, FPNGenotype, HeadGenotype, Variant
from search_spaces.operations import HEAD_OPERATIONS, SKIP


def canonical_fpn(tokens: Tokens, variant: Variant) -> Tokens:
    """The lexicographically smallest tokens of the same FPN.

    Reached by swapping the operands of symmetric aggregations (``nas_fcos``: the learnable sum; ``thesis``:
    both, a plain 1x1 over a concatenation being the same function class either way), and by every topological
    order of the blocks that keeps which block becomes which level and which dangle.

    Blocks are placed one by one, each time the ones with the smallest tokens. Any placed prefix of an order
    can be completed, so the smallest prefix leads to the smallest sequence; prefixes with equal tokens are
    all followed.
    """
    genotype = FPNGenotype.from_tokens(tokens, variant)
    pool = len(genotype.pool)
    before = _predecessors(genotype)
    prefixes: list[tuple[int, ...]] = [()]
    smallest: Tokens = ()
    for position in range(BLOCKS):
        reached: dict[Block, list[tuple[int, ...]]] = {}
        for placed in prefixes:
            for index in _ready(placed, position, before, variant):
                block = _renumbered(genotype.blocks[index], placed, pool, variant)
                reached.setdefault(block, []).append((*placed, index))
        block = min(reached)
        prefixes = reached[block]
        smallest += tuple(block)
    return smallest


def canonical_head(tokens: Tokens, variant: Variant) -> Tokens:
    """Skips moved to the end, the share index counted over the layers that remain."""
    genotype = HeadGenotype.from_tokens(tokens)
    skip = HEAD_OPERATIONS[variant].index(SKIP)
    layers = tuple(operation for operation in genotype.operations if operation != skip)
    share = sum(operation != skip for operation in genotype.operations[: genotype.share])
    padding = (skip,) * (len(genotype.operations) - len(layers))
    return HeadGenotype(layers + padding, share).tokens()


def _predecessors(genotype: FPNGenotype) -> tuple[frozenset[int], ...]:
    """For each block, the blocks that must stand before it in every equivalent order."""
    pool = len(genotype.pool)
    before = [
        {source - pool for source in (block.id1, block.id2) if source >= pool} for block in genotype.blocks
    ]
    if genotype.variant == "nas_fcos":
        # The last three unconsumed blocks are P5, P4, P3 in order: what dangles stays before them.
        p3, p4, p5 = genotype.outputs
        before[p5] |= set(genotype.dangling)
        before[p4].add(p5)
        before[p3].add(p4)
    return tuple(frozenset(blocks) for blocks in before)


def _ready(
    placed: tuple[int, ...], position: int, before: tuple[frozenset[int], ...], variant: Variant
) -> list[int]:
    if variant == "thesis" and position >= BLOCKS - len(LEVELS):
        # x5, x6 and x7 are the levels by their position alone.
        return [position]
    candidates = range(BLOCKS - len(LEVELS)) if variant == "thesis" else range(BLOCKS)
    return [index for index in candidates if index not in placed and before[index] <= set(placed)]


def _renumbered(block: Block, placed: tuple[int, ...], pool: int, variant: Variant) -> Block:
    def new_id(source: int) -> int:
        return source if source < pool else pool + placed.index(source - pool)

    first, second = (new_id(block.id1), block.op1), (new_id(block.id2), block.op2)
    if block.agg in SYMMETRIC[variant]:
        first, second = sorted((first, second))
    return Block(first[0], second[0], first[1], second[1], block.agg)
