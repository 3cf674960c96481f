"""What a network may cost (limits), and what it should cost (a target that rewards are measured against).

Costs are a mapping by name: ``flops`` (multiply-accumulates) and ``params`` of the searched part, as counted for
thesis Table 7.2, and ``latency_ms`` of the whole network on one input. The thesis names runtime as the extension of
its objective (6.2).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

CostName = Literal["flops", "params", "latency_ms"]
COSTS: tuple[CostName, ...] = ("flops", "params", "latency_ms")
_MULTIPLES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def parse_amount(value: object) -> object:
    """``2.5G``, ``300M``, ``2.5e9`` -> a number; anything that is no text stays as it is."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([kMGT]?)\s*", value)
    try:
        return float(match[1]) * _MULTIPLES[match[2]] if match else value
    except ValueError:
        return value


Amount = Annotated[float, BeforeValidator(parse_amount), Field(gt=0, allow_inf_nan=False)]


class CostLimits(BaseModel):
    """The most that a candidate may cost; one that costs more is rejected before it is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flops: Amount | None = None
    params: Amount | None = None
    latency_ms: Amount | None = None

    @property
    def amounts(self) -> dict[CostName, float]:
        """The limits that are set."""
        return {name: amount for name in COSTS if (amount := getattr(self, name)) is not None}

    def exceeded(self, cost: Mapping[str, float]) -> str | None:
        """Which limits ``cost`` exceeds, in words; None when it keeps them. What it does not name keeps them."""
        over = [
            f"{name} {cost[name]:.4g} exceed the limit of {amount:.4g}"
            for name, amount in self.amounts.items()
            if name in cost and cost[name] > amount
        ]
        return ", ".join(over) or None


class CostTarget(BaseModel):
    """Cost-aware reward: reward - weight * max(0, log(cost / target)).

    Additive, since a factor would turn negative rewards upside down; free below the target.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cost: CostName = "flops"
    weight: float = Field(gt=0, allow_inf_nan=False)
    target: Amount

    @model_validator(mode="before")
    @classmethod
    def _is_whole(cls, values: Any) -> Any:
        if isinstance(values, dict) and not {"weight", "target"} <= values.keys():
            raise ValueError("a cost target needs both --cost-weight and --cost-target")
        return values

    def penalty(self, cost: Mapping[str, float | None]) -> float:
        """What is taken off the reward.

        Raises:
            KeyError: the cost is not known.
        """
        amount = cost.get(self.cost)
        if amount is None:
            raise KeyError(self.cost)
        return self.weight * math.log(max(amount, self.target) / self.target)


def objective(event: Mapping[str, Any]) -> float:
    """What the controller and every ranking see of a completed candidate, or half-way of a stopped one.

    An event's ``reward`` and ``halfway`` are as the proxy task measured them; where the run has a cost target,
    ``penalty`` is what its cost takes off.
    """
    reward: float = event["reward"] if event["event"] == "completion" else event["halfway"]
    return reward - event.get("penalty", 0.0)
