"""What must hold after every fault, read from journals alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from controllers.service.journal import Event, Journal

FINISHED = ("completion", "stop", "failure")
# What an interruption adds to a run, and nothing that was measured.
INTERRUPTION = ("run_start", "run_resume", "retry", "reassign", "snapshot")
CANDIDATE = ("hash", "seed", "architecture", "widths", "threshold", "overrides")


def pending(events: Sequence[Event]) -> dict[int, Event]:
    """Proposals without a result, by id."""
    ended = {event["id"] for event in events if event["event"] in FINISHED}
    return {
        event["id"]: event for event in events if event["event"] == "proposal" and event["id"] not in ended
    }


def lost(before: Sequence[Event], after: Sequence[Event]) -> list[Event]:
    """Completions of an interrupted journal that the resumed one does not know."""
    return [event for event in before if event["event"] == "completion" and event not in after]


def repeated(events: Iterable[Event]) -> list[tuple[str, str]]:
    """Networks (stage, hash) that were completed more than once."""
    counts = Counter((event["stage"], event["hash"]) for event in events if event["event"] == "completion")
    return [network for network, count in counts.items() if count > 1]


def trained_after_completion(
    events: Sequence[Event], evaluations: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Evaluations that a worker began after the journal knew the network's completion: work done twice. All by the
    monotonic clock of this machine, whatever was done to the other."""
    completed, zero = {}, 0.0
    for event in events:
        zero = event.get("zero", zero)
        if event["event"] == "completion":
            completed[event["stage"], event["hash"]] = zero + event["at"]
    return [
        note
        for note in evaluations
        if note["what"] == "begin"
        and note["reading"] > completed.get((note["stage"], note["hash"]), float("inf"))
    ]


def check_resumed(before: Sequence[Event], after: Sequence[Event]) -> None:
    """``after`` is the journal of a run that ended, ``before`` what was left of it at an interruption."""
    assert not lost(before, after)
    assert list(after[: len(before)]) == list(before), "what was acknowledged was changed"
    assert not repeated(after)
    proposals = [event["id"] for event in after if event["event"] == "proposal"]
    assert proposals == list(range(len(proposals))), "a candidate was proposed twice"
    proposed = {event["id"]: event for event in after if event["event"] == "proposal"}
    for event in after:
        if event["event"] in FINISHED:
            assert {key: event[key] for key in CANDIDATE} == {
                key: proposed[event["id"]][key] for key in CANDIDATE
            }
    again = {event["id"]: event for event in after[len(before) :] if event["event"] in FINISHED}
    missing = set(pending(before)) - set(again)
    assert not missing, f"pending candidates {missing} never ran again"
    if before and len(after) > len(before):
        first = after[len(before)]
        # Between two stages there is none.
        assert first["stage"] == stage_at_end(before)
    started = [event["stage"] for event in after if event["event"] == "stage_start"]
    assert len(started) == len(set(started)), "a stage was begun twice"


def stage_at_end(events: Sequence[Event]) -> str | None:
    """The stage that a journal ends in."""
    for event in reversed(events):
        if event["event"] in ("stage_end", "run_end"):
            return None
        if event["event"] == "stage_start":
            return str(event["stage"])
    return None


def story(events: Iterable[Event]) -> list[Event]:
    """What was proposed, learned and measured, in order, without times, process numbers and interruptions."""
    return [
        {key: value for key, value in event.items() if key not in ("time", "at", "seconds", "slot")}
        for event in events
        if event["event"] not in INTERRUPTION
    ]


def ranking(top10: Path) -> dict[str, Any]:
    """``top10.json`` without times, and without how it was executed and disturbed."""
    document: dict[str, Any] = json.loads(top10.read_text())
    del document["search_cost_hours"], document["recipe"]["search"], document["recipe"]["proxy"]
    for entry in document["entries"]:
        del entry["seconds"]
    return document


def check_same_search(run: Path, undisturbed: Path) -> None:
    """A one-worker run that was interrupted ended as the undisturbed one did."""
    assert story(Journal.read(run / "journal.jsonl")) == story(Journal.read(undisturbed / "journal.jsonl"))
    assert ranking(run / "top10.json") == ranking(undisturbed / "top10.json")
