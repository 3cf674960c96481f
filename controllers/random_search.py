"""Random search: every decision uniform among the allowed choices. The baseline of every other controller."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from controllers.base import Controller, Proposal
from controllers.drawing import draw
from search_spaces.base import Architecture, TokenSpace


class RandomRecipe(BaseModel):
    """Random search has no settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RandomController(Controller):
    """Uniform over the allowed choices of each decision in turn; rewards move nothing."""

    Recipe = RandomRecipe

    def __init__(self, tokens: TokenSpace, recipe: BaseModel, seed: int) -> None:
        assert isinstance(recipe, RandomRecipe)
        self.tokens = tokens
        self._rng = np.random.default_rng(seed)
        self._next_id = 0
        self._pending: set[int] = set()

    def propose(self) -> Proposal:
        proposal = Proposal(self._next_id, self.tokens.architecture(draw(self.tokens, self._rng)))
        self._next_id += 1
        self._pending.add(proposal.id)
        return proposal

    def observe(self, proposal_id: int, reward: float) -> None:
        self._pending.remove(proposal_id)

    def replayed(self, proposal_id: int, reward: float) -> None:
        self._pending.remove(proposal_id)

    def fail(self, proposal_id: int) -> None:
        self._pending.remove(proposal_id)

    def observe_external(self, architecture: Architecture, reward: float) -> None:
        """Nothing to learn."""

    def state_dict(self) -> dict[str, Any]:
        rng = self._rng.bit_generator.state
        return {"rng": rng, "next_id": self._next_id, "pending": sorted(self._pending)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rng.bit_generator.state = state["rng"]
        self._next_id = state["next_id"]
        self._pending = set(state["pending"])
