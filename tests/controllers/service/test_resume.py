import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from controller_tests import through_disk
from scripted import BODIES, Bench, candidate, completed, events
from toy_space import ToyRecipe, ToySpace, toy_reward

from controllers.base import Candidate, Controller, Result
from controllers.ppo import PPOController, PPORecipe
from controllers.service.answers import Finished
from controllers.service.journal import Journal
from controllers.service.plan import SearchPlan
from controllers.service.service import ControllerService
from controllers.service.snapshot import write_snapshot
from nasperc.errors import InputError
from search_spaces.base import TokenSpace

PLAN = SearchPlan(
    seed=1, candidates=24, early_stop_k=0.7, early_stop_minimum=4, snapshot_every=9, max_replays=20
)
SPACE = ToySpace(ToyRecipe(choices=3, body=4, head=2))


def make_ppo(tokens: TokenSpace, seed: int) -> Controller:
    return PPOController(tokens, PPORecipe(hidden=6, batch=3, epochs=2), seed)


def measure(candidate: Candidate) -> Result:
    """A function of the candidate alone, with failures and stops in it."""
    reward = toy_reward(candidate.architecture) + candidate.seed % 7 / 10
    if candidate.seed % 9 == 0:
        return Result("failed", reason="scripted")
    if candidate.threshold is not None and reward / 2 < candidate.threshold:
        return Result("stopped", halfway=reward / 2)
    return Result("completed", reward=reward, halfway=reward / 2, seconds=1.0)


def finish(folder: Path, calls: int | None = None) -> ControllerService:
    """Run to the end, or for some calls."""
    service = ControllerService(folder, SPACE, make_ppo, PLAN, clock=lambda: 0.0)
    while calls is None or calls > 0:
        answer = service.ask(0)
        if isinstance(answer, Finished):
            break
        if calls == 1:
            break
        assert isinstance(answer, Candidate)
        service.tell(0, answer.id, measure(answer))
        calls = None if calls is None else calls - 2
    return service


def story(folder: Path) -> list[dict[str, Any]]:
    """The journal without what an interruption adds, and without the numbers of snapshots."""
    kinds = ("run_start", "run_resume", "reassign", "snapshot")
    events = Journal.read(folder / "journal.jsonl")
    return [{**event, "time": 0.0} for event in events if event["event"] not in kinds]


def states(service: ControllerService) -> list[Any]:
    """The controller's state, flattened to what can be compared."""
    assert service._run.learner is not None
    found: list[Any] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for key in sorted(value, key=str):
                walk(value[key])
        elif isinstance(value, list | tuple):
            for item in value:
                walk(item)
        else:
            found.append(value.tolist() if isinstance(value, torch.Tensor) else value)

    walk(through_disk(service._run.learner.controller.state_dict()))
    return found


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("straight")
    finish(folder).close()
    kinds = {event["event"] for event in Journal.read(folder / "journal.jsonl")}
    assert kinds >= {"proposal", "completion", "stop", "failure", "replay", "update", "snapshot", "stage_end"}
    return folder


def test_interrupted_every_few_calls_ends_the_same(straight: Path, tmp_path: Path) -> None:
    for _ in range(200):
        service = finish(tmp_path, calls=5)
        done = service.status().finished
        service.close()
        if done:
            break
    assert done
    assert story(tmp_path) == story(straight)


def test_cut_after_any_event_ends_the_same(straight: Path, tmp_path: Path) -> None:
    lines = (straight / "journal.jsonl").read_bytes().splitlines(keepends=True)
    for cut in range(1, len(lines), 7):
        folder = tmp_path / str(cut)
        shutil.copytree(straight, folder)
        (folder / "journal.jsonl").write_bytes(b"".join(lines[:cut]) + lines[cut][:20])
        finish(folder).close()
        assert story(folder) == story(straight), cut


def test_same_controller_with_and_without_snapshots(straight: Path, tmp_path: Path) -> None:
    undisturbed = finish(tmp_path / "undisturbed", calls=27)
    expected = states(undisturbed)
    undisturbed.close()
    for name in ("with", "without"):
        folder = tmp_path / name
        shutil.copytree(tmp_path / "undisturbed", folder)
        if name == "without":
            for snapshot in folder.glob("controller-*.pt"):
                snapshot.unlink()
        service = ControllerService(folder, SPACE, make_ppo, PLAN)
        assert states(service) == expected
        (resumed,) = events(service, "run_resume")
        assert (resumed["snapshot"] is not None) == (name == "with")
        assert not resumed["diverged"]
        service.close()


def test_a_damaged_snapshot_is_passed_over_and_named(straight: Path, tmp_path: Path) -> None:
    service = finish(tmp_path / "undisturbed", calls=27)
    expected = states(service)
    service.close()
    folder = tmp_path / "undisturbed"
    used = sorted(folder.glob("controller-*.pt"))
    content = bytearray(used[-1].read_bytes())
    content[len(content) // 2] ^= 1
    used[-1].write_bytes(content)
    service = ControllerService(folder, SPACE, make_ppo, PLAN)
    assert states(service) == expected
    (resumed,) = events(service, "run_resume")
    assert resumed["snapshot"] == (used[-2].name if len(used) > 1 else None)
    (passed_over,) = resumed["passed_over"]
    assert passed_over.startswith(f"{used[-1].name}: its SHA-256 is")
    assert not resumed["diverged"]
    service.close()


def test_pending_candidates_come_first_as_they_were(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    service = bench.open(early_stop_k=1.0, early_stop_minimum=2, candidates=6)
    for slot in range(2):
        service.tell(slot, candidate(service.ask(slot)).id, completed(0.5 + slot, halfway=slot))
    pending = [candidate(service.ask(slot)) for slot in range(3)]
    assert pending[0].threshold is not None
    service.close()
    # Fewer slots, and none of them knows what it did before.
    service = bench.open(early_stop_k=1.0, early_stop_minimum=2, candidates=6)
    for expected in pending:
        assert service.ask(7) == expected
        service.tell(7, expected.id, completed(0.1))
    assert candidate(service.ask(7)).id == 5
    (resumed,) = events(service, "run_resume")
    assert resumed["pending"] == [2, 3, 4]


def test_a_restarted_service_leaves_candidates_with_their_slots(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    service = bench.open(session="driver")
    first = candidate(service.ask(0))
    service.close()
    service = bench.open(session="driver")
    assert candidate(service.ask(1)).id == 1
    service.tell(0, first.id, completed(0.5))
    assert candidate(service.ask(0)).id == 2
    # An interruption by another driver forgets how often a candidate was handed out; this one does not.
    service.ask(1)
    service.close()
    service = bench.open(session="driver")
    assert candidate(service.ask(1)).id == 3
    assert [event["id"] for event in events(service, "failure")] == [1]


def test_being_resumed_often_fails_no_candidate(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for _ in range(5):
        service = bench.open()
        assert candidate(service.ask(0)).id == 0
        service.close()


def test_a_finished_run_stays_finished(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    service = bench.open(candidates=1)
    service.ask(0)
    service.tell(0, 0, completed(0.5))
    assert service.ask(0) == Finished("budget")
    content = (tmp_path / "journal.jsonl").read_bytes()
    service.close()
    service = bench.open(candidates=1)
    assert service.ask(0) == Finished("budget")
    assert service.status().best is not None
    assert (tmp_path / "journal.jsonl").read_bytes() == content


def test_a_controller_that_does_not_repeat_itself_loses_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    service = bench.open()
    service.tell(0, candidate(service.ask(0)).id, completed(0.5))
    pending = candidate(service.ask(0))
    service.close()
    bench.script = BODIES[2:]
    service = bench.open()
    assert bench.controller.told == [("fail", 0), ("external", BODIES[0], 0.5), ("fail", 1)]
    assert events(service, "run_resume")[0]["diverged"]
    # Its snapshot was taken, so that the next interruption stands on it.
    assert service.events_since(0)[-1]["event"] == "snapshot"
    service.close()
    service = bench.open()
    assert not events(service, "run_resume")[1]["diverged"]
    assert service.ask(0) == pending
    service.tell(0, pending.id, completed(0.6))
    assert bench.controller.told[-1] == ("external", BODIES[1], 0.6)
    assert service.status().completed == 2


@pytest.mark.parametrize(
    ("stages", "plan", "message"),
    [
        (("body",), {"seed": 4}, "keep its seed"),
        (("body", "head"), {}, "keep its stages"),
    ],
)
def test_another_run_is_refused(
    tmp_path: Path, stages: tuple[str, ...], plan: dict[str, int], message: str
) -> None:
    Bench(tmp_path).open().close()
    with pytest.raises(InputError, match=message):
        Bench(tmp_path, stages=stages).open(**plan)
    Bench(tmp_path).open().close()


@pytest.mark.parametrize(
    "event",
    [
        {"event": "completion", "time": 0.0, "stage": "body", "id": 77},
        {"event": "apply", "time": 0.0},
        {"event": "stop"},
        {"time": 0.0},
        {"event": "proposal", "time": 0.0, "stage": "body", "id": 0, "architecture": {"space": "toy"}},
        {"event": ["x"], "time": 0.0},
    ],
)
def test_events_that_make_no_run_are_refused(tmp_path: Path, event: dict[str, object]) -> None:
    Bench(tmp_path).open().close()
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(event)
    journal.close()
    with pytest.raises(InputError):
        Bench(tmp_path).open()


@pytest.mark.parametrize("event", [{}, {"event": "run_start", "format": 2}, {"event": "run_start"}])
def test_journals_of_another_kind_are_refused(tmp_path: Path, event: dict[str, object]) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(event)
    journal.close()
    with pytest.raises(InputError):
        Bench(tmp_path).open()


def test_a_snapshot_of_another_controller_is_refused(tmp_path: Path) -> None:
    service = Bench(tmp_path).open()
    service.ask(0)
    service.close()
    name, sha256 = write_snapshot(tmp_path, 9, {"controller": {"rng": [1, "x"]}, "proposals": {}})
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append({"event": "snapshot", "time": 0.0, "stage": "body", "file": name, "sha256": sha256})
    journal.close()
    with pytest.raises(InputError, match="must hold the controller's state"):
        Bench(tmp_path).open()


RECIPE = {"seed": 3, "controller": {"name": "random"}, "search": {"budget": "5", "select": "proxy"}}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 4}, r"recipe key seed .*began with \(3\), but got 4"),
        ({"controller": {"name": "evolution", "population": 9}}, r"recipe key controller.name .*'random'"),
        ({"search": {"budget": "6", "select": "proxy"}}, r"recipe key search.budget .*\('5'\), but got 6"),
        ({"search": "none"}, "recipe key search"),
        ({"seed": True}, "recipe key seed"),
    ],
)
def test_another_recipe_is_refused_by_its_first_key(
    tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    bench = Bench(tmp_path)
    bench.recipe = RECIPE
    service = bench.open()
    (start,) = events(service, "run_start")
    assert list(start)[list(start).index("plan") + 1] == "recipe"
    assert start["recipe"] == RECIPE
    service.close()
    content = (tmp_path / "journal.jsonl").read_bytes()
    bench.recipe = {**RECIPE, **changed}
    with pytest.raises(InputError, match=message):
        bench.open()
    assert (tmp_path / "journal.jsonl").read_bytes() == content
    # A key that one of them does not know is no difference.
    bench.recipe = {"seed": 3, "later": 1, "search": {"select": "proxy"}}
    bench.open().close()


def test_a_journal_without_a_recipe_is_resumed_as_ever(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.open().close()
    bench.recipe = RECIPE
    bench.open().close()


def test_a_new_run_takes_no_journal_but_its_own(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.begin = True
    bench.open("driver").close()
    # Ray has restarted the service.
    bench.open("driver").close()
    content = (tmp_path / "journal.jsonl").read_bytes()
    message = rf"begin its journal itself.* one that process {os.getpid()} on .* has begun.*--resume"
    with pytest.raises(InputError, match=message):
        bench.open("another")
    assert (tmp_path / "journal.jsonl").read_bytes() == content
    bench.begin = False
    bench.open("another").close()
    # It has resumed the run; the first driver's service is not begun again below it.
    bench.begin = True
    with pytest.raises(InputError, match="has resumed"):
        bench.open("driver")


def test_what_was_dropped_is_said_in_the_journal(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    service = bench.open()
    service.tell(0, candidate(service.ask(0)).id, completed(0.5))
    service.close()
    path = tmp_path / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1].replace(b'"completion"', b'"completioN"'))
    service = bench.open()
    (resumed,) = events(service, "run_resume")
    assert resumed["dropped"] == {"line": len(lines), "bytes": len(lines[-1]) - 1, "torn": False}
    assert service.status().pending == (0,)
    service.close()
    service = bench.open()
    assert events(service, "run_resume")[-1]["dropped"] is None
    service.close()


def test_what_was_dropped_behind_the_end_of_a_run_is_said_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    service = bench.open(candidates=1)
    service.tell(0, candidate(service.ask(0)).id, completed(0.5))
    assert isinstance(service.ask(0), Finished)
    service.close()
    with open(tmp_path / "journal.jsonl", "ab") as file:
        file.write(b"rubbish\n")
    service = bench.open(candidates=1)
    assert events(service, "run_resume")[-1]["dropped"]["bytes"] == 7
    assert isinstance(service.ask(0), Finished)
    assert service.status().completed == 1
    service.close()
