"""The recipe section ``search``: budget, workers, and the rules of the run itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from controllers.costs import CostLimits, CostTarget
from nasperc.errors import InputError
from nasperc.limits import MOST_AT_ONCE
from nasperc.plugins import load_component

BUDGET = re.compile(r"(?P<count>[0-9]+)|(?P<time>[0-9]+(\.[0-9]+)?)(?P<unit>[smhd])")
SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class SearchRecipe(BaseModel):
    """Budget, workers and stopping rules of the run itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # "200": trained candidates; "4h", "30m": wall time.
    budget: str = "200"
    workers: int = Field(default=2, ge=1, le=MOST_AT_ONCE)
    # None: 1 where CUDA is visible, else 0.
    gpus_per_worker: float | None = Field(default=None, ge=0)
    executor: Literal["ray", "local"] = "ray"
    # Stop half-way when the reward < mean - k * std of earlier half-way rewards; None = never.
    early_stop_k: float | None = 1.0
    early_stop_minimum: int = Field(default=20, ge=2)
    candidate_time_limit_s: float = Field(default=3600.0, gt=0)
    # Memory of one worker process beside what it shares; None = no limit.
    worker_memory_gib: float | None = Field(default=None, gt=0)
    # Which architecture of a stage the next one builds on: proxy = the best reward, fulltrain:20 = the best of
    # the 20 best rewards after full training (thesis 7.4.1).
    select: str = Field(default="proxy", pattern=r"^(proxy|fulltrain:[1-9][0-9]{0,3})$")
    # A candidate that costs more is rejected before it is trained: {flops: 2.5G, params: 3M, latency_ms: 20}.
    limits: CostLimits = CostLimits()
    # Rewards minus weight * max(0, log(cost / target)): {cost: flops, weight: 0.2, target: 2G}.
    cost_target: CostTarget | None = None
    # Folders of runs that the controller learns from before its first proposal.
    warm_start: tuple[Path, ...] = ()
    top: int = Field(default=10, ge=1, le=MOST_AT_ONCE)
    ray_address: str | None = None
    dashboard: bool = True
    # Of a Ray that the search starts itself. Whoever reaches the dashboard can run code: 0.0.0.0 is for trusted
    # networks, and only with Ray's token.
    dashboard_host: str = "127.0.0.1"

    @field_validator("budget", mode="before")
    @classmethod
    def _budget_is_count_or_time(cls, value: object) -> str:
        text = str(value)
        if not BUDGET.fullmatch(text) or float(text.rstrip("smhd")) <= 0:
            raise ValueError("a budget is a number of candidates (200) or a time (90s, 30m, 4h, 2d)")
        return text

    @property
    def candidates(self) -> int | None:
        """The budget in trained candidates; None when it is a time."""
        return int(self.budget) if self.budget.isdigit() else None

    @property
    def seconds(self) -> float | None:
        """The budget in seconds of wall time; None when it counts candidates."""
        return None if self.budget.isdigit() else float(self.budget[:-1]) * SECONDS[self.budget[-1]]

    def check_costs(self, proxy: str, where: str) -> None:
        """Limits and target must be of costs that the proxy task knows.

        Raises:
            InputError: they are not.
        """
        asked = {*self.limits.amounts, *([self.cost_target.cost] if self.cost_target else [])}
        known = load_component("proxy", proxy).costs
        if not asked <= known:
            raise InputError(
                f"limits and targets must be of costs that the proxy task {proxy} knows "
                f"({', '.join(sorted(known)) or 'it knows none'})",
                value=", ".join(sorted(asked - known)),
                where=where,
                repair="Search without --max-flops and the like (recipe keys search.limits and search.cost_target).",
            )
