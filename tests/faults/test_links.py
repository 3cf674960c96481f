"""A run folder from elsewhere with links in it: resuming it changes nothing outside of it."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from command import document
from conftest import MakeUndisturbed
from rich.console import Console
from tally import Tally

from controllers.service.journal import Journal
from nasperc.errors import InputError
from nasperc.search.run import run_search

REFUSED = ("journal.jsonl", "journal.jsonl.lock", "driver.lock", "tensorboard", "ray")
REPLACED = ("top10.json", "pareto.json", ".top10.json.tmp", ".pareto.json.tmp", "controller-{:08d}.pt")
RANKINGS = ("top10.json", "pareto.json")
# Of the last snapshot of this search, and of the next ones.
NUMBERS = range(0, 200)


def state(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def without_rankings(run: Path) -> None:
    """They name what a shortened journal does not hold."""
    for name in RANKINGS:
        (run / name).unlink(missing_ok=True)


@pytest.mark.parametrize("dangling", [False, True])
def test_nothing_is_written_through_a_link(
    dangling: bool, tmp_path: Path, tally: Tally, undisturbed: MakeUndisturbed
) -> None:
    recipe = document(tmp_path / "notes", {"budget": "40"}, "evolution")
    whole = undisturbed(recipe)
    lines = (whole / "journal.jsonl").read_bytes().splitlines(keepends=True)
    outside = tmp_path / "outside"
    outside.mkdir()

    def linked(place: Path, number: int) -> None:
        """A link at ``place`` to a file outside, which holds what stood there, so that it could be used."""
        target = outside / f"{number}-{place.name}"
        # What rankings name must be in the journal; what cannot be read is written again.
        if place.is_file() and not dangling and place.name not in RANKINGS:
            shutil.copy(place, target)
        elif not dangling:
            target.write_text("precious")
        if place.is_dir():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)
        place.symlink_to(target)

    for number, name in enumerate(REFUSED):
        run = tmp_path / str(number) / "run"
        shutil.copytree(whole, run)
        (run / "journal.jsonl").write_bytes(b"".join(lines[:60]))
        without_rankings(run)
        before = Journal.read(run / "journal.jsonl")
        linked(run / name, number)
        kept = state(outside)
        tally.fault("link in a run folder")
        with pytest.raises(InputError, match=rf"a link to .*run/{name}.*Remove the link"):
            run_search(None, run, resume=True, console=Console(file=io.StringIO()))
        assert state(outside) == kept, name
        # What the message says.
        (run / name).unlink()
        (run / "journal.jsonl").write_bytes(b"".join(lines[:60]))
        run_search(None, run, resume=True, console=Console(file=io.StringIO()))
        tally.ended(run, [before])
        tally.compare(run, whole)

    run = tmp_path / "replaced" / "run"
    shutil.copytree(whole, run)
    (run / "journal.jsonl").write_bytes(b"".join(lines[:60]))
    before = Journal.read(run / "journal.jsonl")
    names = {name.format(number) for name in REPLACED for number in NUMBERS}
    for number, name in enumerate(sorted(names), start=100):
        linked(run / name, number)
    kept = state(outside)
    tally.fault("link in a run folder")
    run_search(None, run, resume=True, console=Console(file=io.StringIO()))
    assert state(outside) == kept
    tally.ended(run, [before])
    tally.compare(run, whole)
