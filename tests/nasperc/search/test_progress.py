from __future__ import annotations

from collections.abc import Callable

import pytest

from controllers.service.journal import Event
from nasperc.search.progress import Running, SearchProgress
from search_spaces.base import SearchSpace

MakeEvent = Callable[..., Event]


@pytest.fixture
def progress(toy_space: SearchSpace, make_event: MakeEvent) -> SearchProgress:
    """A run that began at second 1000, and proposed candidates 0 and 1 to the slots 0 and 1."""
    progress = SearchProgress(toy_space)
    progress.apply(make_event("run_start", 1000.0, None))
    progress.apply(make_event("stage_start", 1000.0, "body"))
    progress.apply(make_event("proposal", 1000.0, id=0, slot=0))
    progress.apply(make_event("proposal", 1001.0, id=1, slot=1))
    return progress


def test_counts_best_and_mean(progress: SearchProgress, make_event: MakeEvent) -> None:
    for event in (
        make_event("completion", 1010.0, id=0, reward=0.5),
        make_event("completion", 1020.0, id=1, reward=0.3),
        make_event("stop", 1030.0, id=2, halfway=0.9),
        make_event("failure", 1040.0, id=3, reason="NaN"),
        make_event("replay", 1041.0, reward=0.5),
        make_event("redraw", 1042.0),
    ):
        progress.apply(event)
    counts = (progress.completed, progress.stopped, progress.failed, progress.replayed, progress.redrawn)
    assert counts == (2, 1, 1, 1, 1)
    assert progress.done == 4
    assert (progress.best, progress.best_id) == (0.5, 0)
    assert progress.moving_average == pytest.approx(0.4)
    assert progress.last_failure == "candidate 3: NaN"


def test_a_rejection_frees_its_slot_and_is_not_counted(
    progress: SearchProgress, make_event: MakeEvent
) -> None:
    progress.apply(make_event("rejection", 1010.0, id=1, slot=1, reason="flops 3 exceed the limit of 2"))
    assert (progress.rejected, progress.done, list(progress.running)) == (1, 0, [0])
    assert progress.last_rejection == "candidate 1: flops 3 exceed the limit of 2"
    assert progress.candidate_seconds == 3.6
    progress.apply(make_event("stage_end", reason="rejected"))
    assert (progress.over_limits, progress.converged) == (["body"], [])


def test_the_best_is_the_best_after_its_penalty(progress: SearchProgress, make_event: MakeEvent) -> None:
    progress.apply(make_event("completion", 1010.0, id=0, reward=0.5, penalty=0.25))
    progress.apply(make_event("completion", 1020.0, id=1, reward=0.75, penalty=1.0))
    assert (progress.best, progress.best_id, progress.best_penalty) == (0.25, 0, 0.25)
    assert progress.moving_average == 0.0
    progress.apply(make_event("stop", 1030.0, id=2, halfway=0.5, penalty=1.0))
    assert progress.last_reward == -0.5


def test_a_warm_start_is_of_its_stage(progress: SearchProgress, make_event: MakeEvent) -> None:
    progress.apply(make_event("warm_start", evaluations=12, skipped={"runs/x": "it differs"}))
    assert (progress.warm, progress.not_warm) == (12, ["body: it differs"])
    progress.apply(make_event("stage_start", 1011.0, "head"))
    assert progress.warm == 0


def test_a_retry_is_no_failure_and_a_pause_ends_like_an_error(
    progress: SearchProgress, make_event: MakeEvent
) -> None:
    progress.apply(make_event("retry", 1010.0, id=0, slot=0, reason="out of memory", seconds=9.0))
    assert (progress.failed, progress.done, progress.candidate_seconds) == (0, 0, 9.0)
    assert [running.id for running in progress.running.values()] == [1]
    assert progress.last_failure == "candidate 0, tried once more: out of memory"
    progress.apply(make_event("pause", 1020.0, reason="paused", error="paused: most fail"))
    assert (progress.finished, progress.error) == (True, "paused: most fail")
    assert progress.elapsed(9999.0) == pytest.approx(20.0)
    progress.apply(make_event("run_resume", 2000.0, session="next"))
    assert (progress.finished, progress.error) == (False, None)


def test_a_stage_begins_with_its_own_best(progress: SearchProgress, make_event: MakeEvent) -> None:
    progress.apply(make_event("completion", 1010.0, id=0, reward=0.5))
    progress.apply(make_event("stage_start", 1011.0, "head"))
    assert (progress.best, progress.moving_average, progress.done) == (None, None, 1)


def test_speed_and_time_left(progress: SearchProgress, make_event: MakeEvent) -> None:
    assert progress.seconds_left(1010.0) is None
    for id in range(4):
        progress.apply(make_event("completion", 1010.0 + id, id=id, reward=0.1))
    assert progress.candidates_per_hour(1040.0) == pytest.approx(4 / 40 * 3600)
    assert progress.seconds_left(1040.0) == pytest.approx(6 * 10)
    assert progress.fraction(1040.0) == pytest.approx(0.4)


def test_a_budget_in_time_leaves_what_is_not_spent(toy_space: SearchSpace, make_event: MakeEvent) -> None:
    progress = SearchProgress(toy_space)
    progress.apply(make_event("run_start", 1000.0, None, plan={"candidates": None, "seconds": 100.0}))
    assert progress.seconds_left(1030.0) == pytest.approx(70.0)
    assert progress.fraction(1030.0) == pytest.approx(0.3)


def test_the_time_of_an_interruption_does_not_count(progress: SearchProgress, make_event: MakeEvent) -> None:
    progress.apply(make_event("completion", 1010.0, id=0, reward=0.1))
    progress.apply(make_event("run_resume", 5000.0, None))
    assert progress.running == {}
    assert progress.elapsed(5005.0) == pytest.approx(15.0)
    assert progress.candidates_per_hour(5005.0) is None
    progress.apply(make_event("run_end", 5010.0, None, reason="budget", error=None))
    assert progress.finished
    assert progress.seconds_left(9999.0) == 0.0
    assert progress.elapsed(9999.0) == pytest.approx(20.0)


def test_running_candidates_by_slot(progress: SearchProgress, make_event: MakeEvent) -> None:
    assert progress.running == {0: Running(0, 0, 0.0), 1: Running(1, 1, 1.0)}
    progress.apply(make_event("completion", 1010.0, id=0, reward=0.1))
    progress.apply(make_event("reassign", 1015.0, id=1, slot=0, reason="its slot is late"))
    assert progress.running == {0: Running(1, 0, 15.0)}
    assert progress.running_for(0, 1018.0) == 3.0


def test_shares_of_choices_among_the_searched_decisions_of_a_kind(
    progress: SearchProgress, make_event: MakeEvent
) -> None:
    # Candidates 0 and 1: nine times op0 and once op1, over two proposals of five decisions.
    shares = progress.choice_shares()
    assert shares == {("op", "op0"): 0.9, ("op", "op1"): 0.1, ("op", "op2"): 0.0, ("op", "op3"): 0.0}
    progress.apply(make_event("stage_start", 1011.0, "head"))
    parts = {"body": (3, 3, 3, 3, 3), "head": (0, 1, 1)}
    progress.apply(make_event("proposal", 1012.0, "head", id=2, parts=parts))
    expected = {("flag", "off"): 1 / 3, ("flag", "on"): 2 / 3}
    assert progress.choice_shares() == pytest.approx(expected)


def test_shares_look_back_fifty_proposals(progress: SearchProgress, make_event: MakeEvent) -> None:
    for id in range(2, 52):
        progress.apply(make_event("proposal", 1012.0, id=id, parts={"body": (3,) * 5, "head": "original"}))
    assert progress.choice_shares()["op", "op3"] == 1.0


def test_what_the_wall_clock_does_makes_no_difference(
    progress: SearchProgress, make_event: MakeEvent
) -> None:
    progress.apply({**make_event("completion", 1010.0, id=0, reward=0.1), "time": 9e9})
    progress.apply({**make_event("completion", 1020.0, id=1, reward=0.1), "time": 0.0})
    assert progress.elapsed(1040.0) == 40.0
    assert progress.seconds_left(1040.0) == pytest.approx(8 * 20)
    assert progress.candidates_per_hour(1040.0) == pytest.approx(180.0)


def test_choosing_between_stages_does_not_count(progress: SearchProgress, make_event: MakeEvent) -> None:
    progress.apply(make_event("selection", 1100.0, seconds=90.0))
    assert progress.elapsed(1105.0) == 15.0
