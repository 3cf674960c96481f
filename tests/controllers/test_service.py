import math
from pathlib import Path

import numpy as np
import pytest
from scripted import BODIES, TWIN, Bench, candidate, completed, events

from controllers.answers import Finished, Wait
from controllers.base import Result
from controllers.journal import Journal
from controllers.seeds import derive_seed
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
    service.tell(0, 0, completed(0.5))
    written = Journal.read(bench.folder / "journal.jsonl")
    assert written[-1]["event"] == "completion"
    assert written[-1] == {
        "event": "completion",
        "time": 1000.0,
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


def test_a_slot_gets_its_candidate_back_once(bench: Bench) -> None:
    service = bench.open()
    first = candidate(service.ask(0))
    assert service.ask(0) == first
    second = candidate(service.ask(0))
    assert second.id == 1
    (failure,) = events(service, "failure")
    assert failure["id"] == 0
    assert "asked again twice" in failure["reason"]
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
    (failure,) = events(service, "failure")
    assert failure["reason"] == "no result within 60 s, twice"


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


def test_a_halfway_reward_that_is_not_finite_is_left_out(bench: Bench) -> None:
    service = bench.open(early_stop_k=1.0, early_stop_minimum=2)
    for reward in (1.0, 3.0, math.nan):
        id = candidate(service.ask(0)).id
        service.tell(0, id, completed(0.5, halfway=reward))
    assert candidate(service.ask(0)).threshold == pytest.approx(2 - math.sqrt(2))


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


def test_halfway_rewards_are_shown(bench: Bench) -> None:
    service = bench.open()
    service.ask(0)
    service.halfway(0, 0, 0.25)
    assert [event["reward"] for event in events(service, "halfway")] == [0.25]


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


def test_candidates_are_as_the_run_seed_says(tmp_path: Path) -> None:
    seeds = []
    for number, seed in enumerate((3, 3, 4)):
        service = Bench(tmp_path / str(number)).open(seed=seed)
        seeds.append(candidate(service.ask(0)).seed)
    assert seeds[0] == seeds[1] != seeds[2]


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
