"""The moves on a dynamic cell's weights lead where they should, and what is no move is seen."""

import numpy as np
import pytest
import torch
from cell_networks import CellNetworks
from raw_networks import DIFFERENT, SAME, deviation
from raw_weights import random_state

# Skip-connections are operation 4.
SUM, CONCAT, PREDICTIVE, BILINEAR, CONV3D, ATTENTION = range(6)
# x1 and x4 are left for the output; x2 and x3 do not read one another.
CELL = (2, 3, 0, 5, PREDICTIVE, 3, 4, 2, 1, SUM, 1, 2, 4, 0, CONV3D, 6, 7, 3, 0, ATTENTION)


@pytest.fixture
def networks():
    return CellNetworks("4_layers")


@pytest.fixture
def architecture(networks):
    return networks.space.architecture({"cell": CELL})


def outputs(networks, architecture, state):
    features = networks.features(1, torch.float64, torch.Generator().manual_seed(0))
    return networks.run(networks.build(architecture), state, features)


def state_of(networks, architecture):
    return random_state(networks.build(architecture), {}, torch.Generator().manual_seed(1))


def rewritten(architecture, rewrite):
    """All that ``rewrite`` leads to."""
    found = {}
    for seed in range(60):
        each = rewrite(architecture, np.random.default_rng(seed))
        if each is not None and each.architecture != architecture:
            found[each.architecture.parts["cell"]] = each
    return list(found.values())


@pytest.mark.parametrize("name", ["swap_operands", "exchange_blocks"])
def test_each_rewrite_carries_the_weights_to_where_they_belong(networks, architecture, name):
    state = state_of(networks, architecture)
    expected = outputs(networks, architecture, state)
    all_found = rewritten(architecture, getattr(networks, name))
    # Two symmetric aggregations; x1 and x2 may be exchanged, x2 and x3 too.
    assert len(all_found) == 2
    for other, carry in all_found:
        assert networks.space.hash(other) == networks.space.hash(architecture)
        assert deviation(expected, outputs(networks, other, carry(state))) <= SAME
        with pytest.raises(RuntimeError, match="do not fit"):
            outputs(networks, other, state)


def test_layers_that_are_both_left_change_places_in_the_output(networks):
    cell = networks.space.architecture({"cell": (2, 3, 0, 5, CONCAT, 3, 4, 0, 5, CONCAT) * 2})
    state = state_of(networks, cell)
    expected = outputs(networks, cell, state)
    for other, carry in rewritten(cell, networks.exchange_blocks):
        assert deviation(expected, outputs(networks, other, carry(state))) <= SAME
        assert deviation(expected, outputs(networks, other, state)) >= DIFFERENT
        # The layers alone do not make it: their slices of the output's 1x1 must follow them.
        halfway = carry(state) | {"cell.project.0.weight": state["cell.project.0.weight"]}
        assert deviation(expected, outputs(networks, other, halfway)) >= DIFFERENT


@pytest.mark.parametrize("aggregation", [CONCAT, PREDICTIVE, BILINEAR, ATTENTION])
def test_swapped_operands_that_are_not_symmetric_are_seen_twice(networks, aggregation):
    networks.symmetric = (aggregation,)
    cell = networks.space.architecture({"cell": (2, 3, 0, 5, aggregation, *CELL[5:])})
    ((other, carry),) = rewritten(cell, networks.swap_operands)[:1]
    assert networks.space.hash(other) != networks.space.hash(cell)
    state = state_of(networks, cell)
    assert deviation(outputs(networks, cell, state), outputs(networks, other, carry(state))) >= DIFFERENT


@pytest.mark.parametrize(("position", "token"), [(0, 1), (2, 2), (7, 5), (9, CONV3D), (14, SUM), (16, 5)])
def test_a_canonical_form_that_merges_too_much_is_seen_without_a_mapping(
    networks, architecture, position, token
):
    features = networks.features(1, torch.float64, torch.Generator().manual_seed(0))
    canonical = networks.space.canonical(architecture)
    assert canonical != architecture
    assert networks.alike(architecture, canonical, features) <= SAME
    merged = networks.space.architecture({"cell": (*CELL[:position], token, *CELL[position + 1 :])})
    assert networks.alike(architecture, merged, features) >= DIFFERENT


def test_equal_layers_keep_weights_of_their_own(networks):
    """Which of two equal layers is read makes a difference: the canonical form may not merge them."""
    one, other = twins(networks, (1, 2, 0, 4, ATTENTION))
    assert networks.space.hash(one) != networks.space.hash(other)
    state = state_of(networks, one)
    assert deviation(outputs(networks, one, state), outputs(networks, other, state)) >= DIFFERENT


def test_equal_layers_without_weights_are_not_merged_either(networks):
    """The one known way in which one function has two canonical forms: the attention of two skips has no weights."""
    one, other = twins(networks, (1, 2, 4, 4, ATTENTION))
    assert networks.space.hash(one) != networks.space.hash(other)
    state = state_of(networks, one)
    assert deviation(outputs(networks, one, state), outputs(networks, other, state)) == 0


def twins(networks, layer):
    """Two equal layers, a third that reads both, and a fourth that reads the first or the second."""
    return [
        networks.space.architecture({"cell": (*layer, *layer, 5, 6, 0, 0, CONCAT, source, 3, 0, 4, CONCAT)})
        for source in (5, 6)
    ]
