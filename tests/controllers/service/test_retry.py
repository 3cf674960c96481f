"""What failed for a reason that may be the machine's is tried once more, and is not held against an architecture
at once."""

from pathlib import Path

import pytest
from scripted import BODIES, Bench, candidate, completed, events

from controllers.base import Candidate, Result
from controllers.service.journal import Journal

OUT_OF_MEMORY = Result("failed", reason="out of memory", seconds=3.0, transient=True)
DIVERGED = Result("failed", reason="the loss is nan")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_transient_failure_is_tried_once_more_with_the_same_id_and_seed(bench: Bench) -> None:
    service = bench.open()
    first = candidate(service.ask(0))
    service.tell(0, 0, OUT_OF_MEMORY)
    assert bench.controller.told == []
    assert (service.status().pending, service.status().failed) == ((0,), 0)
    # Whichever slot comes first.
    assert service.ask(1) == first
    service.tell(1, 0, completed(0.5))
    assert bench.controller.told == [("observe", 0, 0.5)]
    (retry,), (again,) = events(service, "retry"), events(service, "reassign")
    assert (retry["id"], retry["slot"], retry["reason"], retry["seconds"]) == (0, 0, "out of memory", 3.0)
    assert (again["id"], again["slot"], again["reason"]) == (0, 1, "tried once more")
    assert not events(service, "failure")


def test_a_second_one_is_a_failure(bench: Bench) -> None:
    service = bench.open()
    service.ask(0)
    service.tell(0, 0, OUT_OF_MEMORY)
    service.ask(0)
    service.tell(0, 0, OUT_OF_MEMORY)
    (failure,) = events(service, "failure")
    assert (failure["reason"], failure["transient"], failure["retried"]) == ("out of memory", True, True)
    assert bench.controller.told == [("fail", 0)]
    assert candidate(service.ask(0)).id == 1


def test_crash_and_out_of_memory_together_have_one_retry(bench: Bench) -> None:
    service = bench.open()
    service.ask(0)
    service.ask(0)
    service.tell(0, 0, OUT_OF_MEMORY)
    assert len(events(service, "retry")) == len(events(service, "failure")) == 1


def test_a_deterministic_failure_is_not_tried_again(bench: Bench) -> None:
    service = bench.open()
    service.ask(0)
    service.tell(0, 0, DIVERGED)
    (failure,) = events(service, "failure")
    assert (failure["transient"], failure["retried"]) == (False, False)
    assert not events(service, "retry")
    assert candidate(service.ask(0)).id == 1


def test_telling_of_the_same_try_twice_is_without_effect(bench: Bench) -> None:
    """The service died after it had written, and Ray calls again."""
    service = bench.open()
    service.ask(0)
    service.tell(0, 0, OUT_OF_MEMORY)
    service.tell(0, 0, OUT_OF_MEMORY)
    assert candidate(service.ask(1)).id == 0
    service.tell(0, 0, OUT_OF_MEMORY)
    assert service.status().pending == (0,)
    assert len(events(service, "retry")) == 1
    # A result is one, whoever has it.
    service.tell(0, 0, completed(0.5))
    assert service.status().completed == 1


def test_the_retry_survives_an_interruption(bench: Bench) -> None:
    service = bench.open(session="driver")
    first = candidate(service.ask(0))
    service.tell(0, 0, OUT_OF_MEMORY)
    service.close()
    service = bench.open(session="driver")
    assert service.ask(1) == first
    service.tell(1, 0, OUT_OF_MEMORY)
    assert [event["id"] for event in events(service, "failure")] == [0]


def test_an_architecture_is_drawn_again_after_the_machine_failed_it_and_not_after_it_happened_again(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, [BODIES[0], BODIES[0], BODIES[0], BODIES[1]])
    service = bench.open()

    def fail_twice() -> Candidate:
        tried = candidate(service.ask(0))
        service.tell(0, tried.id, OUT_OF_MEMORY)
        assert service.ask(0) == tried
        service.tell(0, tried.id, OUT_OF_MEMORY)
        return tried

    first, second = fail_twice(), fail_twice()
    assert (first.id, second.id) == (0, 1)
    assert (first.hash, first.seed) == (second.hash, second.seed)
    assert candidate(service.ask(0)).architecture.parts["body"] == BODIES[1]
    assert [event["reason"] for event in events(service, "redraw")] == ["failed"]
    # What a restarted service knows of it.
    service.close()
    assert bench.open().status().failed == 2


def test_a_journal_that_knows_no_retries_is_read(bench: Bench) -> None:
    service = bench.open()
    service.ask(0)
    service.tell(0, 0, DIVERGED)
    service.close()
    old = [
        {key: value for key, value in event.items() if key not in ("crc", "transient", "retried")}
        for event in Journal.read(bench.folder / "journal.jsonl")
    ]
    (bench.folder / "journal.jsonl").unlink()
    journal = Journal(bench.folder / "journal.jsonl")
    journal.append(*old)
    journal.close()
    assert bench.open().status().failed == 1
