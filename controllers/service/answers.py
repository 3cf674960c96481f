"""What the controller service answers: a candidate, wait, finished, and the status of the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from controllers.base import Candidate
from search_spaces.base import Architecture


@dataclass(frozen=True)
class Wait:
    """Nothing to do now: the stage is finishing (candidates of other slots are pending, or its best is being
    selected). Sleep, then ask again."""

    reason: str = "the stage is finishing"


@dataclass(frozen=True)
class Finished:
    """The run has ended, or is paused. ``error``: why it ended without a result; None when it went well."""

    reason: Literal["budget", "error", "paused"]
    error: str | None = None


Answer = Candidate | Wait | Finished


@dataclass(frozen=True)
class Best:
    """The best completed candidate of a stage."""

    id: int
    stage: str
    architecture: Architecture
    hash: str
    reward: float


@dataclass(frozen=True)
class RunStatus:
    """A view of the run for the live display.

    Counts are of the whole run. ``best``: of the current stage (of the last one with a completed candidate
    otherwise). ``candidates_left``, ``seconds_left``: of the whole run's budget, None where it has no such
    limit; ``elapsed`` is in seconds and leaves out the time between an interruption and its resumption.
    ``selecting``: the stage is over and waits until its best is named (``ControllerService.select``).
    """

    stage: str | None
    stages: tuple[str, ...]
    completed: int
    stopped: int
    failed: int
    rejected: int
    replayed: int
    redrawn: int
    pending: tuple[int, ...]
    best: Best | None
    candidates_left: int | None
    seconds_left: float | None
    elapsed: float
    finished: bool
    error: str | None
    events: int
    selecting: bool = False
