"""The cost-aware reward: shown to controller and rankings, while the journal keeps what was measured."""

import math
from pathlib import Path

import pytest
from scripted import BODIES, Bench, candidate, events

from controllers.base import Result
from controllers.service.service import ControllerService

TARGET = {"weight": 0.5, "target": 100.0}


def result(reward: float, flops: float, halfway: float | None = None) -> Result:
    return Result("completed", reward, halfway, cost={"flops": flops})


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, [*BODIES[:3], BODIES[1], *BODIES[3:]])


def open_with_target(bench: Bench, **plan: object) -> ControllerService:
    return bench.open(cost_target=TARGET, **plan)


def test_the_controller_sees_the_penalty_and_the_journal_both(bench: Bench) -> None:
    service = open_with_target(bench)
    # e squared times the target: 1 off. At the target, and below it: nothing.
    for reward, flops in ((-1.0, 100 * math.e**2), (-1.5, 100.0), (-3.0, 1.0)):
        service.tell(0, candidate(service.ask(0)).id, result(reward, flops))
    assert bench.controller.told == [
        ("observe", 0, pytest.approx(-2.0)),
        ("observe", 1, -1.5),
        ("observe", 2, -3.0),
    ]
    completions = events(service, "completion")
    assert [event["reward"] for event in completions] == [-1.0, -1.5, -3.0]
    assert [event["penalty"] for event in completions] == [pytest.approx(1.0), 0.0, 0.0]
    best = service.status().best
    assert best is not None
    assert (best.id, best.reward) == (1, -1.5)
    # The fourth draw is known: it is replayed with what the controller saw of it.
    service.ask(0)
    assert bench.controller.told[-1] == ("replayed", 3, -1.5)


def test_early_stopping_compares_measured_rewards_and_the_controller_sees_the_rest(bench: Bench) -> None:
    """A threshold travels to a proxy task, which knows no cost terms."""
    service = open_with_target(bench, early_stop_k=1.0, early_stop_minimum=2)
    for halfway, flops in ((1.0, 1e9), (3.0, 1e3)):
        service.tell(0, candidate(service.ask(0)).id, result(5.0, flops, halfway))
    late = candidate(service.ask(0))
    assert late.threshold == pytest.approx(2 - math.sqrt(2))
    service.tell(0, late.id, Result("stopped", halfway=0.25, cost={"flops": 100 * math.e}))
    assert bench.controller.told[-1] == ("observe", 2, pytest.approx(-0.25))
    assert events(service, "stop")[0]["halfway"] == 0.25


@pytest.mark.parametrize("cost", [{}, {"flops": math.nan}, {"params": 3.0}])
def test_a_result_without_the_cost_fails(bench: Bench, cost: dict[str, float]) -> None:
    service = open_with_target(bench)
    service.ask(0)
    service.tell(0, 0, Result("completed", 1.0, cost=cost))
    (failure,) = events(service, "failure")
    assert "a cost target needs flops" in failure["reason"]


def test_a_resumed_controller_has_seen_the_same(bench: Bench) -> None:
    service = open_with_target(bench)
    service.tell(0, candidate(service.ask(0)).id, result(-1.0, 1234.5))
    late = candidate(service.ask(0))
    service.tell(0, late.id, Result("stopped", halfway=-2.0, cost={"flops": 777.0}))
    told = bench.controller.told
    service.close()
    again = open_with_target(bench)
    assert bench.controller.told == told
    assert again.status().best == service.status().best
