"""Candidates and workers that fail."""

import math
from pathlib import Path

import pytest
from scripted import Bench, candidate, completed, events

from controllers.base import Result
from controllers.service.answers import Finished


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("status", ["completed", "stopped"])
@pytest.mark.parametrize("reward", [math.nan, math.inf, None])
def test_a_reward_that_is_not_finite_is_a_failure(bench: Bench, status: str, reward: float | None) -> None:
    service = bench.open()
    service.ask(0)
    service.tell(0, 0, Result(status, reward=reward, halfway=reward, metrics={"loss": math.nan}))  # type: ignore
    (failure,) = events(service, "failure")
    assert f"must be a finite number, but got {reward}" in failure["reason"]
    assert failure["metrics"] == {"loss": None}
    assert bench.controller.told == [("fail", 0)]
    assert service.status().best is None


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (Result("completed", 0.5, halfway=math.nan), "half-way reward must be a finite number, but got nan"),
        (
            Result("completed", 0.5, metrics={"ap": -math.inf}),
            "metric ap must be a finite number, but got -inf",
        ),
        (
            Result("completed", 0.5, cost={"flops": math.inf}),
            "cost flops must be a finite number, but got inf",
        ),
        (Result("stopped", halfway=0.5, metrics={"ap": math.nan}), "metric ap must be a finite number"),
    ],
)
def test_so_is_any_other_number_that_is_not_finite(bench: Bench, result: Result, reason: str) -> None:
    service = bench.open()
    service.ask(0)
    service.tell(0, 0, result)
    (failure,) = events(service, "failure")
    assert reason in failure["reason"]
    assert bench.controller.told == [("fail", 0)]


def test_what_was_not_measured_is_no_failure(bench: Bench) -> None:
    service = bench.open()
    service.ask(0)
    service.tell(0, 0, Result("completed", 0.5, metrics={"ap": None}))
    (completion,) = events(service, "completion")
    assert completion["metrics"] == {"ap": None}


def test_a_stage_without_a_completed_candidate_ends_the_run(tmp_path: Path) -> None:
    bench = Bench(tmp_path, stages=("body", "head"))
    service = bench.open(candidates=4)
    for _ in range(3):
        service.tell(0, candidate(service.ask(0)).id, Result("failed", reason="RuntimeError: broken"))
    answer = service.ask(0)
    assert isinstance(answer, Finished)
    assert answer.reason == "error"
    assert answer.error is not None
    assert "stage body" in answer.error
    assert "RuntimeError: broken" in answer.error
    assert service.status().error == answer.error
    service.close()
    # Nothing is left of its budget, so resuming says the same.
    assert bench.open(candidates=4).ask(0) == answer


def test_three_failed_setups_end_the_run(bench: Bench) -> None:
    service = bench.open()
    service.ask(0)
    for slot in range(3):
        assert not service.status().finished
        service.report_setup_failure(slot, f"OSError: no disk {slot}")
    answer = service.ask(0)
    assert isinstance(answer, Finished)
    assert answer.error is not None
    assert "no disk 2" in answer.error
    # A result that comes after all is kept, and after a repair the run can be resumed.
    service.tell(0, 0, completed(0.5))
    service.close()
    service = bench.open()
    assert candidate(service.ask(0)).id == 1
    assert service.status().completed == 1


def test_setups_that_fail_between_results_do_not_end_the_run(bench: Bench) -> None:
    service = bench.open()
    for _ in range(3):
        service.report_setup_failure(0, "OSError")
        service.report_setup_failure(0, "OSError")
        service.tell(1, candidate(service.ask(1)).id, completed(0.5))
    assert not service.status().finished
