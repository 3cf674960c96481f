from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from toy_space import toy_tokens

from controllers.drawing import draw, mutate

SPACES = st.builds(toy_tokens, choices=st.integers(2, 5), body=st.integers(1, 6), head=st.integers(0, 3))


@given(SPACES, st.integers(0, 2**32 - 1))
def test_a_mutant_is_valid_and_changes_one_decision_and_what_depends_on_it(space, seed):
    rng = np.random.default_rng(seed)
    parent = draw(space, rng)
    mutant = mutate(space, parent, rng)
    space.architecture(mutant)
    changed = [index for index, (old, new) in enumerate(zip(parent, mutant, strict=True)) if old != new]
    assert changed
    # Whatever else differs was not allowed any more.
    assert all(not space.allowed(mutant[:index])[parent[index]] for index in changed[1:])


@given(SPACES, st.integers(0, 2**32 - 1))
def test_what_is_wanted_is_kept_where_it_is_allowed(space, seed):
    rng = np.random.default_rng(seed)
    wanted = tuple(int(rng.integers(len(decision.choices))) for decision in space.decisions)
    drawn = draw(space, rng, wanted)
    space.architecture(drawn)
    for index, (token, wish) in enumerate(zip(drawn, wanted, strict=True)):
        assert token == wish or not space.allowed(drawn[:index])[wish]


def test_draws_are_uniform_among_the_allowed():
    # Two decisions of three choices that must differ: six sequences.
    space = toy_tokens(choices=3, body=2, head=0)
    rng = np.random.default_rng(0)
    counts = Counter(draw(space, rng) for _ in range(1200))
    assert len(counts) == 6
    assert max(abs(count - 200) for count in counts.values()) < 65


def test_every_free_decision_is_mutated_as_often():
    space = toy_tokens(choices=2, body=3, head=3)
    rng = np.random.default_rng(0)
    parent = (0, 1, 0, 0, 0, 0)
    counts = Counter(mutate(space, parent, rng) for _ in range(1200))
    # Of the body only the first token is free, and it takes the other two along.
    assert set(counts) == {(1, 0, 1, 0, 0, 0), (0, 1, 0, 1, 0, 0), (0, 1, 0, 0, 1, 0), (0, 1, 0, 0, 0, 1)}
    assert max(abs(count - 300) for count in counts.values()) < 80


def test_without_another_choice_the_mutant_is_the_parent():
    class OnlyOne:
        decisions = toy_tokens(choices=2, body=1, head=0).decisions

        def allowed(self, prefix):
            return (False, True)

    assert mutate(OnlyOne(), (1,), np.random.default_rng(0)) == (1,)
