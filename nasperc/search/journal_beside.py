"""What ``top10.json`` and ``pareto.json`` say, held against the journal beside them, from which they were written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from controllers.service.journal import Event, Journal
from controllers.service.resume import check_recipe, first_difference
from nasperc.errors import InputError, shown
from nasperc.plain_files import read_json
from nasperc.recipe.root import Recipe
from nasperc.search.recorded_recipe import recorded_recipe
from nasperc.search.run_folder import RunFolder
from nasperc.whole_files import require_plain


def check_journal_beside(run: RunFolder, resumed: Recipe | None) -> list[str]:
    """Refuse to go on with a run whose journal began with another recipe, or is not the one that the ranking files
    beside it were written from.

    They are written again from the journal, and what it has lost would be lost in them, too. To be asked before
    anything is written.

    Args:
        run: its folder.
        resumed: the recipe that it shall go on with; None: the run is a new one.

    Returns:
        What to say of files that cannot be read: they are written again.

    Raises:
        InputError: another recipe; a file names a candidate that the journal does not hold as completed, or cannot be
            read while the journal holds nothing that it could be written from; the journal is damaged.
    """
    for path in (run.top10, run.pareto):
        # A pipe would be waited for.
        require_plain(path)
    # The files first: a search that runs writes to its journal before it writes to them.
    named = {path: _named(path) for path in (run.top10, run.pareto) if path.exists()}
    events = Journal.read(run.journal, to_open=True) if run.journal.is_file() else []
    if resumed is not None and events:
        check_recipe(recorded_recipe(resumed), events[0], run.journal)
    completed = {event["id"]: event["hash"] for event in events if event["event"] == "completion"}
    notes = []
    for path, candidates in named.items():
        if candidates is None and completed:
            notes.append(f"{path} cannot be read: it is written again from {run.journal}")
            continue
        found = next((each for each in candidates or () if completed.get(each[0]) != each[1]), None)
        if candidates is None or found is not None:
            what = "nothing that can be read" if found is None else f"candidate {found[0]} ({found[1][:8]})"
            raise InputError(
                f"a run must not overwrite {path} while it names what {run.journal} does not hold as completed",
                value=f"{what}, and {len(completed)} completed in the journal",
                where=run.path,
                repair=f"Restore the journal; or move {path.name} away, if what it names may be lost.",
            )
    return notes


def completions_beside(path: Path, recipe: Recipe) -> dict[int, Event] | None:
    """By id, the completions of the journal that lies beside a file of entries; None where there is no journal.

    Args:
        path: of the file.
        recipe: that stands in it.

    Raises:
        InputError: the journal is damaged, or began with another recipe than the file says.
    """
    journal = RunFolder(path.parent).journal
    if not journal.is_file():
        return None
    events = Journal.read(journal)
    began = events[0].get("recipe") if events else None
    found = None if began is None else first_difference(began, recorded_recipe(recipe))
    if found is not None:
        key, before, now = found
        raise InputError(
            f"the recipe in {path.name} must be the one that {journal} began with ({key}: {shown(before)})",
            value=now,
            where=path,
            repair=_repair(path),
        )
    return {event["id"]: event for event in events if event["event"] == "completion"}


def check_entry(entry: Mapping[str, Any], expected: Mapping[str, Any] | None, path: Path, where: str) -> None:
    """Check that an entry says what the journal beside it says of that candidate.

    Args:
        entry: as it stands in the file.
        expected: what the journal gives; None: it does not hold that candidate as completed.
        path: of the file.
        where: in it.

    Raises:
        InputError: it does not; both are named.
    """
    journal = RunFolder(path.parent).journal
    candidate = f"candidate {entry['id']}"
    if expected is None:
        raise InputError(
            f"an entry must be a candidate that {journal} holds as completed",
            value=f"{candidate} ({entry['hash'][:8]})",
            where=where,
            repair=_repair(path),
        )
    for key, value in expected.items():
        if entry[key] != value:
            raise InputError(
                f"an entry must say what {journal} says of {candidate} ({key}: {shown(value)})",
                value=shown(entry[key]),
                where=where,
                repair=_repair(path),
            )


def _repair(path: Path) -> str:
    return (
        f"Move {path.name} away and write it again: nasperc search --resume {path.parent}; or, if the journal is not "
        "this file's, keep them in different folders."
    )


def _named(path: Path) -> list[tuple[int, str]] | None:
    """Id and hash of every entry of a file of the two kinds; None where it cannot be read."""
    try:
        return list(_pairs(read_json(path)))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _pairs(document: Any) -> Iterator[tuple[int, str]]:
    for entries in [document] if "entries" in document else document["fronts"]:
        for entry in entries["entries"]:
            yield int(entry["id"]), str(entry["hash"])
