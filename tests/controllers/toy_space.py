"""A space small enough to count: two parts, a rule between decisions, and a swap that is the same network."""

from __future__ import annotations

from pydantic import BaseModel

from search_spaces.base import Architecture, Decision, SearchSpace, Stage, Tokens, TokenSpace


class ToyRecipe(BaseModel):
    choices: int = 3
    body: int = 4
    head: int = 2
    stages: tuple[str, ...] = ("body", "head")


class ToySpace(SearchSpace):
    """``body``: tokens below ``choices``, none equal to the one before it. ``head``: two choices each.

    The canonical form swaps the first two tokens of the body into order (where the rule stays kept).
    """

    name = "toy"
    Recipe = ToyRecipe

    def __init__(self, recipe: BaseModel | None = None) -> None:
        recipe = recipe or ToyRecipe()
        assert isinstance(recipe, ToyRecipe)
        self.recipe, self.parts, self.variant = recipe, ("body", "head"), "plain"

    def decisions(self, part: str) -> tuple[Decision, ...]:
        if part == "body":
            names = tuple(f"op{choice}" for choice in range(self.recipe.choices))
            return tuple(Decision(f"body.op{i}", "op", names) for i in range(self.recipe.body))
        return tuple(Decision(f"head.flag{i}", "flag", ("off", "on")) for i in range(self.recipe.head))

    def allowed(self, part: str, prefix: Tokens) -> tuple[bool, ...]:
        if part == "body":
            return tuple(not prefix or choice != prefix[-1] for choice in range(self.recipe.choices))
        return (True, True)

    def canonical(self, architecture: Architecture) -> Architecture:
        body = architecture.parts["body"]
        assert not isinstance(body, str)
        if len(body) < 3 or body[0] != body[2]:
            body = (*sorted(body[:2]), *body[2:])
        return Architecture(self.name, self.version, self.variant, {**architecture.parts, "body": body})

    def stages(self) -> tuple[Stage, ...]:
        known = {
            "body": Stage("body", ("body",), {"head": "original"}, {"body": 8}, 0.75, {"epochs": 1}),
            "head": Stage("head", ("head",), {"body": "best"}, {"body": 16}, 0.25),
            "joint": Stage("joint", ("body", "head"), {}, {"body": 8}),
        }
        return tuple(known[name] for name in self.recipe.stages)


def toy_tokens(**recipe: object) -> TokenSpace:
    """The joint stage of a toy space."""
    space = ToySpace(ToyRecipe(stages=("joint",), **recipe))
    return TokenSpace(space, space.stages()[0])


def toy_reward(architecture: Architecture) -> float:
    """Additive: later choices are better, and a head that is on."""
    flat = [token for part in architecture.parts.values() if not isinstance(part, str) for token in part]
    return sum((index + 1) * token for index, token in enumerate(flat)) / 10
