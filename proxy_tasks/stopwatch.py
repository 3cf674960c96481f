"""Where the time of a candidate goes."""

from __future__ import annotations

import time
from collections import defaultdict

import torch


class Stopwatch:
    """Seconds by phase (``group`` or ``group: detail``): :meth:`lap` books the time since the one before.

    Args:
        device: whose work is timed.
        synchronize: wait for the device at each lap. Without it the phases of a CUDA device are those in
            which the host waited, which is right in sum only; with it training is slowed down.
    """

    def __init__(self, device: torch.device, *, synchronize: bool = False) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._wait = synchronize and device.type == "cuda"
        self._device = device
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Book the time since the last lap to ``phase``."""
        if self._wait:
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self.seconds[phase] += now - self._last
        self._last = now

    def summary(self) -> dict[str, float]:
        """Seconds by group, a group being what stands before the colon of a phase's name."""
        groups: dict[str, float] = defaultdict(float)
        for phase, seconds in self.seconds.items():
            groups[phase.partition(":")[0]] += seconds
        return dict(groups)
