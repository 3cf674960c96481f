"""One slot in this process: for tests, debugging, and machines without Ray (which is never imported here)."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from controllers.base import Candidate, Result
from controllers.service.answers import RunStatus
from controllers.service.journal import Event
from controllers.service.service import ControllerService
from nasperc.recipe.root import Recipe
from nasperc.search.components import open_service
from nasperc.search.executor import Executor
from nasperc.search.worker import CandidateHung, SlotWorker
from proxy_tasks.base import Findings
from proxy_tasks.failure import describe

_SLOT = 0
_HUNG_SIGNAL = signal.SIGUSR1


class LocalExecutor(Executor):
    """Asks, trains and tells in the calling thread, by the same :class:`SlotWorker` as under Ray."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        session: str,
        findings: Findings | None = None,
        begin: bool = False,
    ) -> None:
        self._recipe, self._folder, self._session = recipe, folder, session
        self._findings, self._begin = findings or Findings(), begin
        self._service: ControllerService | None = None
        self._worker = SlotWorker(recipe.to_dict(), folder, _SLOT, self._end_hung, self._findings.known)
        self._ready = False
        # Only the main thread can be interrupted.
        self._interruptible = threading.current_thread() is threading.main_thread()
        self._handler_before = signal.getsignal(_HUNG_SIGNAL)

    def start(self) -> None:
        self._service = open_service(self._recipe, self._folder, self._session, self._findings, self._begin)
        if self._interruptible:
            signal.signal(_HUNG_SIGNAL, self._raise_timed_out)

    def advance(self) -> bool:
        service = self._opened()
        if not self._ready:
            try:
                self._worker.setup()
            except Exception as error:
                service.report_setup_failure(_SLOT, describe(error))
                return not service.status().finished
            self._ready = True
        return self._worker.step(service)

    def events_since(self, index: int) -> list[Event]:
        return self._opened().events_since(index)

    def status(self) -> RunStatus:
        return self._opened().status()

    def select(self, stage: str, hash: str, scores: Mapping[str, float], seconds: float) -> None:
        self._opened().select(stage, hash, scores, seconds)

    def close(self) -> None:
        if self._service is not None:
            try:
                self._service.close()
            finally:
                if self._interruptible:
                    signal.signal(_HUNG_SIGNAL, self._handler_before)

    def _opened(self) -> ControllerService:
        assert self._service is not None, "start() comes first"
        return self._service

    def _end_hung(self, candidate: Candidate, result: Result) -> None:
        # This process is the search itself and must not be ended: its main thread is interrupted instead.
        main = threading.main_thread().ident
        if self._interruptible and main is not None:
            signal.pthread_kill(main, _HUNG_SIGNAL)

    def _raise_timed_out(self, number: int, frame: FrameType | None) -> None:
        if self._worker.evaluating:
            raise CandidateHung("no result within the time limit: interrupted by the watchdog")
