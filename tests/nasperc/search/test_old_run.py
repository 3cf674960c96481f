"""A run of the version before lines were chained and timed, and before the journal held the recipe (``old_run``)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from controllers.service.journal import Journal
from nasperc.errors import InputError
from nasperc.search.pareto import read_pareto
from nasperc.search.run import run_search
from nasperc.search.top10 import read_top10

PLUGIN = Path(__file__).with_name("toy_plugin.py")
OLD = Path(__file__).with_name("old_run")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "old"
    folder.mkdir(parents=True)
    for file in OLD.iterdir():
        (folder / file.name).write_text(file.read_text("utf-8").replace("TOY_PLUGIN", str(PLUGIN)), "utf-8")
    return folder


def ranked(path: Path) -> dict[str, Any]:
    """All but the recipe, which says today's defaults of keys that it did not have."""
    content: dict[str, Any] = json.loads(path.read_text())
    del content["recipe"]
    return content


def test_its_files_are_read(run: Path) -> None:
    events = Journal.read(run / "journal.jsonl")
    assert not any(key in event for event in events for key in ("at", "zero", "recipe", "n", "prev"))
    assert [entry.id for entry in read_top10(run / "top10.json").entries] == [
        entry["id"] for entry in json.loads((run / "top10.json").read_text())["entries"]
    ]
    assert read_pareto(run / "pareto.json")


def test_ended_it_writes_its_ranking_again_and_nothing_else(run: Path, console: Console) -> None:
    journal = (run / "journal.jsonl").read_bytes()
    rankings = {name: ranked(run / name) for name in ("top10.json", "pareto.json")}
    run_search(None, run, resume=True, console=console)
    assert (run / "journal.jsonl").read_bytes() == journal
    assert {name: ranked(run / name) for name in rankings} == rankings


def test_interrupted_it_goes_on_and_its_lines_are_chained_from_there(run: Path, console: Console) -> None:
    old = (run / "journal.jsonl").read_bytes()
    top10 = json.loads((run / "top10.json").read_text())
    lines = old.splitlines(keepends=True)
    kept = b"".join(lines[:12])
    (run / "journal.jsonl").write_bytes(kept)
    for name in ("top10.json", "pareto.json"):
        (run / name).unlink()
    run_search(None, run, resume=True, console=console)
    content = (run / "journal.jsonl").read_bytes()
    assert content.startswith(kept)
    first = json.loads(content[len(kept) :].splitlines()[0])
    assert (first["event"], first["n"], first["prev"]) == ("run_resume", 13, hashlib.sha256(kept).hexdigest())
    assert [event["n"] for event in map(json.loads, content[len(kept) :].splitlines())][-1] == len(
        content.splitlines()
    )
    again = json.loads((run / "top10.json").read_text())
    assert [(entry["id"], entry["hash"], entry["reward"]) for entry in again["entries"]] == [
        (entry["id"], entry["hash"], entry["reward"]) for entry in top10["entries"]
    ]
    # What was written before is bound by the hash from now on.
    (run / "journal.jsonl").write_bytes(b"".join([lines[0], *lines[2:12], content[len(kept) :]]))
    with pytest.raises(InputError, match=r"must follow the one before it.*line 12\b"):
        Journal.read(run / "journal.jsonl")


def test_any_part_of_a_journal_that_two_versions_wrote_can_be_asked_for(run: Path) -> None:
    journal = Journal(run / "journal.jsonl")
    whole = journal.since(0)
    resumed = {"event": "run_resume", "session": "s", "boot": None, "zero": 1.0, "pending": []}
    journal.append({**resumed, "time": 1.0, "at": 0.0}, {"event": "note", "time": 2.0, "at": 1.0})
    for index in range(len(whole) + 2):
        assert len(journal.since(index)) == len(whole) + 2 - index
    journal.close()
