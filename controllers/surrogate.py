"""A surrogate of the reward that screens what a proposer offers (as BANANAS, White et al. 2021, does).

Training a candidate costs minutes, predicting its reward microseconds: so many are drawn, and the one of the
highest predicted reward is proposed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from controllers.base import Controller, Proposal
from controllers.drawing import draw, mutate
from controllers.mlp_ensemble import MLPEnsemble
from controllers.one_hot import OneHot
from controllers.ppo import PPOController, PPORecipe
from controllers.service.seeds import derive_seed
from search_spaces.base import Architecture, Tokens, TokenSpace


class SurrogateRecipe(BaseModel):
    """Settings of :class:`SurrogateController`.

    Attributes:
        initial: rewards before anything but random architectures is proposed.
        interval: rewards after which the ensemble is trained anew, from scratch; once more than that, the
            fraction ``growth`` of all rewards (what a few among many can change does not pay for a training).
        proposer: what is screened beside random architectures: ``mutants`` of the best, samples of a
            ``policy`` that PPO trains on the same rewards, or ``both``.
        pool: sequences drawn at each training, the same number from each source.
        parents: how many of the best architectures are mutated.
        members, hidden: perceptrons in the ensemble, and units in each of their two hidden layers.
        steps, batch, learning_rate, weight_decay: of their training.
        policy: settings of the PPO policy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    initial: int = Field(20, gt=1)
    interval: int = Field(5, gt=0)
    growth: float = Field(0.1, ge=0)
    proposer: Literal["policy", "mutants", "both"] = "mutants"
    pool: int = Field(500, gt=2, le=1_000_000)
    parents: int = Field(10, gt=0)
    members: int = Field(5, gt=1, le=1000)
    hidden: int = Field(64, gt=0, le=8192)
    steps: int = Field(160, gt=0)
    batch: int = Field(64, gt=0)
    learning_rate: float = Field(1e-2, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    policy: PPORecipe = PPORecipe.model_validate({})


class SurrogateController(Controller):
    """Thompson sampling: proposals follow the members of the ensemble in turn, each time the sequence of the
    pool that this member predicts to be the best.

    Members agree on what the rewards have settled and differ elsewhere, so the proposals between two
    trainings, and those of many slots at once, are not all alike.

    Everything happens on canonical tokens: equal networks are one point, and nothing is proposed twice while
    the pool has anything new. The ensemble learns normal scores of the rewards' ranks, since the spread among
    the bad ones (a table of accuracies reaches down to chance) says nothing about which is the best.
    """

    Recipe = SurrogateRecipe

    def __init__(self, tokens: TokenSpace, recipe: BaseModel, seed: int) -> None:
        assert isinstance(recipe, SurrogateRecipe)
        self.tokens, self.recipe = tokens, recipe
        self._rng = np.random.default_rng(seed)
        self._generator = torch.Generator().manual_seed(seed)
        self._one_hot = OneHot(tokens.decisions)
        self._policy: PPOController | None = None
        if recipe.proposer != "mutants":
            self._policy = PPOController(tokens, recipe.policy, derive_seed(seed, "policy"))
        self._rewards: dict[Tokens, float] = {}
        self._proposed: set[Tokens] = set()
        self._pending: dict[int, Tokens] = {}
        self._screened: list[Tokens] = []
        self._since_training = 0
        self._next_id = 0
        self._diagnostics: dict[str, float] = {}

    def propose(self) -> Proposal:
        if len(self._rewards) < self.recipe.initial:
            tokens = self.tokens.canonical(draw(self.tokens, self._rng))
        else:
            if not self._screened or self._since_training >= self._interval():
                self._screened = self._screen()
                self._since_training = 0
            tokens = self._screened.pop(0)
        proposal = Proposal(self._next_id, self.tokens.architecture(tokens))
        self._pending[proposal.id] = tokens
        self._proposed.add(tokens)
        self._next_id += 1
        return proposal

    def observe(self, proposal_id: int, reward: float) -> None:
        self._learn(self._pending.pop(proposal_id), reward)

    def replayed(self, proposal_id: int, reward: float) -> None:
        del self._pending[proposal_id]

    def fail(self, proposal_id: int) -> None:
        del self._pending[proposal_id]

    def observe_external(self, architecture: Architecture, reward: float) -> None:
        tokens = self.tokens.canonical(self.tokens.tokens(architecture))
        self._proposed.add(tokens)
        self._learn(tokens, reward)

    def rewards_per_update(self) -> int:
        policy = 1 if self._policy is None else self._policy.rewards_per_update()
        return max(self._interval(), policy)

    def _learn(self, tokens: Tokens, reward: float) -> None:
        self._rewards[tokens] = reward
        self._since_training += 1
        if self._policy is not None:
            self._policy.observe_external(self.tokens.architecture(tokens), reward)

    def _screen(self) -> list[Tokens]:
        """What to propose until the next training, best first."""
        ensemble = self._train()
        pool = self._new(self._offers())
        if not pool:
            # Everything within reach is known: replays then show the service that the search has converged.
            return [draw(self.tokens, self._rng) for _ in range(self._interval())]
        predicted = ensemble.predict(self._one_hot(torch.tensor(pool)))
        self._diagnostics["disagreement"] = predicted.std(dim=0).mean().item()
        # Member by member within each rank; a sequence stands where it comes first. Kept are enough for an
        # interval and for those that are pending at its beginning.
        ranked = predicted.argsort(dim=1, descending=True, stable=True).T.flatten().tolist()
        return [pool[index] for index in dict.fromkeys(ranked)][: 2 * self._interval() + len(self._pending)]

    def _interval(self) -> int:
        return max(self.recipe.interval, int(self.recipe.growth * len(self._rewards)))

    def _train(self) -> MLPEnsemble:
        recipe = self.recipe
        features = self._one_hot(torch.tensor(list(self._rewards)))
        targets = normal_scores(torch.tensor(list(self._rewards.values()), dtype=torch.float64))
        ensemble = MLPEnsemble(recipe.members, self._one_hot.width, recipe.hidden, self._generator)
        ensemble.fit(
            features,
            targets,
            steps=recipe.steps,
            batch=recipe.batch,
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            generator=self._generator,
        )
        residuals = ensemble.predict(features).mean(dim=0) - targets
        self._diagnostics = {"training_error": residuals.square().mean().sqrt().item()}
        return ensemble

    def _offers(self) -> Iterator[Tokens]:
        recipe = self.recipe
        count = recipe.pool // (3 if recipe.proposer == "both" else 2)
        offers: list[Iterable[Tokens]] = [(draw(self.tokens, self._rng) for _ in range(count))]
        if recipe.proposer != "policy":
            best = sorted(self._rewards, key=self._rewards.__getitem__, reverse=True)[: recipe.parents]
            offers.append(self._mutants(best, count))
        if self._policy is not None:
            sampled, _, _ = self._policy.policy.sample(self.tokens, self._policy.generator, count)
            offers.append(tuple(tokens) for tokens in sampled.tolist())
        return chain.from_iterable(offers)

    def _mutants(self, parents: list[Tokens], count: int) -> Iterator[Tokens]:
        for parent in self._rng.integers(len(parents), size=count).tolist():
            yield mutate(self.tokens, parents[parent], self._rng)

    def _new(self, offers: Iterable[Tokens]) -> list[Tokens]:
        """Their canonical tokens, without repeats and what was proposed before."""
        canonical = dict.fromkeys(map(self.tokens.canonical, offers))
        return [tokens for tokens in canonical if tokens not in self._proposed]

    def diagnostics(self) -> dict[str, float]:
        return dict(self._diagnostics)

    def state_dict(self) -> dict[str, Any]:
        return {
            "rng": self._rng.bit_generator.state,
            "generator": self._generator.get_state(),
            "policy": self._policy.state_dict() if self._policy is not None else None,
            "rewards": [(list(tokens), reward) for tokens, reward in self._rewards.items()],
            "proposed": sorted(map(list, self._proposed)),
            "pending": {id: list(tokens) for id, tokens in self._pending.items()},
            "screened": [list(tokens) for tokens in self._screened],
            "since_training": self._since_training,
            "next_id": self._next_id,
            "diagnostics": dict(self._diagnostics),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rng.bit_generator.state = state["rng"]
        self._generator.set_state(state["generator"])
        if self._policy is not None:
            self._policy.load_state_dict(state["policy"])
        self._rewards = {tuple(tokens): reward for tokens, reward in state["rewards"]}
        self._proposed = set(map(tuple, state["proposed"]))
        self._pending = {id: tuple(tokens) for id, tokens in state["pending"].items()}
        self._screened = [tuple(tokens) for tokens in state["screened"]]
        self._since_training, self._next_id = state["since_training"], state["next_id"]
        self._diagnostics = dict(state["diagnostics"])


def normal_scores(rewards: Tensor) -> Tensor:
    """(N,) float64 -> (N,) float32: of each reward, the quantile of its rank in a standard normal distribution
    (Blom 1958, with (rank - 1/2) / N); equal rewards share their mean rank."""
    _, place, count = rewards.unique(return_inverse=True, return_counts=True)
    ends = count.cumsum(0).double()
    return torch.special.ndtri((ends - count / 2)[place] / len(rewards)).float()
