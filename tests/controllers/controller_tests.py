"""What every controller must pass: inherit from :class:`ControllerTests` and name the class."""

from __future__ import annotations

import io
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from toy_space import toy_reward, toy_tokens

from controllers.base import Controller
from controllers.drawing import draw


def through_disk(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


class ControllerTests:
    controller: type[Controller]
    recipe: BaseModel

    def make(self, seed: int = 0, **space: object) -> Controller:
        return self.controller(toy_tokens(**space), self.recipe, seed)

    def run(self, controller: Controller, count: int) -> list[dict[str, Any]]:
        """Three pending at a time, observed last first."""
        proposed = []
        for _ in range(count):
            proposals = [controller.propose() for _ in range(3)]
            proposed += [proposal.architecture.to_dict() for proposal in proposals]
            for proposal in reversed(proposals):
                controller.observe(proposal.id, toy_reward(proposal.architecture))
        return proposed

    def test_same_seed_same_proposals(self) -> None:
        first, second, other = self.make(3), self.make(3), self.make(4)
        proposed = self.run(first, 12)
        assert proposed == self.run(second, 12)
        assert proposed != self.run(other, 12)
        assert first.diagnostics() == second.diagnostics()

    def test_global_random_numbers_do_not_matter(self) -> None:
        first, second = self.make(), self.make()
        torch.manual_seed(1)
        proposed = self.run(first, 6)
        torch.manual_seed(2)
        assert proposed == self.run(second, 6)

    def test_ids_count_up(self) -> None:
        controller = self.make()
        assert [controller.propose().id for _ in range(3)] == [0, 1, 2]

    def test_state_dict_continues_identically(self) -> None:
        controller = self.make()
        self.run(controller, 5)
        pending = [controller.propose() for _ in range(2)]
        state = through_disk(controller.state_dict())
        copy = self.make(seed=99)
        copy.load_state_dict(state)
        for either in (controller, copy):
            for proposal in pending:
                either.observe(proposal.id, toy_reward(proposal.architecture))
        assert self.run(controller, 12) == self.run(copy, 12)
        assert controller.diagnostics() == copy.diagnostics()

    @pytest.mark.parametrize("observed", [0, 18])
    def test_replayed_and_failed_move_nothing(self, observed: int) -> None:
        controller, twin = self.make(), self.make()
        assert self.run(controller, observed // 3) == self.run(twin, observed // 3)
        for index in range(40):
            controller.replayed(controller.propose().id, 1e6)
            controller.fail(controller.propose().id)
            # The twin only draws; what it drew is forgotten by the one call that both must treat alike.
            for _ in range(2):
                twin.fail(twin.propose().id)
            assert controller.propose().architecture == twin.propose().architecture, index
        assert controller.diagnostics() == twin.diagnostics()

    def test_many_pending_come_back_in_any_order(self) -> None:
        controller = self.make(5)
        self.run(controller, 4)
        pending = [controller.propose() for _ in range(30)]
        assert len({proposal.id for proposal in pending}) == 30
        # Every third fails, as it would when its worker dies.
        for index, proposal in enumerate(sorted(pending, key=lambda proposal: proposal.id % 7)):
            if index % 3:
                controller.observe(proposal.id, toy_reward(proposal.architecture))
            else:
                controller.fail(proposal.id)
        state = through_disk(controller.state_dict())
        copy = self.make()
        copy.load_state_dict(state)
        assert self.run(controller, 4) == self.run(copy, 4)

    def test_goes_on_when_everything_fails_at_first(self) -> None:
        controller = self.make()
        for _ in range(40):
            controller.fail(controller.propose().id)
        self.run(controller, 5)

    # What the recipe of the other tests, small for speed, lacks to learn anything; None: nothing is learnt.
    learning: Mapping[str, object] | None = MappingProxyType({})

    def test_external_observations_are_learnt_from(self) -> None:
        space = {"body": 6, "choices": 4}
        rng = np.random.default_rng(1)
        recipe = self.recipe.model_copy(update=dict(self.learning or {}))
        fresh, warm = (self.controller(toy_tokens(**space), recipe, 0) for _ in range(2))
        for _ in range(100):
            architecture = warm.tokens.architecture(draw(warm.tokens, rng))  # type: ignore[attr-defined]
            warm.observe_external(architecture, toy_reward(architecture))
        means = [
            np.mean([toy_reward(controller.propose().architecture) for _ in range(10)])
            for controller in (fresh, warm)
        ]
        # The standard deviation of a random architecture's reward is 1.1, of a mean of 10 it is 0.35.
        assert means[1] > means[0] + 0.8 or self.learning is None
        assert warm.rewards_per_update() >= 1
        self.run(warm, 2)

    # The one warning is of subclasses that share this test, which is what it is for.
    @settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(1, 6), st.integers(0, 3))
    def test_proposals_are_valid(self, seed: int, choices: int, body: int, head: int) -> None:
        controller = self.make(seed, choices=choices, body=body, head=head)
        for _ in range(12):
            proposal = controller.propose()
            # Raises for a token that is not allowed after those before it.
            controller.tokens.space.validate(proposal.architecture, where="a test")  # type: ignore[attr-defined]
            controller.observe(proposal.id, toy_reward(proposal.architecture))
