"""``top10.json`` and ``pareto.json`` against the journal beside them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nasperc.errors import InputError
from nasperc.recipe.root import Recipe
from nasperc.search.journal_beside import check_journal_beside
from nasperc.search.pareto import read_pareto
from nasperc.search.run import run_search
from nasperc.search.run_folder import RunFolder
from nasperc.search.top10 import read_top10

MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def run(tmp_path: Path, toy_recipe: MakeRecipe, console: Console) -> RunFolder:
    folder = tmp_path / "run"
    run_search(toy_recipe({"budget": "8"}), folder, console=console)
    return RunFolder(folder)


def change(path: Path, *keys: str | int, value: Any) -> None:
    """Replace the value at ``keys`` of a JSON file."""
    document = json.loads(path.read_text())
    inner = document
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("reward", -0.125, r"journal\.jsonl says of candidate \d+ \(reward: .*-0\.125"),
        ("id", 7000, r"journal\.jsonl holds as completed, but got candidate 7000"),
        ("seed", 12345, r"says of candidate \d+ \(seed: .*12345"),
        ("cost", {"flops": 1.0}, r"says of candidate \d+ \(cost: "),
        ("stage", "other", r"says of candidate \d+ \(stage: "),
    ],
)
@pytest.mark.parametrize("name", ["top10.json", "pareto.json"])
def test_what_differs_is_refused_and_both_are_named(
    run: RunFolder, name: str, key: str, value: object, message: str
) -> None:
    read: Callable[[Path], object] = read_top10 if name == "top10.json" else read_pareto
    path = run.path / name
    where: list[str | int] = ["entries", 0] if name == "top10.json" else ["fronts", 0, "entries", 0]
    read(path)
    change(path, *where, key, value=value)
    with pytest.raises(InputError, match=rf"{message}.*{name}.*--resume"):
        read(path)
    # Without the journal there is nothing to hold it against.
    elsewhere = run.path.parent / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(path, elsewhere / name)
    if name == "top10.json" and key in ("id", "seed", "cost"):
        read(elsewhere / name)


@pytest.mark.parametrize("name", ["top10.json", "pareto.json"])
def test_another_recipe_is_refused_by_its_key(run: RunFolder, name: str) -> None:
    read: Callable[[Path], object] = read_top10 if name == "top10.json" else read_pareto
    change(run.path / name, "recipe", "search", "top", value=3)
    read(run.path / name)
    change(run.path / name, "recipe", "seed", value=9)
    with pytest.raises(InputError, match=r"journal\.jsonl began with \(seed: 3\), but got 9"):
        read(run.path / name)


@pytest.mark.parametrize("name", ["top10.json", "pareto.json"])
@pytest.mark.parametrize("way", ["emptied", "missing", "shorter"])
def test_a_run_whose_journal_lacks_what_they_name_is_refused_as_it_is(
    run: RunFolder, name: str, way: str, console: Console, toy_recipe: MakeRecipe
) -> None:
    (run.pareto if name == "top10.json" else run.top10).unlink()
    lines = run.journal.read_bytes().splitlines(keepends=True)
    run.journal.write_bytes(b"".join(lines[:5]) if way == "shorter" else b"")
    if way == "missing":
        run.journal.unlink()
    before = {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()}
    message = rf"{name} while it names what .*journal\.jsonl does not hold as completed.*candidate \d+ \("
    with pytest.raises(InputError, match=message):
        run_search(None, run.path, resume=True, console=console)
    if way == "missing":
        with pytest.raises(InputError, match=message):
            run_search(toy_recipe({"budget": "3"}), run.path, console=console)
    assert {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()} == before
    # Moved away, it may be lost.
    (run.path / name).unlink()
    run_search(None, run.path, resume=True, console=console)
    assert len(read_top10(run.top10).entries) == 8


def test_a_ranking_that_cannot_be_read_is_written_again_and_that_is_said(
    run: RunFolder, console: Console
) -> None:
    right = run.top10.read_bytes()
    run.top10.write_bytes(right[:-200])
    assert check_journal_beside(run, None) == [
        f"{run.top10} cannot be read: it is written again from {run.journal}"
    ]
    run_search(None, run.path, resume=True, console=console)
    assert run.top10.read_bytes() == right
    assert "top10.json cannot be read" in console.file.getvalue()  # type: ignore[attr-defined]
    # Not where nothing is left to write it from.
    run.top10.write_bytes(right[:-200])
    run.journal.write_bytes(b"")
    with pytest.raises(InputError, match="nothing that can be read"):
        run_search(None, run.path, resume=True, console=console)


def test_an_edited_recipe_is_refused_by_its_key_before_anything_is_prepared(
    run: RunFolder, console: Console
) -> None:
    before = run.journal.read_bytes(), run.top10.read_bytes()
    run.recipe.write_text(run.recipe.read_text().replace("budget: '8'", "budget: '9'"))
    with pytest.raises(InputError, match=r"recipe key search\.budget .*\('8'\), but got 9"):
        run_search(None, run.path, resume=True, console=console)
    assert (run.journal.read_bytes(), run.top10.read_bytes()) == before
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert said.count("run folder") == 1


def test_a_damaged_last_line_is_said_by_who_drops_it(run: RunFolder, console: Console) -> None:
    content = run.journal.read_bytes()
    last = content.splitlines()[-1]
    run.journal.write_bytes(content[: -len(last) - 1] + last.replace(b"run_end", b"run_enD") + b"\n")
    run_search(None, run.path, resume=True, console=console)
    number = len(content.splitlines())
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert (
        f"journal.jsonl: line {number}, the last one ({len(last)} bytes), does not fit its checksum" in said
    )
    run_search(None, run.path, resume=True, console=console)
    assert console.file.getvalue().count("does not fit") == 1  # type: ignore[attr-defined]
