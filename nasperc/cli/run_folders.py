"""Where runs live: ``runs/<name>/`` under the working folder, the latest one by default."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from nasperc.errors import InputError

RUNS = Path("runs")


def run_folders() -> list[Path]:
    """All runs under the working folder, oldest first: folders that hold a journal."""
    if not RUNS.is_dir():
        return []
    folders = [journal.parent for journal in RUNS.glob("*/journal.jsonl")]
    return sorted(folders, key=lambda folder: (folder / "journal.jsonl").stat().st_mtime)


def new_run_folder(space: str, name: str | None) -> Path:
    """A folder that does not exist yet: ``runs/<name>``, by default ``runs/<space>-<date>-<time>``.

    Raises:
        InputError: a run of that name exists.
    """
    if name is None:
        stem = Path(space.partition(".py:")[0]).name
        name = f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"
    folder = RUNS / name
    if folder.exists():
        raise InputError(
            "a new run needs a folder of its own",
            value=folder,
            where="--name",
            repair=f"Choose another name, or go on with: nasperc search --resume {folder}",
        )
    return folder


def existing_run(run: Path) -> Path:
    """The folder of a run, given as a path or as its name under ``runs/``.

    Raises:
        InputError: there is no journal in it.
    """
    for folder in (run, RUNS / run):
        if (folder / "journal.jsonl").is_file():
            return folder
    known = ", ".join(folder.name for folder in run_folders()) or "none"
    raise InputError("a run is a folder with a journal", value=run, where="command line", repair=f"Runs here: {known}.")


def latest_run(needs: str = "journal.jsonl") -> Path:
    """The latest run that has the file ``needs``.

    Raises:
        InputError: there is none.
    """
    for folder in reversed(run_folders()):
        if (folder / needs).exists():
            return folder
    raise InputError(
        f"this command takes the latest run with {needs} unless told otherwise",
        value="no such run",
        where=RUNS.resolve(),
        repair="Start one with: nasperc search --space fcos_decoder",
    )
