"""The canonical form of a dynamic cell, against all orders and swaps tried one by one."""

from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nasperc.models.features import FeatureSpec
from nasperc.models.video_segmenter import State
from search_spaces.block import Block, read_blocks
from search_spaces.cell_aggregations import ParamSum, StackedConv3d
from search_spaces.cell_genotype import POOL, CellGenotype
from search_spaces.cell_module import SearchedCell
from search_spaces.dynamic_cell import DynamicCell, DynamicCellRecipe

SPACE = DynamicCell(DynamicCellRecipe(variant="4_layers", width=8))
INPUTS = tuple(
    FeatureSpec(name, 4, stride)
    for name, stride in (("layer2", 8), ("layer3", 16), ("layer4", 32), ("dec", 8))
)
SUM, CONCAT, CONV3D = 0, 1, 4


def sampled(seed):
    """Architectures in which most layers read earlier ones, and symmetric aggregations are frequent."""
    rng = np.random.default_rng(seed)
    tokens = list(SPACE.sample("cell", rng))
    for layer in range(4):
        if rng.random() < 0.5:
            tokens[5 * layer + 4] = int(rng.choice([SUM, CONV3D]))
    return tuple(tokens)


def canonical(tokens):
    return SPACE.canonical(SPACE.architecture({"cell": tokens})).parts["cell"]


def reordered(tokens, order, swaps):
    """The tokens with the blocks in another order, some operands swapped; None where it is not topological."""
    result = ()
    for position, (index, swap) in enumerate(zip(order, swaps, strict=True)):
        block = read_blocks(tokens)[index]
        ids = []
        for source in (block.id1, block.id2):
            if source >= POOL:
                source = POOL + order.index(source - POOL)
                if source >= POOL + position:
                    return None
            ids.append(source)
        ops = (block.op1, block.op2)
        if swap:
            ids, ops = ids[::-1], ops[::-1]
        result += (*ids, *ops, block.agg)
    return result


def equivalents(tokens):
    """(tokens, order, swaps) of every sequence that is the same network."""
    blocks = read_blocks(tokens)
    for order in permutations(range(len(blocks))):
        choices = [(False, True) if blocks[index].agg in (SUM, CONV3D) else (False,) for index in order]
        for swaps in product(*choices):
            other = reordered(tokens, order, swaps)
            if other is not None:
                yield other, order, swaps


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_it_is_the_smallest_of_all_equivalent_sequences(seed):
    tokens = sampled(seed)
    assert canonical(tokens) == min(other for other, _, _ in equivalents(tokens))


@pytest.mark.parametrize("seed", range(6))
def test_every_equivalent_sequence_has_the_same_canonical_form(seed):
    tokens = sampled(seed)
    for other, _, _ in list(equivalents(tokens))[:20]:
        assert canonical(other) == canonical(tokens)


@pytest.mark.parametrize("aggregation", range(6))
def test_only_two_aggregations_swap(aggregation):
    first = Block(2, 1, 5, 0, aggregation)
    rest = (0, 0, 4, 4, 1) * 3
    one, other = (*first, *rest), (*Block(1, 2, 0, 5, aggregation), *rest)
    assert (canonical(one) == canonical(other)) == (aggregation in (SUM, CONV3D))


def test_equal_blocks_are_not_merged():
    tokens = (2, 1, 4, 4, CONCAT) * 4
    assert canonical(tokens) == tokens


def copy_block(source, target, swap):
    """Give ``target`` the weights of ``source``, its operands swapped or not."""
    ops = (source.op2, source.op1) if swap else (source.op1, source.op2)
    target.op1.load_state_dict(ops[0].state_dict())
    target.op2.load_state_dict(ops[1].state_dict())
    state = source.aggregation.state_dict()
    if swap and isinstance(source.aggregation, ParamSum):
        state = {"a": state["b"], "b": state["a"]}
    elif swap:
        assert isinstance(source.aggregation, StackedConv3d)
        state = dict(zip(state, reversed(state.values()), strict=True))
    target.aggregation.load_state_dict(state)


def randomise(module):
    """Weights and statistics that make every channel and every operand count."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point() and tensor.ndim < 2:
            nn.init.uniform_(tensor, 0.5, 1.5)


@pytest.mark.parametrize("seed", range(8))
def test_the_canonical_cell_computes_the_same(seed):
    torch.manual_seed(seed)
    tokens = sampled(seed)
    smallest, order, swaps = min(equivalents(tokens))
    first, second = (
        SearchedCell(INPUTS, CellGenotype.from_tokens(each), 8, 3).eval() for each in (tokens, smallest)
    )
    randomise(first)
    second.adapters.load_state_dict(first.adapters.state_dict())
    second.classifier.load_state_dict(first.classifier.state_dict())
    for position, index in enumerate(order):
        copy_block(first.blocks[index], second.blocks[position], swaps[position])
    # The 1x1 of the output reads the same results in another order.
    state = first.project.state_dict()
    slices = dict(zip(first.outputs, state["0.weight"].split(8, 1), strict=True))
    state["0.weight"] = torch.cat([slices[order[position]] for position in second.outputs], 1)
    second.project.load_state_dict(state)
    shapes = [(1, 4, 64 // spec.stride, 96 // spec.stride) for spec in INPUTS]
    layer2, layer3, layer4, dec = (torch.randn(shape) for shape in shapes)
    before = State(torch.randn_like(layer4), dec)
    with torch.no_grad():
        one, other = (cell(before, [layer2, layer3, layer4]) for cell in (first, second))
    assert torch.isfinite(one.logits).all()
    torch.testing.assert_close(one.dec, other.dec, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(one.logits, other.logits, rtol=1e-4, atol=1e-4)
