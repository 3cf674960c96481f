"""When a stage is over, and whether its best is named from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from controllers.service.plan import SearchPlan
from controllers.service.state import RunState
from search_spaces.base import Stage


class Bounds(NamedTuple):
    """What the run has spent when a stage ends; None where the budget has no such limit."""

    candidates: int | None
    seconds: float | None


class StageRules:
    """The rules of one run: pure functions of its state.

    Args:
        plan: budget and terms.
        stages: in their order.

    Raises:
        InputError: the budget does not give every stage a candidate.
    """

    def __init__(self, plan: SearchPlan, stages: Sequence[Stage]) -> None:
        self._plan, self._stages = plan, stages
        self.bounds = [
            Bounds(*bounds)
            for bounds in zip(plan.candidate_bounds(stages), plan.second_bounds(stages), strict=True)
        ]

    def over(self, state: RunState, now: float) -> Literal["budget", "converged", "rejected"] | None:
        """Why the stage proposes nothing more; None while it goes on. Its candidates may still be pending."""
        assert state.stage is not None
        if state.stage.replays_in_a_row >= self._plan.max_replays:
            return "converged"
        if state.stage.rejections.in_a_row >= self._plan.max_rejections:
            return "rejected"
        if state.stage.selected:
            return "budget"
        candidates, seconds = self.bounds[state.stages_begun - 1]
        if candidates is not None and state.counted + len(state.pending) >= candidates:
            return "budget"
        if seconds is not None and state.elapsed(now) >= seconds:
            return "budget"
        return None

    def needs_selection(self, state: RunState) -> bool:
        """Whether somebody outside has yet to name the stage's best, because a later stage builds on it."""
        stage = state.stage
        if not self._plan.outside_selection or stage is None or stage.best is None or stage.selected:
            return False
        free = self._stages[state.stages_begun - 1].free
        later = self._stages[state.stages_begun :]
        return any(after.fixed.get(part) == "best" for after in later for part in free)

    def selecting(self, state: RunState, now: float) -> bool:
        """Whether the run waits for that."""
        return self.needs_selection(state) and not state.pending and self.over(state, now) is not None
