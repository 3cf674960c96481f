"""When a candidate that looks bad half-way is stopped (thesis 7.4.1 stops half-way; the rule is ours)."""

from __future__ import annotations

import math
from collections.abc import Sequence


def early_stop_threshold(
    halfway: Sequence[float], completed: int, k: float | None, minimum: int
) -> float | None:
    """The half-way reward below which a candidate is stopped: mean - k * std, right for rewards of any sign.

    Args:
        halfway: half-way rewards of the stage so far, of stopped candidates too: without them the mean would
            climb with every stop.
        completed: fully trained candidates of the stage.
        k: how many standard deviations below the mean; None = never stop.
        minimum: fully trained candidates that are needed first.
    """
    if k is None or completed < minimum or len(halfway) < 2:
        return None
    mean = math.fsum(halfway) / len(halfway)
    variance = math.fsum((reward - mean) ** 2 for reward in halfway) / (len(halfway) - 1)
    return mean - k * math.sqrt(variance)
