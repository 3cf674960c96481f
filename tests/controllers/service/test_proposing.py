"""What becomes of a draw: a candidate with its seed and threshold, a replay, another draw."""

import math
from pathlib import Path

import pytest
from scripted import BODIES, TWIN, Bench, candidate, completed, events

from controllers.base import Result
from controllers.service.answers import Finished, Wait


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_candidates_are_as_the_run_seed_says(tmp_path: Path) -> None:
    seeds = []
    for number, seed in enumerate((3, 3, 4)):
        service = Bench(tmp_path / str(number)).open(seed=seed)
        seeds.append(candidate(service.ask(0)).seed)
    assert seeds[0] == seeds[1] != seeds[2]


def test_a_known_architecture_is_answered_from_the_journal(tmp_path: Path) -> None:
    bench = Bench(tmp_path, [BODIES[0], TWIN, BODIES[0], BODIES[1]])
    service = bench.open()
    service.ask(0)
    service.tell(0, 0, completed(0.5))
    second = candidate(service.ask(0))
    assert (second.id, second.architecture.parts["body"]) == (1, BODIES[1])
    assert bench.controller.told == [("observe", 0, 0.5), ("replayed", 1, 0.5), ("replayed", 2, 0.5)]
    replays = events(service, "replay")
    assert [(event["of"], event["reward"]) for event in replays] == [(0, 0.5), (0, 0.5)]
    assert replays[0]["architecture"]["parts"]["body"] == list(TWIN)
    status = service.status()
    assert (status.replayed, status.completed, status.candidates_left) == (2, 1, 4)


def test_pending_and_failed_architectures_are_drawn_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, [BODIES[0], TWIN, BODIES[1], BODIES[0], BODIES[2]])
    service = bench.open()
    service.ask(0)
    assert candidate(service.ask(1)).architecture.parts["body"] == BODIES[1]
    service.tell(0, 0, Result("failed", reason="ValueError: no"))
    assert candidate(service.ask(0)).architecture.parts["body"] == BODIES[2]
    assert [event["reason"] for event in events(service, "redraw")] == ["pending", "failed"]
    assert bench.controller.told == [("fail", 1), ("fail", 0), ("fail", 3)]
    assert service.status().redrawn == 2


def test_a_stage_of_nothing_but_replays_has_converged(tmp_path: Path) -> None:
    bench = Bench(tmp_path, [BODIES[0], BODIES[1], BODIES[0]])
    service = bench.open(max_replays=7)
    for slot in (0, 1):
        service.ask(slot)
    service.tell(0, 0, completed(0.5))
    # The other one is awaited, then the stage ends.
    assert service.ask(0) == Wait()
    service.tell(1, 1, completed(0.6))
    assert service.ask(0) == Finished("budget")
    assert service.status().replayed == 7
    (end,) = events(service, "stage_end")
    assert (end["reason"], end["best"]["id"]) == ("converged", 1)


def test_threshold_comes_from_the_journal_when_a_candidate_is_proposed(bench: Bench) -> None:
    service = bench.open(early_stop_k=2.0, early_stop_minimum=2, candidates=6)
    first, second, early = (candidate(service.ask(slot)) for slot in range(3))
    service.tell(0, first.id, completed(0.5, halfway=1.0))
    service.tell(1, second.id, completed(0.7, halfway=2.0))
    late = candidate(service.ask(0))
    assert early.threshold is None
    assert late.threshold == pytest.approx(1.5 - 2 * math.sqrt(0.5))
    # A stopped candidate's half-way reward counts among those after it.
    service.tell(0, late.id, Result("stopped", halfway=0.0))
    assert candidate(service.ask(0)).threshold == pytest.approx(1.0 - 2 * 1.0)


def test_a_stopped_candidate_teaches_and_is_never_the_best(tmp_path: Path) -> None:
    bench = Bench(tmp_path, [BODIES[0], TWIN, BODIES[1]])
    service = bench.open(candidates=3)
    service.ask(0)
    service.tell(0, 0, Result("stopped", halfway=0.9, seconds=1.0))
    assert bench.controller.told == [("observe", 0, 0.9)]
    # It answers no duplicate: the same architecture is trained.
    assert candidate(service.ask(0)).architecture.parts["body"] == TWIN
    service.tell(0, 1, completed(0.2))
    status = service.status()
    assert status.best is not None
    assert (status.stopped, status.completed, status.candidates_left, status.best.id) == (1, 1, 1, 1)
