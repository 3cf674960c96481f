"""Candidates over a limit: what the journal, the controller and the budget see of them."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import BODIES, TWIN, Bench, candidate, completed, events

from controllers.base import Result
from controllers.service.answers import Finished
from controllers.service.rejections import WINDOW, Rejections

ALL = [(a, b, c, d) for a in range(3) for b in range(3) for c in range(3) for d in range(3)]
# No two alike next to each other, and no two the same network: 21 of them.
DIFFERENT = [t for t in ALL if all(x != y for x, y in pairwise(t)) and (t[0] < t[1] or t[0] == t[2])]


def rejected(flops: float = 9.0, **cost: float) -> Result:
    return Result("rejected", cost={"flops": flops, **cost}, reason="flops exceed the limit", seconds=0.5)


def run(bench: Bench, results: str, per_update: int = 1, **plan: object) -> list[tuple[object, ...]]:
    """Tell a letter's result for each candidate in turn: a digit completes, s stops, r rejects, f fails."""
    service = bench.open(candidates=100, **plan)
    for number, letter in enumerate(results):
        each = candidate(service.ask(0))
        bench.controller.rewards_per_update = lambda: per_update  # type: ignore[method-assign]
        result = {"r": rejected(), "f": Result("failed", reason="no"), "s": Result("stopped", halfway=-7.0)}
        service.tell(0, each.id, result.get(letter) or completed(float(letter)))
        assert each.id == number
    bench.service = service  # type: ignore[attr-defined]
    return bench.controller.told


def test_a_rejection_is_journaled_and_not_counted(tmp_path: Path) -> None:
    bench = Bench(tmp_path, DIFFERENT)
    run(bench, "4r")
    (rejection,) = events(bench.service, "rejection")  # type: ignore[attr-defined]
    assert rejection["cost"] == {"flops": 9.0}
    assert rejection["reason"] == "flops exceed the limit"
    assert (rejection["id"], rejection["slot"], rejection["observed"]) == (1, 0, 4.0)
    assert rejection["architecture"]["parts"]["body"] == list(DIFFERENT[1])
    status = bench.service.status()  # type: ignore[attr-defined]
    assert (status.completed, status.rejected, status.failed, status.candidates_left) == (1, 1, 0, 99)


def test_it_is_observed_as_the_worst_reward_and_never_twice_in_a_row(tmp_path: Path) -> None:
    # Nothing to compare with; 4; worst of 4; too soon; 6 2; worst of 4 6 2; a failure teaches nothing: too soon.
    told = run(Bench(tmp_path, DIFFERENT), "r4rr62rfr")
    assert told == [
        ("fail", 0),
        ("observe", 1, 4.0),
        ("observe", 2, 4.0),
        ("fail", 3),
        ("observe", 4, 6.0),
        ("observe", 5, 2.0),
        ("observe", 6, 2.0),
        ("fail", 7),
        ("fail", 8),
    ]


def test_a_stopped_candidates_halfway_reward_may_be_the_worst(tmp_path: Path) -> None:
    assert run(Bench(tmp_path, DIFFERENT), "4sr")[-1] == ("observe", 2, -7.0)


def test_an_update_learns_from_one_rejection_at_most(tmp_path: Path) -> None:
    told = run(Bench(tmp_path, DIFFERENT), "5r6r7r8r9r", per_update=3)
    observed = [id for kind, id, *_ in told if kind == "observe"]
    # 1 is the first, 3 and 5 come too soon, 7 comes three rewards (6, 7, 8) after 1, 9 one after 7.
    assert [id for id in observed if id % 2] == [1, 7]


@given(st.lists(st.one_of(st.none(), st.floats(-10, 10)), max_size=300), st.integers(1, 12))
def test_the_rule_against_a_slow_one(results: list[float | None], per_update: int) -> None:
    """None is a rejection. However the updates are cut, no ``per_update`` observations in a row hold two of them."""
    rejections, observed, rewards = Rejections(), [], []
    for reward in results:
        if reward is not None:
            rewards.append(reward)
            rejections.learnt(reward)
            observed.append(False)
            continue
        seen = rejections.reward(per_update)
        rejections.reject({"hash": "x", "cost": {}, "observed": seen})
        if seen is not None:
            assert seen == min(rewards[-WINDOW:])
            observed.append(True)
    for start in range(len(observed)):
        assert sum(observed[start : start + per_update + 1]) <= 1


def test_a_rejected_architecture_is_drawn_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, [BODIES[0], TWIN, BODIES[1]])
    service = bench.open()
    service.ask(0)
    service.tell(0, 0, rejected())
    assert candidate(service.ask(0)).architecture.parts["body"] == BODIES[1]
    (redraw,) = events(service, "redraw")
    assert redraw["reason"] == "rejected"


def test_too_many_in_a_row_end_a_stage_that_has_a_best(tmp_path: Path) -> None:
    bench = Bench(tmp_path, DIFFERENT)
    run(bench, "5rr6rrr", max_rejections=3)
    service = bench.service  # type: ignore[attr-defined]
    assert service.ask(0) == Finished("budget")
    (end,) = events(service, "stage_end")
    assert (end["reason"], end["best"]["reward"]) == ("rejected", 6.0)


@pytest.mark.parametrize("script", [DIFFERENT, DIFFERENT[:2]])
def test_nothing_but_rejections_ends_the_run_and_names_limit_and_cheapest(
    tmp_path: Path, script: list[tuple[int, ...]]
) -> None:
    """Whether they are all different, or the space has no more of them."""
    bench = Bench(tmp_path, script)
    service = bench.open(max_rejections=4, max_replays=9, limits={"flops": 5, "params": 3})
    flops = 9.0
    while not isinstance(answer := service.ask(0), Finished):
        service.tell(0, candidate(answer).id, rejected(flops))
        flops -= 1.0
    count = min(4, len(script))
    assert answer.error is not None
    assert f"{count} architectures were rejected (flops limited to 5, the cheapest rejected" in answer.error
    assert f"rejected {9.0 - count + 1:g}, params limited to 3)" in answer.error
    assert service.status().completed == 0


def test_a_resumed_run_knows_its_rejections(tmp_path: Path) -> None:
    bench = Bench(tmp_path, DIFFERENT)
    told = run(bench, "r4rr62r")
    service = bench.service  # type: ignore[attr-defined]
    state = service._state.stage.rejections
    service.close()
    again = bench.open(candidates=100)
    assert bench.controller.told == told
    assert again._state.stage.rejections == state
    assert again.status().rejected == 4


def test_a_latency_is_handed_out_with_the_same_architecture(tmp_path: Path) -> None:
    bench = Bench(tmp_path, [BODIES[0], TWIN, BODIES[1]])
    service = bench.open()
    first = candidate(service.ask(0))
    assert first.latency_ms is None
    service.tell(0, 0, Result("stopped", halfway=0.1, cost={"flops": 1.0, "latency_ms": 12.5}))
    twin = candidate(service.ask(0))
    assert (twin.hash, twin.latency_ms) == (first.hash, 12.5)
    # Handed out again, by this service or the one after a crash, it still has it.
    assert candidate(service.ask(0)).latency_ms == 12.5
    service.close()
    assert candidate(bench.open().ask(0)).latency_ms == 12.5


def test_a_retry_has_the_latency_that_its_first_try_measured(tmp_path: Path) -> None:
    service = Bench(tmp_path).open()
    first = candidate(service.ask(0))
    service.tell(0, 0, Result("failed", reason="out of memory", transient=True, cost={"latency_ms": 3.5}))
    again = candidate(service.ask(0))
    assert (again.id, again.seed, again.latency_ms) == (0, first.seed, 3.5)
