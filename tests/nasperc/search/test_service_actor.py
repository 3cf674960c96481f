"""The actor without Ray: what it adds to the service is plain Python."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from controllers.base import Candidate, Result
from nasperc.errors import InputError
from nasperc.recipe.root import Recipe
from nasperc.search.run import run_search
from nasperc.search.service_actor import ServiceActor


def test_a_journal_that_cannot_be_written_ends_the_run_instead_of_its_slots(
    tmp_path: Path, toy_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = ServiceActor(toy_recipe().to_dict(), str(tmp_path), "session")
    candidate = actor.ask(0)
    assert isinstance(candidate, Candidate)
    assert not actor.status().finished

    def full(*events: object) -> None:
        raise InputError(
            "the journal must be written", value="no space left", where=tmp_path, repair="Free some."
        )

    monkeypatch.setattr(actor._service._run.journal, "append", full)
    with pytest.raises(InputError, match="no space left"):
        actor.tell(0, candidate.id, Result("completed", reward=1.0))
    with pytest.raises(InputError, match="no space left"):
        actor.status()


def test_a_restarted_service_that_another_driver_has_replaced_says_so(
    tmp_path: Path, toy_recipe: Callable[..., Recipe]
) -> None:
    recipe = toy_recipe().to_dict()
    first = ServiceActor(recipe, str(tmp_path), "first driver")
    second = ServiceActor(recipe, str(tmp_path), "second driver")
    for call in (second.opened, second.status, lambda: second.ask(0), lambda: second.slot_died(1, 0.0)):
        with pytest.raises(InputError, match=r"one writer at a time.*holds it"):
            call()
    second.close()
    assert isinstance(first.ask(0), Candidate)
    first.close()


def test_a_slot_that_told_a_restarted_service_of_its_hung_candidate_was_ready(
    tmp_path: Path, toy_recipe: Callable[..., Recipe]
) -> None:
    recipe = toy_recipe().to_dict()
    killed = ServiceActor(recipe, str(tmp_path), "session")
    candidate = killed.ask(0)
    assert isinstance(candidate, Candidate)
    killed.close()
    restarted = ServiceActor(recipe, str(tmp_path), "session")
    restarted.tell(0, candidate.id, Result("failed", reason="ended by the watchdog"))
    restarted.slot_died(0, time.monotonic())
    assert setup_failures(restarted) == []
    # Its next process has neither asked nor told.
    restarted.slot_died(0, time.monotonic())
    assert setup_failures(restarted) == ["the worker process died before it was ready"]
    restarted.close()


def setup_failures(actor: ServiceActor) -> list[str]:
    return [event["error"] for event in actor.events_since(0) if event["event"] == "setup_failure"]


def test_a_restarted_service_of_a_new_run_goes_on_and_says_what_it_dropped(
    tmp_path: Path, toy_recipe: Callable[..., Recipe]
) -> None:
    recipe, journal = toy_recipe().to_dict(), tmp_path / "journal.jsonl"
    killed = ServiceActor(recipe, str(tmp_path), "session", begin=True)
    assert isinstance(killed.ask(0), Candidate)
    killed.close()
    lines = journal.read_bytes().splitlines()
    journal.write_bytes(journal.read_bytes()[:-9])
    restarted = ServiceActor(recipe, str(tmp_path), "session", begin=True)
    (resumed,) = [event for event in restarted.events_since(0) if event["event"] == "run_resume"]
    assert resumed["dropped"] == {"line": len(lines), "bytes": len(lines[-1]) - 8, "torn": True}
    assert restarted.status().elapsed > 0
    restarted.close()
    other = ServiceActor(recipe, str(tmp_path), "another session", begin=True)
    with pytest.raises(InputError, match="must begin its journal itself"):
        other.opened()


def test_a_restarted_service_whose_journal_is_gone_does_not_begin_anew(
    tmp_path: Path, toy_recipe: Callable[..., Recipe], console: Console
) -> None:
    recipe, run = toy_recipe({"budget": "4"}), tmp_path / "run"
    run_search(recipe, run, console=console)
    (run / "journal.jsonl").unlink()
    restarted = ServiceActor(recipe.to_dict(), str(run), "session", begin=True)
    with pytest.raises(InputError, match=r"top10\.json while it names what .* does not hold as completed"):
        restarted.opened()
    assert not (run / "journal.jsonl").exists()
