"""One slot of a search: asks for a candidate, trains it, tells what became of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch

from controllers.base import Candidate, Result
from controllers.service.answers import Answer, Finished, Wait
from nasperc.errors import InputError
from nasperc.recipe.reading import parse_recipe
from nasperc.search.components import build_proxy, build_space
from nasperc.search.cost_gate import CostGate
from nasperc.search.memory_limit import memory_limit, room_below
from nasperc.search.run_folder import RunFolder
from proxy_tasks.base import ProxyTask
from proxy_tasks.failure import TransientError, device_works, failed, release_memory

WAIT_S = 0.2


class Service(Protocol):
    """The part of :class:`controllers.service.service.ControllerService` that a worker calls."""

    def ask(self, slot: int) -> Answer: ...

    def tell(self, slot: int, id: int, result: Result) -> None: ...

    def report_setup_failure(self, slot: int, error: str) -> None: ...


class CandidateTimedOut(Exception):
    """A candidate reached its time limit at work: it is too slow, and would be so again."""


class CandidateHung(TransientError):
    """A candidate was past its time limit and gave no sign of life."""


class SlotWorker:
    """Trains candidates one after another; what is heavy (imports, open cache, CUDA context) stays.

    Args:
        recipe: the resolved recipe as plain values.
        folder: of the run.
        slot: number of this worker.
        end_hung: called in the watchdog's thread with the candidate and its failure, when a candidate has
            passed its limit without calling its progress function.
        known: what the driver found out about the proxy task, so that no worker reads data for it; None: this process
            finds out for itself.
    """

    def __init__(
        self,
        recipe: Mapping[str, Any],
        folder: Path,
        slot: int,
        end_hung: Callable[[Candidate, Result], None],
        known: Mapping[str, Any] | None = None,
    ) -> None:
        self.recipe = parse_recipe(recipe, where=str(folder))
        self.folder, self.slot = RunFolder(folder), slot
        self._limit = self.recipe.search.candidate_time_limit_s
        self._end_hung, self._known = end_hung, known
        self._proxy: ProxyTask | None = None
        self._gate: CostGate | None = None
        self.evaluating = False

    def setup(self) -> None:
        """Open what the driver prepared.

        Raises:
            InputError: data, weights or cache cannot be used; the memory limit leaves no room for a candidate.
        """
        # Workers share the cores: with more threads each, two of them are slower than one.
        torch.set_num_threads(1)
        space = build_space(self.recipe)
        proxy = build_proxy(self.recipe, space, self.folder.prepared, known=self._known)
        proxy.prepare()
        memory_gib = self.recipe.search.worker_memory_gib
        if memory_gib is not None and room_below(memory_gib) <= 0:
            raise InputError(
                "the memory limit of a worker must leave room for candidates",
                value=f"{memory_gib:g} GiB, all of it taken by the worker itself",
                where="recipe key search.worker_memory_gib",
                repair="Give more, or leave the key out.",
            )
        self._proxy = proxy
        self._gate = CostGate(proxy, self.recipe.search.limits, self.recipe.search.cost_target)

    def step(self, service: Service) -> bool:
        """Ask, train one candidate, tell; False when the run has ended.

        Raises:
            InputError: the candidate left a device that this process cannot use any more.
        """
        answer = service.ask(self.slot)
        if isinstance(answer, Finished):
            return False
        if isinstance(answer, Wait):
            time.sleep(WAIT_S)
            return True
        result = self.evaluate(answer)
        service.tell(self.slot, answer.id, result)
        if result.status == "failed" and not device_works():
            raise InputError(
                "the device of a worker must go on working",
                value=result.reason,
                where=f"slot {self.slot}",
                repair=f"Resume in a new process: nasperc search --resume {self.folder.path}",
            )
        return True

    def evaluate(self, candidate: Candidate) -> Result:
        """The result of one candidate, or its rejection; whatever it raises becomes a failure."""
        assert self._proxy is not None and self._gate is not None, "setup() comes first"  # noqa: PT018
        start = time.monotonic()

        def on_progress(phase: str, fraction: float) -> None:
            if time.monotonic() - start > self._limit:
                raise CandidateTimedOut(f"no result within {self._limit:g} s (stopped in {phase})")

        # A candidate that never comes back to on_progress is ended from outside, a little after its limit.
        watchdog = threading.Timer(self._limit * 1.05 + 1.0, self._end_hung, (candidate, self._timed_out()))
        watchdog.daemon = True
        watchdog.start()
        try:
            with memory_limit(self.recipe.search.worker_memory_gib):
                self.evaluating = True
                try:
                    result = self._gate.reject(candidate) or self._proxy.evaluate(candidate, on_progress)
                finally:
                    self.evaluating = False
        except Exception as error:
            result = failed(error)
        finally:
            watchdog.cancel()
        result = replace(result, cost={**result.cost, **self._gate.cost})
        if result.transient:
            release_memory()
        return result if result.seconds > 0 else replace(result, seconds=time.monotonic() - start)

    def _timed_out(self) -> Result:
        return Result(
            "failed",
            reason=f"no result within {self._limit:g} s: ended by the watchdog",
            seconds=self._limit,
            transient=True,
        )
