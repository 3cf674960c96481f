"""Learning-rate schedules: warm-up, then drops to a tenth; and "poly"."""

from __future__ import annotations

from nasperc.training.recipe import TrainingRecipe

DROP = 0.1


def milestones(recipe: TrainingRecipe) -> list[int]:
    """Iterations at which the learning rate drops, sorted; entries below 1 are fractions of the schedule."""
    return sorted(round(step * recipe.iterations) if step < 1 else round(step) for step in recipe.steps)


def learning_rate_factor(recipe: TrainingRecipe, step: int) -> float:
    """What the learning rate is multiplied by in iteration ``step``, counted from 0.

    Warm-up: ``warmup_factor`` throughout (``constant``, thesis chapters 3 and 4), or linearly from it to 1
    (``linear``, chapters 5 and 7).
    """
    factor = DROP ** sum(step >= milestone for milestone in milestones(recipe))
    if step < recipe.warmup_iterations:
        progress = step / recipe.warmup_iterations if recipe.warmup_kind == "linear" else 0.0
        factor *= recipe.warmup_factor + (1 - recipe.warmup_factor) * progress
    return factor


def poly_factor(iterations: int, power: float, step: int) -> float:
    """The "poly" schedule of thesis A.1: (1 - step / iterations) ** power; ``power`` 0 is a constant rate."""
    return float((1 - step / iterations) ** power)
