"""The canonical form of an FCOS decoder, see :mod:`search_spaces.block_order`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from search_spaces.aggregations import SYMMETRIC
from search_spaces.base import Tokens
from search_spaces.block_order import read_before, smallest_order
from search_spaces.fcos_genotype import BLOCKS, LEVELS, FPNGenotype, HeadGenotype, Variant
from search_spaces.operations import HEAD_OPERATIONS, SKIP


def canonical_fpn(tokens: Tokens, variant: Variant) -> Tokens:
    """The lexicographically smallest tokens of the same FPN.

    Reached by swapping the operands of symmetric aggregations (``nas_fcos``: the learnable sum; ``thesis``:
    both, a plain 1x1 over a concatenation being the same function class either way), and by every topological
    order of the blocks that keeps which block becomes which level and which dangle.
    """
    genotype = FPNGenotype.from_tokens(tokens, variant)
    return smallest_order(
        genotype.blocks, len(genotype.pool), SYMMETRIC[variant], _predecessors(genotype), _candidates(variant)
    )


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
    before = list(read_before(genotype.blocks, len(genotype.pool)))
    if genotype.variant == "nas_fcos":
        # The last three unconsumed blocks are P5, P4, P3 in order: what dangles stays before them.
        p3, p4, p5 = genotype.outputs
        before[p5] |= set(genotype.dangling)
        before[p4] |= {p5}
        before[p3] |= {p4}
    return tuple(before)


def _candidates(variant: Variant) -> Callable[[int], Iterable[int]] | None:
    if variant == "nas_fcos":
        return None
    # x5, x6 and x7 are the levels by their position alone.
    first = BLOCKS - len(LEVELS)
    return lambda position: [position] if position >= first else range(first)
