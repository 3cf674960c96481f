"""One slot against a service that is scripted: what it tells of a candidate that fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from controllers.base import Candidate, Result
from controllers.service.answers import Answer, Finished
from nasperc.errors import InputError
from nasperc.recipe.root import Recipe
from nasperc.search.components import build_proxy, build_space
from nasperc.search.run_folder import RunFolder
from nasperc.search.worker import SlotWorker

MakeWorker = Callable[..., SlotWorker]


class OneCandidate:
    """Hands out one candidate and keeps what it is told."""

    def __init__(self, candidate: Candidate) -> None:
        self._candidate: Candidate | None = candidate
        self.told: list[tuple[int, int, Result]] = []

    def ask(self, slot: int) -> Answer:
        candidate, self._candidate = self._candidate, None
        return candidate or Finished("budget")

    def tell(self, slot: int, id: int, result: Result) -> None:
        self.told.append((slot, id, result))

    def report_setup_failure(self, slot: int, error: str) -> None:
        raise AssertionError(error)


@pytest.fixture
def make_worker(tmp_path: Path, toy_recipe: Callable[..., Recipe]) -> MakeWorker:
    def make(search: dict[str, object] | None = None, **proxy: object) -> SlotWorker:
        recipe = toy_recipe(search, **proxy)
        build_proxy(recipe, build_space(recipe), RunFolder(tmp_path / "run").prepared).prepare()
        worker = SlotWorker(recipe.to_dict(), tmp_path / "run", 5, lambda candidate, result: None)
        worker.setup()
        return worker

    return make


@pytest.fixture
def candidate(toy_recipe: Callable[..., Recipe]) -> Candidate:
    space = build_space(toy_recipe())
    architecture = space.architecture({"body": (0, 1, 2, 3, 0), "head": "original"})
    return Candidate(3, "body", architecture, {"body": 8}, space.hash(architecture), 1)


def test_an_exception_is_a_failure_of_the_candidate(make_worker: MakeWorker, candidate: Candidate) -> None:
    service = OneCandidate(candidate)
    worker = make_worker(raises=[3])
    assert worker.step(service)
    ((slot, id, result),) = service.told
    assert (slot, id, result.status, result.transient) == (5, 3, "failed", False)
    assert result.reason is not None
    assert result.reason.startswith("ZeroDivisionError: toy failure (toy_plugin.py:")
    assert result.seconds > 0
    assert not worker.step(service)


def test_memory_that_is_refused_may_be_the_machine(make_worker: MakeWorker, candidate: Candidate) -> None:
    result = make_worker({"worker_memory_gib": 3.0}, eats_memory=[3]).evaluate(candidate)
    assert (result.status, result.transient) == ("failed", True)
    assert make_worker({"worker_memory_gib": None}, eats_memory=[3]).evaluate(candidate).status == "completed"


def test_a_device_that_is_broken_ends_the_worker_after_it_has_told(
    make_worker: MakeWorker, candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What CUDA does after an error of a kernel: every later call fails until the process ends."""

    def broken() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    service = OneCandidate(candidate)
    with pytest.raises(InputError, match="--resume"):
        make_worker(raises=[3]).step(service)
    assert [result.status for _, _, result in service.told] == ["failed"]
