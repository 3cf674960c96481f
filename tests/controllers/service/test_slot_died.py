from pathlib import Path

from scripted import Bench, candidate, completed, events


def test_what_a_dead_worker_was_at_goes_to_whoever_asks_next(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    service = bench.open()
    first, second = candidate(service.ask(0)), candidate(service.ask(1))
    assert service.slot_died(0, bench.clock.now)
    # The other one, once it has done its own.
    service.tell(1, second.id, completed(0.5))
    assert candidate(service.ask(1)) == first
    service.tell(1, first.id, completed(0.6))
    assert not events(service, "failure")
    (retry,) = events(service, "retry")
    assert (retry["id"], retry["reason"]) == (first.id, "its worker's process died")
    # It holds nothing any more.
    assert not service.slot_died(0, bench.clock.now)


def test_a_candidate_whose_worker_dies_twice_has_failed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    service = bench.open()
    first = candidate(service.ask(0))
    service.slot_died(0, bench.clock.now)
    assert candidate(service.ask(1)) == first
    service.slot_died(1, bench.clock.now)
    (failure,) = events(service, "failure")
    assert failure["id"] == first.id
    assert failure["retried"]
    assert candidate(service.ask(0)).id == first.id + 1


def test_news_of_a_death_that_come_late_take_nothing_from_the_next_process(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    service = bench.open()
    candidate(service.ask(0))
    died = bench.clock.now + 1
    bench.clock.now += 5
    again = candidate(service.ask(0))
    assert not service.slot_died(0, died)
    service.tell(0, again.id, completed(0.5))
    assert [event["id"] for event in events(service, "completion")] == [again.id]
