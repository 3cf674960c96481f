"""What a command takes when no run is named: the latest one under ``runs/``, and it says so."""

from __future__ import annotations

from pathlib import Path

from nasperc.cli.console import console
from nasperc.errors import InputError
from nasperc.search.run_folder import RUNS, RunFolder, list_runs


def existing_run(run: Path) -> RunFolder:
    """A run given as a folder, or by its name under ``runs/``.

    Raises:
        InputError: it is neither.
    """
    for path in (run, RUNS / run):
        if RunFolder(path).recipe.is_file():
            return RunFolder(path)
    known = ", ".join(path.name for path in list_runs()) or "none"
    raise InputError(
        "a run must be a folder that a search wrote",
        value=run,
        where="the command line",
        repair=f"Runs here: {known}.",
    )


def latest_top10() -> Path:
    """``top10.json`` of the latest run that has one.

    Raises:
        InputError: there is none.
    """
    for path in list_runs():
        top10 = RunFolder(path).top10
        if top10.is_file():
            return top10
    raise InputError(
        "without a file, this command takes the latest run's top10.json",
        value="no such run",
        where=RUNS.resolve(),
        repair="Start one: nasperc search --space fcos_decoder",
    )


def find_top10(given: Path | None) -> Path:
    """``top10.json`` as typed: a file, a run, or None.

    A ``top10.json`` that is not in the working folder means the latest run's, so that the commands that a search
    prints also work when they are typed from memory.
    """
    if given is not None and given.is_file():
        return given
    if given is not None and given.is_dir():
        return existing_run(given).top10
    if given is not None and given != Path("top10.json"):
        if RunFolder(RUNS / given).recipe.is_file():
            return RunFolder(RUNS / given).top10
        raise InputError(
            "a file of architectures must exist",
            value=given,
            where="the command line",
            repair="Name a top10.json or a run.",
        )
    latest = latest_top10()
    console.print(f"Taking the latest run's {latest}", markup=False)
    return latest
