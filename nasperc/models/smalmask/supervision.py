"""When the predictors of SmalMask are aligned to ground truth in training (thesis 3.3.1, Table 3.3)."""

from __future__ import annotations

import torch

from nasperc.models.smalmask.recipe import BoxSupervision

# 18,000 of 90,000 iterations.
_FIXED = 0.2


def by_ground_truth(schedule: BoxSupervision, progress: float) -> bool:
    """Whether the boxes of this iteration are the annotated ones.

    Args:
        schedule: of the recipe.
        progress: which share of all iterations is done. ``random``: its rest is the probability, one draw an iteration.
    """
    if schedule == "random":
        # Of the seed that the training set for this iteration, whatever was drawn since: the same in every process of
        # it, and after an interruption.
        generator = torch.Generator().manual_seed(torch.initial_seed())
        return torch.rand((), generator=generator).item() >= progress
    return schedule == "ground_truth" or (schedule == "fix" and progress < _FIXED)
