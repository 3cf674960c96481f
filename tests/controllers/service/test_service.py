from pathlib import Path

import numpy as np
import pytest
from scripted import BODIES, Bench, candidate, completed, events

from controllers.base import Result
from controllers.service.journal import Journal
from controllers.service.seeds import derive_seed
from nasperc.errors import InputError


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_ask_and_tell(bench: Bench) -> None:
    service = bench.open()
    first = candidate(service.ask(0))
    assert first.id == 0
    assert first.stage == "body"
    assert first.architecture.parts == {"body": BODIES[0], "head": "original"}
    assert first.widths == {"body": 8}
    assert first.overrides == {"epochs": 1}
    assert first.hash == bench.space.hash(first.architecture)
    assert first.seed == derive_seed(3, first.hash)
    assert first.threshold is None
    service.tell(0, 0, completed(0.5))
    assert bench.controller.told == [("observe", 0, 0.5)]
    assert candidate(service.ask(0)).id == 1
    status = service.status()
    assert (status.stage, status.completed, status.pending, status.candidates_left) == ("body", 1, (1,), 4)
    assert status.best is not None
    assert (status.best.id, status.best.reward) == (0, 0.5)


def test_everything_is_on_the_disk_when_it_is_answered(bench: Bench) -> None:
    service = bench.open()
    service.ask(0)
    assert Journal.read(bench.folder / "journal.jsonl")[-1]["event"] == "proposal"
    bench.clock.now += 7
    service.tell(0, 0, completed(0.5))
    written = Journal.read(bench.folder / "journal.jsonl")
    assert written[-1]["event"] == "completion"
    assert written[-1] == {
        "event": "completion",
        "time": written[-1]["time"],
        "at": 7.0,
        "stage": "body",
        "id": 0,
        "slot": 0,
        "reward": 0.5,
        "halfway": None,
        "architecture": {
            "space": "toy",
            "version": 1,
            "variant": "plain",
            "parts": {"body": list(BODIES[0]), "head": "original"},
        },
        "hash": written[-2]["hash"],
        "seed": written[-2]["seed"],
        "widths": {"body": 8},
        "threshold": None,
        "overrides": {"epochs": 1},
        "metrics": {"loss": 1.0},
        "cost": {"flops": 5.0},
        "seconds": 2.0,
    }
    assert service.events_since(0) == written
    assert service.events_since(len(written) - 1) == written[-1:]
    assert service.events_since(len(written)) == []


def test_telling_again_is_without_effect(bench: Bench) -> None:
    service = bench.open()
    service.ask(0)
    service.tell(0, 0, completed(0.5))
    count = len(service.events_since(0))
    service.tell(0, 0, completed(0.9))
    service.tell(1, 0, Result("failed", reason="late"))
    assert len(service.events_since(0)) == count
    assert bench.controller.told == [("observe", 0, 0.5)]
    with pytest.raises(ValueError, match="id 1"):
        service.tell(0, 1, completed(0.5))


def test_halfway_rewards_are_shown(bench: Bench) -> None:
    service = bench.open()
    service.ask(0)
    service.halfway(0, 0, 0.25)
    assert [event["reward"] for event in events(service, "halfway")] == [0.25]


def test_a_second_service_on_a_run_is_refused(bench: Bench) -> None:
    service = bench.open()
    with pytest.raises(InputError, match="one writer"):
        bench.open()
    service.close()
    bench.open().close()


def test_observed_from_outside(bench: Bench) -> None:
    service = bench.open()
    service.ask(0)
    architecture = bench.space.architecture({"body": BODIES[3], "head": "original"})
    service.observe_external(architecture, 0.4)
    assert bench.controller.told == [("external", BODIES[3], 0.4)]
    (event,) = events(service, "external")
    assert event["reward"] == 0.4


def test_numbers_of_numpy_are_taken(bench: Bench) -> None:
    service = bench.open()
    service.ask(0)
    number = np.float32(0.5)
    service.tell(0, 0, Result("completed", number, number, {"loss": number}, {"flops": np.int64(3)}, number))
    (event,) = events(service, "completion")
    assert (event["reward"], event["halfway"], event["seconds"]) == (0.5, 0.5, 0.5)
    assert (event["metrics"], event["cost"]) == ({"loss": 0.5}, {"flops": 3})
