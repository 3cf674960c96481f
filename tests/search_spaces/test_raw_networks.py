"""The examination finds what it is meant to find."""

import numpy as np
import pytest
import torch
from fcos_networks import FcosNetworks
from raw_networks import DIFFERENT, SAME, NotFiniteError, deviation
from raw_weights import random_state

from search_spaces.base import ORIGINAL

# nas_fcos: 0 is the learnable sum, 1 the grouped concatenation, whose operands keep their order.
FPN = (
    3,
    2,
    0,
    4,
    0,
    2,
    1,
    1,
    0,
    1,
    4,
    5,
    0,
    1,
    0,
    0,
    1,
    3,
    2,
    0,
    1,
    3,
    0,
    3,
    1,
    6,
    2,
    1,
    1,
    0,
    2,
    3,
    0,
    4,
    0,
)
HEAD = (1, 4, 5, 4, 2, 0, 3)
CONCAT_AT = 1


@pytest.fixture
def networks():
    return FcosNetworks("nas_fcos")


@pytest.fixture
def architecture(networks):
    return networks.space.architecture({"fpn": FPN, "head": HEAD})


def outputs(networks, architecture, state, seed=0):
    features = networks.features(1, torch.float64, torch.Generator().manual_seed(seed))
    return networks.run(networks.build(architecture), state, features)


def state_of(networks, architecture):
    return random_state(networks.build(architecture), {}, torch.Generator().manual_seed(1))


def rewritten(networks, architecture, rewrite):
    """By the first draw of ``rewrite`` that leads to other tokens."""
    for seed in range(200):
        found = rewrite(architecture, np.random.default_rng(seed))
        if found is not None and found.architecture != architecture:
            return found
    raise AssertionError("no draw applies")


@pytest.mark.parametrize("name", ["swap_operands", "exchange_blocks", "exchange_layers"])
def test_each_rewrite_carries_the_weights_to_where_they_belong(networks, architecture, name):
    state = state_of(networks, architecture)
    expected = outputs(networks, architecture, state)
    other, carry = rewritten(networks, architecture, getattr(networks, name))
    assert deviation(expected, outputs(networks, other, carry(state))) <= SAME
    # Weights of the same shapes that stay where they were are seen, if they are loaded at all.
    if carry(state).keys() == state.keys() and all(
        carry(state)[key].shape == state[key].shape for key in state
    ):
        assert deviation(expected, outputs(networks, other, state)) >= DIFFERENT
    else:
        with pytest.raises(RuntimeError):
            outputs(networks, other, state)


def test_a_share_index_moved_over_a_skip_needs_no_other_weights(networks, architecture):
    state = state_of(networks, architecture)
    other, carry = rewritten(networks, architecture, networks.move_share)
    assert other.parts["head"][-1] in (2, 4)
    assert carry(state) is state
    assert deviation(outputs(networks, architecture, state), outputs(networks, other, state)) <= SAME


def test_a_rewrite_that_is_not_allowed_is_seen_twice(networks, architecture):
    """The operands of the grouped concatenation, swapped: another canonical form, and another function."""
    networks.symmetric = (CONCAT_AT,)
    other, carry = rewritten(networks, architecture, networks.swap_operands)
    assert networks.space.hash(other) != networks.space.hash(architecture)
    state = state_of(networks, architecture)
    expected = outputs(networks, architecture, state)
    assert deviation(expected, outputs(networks, other, carry(state))) >= DIFFERENT
    networks.rewrites = (networks.swap_operands,)
    with pytest.raises(AssertionError, match="another canonical form"):
        networks.examine(0, 0)


def test_a_canonical_form_that_merges_too_much_is_seen_without_a_mapping(networks, architecture):
    features = networks.features(1, torch.float64, torch.Generator().manual_seed(0))
    canonical = networks.space.canonical(architecture)
    assert canonical != architecture
    assert networks.alike(architecture, canonical, features) <= SAME
    for position, token in ((10, 1), (11, 4), (12, 1), (33, 3)):
        tokens = (*FPN[:position], token, *FPN[position + 1 :])
        merged = networks.space.architecture({"fpn": tokens, "head": HEAD})
        assert networks.alike(architecture, merged, features) >= DIFFERENT


def test_a_layer_that_becomes_separate_has_weights_of_its_own_for_each_level(networks, architecture):
    separate = networks.space.architecture({"fpn": FPN, "head": (*HEAD[:-1], 5)})
    state = state_of(networks, architecture)
    more = random_state(networks.build(separate), state, torch.Generator().manual_seed(2))
    weights = [more[f"head.towers.cls_tower.layers.4.{level}.0.weight"] for level in range(5)]
    assert all(not torch.equal(weights[0], other) for other in weights[1:])
    kept = [name for name in state if more.get(name) is state[name]]
    assert {name for name in state if name not in kept} == {name for name in state if ".layers.4." in name}
    assert deviation(outputs(networks, architecture, state), outputs(networks, separate, more)) >= DIFFERENT


def test_what_rounding_does_to_one_network_is_not_another(networks):
    """Six layers over two pixels, each followed by a GroupNorm: the worst of 40,000 architectures."""
    fpn = (
        3,
        2,
        1,
        3,
        1,
        4,
        1,
        1,
        2,
        0,
        2,
        5,
        4,
        0,
        0,
        5,
        0,
        0,
        0,
        1,
        4,
        0,
        4,
        1,
        0,
        7,
        0,
        1,
        0,
        0,
        2,
        5,
        4,
        2,
        1,
    )
    worst = networks.space.architecture({"fpn": fpn, "head": (3, 3, 0, 0, 0, 0, 0)})
    found = networks.examine(0, 4840)
    assert found.architecture == worst
    assert found.comparison.alike > SAME
    assert found.comparison.same(found.comparison.alike)
    assert not found.comparison.same(DIFFERENT * 1e3)


def test_what_is_not_finite_is_refused(networks, architecture):
    modules = networks.build(architecture)
    with torch.no_grad():
        next(modules["neck"].blocks.parameters()).fill_(float("nan"))
    with pytest.raises(NotFiniteError, match="not finite"):
        networks.train_step(modules, torch.Generator().manual_seed(0))
    state = state_of(networks, architecture)
    state["head.towers.cls_tower.layers.0.0.0.weight"].fill_(float("inf"))
    with pytest.raises(NotFiniteError, match="not finite"):
        outputs(networks, architecture, state)


def test_modules_that_are_not_those_of_the_tokens_are_refused(networks, architecture, monkeypatch):
    canonical = networks.space.canonical(architecture)
    assert canonical != architecture
    raw = type(networks.space).build
    monkeypatch.setattr(networks.space, "build", lambda tokens, *rest: raw(networks.space, canonical, *rest))
    with pytest.raises(AssertionError):
        networks.build(architecture)


def test_some_architectures_keep_an_original_part(networks):
    drawn = [networks.draw(np.random.default_rng(seed)).parts for seed in range(200)]
    left = [[part for part, tokens in parts.items() if tokens == ORIGINAL] for parts in drawn]
    assert {tuple(parts) for parts in left} == {(), ("fpn",), ("head",)}
    assert 10 < sum(map(len, left)) < 45


def test_deviation_is_relative_to_the_largest_value_of_an_output():
    one = [torch.tensor([2.0, -8.0]), torch.tensor([0.5])]
    other = [torch.tensor([2.0, -8.4]), torch.tensor([0.51])]
    assert deviation(one, other) == pytest.approx(0.05)
