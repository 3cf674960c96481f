"""What is known of the stage that a run is in; :mod:`controllers.service.state` folds the events into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controllers.service.answers import Best
from controllers.service.rejections import Rejections


@dataclass
class StageState:
    """One stage so far.

    ``known``: completed candidates by canonical hash; ``failed``: hashes that are not drawn
    again, ``suspect``: those that failed once for a reason that may be the machine's; ``selected``: ``best`` was
    named from outside; ``latency_ms``: measured, by hash; ``externals``: those of a warm start, by run and id;
    ``warm``: all of them were observed.
    """

    name: str
    known: dict[str, Best] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    suspect: set[str] = field(default_factory=set)
    halfway: list[float] = field(default_factory=list)
    best: Best | None = None
    selected: bool = False
    replays_in_a_row: int = 0
    rejections: Rejections = field(default_factory=Rejections)
    latency_ms: dict[str, float] = field(default_factory=dict)
    externals: set[tuple[str, int]] = field(default_factory=set)
    warm: bool = False

    def note_cost(self, hash: str, cost: Mapping[str, float | None]) -> None:
        """Remember what was measured of an architecture, and is not measured again."""
        if (latency_ms := cost.get("latency_ms")) is not None:
            self.latency_ms[hash] = latency_ms
