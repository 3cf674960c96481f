"""The contract of a proxy task: a candidate in, a result out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel

from controllers.base import Candidate, Result
from controllers.costs import CostName
from nasperc.assembly.recipe import ModelRecipe
from nasperc.data.recipe import DataRecipe
from nasperc.evaluation.latency import Latency
from search_spaces.base import Architecture, Part, SearchSpace, Stage

if TYPE_CHECKING:
    from proxy_tasks.cache_check import CacheCheck

# Called with (phase, fraction in [0, 1]): what a progress bar or a watchdog needs.
Progress = Callable[[str, float], None]


def no_progress(phase: str, fraction: float) -> None:
    """The default: nobody is watching."""


@dataclass(frozen=True)
class TaskContext:
    """What a proxy task stands on.

    ``folder``: where prepared files (synthetic data, fine-tuned weights, caches) are kept, shared by runs;
    each file's name carries the fingerprint of what is in it. ``seed``: the run's. ``sections``: of the recipe, those
    that the task's class asks for, by name. ``check``: a driver's, of the caches that it finds; None for workers, who
    take its word. ``began_with``: of a resumed run, the fingerprint of the proxy task that it began with. ``known``: in
    a worker, what the driver's task says in :meth:`ProxyTask.known`.
    """

    space: SearchSpace
    model: ModelRecipe
    data: DataRecipe
    folder: Path
    seed: int
    sections: Mapping[str, BaseModel] = field(default_factory=dict)
    check: CacheCheck | None = None
    began_with: str | None = None
    known: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Findings:
    """What the driver found out about the proxy task, and the other processes of its run take its word for.

    ``fingerprint``, ``earlier``, ``known``: of the task, see there; None: they find out for themselves.
    """

    fingerprint: str | None = None
    earlier: tuple[str, ...] = ()
    known: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, task: ProxyTask) -> Findings:
        """Those of a prepared task."""
        return cls(task.fingerprint(), task.earlier_fingerprints(), task.known())


class ProxyTask(ABC):
    """Measures candidates. ``Recipe`` is the pydantic model of its recipe section.

    Workers construct it with the same arguments as the driver and call :meth:`prepare` first; on a prepared
    folder that only opens the files. ``evaluate`` is a function of (architecture, widths, seed, threshold,
    overrides) alone.
    """

    Recipe: ClassVar[type[BaseModel]]
    # Sections of the recipe that it needs beside ``space``, ``model``, ``data`` and its own.
    sections: ClassVar[tuple[str, ...]] = ()
    # What it can tell of a candidate's cost, and limits may be set on.
    costs: ClassVar[frozenset[CostName]] = frozenset()
    # Name of the registered task that trains in full what this measured; None: nothing does.
    fulltrain: ClassVar[str | None] = None
    # What a finished search says to type next.
    next_command: ClassVar[str] = "nasperc fulltrain --arch {top10}"

    @abstractmethod
    def __init__(self, recipe: BaseModel, context: TaskContext) -> None: ...

    @abstractmethod
    def prepare(self, on_progress: Progress = no_progress) -> None:
        """Build what is missing, open what is there.

        Raises:
            InputError: data, weights or cache cannot be used.
        """

    @classmethod
    def prepares_stages(cls, recipe: BaseModel) -> bool:
        """Whether :meth:`prepare_stage` has something to do; the run then stops between two stages for it."""
        return False

    def prepare_stage(  # noqa: B027 (nothing to do by default)
        self, stage: Stage, fixed: Mapping[str, Part], on_progress: Progress = no_progress
    ) -> None:
        """Build what the candidates of one stage need beside what :meth:`prepare` built, before its first one.

        Args:
            stage: that begins.
            fixed: its fixed parts, those of the best architecture so far filled in.
            on_progress: as for :meth:`prepare`.

        Raises:
            InputError: as for :meth:`prepare`.
        """

    @abstractmethod
    def evaluate(self, candidate: Candidate, on_progress: Progress = no_progress) -> Result:
        """Train and measure one candidate; a candidate that raises or gives NaN comes back as ``failed``."""

    def cost(self, candidate: Candidate) -> Mapping[str, float]:
        """Of :attr:`costs` what can be counted without training: ``flops``, ``params``. Asked for where the recipe
        limits them; the result of :meth:`evaluate` has them too."""
        return {}

    def latency(self, architecture: Architecture, widths: Mapping[str, int]) -> Latency | None:
        """Of the whole network with an architecture on one input, where the recipe limits it or aims at it, and for
        the ranking at a search's end; None: it cannot say."""
        return None

    def latencies(
        self, those: Sequence[tuple[Architecture, Mapping[str, int]]], on_progress: Progress = no_progress
    ) -> Sequence[Latency | None]:
        """As :meth:`latency`, of architectures and widths that stand in one ranking: where the task can, their runs
        take turns, so that a slow moment of the machine meets all."""
        return [self.latency(architecture, widths) for architecture, widths in those]

    def notes(self) -> list[str]:
        """What the user should be told once of the data that :meth:`prepare` opened, a line each."""
        return []

    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all that rewards depend on: two runs with the same one may share rewards."""

    def earlier_fingerprints(self) -> tuple[str, ...]:
        """What earlier versions called the same task, as far as they could tell: their runs may teach a controller."""
        return ()

    def known(self) -> dict[str, Any]:
        """Plain values that workers take the driver's word for, after ``prepare``; they find them in their context."""
        return {}

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """For ``top10.json``, after ``prepare``: ``data`` (fingerprint, classes, normalisation) and ``weights``."""
