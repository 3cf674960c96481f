"""Candidates that are handed out again."""

from pathlib import Path

import pytest
from scripted import Bench, candidate, completed, events


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_slot_whose_worker_died_gets_its_candidate_back_once(bench: Bench) -> None:
    service = bench.open()
    first = candidate(service.ask(0))
    assert service.ask(0) == first
    (retry,) = events(service, "retry")
    assert (retry["id"], retry["slot"]) == (0, 0)
    second = candidate(service.ask(0))
    assert second.id == 1
    (failure,) = events(service, "failure")
    assert (failure["id"], failure["slot"]) == (0, 0)
    assert failure["reason"] == retry["reason"] == "its worker asked again: the process had died"
    assert (failure["transient"], failure["retried"]) == (True, True)
    assert bench.controller.told == [("fail", 0)]
    # What comes late is too late: the controller has forgotten it.
    service.tell(0, 0, completed(9.0))
    assert service.status().completed == 0


def test_an_overdue_candidate_goes_to_the_next_slot(bench: Bench) -> None:
    service = bench.open(candidate_time_limit=60)
    first = candidate(service.ask(0))
    bench.clock.now += 60
    other = candidate(service.ask(1))
    assert other.id == 1
    service.tell(1, 1, completed(0.1))
    bench.clock.now += 1
    assert service.ask(1) == first
    # Its first owner owns nothing now, and may still answer.
    assert candidate(service.ask(0)).id == 2
    service.tell(0, 0, completed(0.5))
    service.tell(1, 0, completed(0.5))
    assert [event["id"] for event in events(service, "completion")] == [1, 0]


def test_a_candidate_that_is_overdue_twice_fails(bench: Bench) -> None:
    service = bench.open(candidate_time_limit=60)
    candidate(service.ask(0))
    bench.clock.now += 61
    assert candidate(service.ask(1)).id == 0
    bench.clock.now += 61
    assert candidate(service.ask(2)).id == 1
    (retry,), (failure,) = events(service, "retry"), events(service, "failure")
    assert retry["reason"] == failure["reason"] == "no result within 60 s"
    assert (retry["slot"], failure["slot"]) == (0, 1)
