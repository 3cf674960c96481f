"""The contract of an executor: what carries out a search, in this process or on Ray."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from controllers.service.answers import RunStatus
from controllers.service.journal import Event
from nasperc.search.progress import SearchProgress


class Executor(ABC):
    """Runs the slots of one search. A context manager: leaving it ends every worker and frees the journal."""

    @abstractmethod
    def start(self) -> None:
        """Open the controller service and start the slots.

        Raises:
            InputError: the run has another writer, or its journal does not fit the recipe.
        """

    @abstractmethod
    def advance(self) -> bool:
        """Let the search go on for a moment (one candidate, or half a second); False when it has ended."""

    @abstractmethod
    def events_since(self, index: int) -> list[Event]:
        """Journal events from number ``index`` on."""

    @abstractmethod
    def status(self) -> RunStatus:
        """How the run stands."""

    @abstractmethod
    def select(self, stage: str, hash: str, scores: Mapping[str, float], seconds: float) -> None:
        """See :meth:`controllers.service.service.ControllerService.select`."""

    @abstractmethod
    def close(self) -> None:
        """End the workers and free the journal; the run can be resumed. Again without effect.

        Raises:
            InputError: the journal is not where it was written; it was rescued.
        """

    def notes(self) -> list[str]:
        """Lines to print once the executor has started, e.g. the dashboard's address."""
        return []

    def publish(self, progress: SearchProgress) -> None:  # noqa: B027 (nothing to do by default)
        """Offer the numbers of the live display to a monitoring system."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
