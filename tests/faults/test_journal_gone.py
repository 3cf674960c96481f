"""A journal that is removed, replaced, cut or emptied while a search runs: it ends, and says where its events are."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from command import Command, document
from conftest import MakeUndisturbed
from faulty_plugin import RELEASE
from ray.cluster_utils import Cluster
from tally import Tally

from controllers.service.journal import Event, Journal

HELD = 5


def replace(path: Path) -> None:
    path.rename(path.with_name("moved"))
    shutil.copy(path.with_name("moved"), path)


def cut(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    os.truncate(path, sum(map(len, lines[:-3])))


def meddle_with(
    home: Path, notes: Path, recipe: dict[str, object], meddle: Callable[[Path], None]
) -> tuple[Command, list[Event], str]:
    """Begin a search, lay hands on its journal while a candidate is held, and let it go on to its end."""
    with Command(home, recipe) as search:
        assert search.until(lambda: any(note["id"] == HELD for note in search.evaluations())), search.said()
        before = search.events()
        meddle(search.journal)
        (notes / RELEASE).touch()
        assert search.finish() == 2, search.said()
    said = " ".join(search.said().split())
    assert "Traceback" not in said, said
    assert "must stay as it was written" in said, said
    return search, before, said


def go_on(
    search: Command, home: Path, recipe: dict[str, object], before: list[Event], said: str, tally: Tally
) -> Path:
    """Do what the message says, and resume."""
    found = re.search(r"still held is in (\S+journal-rescued-\d+\.jsonl)", said)
    assert found, said
    rescued = home / found[1]
    assert Journal.read(rescued) == before
    search.journal.unlink(missing_ok=True)
    rescued.rename(search.journal)
    with Command(home, recipe) as resumed:
        assert resumed.finish() == 0, resumed.said()
    tally.ended(resumed.run, [before], resumed.evaluations())
    return resumed.run


@pytest.mark.parametrize("meddle", [Path.unlink, replace], ids=["removed", "replaced"])
def test_what_was_measured_is_rescued(
    meddle: Callable[[Path], None], tmp_path: Path, tally: Tally, undisturbed: MakeUndisturbed
) -> None:
    home, notes = tmp_path / "home", tmp_path / "notes"
    recipe = document(notes, {"budget": "24"}, "evolution", held=[HELD])
    search, before, said = meddle_with(home, notes, recipe, meddle)
    tally.fault("journal taken away")
    run = go_on(search, home, recipe, before, said, tally)
    tally.compare(run, undisturbed(recipe))


@pytest.mark.faults
@pytest.mark.ray
@pytest.mark.parametrize("meddle", [Path.unlink, replace], ids=["removed", "replaced"])
def test_what_was_measured_is_rescued_on_ray(
    meddle: Callable[[Path], None],
    tmp_path: Path,
    tally: Tally,
    undisturbed: MakeUndisturbed,
    head: Cluster,
) -> None:
    home, notes = tmp_path / "home", tmp_path / "notes"
    terms = {"executor": "ray", "ray_address": head.address, "workers": 1, "budget": "24"}
    recipe = document(notes, terms, "evolution", held=[HELD])
    search, before, said = meddle_with(home, notes, recipe, meddle)
    tally.fault("journal taken away")
    run = go_on(search, home, recipe, before, said, tally)
    tally.compare(run, undisturbed(recipe))


def test_a_run_folder_that_is_removed_leaves_the_journal(tmp_path: Path, tally: Tally) -> None:
    home, notes = tmp_path / "home", tmp_path / "notes"
    recipe = document(notes, {"budget": "24"}, held=[HELD])
    search, before, said = meddle_with(home, notes, recipe, lambda path: shutil.rmtree(path.parent))
    tally.fault("run folder removed")
    assert "moved or removed" in said
    assert Journal.read(search.run / "journal-rescued-1.jsonl") == before


@pytest.mark.parametrize(
    ("meddle", "left"),
    [(lambda path: os.truncate(path, 0), 0), (cut, -3)],
    ids=["emptied", "cut"],
)
def test_what_was_cut_off_is_said(
    meddle: Callable[[Path], None], left: int, tmp_path: Path, tally: Tally
) -> None:
    """It is on no disk any more: the search ends at once, and writes nothing that hides it."""
    home, notes = tmp_path / "home", tmp_path / "notes"
    recipe = document(notes, {"budget": "24"}, held=[HELD])
    search, before, said = meddle_with(home, notes, recipe, meddle)
    tally.fault("journal emptied or cut")
    assert re.search(r"\d+ bytes where \d+ were written", said), said
    assert search.events() == before[:left]
    assert len([note for note in search.evaluations() if note["what"] == "begin"]) == HELD + 1
