"""What the rewrites of several spaces are made of: tokens of basic blocks, weights by their names."""

from __future__ import annotations

from raw_weights import State

from search_spaces.base import Part, Tokens


def as_blocks(part: Part) -> list[Tokens]:
    """The blocks of a part that is no ``"original"``: five tokens each."""
    assert not isinstance(part, str)
    return [part[start : start + 5] for start in range(0, len(part), 5)]


def as_tokens(blocks: list[Tokens]) -> Tokens:
    """The inverse of :func:`as_blocks`."""
    return tuple(token for block in blocks for token in block)


def exchanged(state: State, one: str, other: str) -> State:
    """All weights whose names begin with ``one`` under ``other`` instead, and the other way round."""

    def new(name: str) -> str:
        for old, instead in ((one, other), (other, one)):
            if name.startswith(old):
                return instead + name[len(old) :]
        return name

    return {new(name): tensor for name, tensor in state.items()}
