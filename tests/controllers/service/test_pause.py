"""A run of which most fails stops spending, and says what the failures share."""

from pathlib import Path

import pytest
from scripted import Bench, candidate, completed, events
from toy_space import ToyRecipe, ToySpace

from controllers.base import Candidate, Result
from controllers.service.answers import Finished, Wait
from controllers.service.pause import most_fail
from controllers.service.service import ControllerService
from controllers.service.state import Outcome

# Bodies of a toy space with five operations, each a network of its own; some have op4 in front.
SPACE = ToySpace(ToyRecipe(choices=5, stages=("body",)))
ENDS = [(one, other) for one in (0, 1, 2, 3) for other in (0, 1, 2, 3) if one != other]
WITH_4 = [(4, 3, *end) for end in ENDS if end[0] != 3]
WITHOUT_4 = [(0, 3, *end) for end in ENDS if end[0] != 3]
LEFT = [(1, 2, *end) for end in ENDS if end[0] != 2]


def make_bench(folder: Path) -> Bench:
    """More networks than a run may try in vain."""
    bench = Bench(folder, [*WITHOUT_4, *WITH_4, *LEFT])
    bench.space = SPACE
    return bench


def tell(service: ControllerService, failure: str | None) -> None:
    id = candidate(service.ask(0)).id
    result = completed(0.1) if failure is None else Result("failed", reason=failure)
    service.tell(0, id, result)


@pytest.mark.parametrize(
    ("failed", "of", "pauses"), [(10, 20, False), (11, 20, True), (11, 11, True), (10, 10, False)]
)
def test_eleven_of_the_last_twenty(failed: int, of: int, pauses: bool) -> None:
    recent = [Outcome(id, None, "no" if id < failed else None) for id in range(of)]  # type: ignore[arg-type]
    assert most_fail(recent) == pauses


def test_a_run_pauses_and_goes_on_when_it_is_resumed(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    service = bench.open(candidates=30)
    owned = candidate(service.ask(7))
    for step in range(10):
        tell(service, f"DivergedLossError: the loss at step {step} is nan")
    assert not service.status().finished
    tell(service, "MemoryError")
    answer = service.ask(0)
    assert isinstance(answer, Finished)
    assert answer.reason == "paused"
    (pause,) = events(service, "pause")
    assert pause["failed"] == list(range(1, 12))
    assert pause["common"] == "DivergedLossError: the loss at step 9 is nan"
    assert pause["error"] == answer.error == service.status().error
    assert answer.error.startswith(
        "paused: 11 of the last 11 candidates failed, 10 of them like this: DivergedLossError: "
    )
    # What was being trained is taken; nothing more is handed out, not even what another driver left.
    service.tell(7, owned.id, completed(0.5))
    assert isinstance(service.ask(7), Finished)
    # A restart below the same driver changes nothing.
    service.close()

    service = bench.open(candidates=30)
    assert not service.status().finished
    for _ in range(10):
        tell(service, "no")
    assert not service.status().finished
    tell(service, "no")
    assert isinstance(service.ask(0), Finished)
    assert len(events(service, "pause")) == 2


def test_a_restarted_service_of_the_same_driver_stays_paused(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    service = bench.open(session="driver", candidates=30)
    for _ in range(11):
        tell(service, "no")
    assert isinstance(service.ask(0), Finished)
    service.close()
    assert isinstance(bench.open(session="driver", candidates=30).ask(0), Finished)


def test_candidates_of_the_pause_are_handed_out_after_it(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    service = bench.open(candidates=30)
    transient = candidate(service.ask(5))
    service.tell(5, transient.id, Result("failed", reason="no memory", transient=True))
    # Its retry goes first; slot 5 has it while the others fail.
    assert service.ask(5) == transient
    for _ in range(11):
        tell(service, "no")
    assert isinstance(service.ask(0), Finished)
    service.close()
    assert bench.open(candidates=30).ask(0) == transient


def test_what_the_failures_share_is_named(tmp_path: Path) -> None:
    unlucky = WITHOUT_4[5]
    bench = Bench(tmp_path, [*WITHOUT_4[:6], *WITH_4, (4, 2, 0, 1)])
    bench.space = SPACE
    service = bench.open(candidates=40)
    while isinstance(answer := service.ask(0), Candidate):
        body = answer.architecture.parts["body"]
        fails = 4 in body or body == unlucky
        service.tell(0, answer.id, Result("failed", reason="no") if fails else completed(0.1))
    (pause,) = events(service, "pause")
    assert pause["shared"] == ["op op4", "body.op0 = op4"]
    assert (
        "what they share, and those that were trained do not have: op op4, body.op0 = op4" in pause["error"]
    )


def test_a_run_that_fails_to_its_end_ends(tmp_path: Path) -> None:
    """Nothing would be saved by a pause when the budget is spent."""
    bench = make_bench(tmp_path)
    service = bench.open(candidates=12)
    tell(service, None)
    for _ in range(11):
        tell(service, "no")
    assert service.ask(0) == Finished("budget")


def test_a_pause_comes_before_waiting_for_others(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    service = bench.open(candidates=12)
    held = candidate(service.ask(1))
    for _ in range(11):
        tell(service, "no")
    # The budget is given out: what is pending decides how the run ends.
    assert isinstance(service.ask(0), Wait)
    service.tell(1, held.id, completed(0.5))
    assert service.ask(0) == Finished("budget")
