"""A task's results as the journal can hold them: finite plain numbers, and why a result is none."""

from __future__ import annotations

import math
from collections.abc import Mapping

from controllers.base import Result
from controllers.costs import CostTarget


def defect(result: Result, target: CostTarget | None = None) -> str | None:
    """Why a result is a failure; None when it is not one. With a cost target its cost must be known.

    Whatever a task measured must be finite: where one of its numbers is not, the others are not to be trusted.
    """
    if result.status == "failed":
        return result.reason or "no reason given"
    if result.status == "rejected":
        return None
    if target is not None and number(result.cost.get(target.cost)) is None:
        return f"a cost target needs {target.cost}, but got {result.cost.get(target.cost)}"
    completed = result.status == "completed"
    needed = result.reward if completed else result.halfway
    if number(needed) is None:
        return f"the {'reward' if completed else 'half-way reward'} must be a finite number, but got {needed}"
    measured = {"half-way reward": result.halfway}
    measured |= {f"metric {name}": value for name, value in result.metrics.items()}
    measured |= {f"cost {name}": value for name, value in result.cost.items()}
    for name, value in measured.items():
        if value is not None and number(value) is None:
            return f"the {name} must be a finite number, but got {value}"
    return None


def finite_values(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """JSON has no NaN: what is not finite becomes null."""
    return {name: number(value) for name, value in values.items()}


def number(value: float | None) -> float | None:
    """A plain number (a task may give numpy's), or None for what JSON cannot hold."""
    return float(value) if value is not None and math.isfinite(value) else None
