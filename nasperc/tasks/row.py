"""What is to be trained in full, and what came out of it: one row of the tables, whatever the task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nasperc.assembly.detector import Decoder
from nasperc.training.loop import OnStep

CHECKPOINT, METRICS = "checkpoint.pt", "metrics.json"

Activity = Callable[[str, float, str], None]
# Bring a checkpoint of a described network to the last iteration of its phase: (description, checkpoint, fingerprint of
# the data, on_step).
Workers = Callable[[dict[str, Any], Path, str, OnStep | None], None]


@dataclass(frozen=True)
class Job:
    """What is to be trained, and the name of its folder. A baseline has no rank, hash and reward.

    ``part``: what the network is made with; None: the per-frame network alone.
    """

    name: str
    folder: str
    part: Decoder | None
    rank: int | None = None
    hash: str | None = None
    reward: float | None = None

    @property
    def widths(self) -> dict[str, int]:
        """Channels by part."""
        return {} if self.part is None else dict(self.part.widths)


@dataclass(frozen=True)
class Row:
    """The outcome. ``metrics``: numbers by name, and by class, by split (val, test), as the task measures them.

    ``flops`` (None: not counted) as in thesis Table 7.2, at ``cost_size`` (H, W); ``params``, as the task counts them.
    ``seconds`` of training. ``latency``: the fields of :class:`nasperc.evaluation.latency.Latency` at ``cost_size``,
    of a row that is done. ``pixels_known``: False: its training began before the bytes of images were looked at.
    """

    name: str
    status: Literal["done", "failed"]
    rank: int | None
    hash: str | None
    widths: dict[str, int]
    depth: int | None
    reward: float | None
    flops: int | None
    params: int
    cost_size: tuple[int, int]
    seconds: float = 0.0
    iterations: int = 0
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    latency: dict[str, Any] | None = None
    reason: str = ""
    pixels_known: bool = True

    @property
    def is_entry(self) -> bool:
        """Whether a search found it."""
        return self.rank is not None or self.hash is not None

    def score(self, split: str, metric: str) -> float | None:
        """One metric on a split; None where it was not measured, or is undefined."""
        value = self.metrics.get(split, {}).get(metric)
        return None if value is None else float(value)
