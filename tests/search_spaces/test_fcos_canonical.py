from itertools import permutations

import numpy as np
import pytest
import torch
from fcos_networks import FcosNetworks
from hypothesis import example, given, settings
from hypothesis import strategies as st
from raw_networks import deviation
from raw_weights import random_state
from torch import nn

from nasperc.models.features import FeatureSpec
from search_spaces.aggregations import ConcatConv, ParamSum
from search_spaces.block import Block
from search_spaces.fcos_canonical import canonical_fpn, canonical_head
from search_spaces.fcos_decoder import FcosDecoder
from search_spaces.fcos_genotype import FPNGenotype, HeadGenotype
from search_spaces.fcos_neck import SearchedFPN
from search_spaces.fcos_recipe import FcosDecoderRecipe
from search_spaces.fcos_towers import SearchedTowers

VARIANTS = ("nas_fcos", "thesis")
POOL = {"nas_fcos": 4, "thesis": 3}
SPACES = {name: FcosDecoder(FcosDecoderRecipe(variant=name)) for name in VARIANTS}
INPUTS = tuple(FeatureSpec(f"C{level}", 4, 2**level) for level in range(2, 6))


def sampled(variant, part, seed):
    return SPACES[variant].sample(part, np.random.default_rng(seed))


def reordered(tokens, order, variant):
    """The tokens with the blocks in another order, operands as they are; None where it is not topological."""
    pool = POOL[variant]
    blocks = [Block(*tokens[start : start + 5]) for start in range(0, 35, 5)]
    result = []
    for position, index in enumerate(order):
        block = blocks[index]
        ids = []
        for source in (block.id1, block.id2):
            if source >= pool:
                source = pool + order.index(source - pool)
                if source >= pool + position:
                    return None
            ids.append(source)
        result += [*ids, *block[2:]]
    return tuple(result)


def roles(tokens, variant, order=tuple(range(7))):
    """Which block, by its number in the first order, is which level, and which ones dangle."""
    genotype = FPNGenotype.from_tokens(tokens, variant)
    return [order[index] for index in genotype.outputs], {order[index] for index in genotype.dangling}


def equivalents(tokens, variant):
    """(tokens, order, swapped) of every equivalent sequence, each pair of operands in its best order."""
    symmetric = (0,) if variant == "nas_fcos" else (0, 1)
    for order in permutations(range(7)):
        candidate = reordered(tokens, order, variant)
        if candidate is None or roles(candidate, variant, order) != roles(tokens, variant):
            continue
        result, swapped = [], []
        for start in range(0, 35, 5):
            id1, id2, op1, op2, agg = candidate[start : start + 5]
            as_is, other = (id1, id2, op1, op2, agg), (id2, id1, op2, op1, agg)
            swap = agg in symmetric and other < as_is
            swapped.append(swap)
            result += other if swap else as_is
        yield tuple(result), order, swapped


def smallest(tokens, variant):
    return min(equivalents(tokens, variant), key=lambda each: each[0])


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6))
@example(seed=0)
def test_it_is_the_smallest_of_all_equivalent_sequences(variant, seed):
    tokens = sampled(variant, "fpn", seed)
    assert canonical_fpn(tokens, variant) == smallest(tokens, variant)[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_ties_are_all_followed(variant):
    """Blocks 1 and 2 look alike until a later block tells them apart."""
    pool = POOL[variant]
    alike = (0, 0, 0, 0, 0)
    reader = (pool + 1, 2, 4, 3, 1)
    tokens = (*alike, *alike, *reader, *(1, 1, 0, 0, 0), *(1, 2, 0, 0, 0), *(2, 2, 1, 0, 1), *(0, 1, 2, 0, 1))
    canonical = canonical_fpn(tokens, variant)
    assert canonical == smallest(tokens, variant)[0]
    renamed = reordered(tokens, (1, 0, 2, 3, 4, 5, 6), variant)
    assert renamed != tokens
    assert canonical_fpn(renamed, variant) == canonical


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("seed", range(6))
def test_every_equivalent_sequence_has_the_same_canonical_form(variant, seed):
    tokens = sampled(variant, "fpn", seed)
    for other, _, _ in list(equivalents(tokens, variant))[:20]:
        assert canonical_fpn(other, variant) == canonical_fpn(tokens, variant)


def test_operands_of_the_grouped_concat_keep_their_order():
    concat = (1, 0, 4, 3, 1)
    tokens = concat + (0, 0, 3, 3, 0) * 6
    assert concat in zip(*[iter(canonical_fpn(tokens, "nas_fcos"))] * 5, strict=True)
    assert concat not in zip(*[iter(canonical_fpn(tokens, "thesis"))] * 5, strict=True)


def test_equal_blocks_are_not_merged():
    tokens = (3, 3, 4, 4, 0) * 7
    assert canonical_fpn(tokens, "nas_fcos") == tokens


def test_blocks_without_weights_are_not_merged_either():
    """The one known way in which one function has two canonical forms, in ``thesis`` only: a sum of two skips has no
    weights there, so it makes no difference which of two equal ones a later block reads. Rule (d) keeps them apart.
    """
    twins = (0, 1, 3, 3, 0) * 2
    rest = (3, 4, 0, 1, 1, 5, 2, 0, 0, 1, 6, 0, 1, 2, 1, 1, 7, 0, 2, 0)
    networks = FcosNetworks("thesis")
    one, other = (
        networks.space.architecture({"fpn": (*twins, source, 0, 0, 0, 1, *rest), "head": "original"})
        for source in (3, 4)
    )
    assert networks.space.hash(one) != networks.space.hash(other)
    modules = networks.build(one)
    state = random_state(modules, {}, torch.Generator().manual_seed(0))
    features = networks.features(1, torch.float64, torch.Generator().manual_seed(0))
    expected = networks.run(modules, state, features)
    assert deviation(expected, networks.run(networks.build(other), state, features)) == 0


def copy_block(source, target, swap):
    """Give ``target`` the weights of ``source``, its operands swapped or not."""
    ops = (source.op2, source.op1) if swap else (source.op1, source.op2)
    target.op1.load_state_dict(ops[0].state_dict())
    target.op2.load_state_dict(ops[1].state_dict())
    state = source.aggregation.state_dict()
    if swap and isinstance(source.aggregation, ParamSum):
        state = {"a": state["b"], "b": state["a"]}
    elif swap and isinstance(source.aggregation, ConcatConv):
        # The first half of its input channels comes from x, the second from y.
        state = {"conv.weight": state["conv.weight"].roll(state["conv.weight"].shape[1] // 2, dims=1)}
    target.aggregation.load_state_dict(state)


def randomise(module):
    """Weights and statistics that make every channel and every operand count."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point() and tensor.ndim < 2:
            nn.init.uniform_(tensor, 0.5, 1.5)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("seed", range(6))
def test_the_canonical_fpn_computes_the_same(variant, seed):
    torch.manual_seed(seed)
    tokens = sampled(variant, "fpn", seed)
    canonical, order, swapped = smallest(tokens, variant)
    width = 32
    first, second = (
        SearchedFPN(INPUTS, FPNGenotype.from_tokens(each, variant), width, width).eval()
        for each in (tokens, canonical)
    )
    randomise(first)
    second.adapters.load_state_dict(first.adapters.state_dict())
    second.top_levels.load_state_dict(first.top_levels.state_dict())
    for position, index in enumerate(order):
        copy_block(first.blocks[index], second.blocks[position], swapped[position])
    features = [torch.randn(1, 4, 128 // spec.stride, 64 // spec.stride) for spec in INPUTS]
    with torch.no_grad():
        for one, other in zip(first(features), second(features), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(one.abs().max()))


def test_skips_go_to_the_end_and_the_share_index_counts_what_remains():
    # nas_fcos: 4 is the skip.
    assert canonical_head((4, 1, 4, 5, 4, 0, 3), "nas_fcos") == (1, 5, 0, 4, 4, 4, 1)
    assert canonical_head((4, 1, 4, 5, 4, 0, 4), "nas_fcos") == (1, 5, 0, 4, 4, 4, 2)
    assert canonical_head((4, 4, 4, 4, 4, 4, 6), "nas_fcos") == (4, 4, 4, 4, 4, 4, 0)
    assert canonical_head((0, 1, 2, 3, 5, 0, 6), "nas_fcos") == (0, 1, 2, 3, 5, 0, 6)
    # thesis: 3 is the skip.
    assert canonical_head((3, 4, 5, 3, 6, 0, 2), "thesis") == (4, 5, 6, 0, 3, 3, 1)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("seed", range(4))
def test_the_canonical_head_computes_the_same(variant, seed):
    """The layers that are no skips, with the same weights and the same sharing, in the same order."""
    torch.manual_seed(seed)
    skip = 4 if variant == "nas_fcos" else 3
    tokens = list(sampled(variant, "head", seed))
    tokens[seed], tokens[5] = skip, skip
    first, second = (
        SearchedTowers(32, HeadGenotype.from_tokens(tuple(each)), variant).eval()
        for each in (tokens, canonical_head(tuple(tokens), variant))
    )
    for name in ("cls_tower", "box_tower"):
        randomise(getattr(first, name))
        layers = [layer for layer in getattr(first, name).layers if list(layer.parameters())]
        for layer, other in zip(layers, getattr(second, name).layers, strict=False):
            other.load_state_dict(layer.state_dict())
    levels = [torch.randn(2, 32, size, size) for size in (8, 4, 3, 2, 1)]
    with torch.no_grad():
        for one, other in zip(first(levels), second(levels), strict=True):
            for level, same in zip(one, other, strict=True):
                torch.testing.assert_close(level, same)
