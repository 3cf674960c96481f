"""How stages share a budget and follow one another."""

from pathlib import Path

import pytest
from scripted import BODIES, Bench, candidate, completed, events

from controllers.service.answers import Finished, Wait


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_stages_share_the_budget_and_hand_the_best_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path, stages=("body", "head"))
    service = bench.open(candidates=8)
    rewards = [0.1, 0.9, 0.3, 0.2, 0.5, 0.4, 0.6, 0.8]
    for reward in rewards:
        service.tell(0, candidate(service.ask(0)).id, completed(reward))
    assert service.ask(0) == Finished("budget")
    assert service.ask(1) == Finished("budget")
    stages = [event["stage"] for event in events(service, "completion")]
    assert stages == ["body"] * 6 + ["head"] * 2
    starts = events(service, "stage_start")
    assert starts[0]["fixed"] == {"head": "original"}
    assert starts[1]["fixed"] == {"body": list(BODIES[1])}
    assert starts[1]["widths"] == {"body": 16}
    assert starts[0]["seed"] != starts[1]["seed"]
    last = events(service, "completion")[-1]
    assert last["architecture"]["parts"] == {"body": list(BODIES[1]), "head": [1, 1]}
    status = service.status()
    assert (status.finished, status.error, status.candidates_left, status.stage) == (True, None, 0, None)
    assert status.best is not None
    # The best of the last stage, not the highest reward of stages whose rewards cannot be compared.
    assert (status.best.stage, status.best.reward) == ("head", 0.8)


def test_a_finishing_stage_makes_the_others_wait(tmp_path: Path) -> None:
    bench = Bench(tmp_path, stages=("body", "head"))
    service = bench.open(candidates=4)
    for slot in range(3):
        service.ask(slot)
    assert isinstance(service.ask(3), Wait)
    assert isinstance(service.ask(3), Wait)
    for slot in range(3):
        service.tell(slot, slot, completed(0.1 * slot))
    head = candidate(service.ask(3))
    assert (head.stage, head.architecture.parts["body"]) == ("head", BODIES[2])


def test_time_budget_is_shared_by_stages(tmp_path: Path) -> None:
    bench = Bench(tmp_path, stages=("body", "head"))
    service = bench.open(candidates=None, seconds=100)
    bench.clock.now += 74
    assert candidate(service.ask(0)).stage == "body"
    bench.clock.now += 1
    assert isinstance(service.ask(1), Wait)
    service.tell(0, 0, completed(0.5))
    assert service.status().seconds_left == pytest.approx(25)
    assert candidate(service.ask(0)).stage == "head"
    bench.clock.now += 25
    service.tell(0, 1, completed(0.5))
    assert service.ask(0) == Finished("budget")


def test_time_between_an_interruption_and_its_resumption_is_not_spent(bench: Bench) -> None:
    service = bench.open(candidates=None, seconds=100)
    service.ask(0)
    bench.clock.now += 30
    service.tell(0, 0, completed(0.5))
    service.close()
    bench.clock.now += 5000
    service = bench.open(candidates=None, seconds=100)
    assert service.status().elapsed == pytest.approx(30)
    bench.clock.now += 20
    assert service.status().seconds_left == pytest.approx(50)
