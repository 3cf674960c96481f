"""The controller service as it lives in a process of its own: what an actor adds to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from controllers.base import Result
from controllers.service.answers import Answer, RunStatus
from controllers.service.journal import Event
from controllers.service.service import ControllerService
from nasperc.errors import InputError
from nasperc.search.components import open_service
from proxy_tasks.base import Findings


class ServiceActor:
    """The controller service in its own process; Ray restarts it, and it rebuilds itself from the journal."""

    def __init__(
        self,
        recipe: Mapping[str, Any],
        folder: str,
        session: str,
        findings: Findings | None = None,
        begin: bool = False,
    ) -> None:
        self._ready: set[int] = set()
        self._broken: InputError | OSError | None = None
        self._opened: ControllerService | None = None
        try:
            self._opened = open_service(recipe, Path(folder), session, findings, begin)
        except (InputError, OSError) as error:
            # Raised by every call: an error in the constructor would only reach the driver as text. A service that
            # was restarted may meet one, too: a full disk, or another driver that has taken the run over.
            self._broken = error

    @property
    def _service(self) -> ControllerService:
        if self._opened is None:
            assert self._broken is not None
            raise self._broken
        return self._opened

    def opened(self) -> int:
        """Number of events; raises what the constructor met."""
        return self._service.status().events

    def ask(self, slot: int) -> Answer:
        self._ready.add(slot)
        with self._noting_failure():
            return self._service.ask(slot)

    def tell(self, slot: int, id: int, result: Result) -> None:
        # It may have asked a service that was restarted since, and die of what it tells (a hung candidate).
        self._ready.add(slot)
        with self._noting_failure():
            self._service.tell(slot, id, result)

    def select(self, stage: str, hash: str, scores: Mapping[str, float], seconds: float) -> None:
        with self._noting_failure():
            self._service.select(stage, hash, scores, seconds)

    def report_setup_failure(self, slot: int, error: str) -> None:
        self._service.report_setup_failure(slot, error)
        # It will die of this error; slot_died shall not count it a second time.
        self._ready.add(slot)

    def slot_died(self, slot: int, when: float) -> None:
        """A worker's process is gone; one that dies before it ever asks could not be set up."""
        with self._noting_failure():
            # Who was ready below a service that was restarted since is known by what it was training.
            ready = self._service.slot_died(slot, when) or slot in self._ready
            self._ready.discard(slot)
            if not ready:
                self._service.report_setup_failure(slot, "the worker process died before it was ready")

    def events_since(self, index: int) -> list[Event]:
        return self._service.events_since(index)

    def status(self) -> RunStatus:
        """How the run stands; raises what made the journal unusable (a full disk), since slots would only die of it
        and come back for ever."""
        if self._broken is not None:
            raise self._broken
        return self._service.status()

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        try:
            yield
        except (InputError, OSError) as error:
            self._broken = error
            raise

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
