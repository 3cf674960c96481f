"""Regularised evolution: tournament, mutation, the oldest dies (Real et al. 2019, AmoebaNet, Algorithm 1)."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from controllers.base import Controller, Proposal
from controllers.drawing import draw, mutate
from search_spaces.base import Architecture, Tokens, TokenSpace


class EvolutionRecipe(BaseModel):
    """Settings of :class:`EvolutionController`.

    Attributes:
        population: the latest architectures with a reward; the first ones are drawn at random.
        sample: drawn from them, with repeats; the best of these is mutated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    population: int = Field(20, gt=0)
    sample: int = Field(5, gt=0)


class EvolutionController(Controller):
    """Each proposal is the best of a random sample of the population, with one decision changed.

    With many candidates pending, the tournament is held among those whose reward has come.
    """

    Recipe = EvolutionRecipe

    def __init__(self, tokens: TokenSpace, recipe: BaseModel, seed: int) -> None:
        assert isinstance(recipe, EvolutionRecipe)
        self.tokens, self.recipe = tokens, recipe
        self._rng = np.random.default_rng(seed)
        self._population: list[tuple[Tokens, float]] = []
        self._pending: dict[int, Tokens] = {}
        self._next_id = 0

    def propose(self) -> Proposal:
        known = len(self._population)
        if known == 0 or known + len(self._pending) < self.recipe.population:
            tokens = draw(self.tokens, self._rng)
        else:
            sample = self._rng.integers(known, size=self.recipe.sample).tolist()
            parent, _ = max((self._population[index] for index in sample), key=lambda member: member[1])
            tokens = mutate(self.tokens, parent, self._rng)
        proposal = Proposal(self._next_id, self.tokens.architecture(tokens))
        self._pending[proposal.id] = tokens
        self._next_id += 1
        return proposal

    def observe(self, proposal_id: int, reward: float) -> None:
        self._join(self._pending.pop(proposal_id), reward)

    def replayed(self, proposal_id: int, reward: float) -> None:
        del self._pending[proposal_id]

    def fail(self, proposal_id: int) -> None:
        del self._pending[proposal_id]

    def observe_external(self, architecture: Architecture, reward: float) -> None:
        """Joins as the youngest. Of a full population the worst leaves, not the oldest: the order in which another
        run measured says nothing about age in this one."""
        self._population.append((self.tokens.tokens(architecture), reward))
        if len(self._population) > self.recipe.population:
            self._population.remove(min(self._population, key=lambda member: member[1]))

    def rewards_per_update(self) -> int:
        """A generation: a rejected architecture is never a parent, but takes the place of one."""
        return self.recipe.population

    def _join(self, tokens: Tokens, reward: float) -> None:
        self._population = [*self._population, (tokens, reward)][-self.recipe.population :]

    def state_dict(self) -> dict[str, Any]:
        return {
            "rng": self._rng.bit_generator.state,
            "population": [(list(tokens), reward) for tokens, reward in self._population],
            "pending": {id: list(tokens) for id, tokens in self._pending.items()},
            "next_id": self._next_id,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rng.bit_generator.state = state["rng"]
        self._population = [(tuple(tokens), reward) for tokens, reward in state["population"]]
        self._pending = {id: tuple(tokens) for id, tokens in state["pending"].items()}
        self._next_id = state["next_id"]
