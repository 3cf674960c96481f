"""Drawing token sequences at random, from nothing or close to a given one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search_spaces.base import Tokens, TokenSpace


def draw(
    space: TokenSpace, rng: np.random.Generator, wanted: Sequence[int] = (), start: Tokens = ()
) -> Tokens:
    """A sequence that begins with ``start``; every further decision keeps the token of ``wanted`` if it has
    one there that is allowed, and is uniform among the allowed choices otherwise."""
    tokens = start
    for decision in range(len(start), len(space.decisions)):
        allowed = space.allowed(tokens)
        if decision < len(wanted) and allowed[wanted[decision]]:
            tokens += (wanted[decision],)
        else:
            choices = [choice for choice, ok in enumerate(allowed) if ok]
            tokens += (choices[rng.integers(len(choices))],)
    return tokens


def mutate(space: TokenSpace, parent: Tokens, rng: np.random.Generator) -> Tokens:
    """One decision of ``parent`` changed, the later ones repaired where they are no longer allowed.

    The decision is uniform among those with another allowed choice, the choice among these; without any
    such decision the parent itself.
    """
    for decision in rng.permutation(len(parent)).tolist():
        prefix = parent[:decision]
        allowed = space.allowed(prefix)
        others = [choice for choice, ok in enumerate(allowed) if ok and choice != parent[decision]]
        if others:
            return draw(space, rng, parent, (*prefix, others[rng.integers(len(others))]))
    return parent
