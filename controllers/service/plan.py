"""How much a search may spend, and on which terms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from controllers.costs import CostLimits, CostTarget
from nasperc.errors import InputError
from search_spaces.base import Stage


class SearchPlan(BaseModel):
    """The terms of a run; its stages come from the space.

    A budget is a number of trained candidates, a time at work, or both (then whichever is spent first).
    Completed, stopped and failed candidates count; replayed and redrawn proposals do not. Failed ones count
    so that a task on which everything fails comes to an end.

    Attributes:
        seed: of the run; the controller's and every candidate's seed derive from it.
        candidates: budget in trained candidates.
        seconds: budget in time at work (:mod:`controllers.service.run_time`): without the time between an interruption
            and its resumption, whatever the wall clock does.
        slots: how many candidates are trained at once.
        candidate_time_limit: seconds after which a pending candidate goes to the next slot that asks.
        early_stop_k: stop at half time below mean - k * std of earlier half-way rewards; None: never.
        early_stop_minimum: completed candidates of the stage before anything is stopped.
        max_replays: known proposals in a row after which the stage has converged.
        max_rejections: rejected candidates in a row after which the stage ends.
        limits: what a candidate may cost. The worker rejects those that exceed them; the plan is what the journal says
            of them.
        cost_target: what rewards are measured against beside; None: rewards are what the proxy task gives.
        max_setup_failures: failed worker set-ups in a row (without any result between them) that end the run.
        outside_selection: the best of a stage that later ones build on is named from outside, not by reward.
        snapshot_every: journal events between two snapshots of the controller.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    candidates: int | None = Field(None, gt=0)
    seconds: float | None = Field(None, gt=0)
    slots: int = Field(1, gt=0)
    candidate_time_limit: float | None = Field(None, gt=0)
    early_stop_k: float | None = None
    early_stop_minimum: int = Field(20, ge=2)
    max_replays: int = Field(500, gt=0)
    max_rejections: int = Field(500, gt=0)
    limits: CostLimits = CostLimits()
    cost_target: CostTarget | None = None
    max_setup_failures: int = Field(3, gt=0)
    outside_selection: bool = False
    snapshot_every: int = Field(50, gt=0)

    @model_validator(mode="after")
    def _has_budget(self) -> Self:
        if self.candidates is None and self.seconds is None:
            raise ValueError("a search needs a budget: a number of candidates or seconds")
        return self

    def candidate_bounds(self, stages: Sequence[Stage]) -> list[int | None]:
        """For each stage, how many candidates the run has spent when it ends (cumulative, so nothing is lost
        to rounding and what a converged stage leaves goes to the next one). Every stage gets at least one.

        Raises:
            InputError: fewer candidates than stages.
        """
        if self.candidates is None:
            return [None] * len(stages)
        if self.candidates < len(stages):
            raise InputError(
                f"a budget must give each of the {len(stages)} stages a candidate",
                value=f"{self.candidates} candidates",
                where="the budget (--budget)",
                repair=f"Give at least {len(stages)}.",
            )
        bounds: list[int | None] = []
        last = 0
        for index, share in enumerate(_cumulative_shares(stages)):
            still_to_come = len(stages) - 1 - index
            last = max(last + 1, min(round(self.candidates * share), self.candidates - still_to_come))
            bounds.append(last)
        return bounds

    def second_bounds(self, stages: Sequence[Stage]) -> list[float | None]:
        """For each stage, the seconds that the run has spent when it ends (cumulative)."""
        if self.seconds is None:
            return [None] * len(stages)
        return [self.seconds * share for share in _cumulative_shares(stages)]


def _cumulative_shares(stages: Sequence[Stage]) -> list[float]:
    total = sum(stage.share for stage in stages)
    return [sum(stage.share for stage in stages[: index + 1]) / total for index in range(len(stages))]
