"""A controller that proposes what a test says, and a service around it with a clock that a test moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel
from toy_space import ToyRecipe, ToySpace

from controllers.base import Candidate, Controller, Proposal, Result
from controllers.service.plan import SearchPlan
from controllers.service.service import ControllerService
from search_spaces.base import Architecture, TokenSpace


class ScriptedController(Controller):
    """Proposes ``script`` in order (its last entry for ever) and notes what it is told."""

    Recipe = BaseModel

    def __init__(self, tokens: TokenSpace, recipe: object, seed: int, script: list[tuple[int, ...]]) -> None:
        self.tokens, self.seed, self.script = tokens, seed, script
        self.proposed = 0
        self.told: list[tuple[Any, ...]] = []

    def propose(self) -> Proposal:
        tokens = self.script[min(self.proposed, len(self.script) - 1)]
        self.proposed += 1
        return Proposal(self.proposed - 1, self.tokens.architecture(tokens))

    def observe(self, proposal_id: int, reward: float) -> None:
        self.told.append(("observe", proposal_id, reward))

    def replayed(self, proposal_id: int, reward: float) -> None:
        self.told.append(("replayed", proposal_id, reward))

    def fail(self, proposal_id: int) -> None:
        self.told.append(("fail", proposal_id))

    def observe_external(self, architecture: Architecture, reward: float) -> None:
        self.told.append(("external", self.tokens.tokens(architecture), reward))

    def state_dict(self) -> dict[str, Any]:
        return {"proposed": self.proposed, "told": [list(entry) for entry in self.told]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.proposed = state["proposed"]
        self.told = [tuple(entry) for entry in state["told"]]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# Bodies without a repeat; (0, 1, 2, 1) and (1, 0, 2, 1) are the same network.
BODIES = [(0, 1, 2, 1), (1, 2, 1, 2), (2, 1, 0, 1), (0, 2, 0, 2), (2, 0, 2, 1), (0, 1, 0, 1), (1, 0, 1, 0)]
TWIN = (1, 0, 2, 1)


class Bench:
    """A service on one stage (or more) of the toy space, with the scripted controllers that it made."""

    def __init__(
        self, folder: Path, script: list[tuple[int, ...]] | None = None, stages: tuple[str, ...] = ("body",)
    ) -> None:
        self.folder, self.script = folder, script or BODIES
        self.space = ToySpace(ToyRecipe(stages=stages))
        self.clock = Clock()
        self.made: list[ScriptedController] = []
        self.begin = False
        self.recipe: dict[str, Any] | None = None

    def open(self, session: str | None = None, **plan: Any) -> ControllerService:
        self.made = []
        settings = {"candidates": 5, "seed": 3, **plan}
        return ControllerService(
            self.folder,
            self.space,
            self._make,
            SearchPlan(**settings),
            session=session,
            begin=self.begin,
            recipe=self.recipe,
            clock=self.clock,
        )

    @property
    def controller(self) -> ScriptedController:
        return self.made[-1]

    def _make(self, tokens: TokenSpace, seed: int) -> Controller:
        script = self.script if tokens.stage.name == "body" else [(0, 1), (1, 1), (1, 0), (0, 0)]
        self.made.append(ScriptedController(tokens, None, seed, script))
        return self.made[-1]


def candidate(answer: object) -> Candidate:
    assert isinstance(answer, Candidate), answer
    return answer


def completed(reward: float, halfway: float | None = None) -> Result:
    return Result("completed", reward, halfway, metrics={"loss": 1.0}, cost={"flops": 5.0}, seconds=2.0)


def events(service: ControllerService, *kinds: str) -> list[dict[str, Any]]:
    return [event for event in service.events_since(0) if event["event"] in kinds]
