"""What another run measured teaches a controller, and nothing else."""

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from scripted import BODIES, TWIN, Bench, candidate, events
from toy_space import ToyRecipe, ToySpace

from controllers.base import Result
from controllers.service.journal import Event, Journal
from controllers.service.plan import SearchPlan
from controllers.service.service import ControllerService
from controllers.service.warm_start import WarmStart
from nasperc.errors import InputError

PRINT = "a" * 64
REWARDS = [0.1, 0.9, 0.3, 0.2]


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A run that has ended: three bodies, of which the second is the best, and one head on it."""
    bench = Bench(tmp_path / "other", stages=("body", "head"))
    service = open_run(bench, candidates=6, seed=77)
    for reward, flops in zip(REWARDS[:3], (10.0, 20.0, 30.0), strict=True):
        cost = {"flops": flops}
        service.tell(0, candidate(service.ask(0)).id, Result("completed", reward, cost=cost))
    service.tell(0, candidate(service.ask(0)).id, Result("failed", reason="no"))
    service.tell(0, candidate(service.ask(0)).id, Result("stopped", halfway=0.7))
    service.tell(0, candidate(service.ask(0)).id, Result("completed", REWARDS[3], cost={"flops": 40.0}))
    service.close()
    return tmp_path / "other"


def open_run(bench: Bench, *runs: Path, **plan: Any) -> ControllerService:
    bench.made = []
    settings = SearchPlan(**{"candidates": 5, "seed": 3, **plan})
    return ControllerService(
        bench.folder,
        bench.space,
        bench._make,
        settings,
        fingerprint=PRINT,
        warm_start=WarmStart(runs, bench.space, PRINT, settings) if runs else None,
        clock=bench.clock,
    )


def externals(bench: Bench) -> list[tuple[Any, ...]]:
    return [tuple(entry[1:]) for entry in bench.controller.told if entry[0] == "external"]


def test_completed_evaluations_come_before_the_first_proposal(tmp_path: Path, other: Path) -> None:
    bench = Bench(tmp_path / "run")
    service = open_run(bench, other)
    first = candidate(service.ask(0))
    assert bench.controller.told == [("external", BODIES[number], REWARDS[number]) for number in range(3)]
    kinds = [event["event"] for event in service.events_since(0)]
    assert kinds == ["run_start", "stage_start", *["external"] * 3, "warm_start", "proposal"]
    external = events(service, "external")[1]
    assert (external["run"], external["of"], external["reward"]) == (str(other), 1, 0.9)
    # Neither counted nor ranked; and what it measured is trained here all the same.
    assert first.architecture.parts["body"] == BODIES[0]
    status = service.status()
    assert (status.completed, status.candidates_left, status.best) == (0, 5, None)
    # But a rejection may be as bad as the worst of them.
    service.tell(0, first.id, Result("rejected", reason="too dear"))
    assert bench.controller.told[-1] == ("observe", 0, 0.1)


def test_a_later_stage_needs_the_same_fixed_parts(tmp_path: Path, other: Path) -> None:
    for best, given in ((1, [((1, 1), REWARDS[3])]), (0, [])):
        bench = Bench(tmp_path / f"run{best}", stages=("body", "head"))
        service = open_run(bench, other)
        for number in range(4):
            cost = {"flops": 1.0}
            service.tell(
                0, candidate(service.ask(0)).id, Result("completed", float(number == best), cost=cost)
            )
        assert candidate(service.ask(0)).stage == "head"
        assert externals(bench) == given
        skipped = events(service, "warm_start")[-1]["skipped"]
        assert list(skipped) == ([] if given else [str(other)])
        assert all("fixed parts" in reason and str(list(BODIES[1])) in reason for reason in skipped.values())


def test_a_resumed_run_needs_the_other_run_no_more(tmp_path: Path, other: Path) -> None:
    bench = Bench(tmp_path / "run")
    service = open_run(bench, other)
    first = service.ask(0)
    told = bench.controller.told
    service.close()
    shutil.rmtree(other)
    again = open_run(bench, other)
    assert bench.controller.told == told
    assert again.ask(0) == first
    assert len(events(again, "warm_start")) == 1


@pytest.mark.parametrize("kept", [2, 3, 4, 5])
def test_a_warm_start_that_was_cut_off_is_completed(tmp_path: Path, other: Path, kept: int) -> None:
    """``kept``: lines of the journal; the externals are lines 3 to 5."""
    bench = Bench(tmp_path / "run")
    service = open_run(bench, other)
    service.ask(0)
    told = bench.controller.told
    service.close()
    journal = tmp_path / "run" / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:kept]))
    again = open_run(bench, other)
    again.ask(0)
    assert bench.controller.told == told
    assert [event["of"] for event in events(again, "external")] == [0, 1, 2]


def test_limits_and_target_of_this_run_hold(tmp_path: Path, other: Path) -> None:
    bench = Bench(tmp_path / "run")
    target = {"weight": 1.0, "target": 20.0 / math.e}
    service = open_run(bench, other, limits={"flops": 25}, cost_target=target)
    service.ask(0)
    penalty = math.log(10 * math.e / 20)
    assert externals(bench) == [
        (BODIES[0], pytest.approx(REWARDS[0] - penalty)),
        (BODIES[1], pytest.approx(REWARDS[1] - 1)),
    ]
    assert events(service, "warm_start")[0]["evaluations"] == 2


def test_a_run_named_twice_teaches_once_and_several_in_their_order(tmp_path: Path, other: Path) -> None:
    second = Bench(tmp_path / "second", [TWIN])
    service = open_run(second, candidates=1)
    service.tell(0, candidate(service.ask(0)).id, Result("completed", 5.0))
    service.close()
    bench = Bench(tmp_path / "run")
    open_run(bench, second.folder, other, second.folder).ask(0)
    assert externals(bench) == [(TWIN, 5.0), *((BODIES[n], REWARDS[n]) for n in range(3))]


def check(other: Path, space: ToySpace | None = None, fingerprint: str = PRINT, **plan: Any) -> None:
    space = space or ToySpace(ToyRecipe(stages=("body",)))
    WarmStart([other], space, fingerprint, SearchPlan(candidates=5, **plan)).check()


def test_what_is_the_same_passes(other: Path) -> None:
    check(other)
    # Of which the first stage is missing in the other run, but not the second.
    check(other, ToySpace(ToyRecipe(stages=("joint", "head"))))


def test_a_run_from_before_the_pixels_were_known_teaches_and_that_is_said(
    tmp_path: Path, other: Path
) -> None:
    space, plan = ToySpace(ToyRecipe(stages=("body",))), SearchPlan(candidates=5)
    warm_start = WarmStart([other], space, "b" * 64, plan, earlier=[PRINT])
    (note,) = warm_start.check()
    assert note.startswith(f"pixels not known: {other} began before")
    (stage,) = space.stages()
    evaluations, skipped = warm_start.evaluations(stage, stage.fixed)
    assert [each.reward for each in evaluations] == REWARDS[:3]
    assert skipped == {}
    # The same pixels, as they were known: nothing to be said.
    assert WarmStart([other], space, PRINT, plan, earlier=["c" * 64]).check() == []


class Wider(ToySpace):
    def stages(self) -> tuple[Any, ...]:
        (stage,) = super().stages()
        return (type(stage)(stage.name, stage.free, stage.fixed, {"body": 9}, 1.0, stage.overrides),)


class Overridden(ToySpace):
    def stages(self) -> tuple[Any, ...]:
        (stage,) = super().stages()
        return (type(stage)(stage.name, stage.free, stage.fixed, stage.widths, 1.0, {"epochs": 2}),)


class Newer(ToySpace):
    version = 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fingerprint": "b" * 64}, "proxy fingerprint of this run .'?bbb.*got aaa"),
        ({"space": Newer(ToyRecipe(stages=("body",)))}, "the space of this run .*'version': 2"),
        ({"space": ToySpace(ToyRecipe(stages=("joint",)))}, "the stage joint of this run"),
        ({"space": Wider(ToyRecipe(stages=("body",)))}, "the widths of this run .*9.*got .*8"),
        ({"space": Overridden(ToyRecipe(stages=("body",)))}, "the overrides of this run .*2.*got .*1"),
        ({"limits": {"flops": 5}}, "keep this run's limits"),
        ({"limits": {"latency_ms": 5}}, "keep this run's limits"),
        ({"cost_target": {"cost": "params", "weight": 1, "target": 1}}, "with the cost that it aims at"),
    ],
)
def test_a_mismatch_is_refused_with_what_differs(other: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        check(other, **changes)
    assert caught.value.where == str(other / "journal.jsonl")


def rewrite(other: Path, change: Any) -> None:
    lines: list[Event] = [change(dict(event)) for event in Journal.read(other / "journal.jsonl")]
    shutil.rmtree(other)
    journal = Journal(other / "journal.jsonl")
    journal.append(*({key: value for key, value in line.items() if key != "crc"} for line in lines))
    journal.close()


@pytest.mark.parametrize(
    "change",
    [
        {"reward": "high"},
        {"cost": None},
        {"architecture": {"space": "toy", "version": 1, "variant": "plain", "parts": {"body": [0, 0, 0, 0]}}},
        {"event": "stage_start", "widths": 3},
        {"id": None},
    ],
)
def test_a_forged_journal_is_refused(other: Path, change: dict[str, Any]) -> None:
    rewrite(
        other,
        lambda event: {**event, **change} if event["event"] == change.get("event", "completion") else event,
    )
    with pytest.raises(InputError):
        check(other)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must have a journal"):
        check(tmp_path)


def test_a_resumed_run_must_measure_the_same(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    open_run(bench).close()
    with pytest.raises(InputError, match="must measure what it measured before"):
        ControllerService(
            bench.folder, bench.space, bench._make, SearchPlan(candidates=5, seed=3), fingerprint="b" * 64
        )
