"""A stage's best that is named from outside: the run waits for it, and remembers it."""

from pathlib import Path

import pytest
from scripted import BODIES, Bench, candidate, completed, events

from controllers.service.answers import Wait
from controllers.service.journal import Journal


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, stages=("body", "head"))


def measure_bodies(bench: Bench, **plan: object) -> list[str]:
    """The first stage, three candidates of which the second has the best reward; their hashes."""
    service = bench.open(candidates=4, outside_selection=True, **plan)
    hashes = []
    for id, reward in enumerate((0.5, 0.9, 0.7)):
        hashes.append(candidate(service.ask(0)).hash)
        assert not service.status().selecting
        bench.clock.now += 10
        service.tell(0, id, completed(reward))
    bench.service = service  # type: ignore[attr-defined]
    return hashes


def test_the_next_stage_builds_on_the_selected_architecture(bench: Bench) -> None:
    hashes = measure_bodies(bench)
    service = bench.service  # type: ignore[attr-defined]
    assert isinstance(service.ask(0), Wait)
    assert service.status().selecting
    service.select("body", hashes[2], {hashes[2]: 0.4, hashes[1]: 0.3}, 5.0)
    assert not service.status().selecting
    following = candidate(service.ask(0))
    assert following.stage == "head"
    assert following.architecture.parts["body"] == BODIES[2]
    (selection,) = events(service, "selection")
    assert selection["scores"] == {hashes[2]: 0.4, hashes[1]: 0.3}
    assert events(service, "stage_end")[0]["best"]["hash"] == hashes[2]


def test_without_it_the_best_reward_is_taken(bench: Bench) -> None:
    service = bench.open(candidates=4)
    for id, reward in enumerate((0.5, 0.9, 0.7)):
        service.ask(0)
        service.tell(0, id, completed(reward))
    assert candidate(service.ask(0)).architecture.parts["body"] == BODIES[1]


def test_a_stage_waits_for_its_pending_candidates_first_and_the_last_stage_for_nothing(bench: Bench) -> None:
    service = bench.open(candidates=4, outside_selection=True)
    owned = [candidate(service.ask(slot)) for slot in range(3)]
    assert isinstance(service.ask(3), Wait)
    assert not service.status().selecting
    for slot, each in enumerate(owned):
        service.tell(slot, each.id, completed(0.5))
    service.select("body", owned[0].hash, {}, 0.0)
    last = candidate(service.ask(0))
    service.tell(0, last.id, completed(0.5))
    service.ask(0)
    assert service.status().finished


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_resumed_run_waits_again_or_remembers(bench: Bench, when: str) -> None:
    hashes = measure_bodies(bench)
    service = bench.service  # type: ignore[attr-defined]
    if when == "after":
        service.select("body", hashes[0], {}, 0.0)
    service.close()
    service = bench.open(candidates=4, outside_selection=True)
    if when == "before":
        assert isinstance(service.ask(0), Wait)
        service.select("body", hashes[0], {}, 0.0)
    assert candidate(service.ask(0)).architecture.parts["body"] == BODIES[0]
    kinds = [event["event"] for event in Journal.read(bench.folder / "journal.jsonl")]
    assert kinds.count("selection") == 1


def test_only_a_stage_that_waits_takes_one_of_its_own(bench: Bench) -> None:
    service = bench.open(candidates=4, outside_selection=True)
    first = candidate(service.ask(0))
    with pytest.raises(ValueError, match="does not wait"):
        service.select("body", first.hash, {}, 0.0)
    service.tell(0, first.id, completed(0.5))
    for _ in range(2):
        service.tell(0, candidate(service.ask(0)).id, completed(0.1))
    with pytest.raises(ValueError, match="no completed candidate"):
        service.select("body", "0" * 64, {}, 0.0)
    with pytest.raises(ValueError, match="does not wait"):
        service.select("head", first.hash, {}, 0.0)


def test_choosing_does_not_use_up_the_time_of_the_run(bench: Bench) -> None:
    service = bench.open(candidates=None, seconds=100.0, outside_selection=True)
    first = candidate(service.ask(0))
    bench.clock.now += 80
    service.tell(0, first.id, completed(0.5))
    assert isinstance(service.ask(0), Wait)
    bench.clock.now += 1000
    service.select("body", first.hash, {}, 1000.0)
    assert service.status().elapsed == 80
    assert candidate(service.ask(0)).stage == "head"
