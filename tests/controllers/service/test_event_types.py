"""Events with a right checksum and wrong values, as somebody would make them by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controllers.service.event_types import REQUIRED, has_right_types
from controllers.service.journal import Journal
from nasperc.errors import InputError

COMPLETION: dict[str, Any] = {
    "event": "completion", "time": 1.5, "stage": "body", "id": 3, "architecture": {}, "hash": "ab", "seed": 1,
    "widths": {"fpn": 64}, "slot": 0, "reward": -1.5, "halfway": None, "metrics": {"ap": None}, "cost": {"flops": 2},
    "seconds": 3,
}  # fmt: skip


def test_a_completion_as_it_is_written() -> None:
    assert has_right_types(COMPLETION)
    assert has_right_types({**COMPLETION, "added": ["later"], "slot": None, "halfway": 0.5})
    assert has_right_types({"event": "of a later version"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("event", ["completion"]), ("time", "now"), ("stage", None), ("stage", "\ud800"), ("id", 1.0), ("id", True),
        ("id", 2**63), ("architecture", []), ("hash", None), ("seed", "1"), ("widths", {"fpn": "64"}), ("reward", None),
        ("reward", float("inf")), ("reward", 10**400), ("halfway", "x"), ("metrics", []), ("metrics", {"ap": "high"}),
        ("cost", {"flops": [1]}), ("seconds", None),
    ],
)  # fmt: skip
def test_a_value_of_another_type(tmp_path: Path, key: str, value: object) -> None:
    assert not has_right_types({**COMPLETION, key: value})


@pytest.mark.parametrize("kind", sorted(REQUIRED))
def test_a_missing_key(kind: str) -> None:
    assert not has_right_types({"event": kind, "time": 0.0})
    assert not has_right_types({"event": kind})


def test_a_journal_with_such_a_line_is_refused_and_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(COMPLETION, {**COMPLETION, "reward": "best"})
    journal.close()
    before = journal.path.read_bytes()
    for read in (Journal.read, Journal):
        with pytest.raises(InputError, match=r"an event as nasperc writes it.*line 2"):
            read(journal.path)
    assert journal.path.read_bytes() == before
