"""Noticing that a training diverges, at the step where it does, without waiting for the device at every step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class DivergedLossError(ArithmeticError):
    """A quantity of a training is no longer finite, or out of all proportion."""


class DivergenceGuard:
    """Keeps, on the device, the first step at which a quantity was not finite or above its limit.

    Noting takes a handful of tiny kernels and waits for nothing; reading waits for the device.

    Args:
        limits: by quantity, the absolute value that it must not exceed.
        device: of the values.
    """

    def __init__(self, limits: Mapping[str, float], device: torch.device) -> None:
        self._names = list(limits)
        self._limits = torch.tensor(list(limits.values()), device=device)
        # 0: never.
        self._steps = torch.zeros(len(limits), device=device)
        self._values = torch.zeros(len(limits), device=device)

    @torch.no_grad()
    def note(self, step: int, *values: Tensor) -> None:
        """Take the scalars of ``step`` (from 1 on), in the order of the limits."""
        found = torch.stack([value.float() for value in values])
        # Not "above": NaN compares as false.
        new = ~(found.abs() <= self._limits) & (self._steps == 0)
        self._steps = torch.where(new, float(step), self._steps)
        self._values = torch.where(new, found, self._values)

    def check(self) -> None:
        """Read what was noted.

        Raises:
            DivergedLossError: it names the first bad step and the quantities that were bad there.
        """
        steps = [int(step) for step in self._steps.tolist()]
        first = min((step for step in steps if step), default=0)
        if first == 0:
            return
        values = zip(self._names, steps, self._values.tolist(), strict=True)
        bad = [f"{name} {value:.4g}" for name, step, value in values if step == first]
        raise DivergedLossError(f"diverged at step {first}: {', '.join(bad)}")
