"""One slot of a search: asks for a candidate, trains it, tells what became of it."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch

from controllers.answers import Answer, Finished, Wait
from controllers.base import Candidate, Result
from nasperc.search.components import build_proxy, build_space
from nasperc.search.cost_gate import CostGate
from nasperc.search.recipe import parse_recipe
from nasperc.search.run_folder import RunFolder
from proxy_tasks.base import ProxyTask

WAIT_S = 0.2


class Service(Protocol):
    """The part of :class:`controllers.service.ControllerService` that a worker calls."""

    def ask(self, slot: int) -> Answer: ...

    def tell(self, slot: int, id: int, result: Result) -> None: ...

    def report_setup_failure(self, slot: int, error: str) -> None: ...


class CandidateTimedOut(Exception):
    """A candidate reached its time limit."""


class SlotWorker:
    """Trains candidates one after another; what is heavy (imports, open cache, CUDA context) stays.

    Args:
        recipe: the resolved recipe as plain values.
        folder: of the run.
        slot: number of this worker.
        end_hung: called in the watchdog's thread with the candidate and its failure, when a candidate has
            passed its limit without calling its progress function.
    """

    def __init__(
        self,
        recipe: Mapping[str, Any],
        folder: Path,
        slot: int,
        end_hung: Callable[[Candidate, Result], None],
    ) -> None:
        self.recipe = parse_recipe(recipe, where=str(folder))
        self.folder, self.slot = RunFolder(folder), slot
        self._limit = self.recipe.search.candidate_time_limit_s
        self._end_hung = end_hung
        self._proxy: ProxyTask | None = None
        self._gate: CostGate | None = None
        self.evaluating = False

    def setup(self) -> None:
        """Open what the driver prepared.

        Raises:
            InputError: data, weights or cache cannot be used.
        """
        # Workers share the cores: with more threads each, two of them are slower than one.
        torch.set_num_threads(1)
        proxy = build_proxy(self.recipe, build_space(self.recipe), self.folder.prepared)
        proxy.prepare()
        self._proxy = proxy
        self._gate = CostGate(proxy, self.recipe.search.limits, self.recipe.search.cost_target)

    def step(self, service: Service) -> bool:
        """Ask, train one candidate, tell; False when the run has ended."""
        answer = service.ask(self.slot)
        if isinstance(answer, Finished):
            return False
        if isinstance(answer, Wait):
            time.sleep(WAIT_S)
            return True
        service.tell(self.slot, answer.id, self.evaluate(answer))
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
            self.evaluating = True
            result = self._gate.reject(candidate) or self._proxy.evaluate(candidate, on_progress)
        except Exception as error:
            result = Result("failed", reason=describe(error))
        finally:
            self.evaluating = False
            watchdog.cancel()
        result = replace(result, cost={**result.cost, **self._gate.cost})
        return result if result.seconds > 0 else replace(result, seconds=time.monotonic() - start)

    def _timed_out(self) -> Result:
        return Result(
            "failed", reason=f"no result within {self._limit:g} s: ended by the watchdog", seconds=self._limit
        )


def describe(error: BaseException) -> str:
    """An exception in one line, with the place that raised it."""
    frames = traceback.extract_tb(error.__traceback__ or sys.exc_info()[2])
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}{place}"
