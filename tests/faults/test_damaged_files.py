"""A bit that flips in a run's journal, recipe or rankings, and a journal that is another, emptied or gone: refused by
name, mended, or said, but never taken for what was written."""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import document
from conftest import MakeUndisturbed
from evidence import story
from rich.console import Console
from tally import Tally

from controllers.service.journal import Journal
from nasperc.errors import InputError
from nasperc.recipe.reading import parse_recipe
from nasperc.search.recorded_recipe import EXECUTION, LIMITS
from nasperc.search.run import run_search
from nasperc.search.top10 import read_top10

JOURNAL, RECIPE, TOP10 = "journal.jsonl", "recipe.yaml", "top10.json"
FEW, MANY = 8, pytest.param(80, marks=pytest.mark.faults)


@pytest.fixture
def whole(tmp_path: Path, undisturbed: MakeUndisturbed) -> Path:
    return undisturbed(document(tmp_path / "notes", {"budget": "24", "top": 40}))


def copied(whole: Path, folder: Path) -> Path:
    """A run without what a resumption writes anew."""
    folder.mkdir(parents=True)
    for name in (JOURNAL, RECIPE, TOP10, "pareto.json"):
        shutil.copy(whole / name, folder / name)
    return folder


def contents(run: Path) -> dict[str, bytes]:
    """Of all files but the driver's lock, which every command that would be the driver takes and empties again."""
    return {path.name: path.read_bytes() for path in run.iterdir() if path.name != "driver.lock"}


def flip(path: Path, moments: random.Random, first: int = 0, last: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[moments.randrange(first, len(content) if last is None else last)] ^= 1 << moments.randrange(8)
    path.write_bytes(content)


def resume(run: Path) -> tuple[str, str]:
    """How a resumption ended, and what it printed."""
    console = Console(file=io.StringIO(), width=1000)
    try:
        run_search(None, run, resume=True, console=console)
    except InputError as error:
        return "refused", str(error)
    return "went on", console.file.getvalue()  # type: ignore[attr-defined]


def completions(journal: Path) -> dict[int, tuple[str, float]]:
    events = Journal.read(journal, to_open=True)
    return {
        event["id"]: (event["hash"], event["reward"]) for event in events if event["event"] == "completion"
    }


@pytest.mark.parametrize("flips", [FEW, MANY])
def test_a_bit_of_the_journal(
    flips: int, whole: Path, tmp_path: Path, tally: Tally, moments: random.Random
) -> None:
    expected = story(Journal.read(whole / JOURNAL))
    lines = (whole / JOURNAL).read_bytes().splitlines(keepends=True)
    for number in range(flips):
        run = copied(whole, tmp_path / str(number))
        # Every second one in the last line, which alone may be dropped: that of a journal in the middle of its run.
        first, kept = 0, lines
        if number % 2:
            kept = lines[: moments.randrange(2, len(lines) + 1)]
            first = len(b"".join(kept[:-1]))
            (run / JOURNAL).write_bytes(b"".join(kept))
            for name in (TOP10, "pareto.json"):
                (run / name).unlink()
        known = completions(run / JOURNAL)
        flip(run / JOURNAL, moments, first)
        damaged = (run / JOURNAL).read_bytes()
        how, said = resume(run)
        if how == "refused":
            assert f"{JOURNAL}, line " in said, said
            assert (run / JOURNAL).read_bytes() == damaged, "the refused driver wrote"
            tally.damaged("journal, a bit", "refused")
            continue
        resumed = [event for event in Journal.read(run / JOURNAL) if event["event"] == "run_resume"]
        dropped = resumed[0]["dropped"] if resumed else None
        right = story(Journal.read(run / JOURNAL)) == expected and dropped is not None
        right &= f"line {len(kept)}, the last one" in said or f"line {len(kept) - 1}, the last one" in said
        before = {
            event["id"] for event in Journal.read(run / JOURNAL)[: dropped["line"] - 1] if _completed(event)
        }
        tally.damaged("journal, a bit", "said" if right else "silently wrong", len(known.keys() - before))


def _completed(event: Mapping[str, Any]) -> bool:
    return event["event"] == "completion"


@pytest.mark.parametrize("flips", [FEW, MANY])
def test_a_bit_of_the_recipe(
    flips: int, whole: Path, tmp_path: Path, tally: Tally, moments: random.Random
) -> None:
    top10 = json.loads((whole / TOP10).read_text())
    for number in range(flips):
        run = copied(whole, tmp_path / str(number))
        flip(run / RECIPE, moments)
        how, said = resume(run)
        if how == "refused":
            assert RECIPE in said or "recipe key" in said or "plugin" in said, said
            tally.damaged("recipe.yaml, a bit", "refused")
            continue
        after = json.loads((run / TOP10).read_text())
        same = held(after["recipe"]) == held(top10["recipe"]) and after["entries"] == top10["entries"]
        same &= held(yaml.safe_load((run / RECIPE).read_text())) == held(top10["recipe"])
        tally.damaged("recipe.yaml, a bit", "not held" if same else "silently wrong")


def held(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What of a recipe the journal holds, written out by hand."""
    kept = json.loads(json.dumps(parse_recipe(recipe, where="test").to_dict()))
    for key in (*EXECUTION, *LIMITS):
        del kept["search"][key]
    del kept["proxy"]["notes"]
    return dict(kept)


@pytest.mark.parametrize("flips", [FEW, MANY])
def test_a_bit_of_the_ranking(
    flips: int, whole: Path, tmp_path: Path, tally: Tally, moments: random.Random
) -> None:
    right = (whole / TOP10).read_bytes()
    entries = json.loads(right)["entries"]
    for number in range(flips):
        run = copied(whole, tmp_path / str(number))
        # Every second one in the entries.
        flip(run / TOP10, moments, right.index(b'"entries"') if number % 2 else 0)
        try:
            read = read_top10(run / TOP10)
        except InputError as error:
            outcome, said = "refused", str(error)
        else:
            same = [(e.id, e.hash, e.reward) for e in read.entries] == [
                (e["id"], e["hash"], e["reward"]) for e in entries
            ]
            same &= held(read.recipe.to_dict()) == held(json.loads(right)["recipe"])
            outcome, said = "not held" if same else "silently wrong", TOP10
        tally.damaged("top10.json, a bit", outcome)
        assert TOP10 in said, said
        how, said = resume(run)
        if how == "went on":
            mended = (run / TOP10).read_bytes() == right
            tally.damaged("top10.json, a bit, resumed", "mended" if mended else "silently wrong")
        else:
            assert TOP10 in said, said
            tally.damaged("top10.json, a bit, resumed", "refused")


@pytest.mark.parametrize(
    "way", ["emptied", "missing", "shorter", "of another search", "doubled", "swapped", "cut out"]
)
def test_a_journal_that_is_another(
    way: str, whole: Path, tmp_path: Path, tally: Tally, moments: random.Random, undisturbed: MakeUndisturbed
) -> None:
    run = copied(whole, tmp_path / "damaged")
    journal, lines = run / JOURNAL, (whole / JOURNAL).read_bytes().splitlines(keepends=True)
    place = moments.randrange(1, len(lines) - 2)
    last = max(n for n, line in enumerate(lines) if line.startswith(b'{"event":"completion"'))
    if way == "emptied":
        journal.write_bytes(b"")
    elif way == "missing":
        journal.unlink()
    elif way == "shorter":
        journal.write_bytes(b"".join(lines[:last]))
    elif way == "of another search":
        other = document(tmp_path / "notes", {"budget": "24", "top": 40}, "evolution")
        shutil.rmtree(whole)
        shutil.copy(undisturbed(other) / JOURNAL, journal)
    elif way == "doubled":
        journal.write_bytes(b"".join([*lines[: place + 1], *lines[place:]]))
    elif way == "swapped":
        journal.write_bytes(b"".join([*lines[:place], lines[place + 1], lines[place], *lines[place + 2 :]]))
    else:
        journal.write_bytes(b"".join([*lines[:place], *lines[place + 1 :]]))
    before = contents(run)
    how, said = resume(run)
    assert how == "refused", said
    assert JOURNAL in said, said
    assert contents(run) == before
    if way in ("emptied", "missing", "shorter"):
        assert TOP10 in said, said
        assert "does not hold as completed" in said, said
    tally.damaged(f"journal {way}", "refused")


def test_a_new_search_takes_no_ranking_of_another(whole: Path, tmp_path: Path, tally: Tally) -> None:
    run = copied(whole, tmp_path / "damaged")
    (run / JOURNAL).unlink()
    before = contents(run)
    recipe = parse_recipe(document(tmp_path / "notes", {"budget": "6"}, "evolution"), where="test")
    with pytest.raises(
        InputError, match=r"top10\.json.*journal\.jsonl does not hold as completed.*candidate \d+"
    ):
        run_search(recipe, run, console=Console(file=io.StringIO()))
    assert contents(run) == before
    tally.damaged("journal missing", "refused")
