"""The checks themselves: each kind of damage is seen."""

from __future__ import annotations

from typing import Any

import pytest
from evidence import check_resumed, lost, repeated, stage_at_end, story, trained_after_completion

from controllers.service.journal import Event

ARCHITECTURE = {"seed": 1, "architecture": {}, "widths": {}, "threshold": None, "overrides": {}}


def event(kind: str, id: int | None = None, **values: Any) -> Event:
    candidate = {} if id is None else {"id": id, "hash": f"hash {id}", **ARCHITECTURE}
    return {"event": kind, "time": 0.0, "at": 0.0, "stage": "body", **candidate, **values}


BEFORE = [
    event("run_start", stage=None),
    event("stage_start"),
    event("proposal", 0),
    event("completion", 0, reward=0.5),
    event("proposal", 1),
]
AFTER = [
    *BEFORE,
    event("run_resume"),
    {**event("reassign"), "id": 1},
    event("completion", 1, reward=0.6),
    event("stage_end"),
    event("run_end", stage=None),
]


def test_a_good_resumption_passes() -> None:
    check_resumed(BEFORE, AFTER)
    check_resumed([], AFTER)
    check_resumed(AFTER, AFTER)
    assert stage_at_end(BEFORE) == "body"
    assert stage_at_end(AFTER) is None
    assert [entry["event"] for entry in story(AFTER)].count("completion") == 2


@pytest.mark.parametrize(
    "after",
    [
        # A completion is missing; one is changed; one is done twice; a pending one never comes back; another seed;
        # proposed twice; begun twice; another stage.
        [entry for entry in AFTER if entry.get("reward") != 0.5],
        [{**entry, "reward": 0.4} if entry.get("reward") == 0.5 else entry for entry in AFTER],
        [*AFTER[:7], event("completion", 0, reward=0.5), *AFTER[7:]],
        [entry for entry in AFTER if entry.get("reward") != 0.6],
        [{**entry, "seed": 2} if entry.get("reward") == 0.6 else entry for entry in AFTER],
        [*AFTER[:7], event("proposal", 1), *AFTER[7:]],
        [*AFTER[:7], event("stage_start"), *AFTER[7:]],
        [{**entry, "stage": "head"} if entry["event"] == "run_resume" else entry for entry in AFTER],
    ],
)
def test_damage_is_seen(after: list[Event]) -> None:
    with pytest.raises(AssertionError):
        check_resumed(BEFORE, after)


def test_what_is_lost_or_repeated_is_counted() -> None:
    assert [entry["id"] for entry in lost(BEFORE, AFTER[4:])] == [0]
    assert repeated([*AFTER, event("completion", 1)]) == [("body", "hash 1")]
    assert not repeated([*AFTER, event("completion", 1, stage="head")])
    note = {"what": "begin", "stage": "body", "hash": "hash 1"}
    assert not trained_after_completion(AFTER, [{**note, "reading": -1.0}])
    assert trained_after_completion(AFTER, [{**note, "reading": 1.0}])
