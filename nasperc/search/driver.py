"""One driver a run: its lock is held from the making of the run's folder to the end of the command."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from pathlib import Path

from controllers.service.journal_file import (
    ONE_WRITER,
    free_journal,
    how_to_take_over,
    require_no_writer,
)
from nasperc.errors import InputError
from nasperc.file_lock import FileLock
from nasperc.search.run_folder import RUNS, RunFolder
from nasperc.whole_files import remove_leftovers


class Driver:
    """The right to write into a run's folder; a context manager.

    Attributes:
        run: the folder.
        taken_from: who held the lock on a host that is gone, in words; None: nobody.
    """

    def __init__(self, run: RunFolder, lock: FileLock, taken_from: str | None = None) -> None:
        self.run, self._lock, self.taken_from = run, lock, taken_from

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def check(self) -> None:
        """Check that this is still the run's driver; before anything is written.

        Raises:
            InputError: another one has taken the run, or its folder is gone.
        """
        self._lock.check()


def begin_run(folder: Path | None) -> Driver:
    """Make the folder of a new run, and become its driver.

    A folder without a journal is a start that failed before its first event: a corrected command may take its place,
    unless the first one is still at it.

    Args:
        folder: None: ``search-001``, ``search-002`` ... under ``runs``, the first that nobody has.

    Raises:
        InputError: the folder holds a run already, or another search prepares one there.
        OSError: it cannot be made.
    """
    if folder is not None:
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
        return _take(RunFolder(folder))
    RUNS.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        run = RunFolder(RUNS / f"search-{number:03d}")
        try:
            run.path.mkdir()
        except FileExistsError:
            continue
        try:
            return _take(run)
        except InputError:
            # Between the two steps somebody else has taken it by its name.
            if not run.driver_lock.exists():
                raise
    raise AssertionError("numbers do not end")


def resume_run(run: RunFolder, *, take_over: bool = False) -> Driver:
    """Become the driver of a run that exists.

    Args:
        run: its folder.
        take_over: nothing drives it any more on the host that its locks name, or that still holds them.

    Raises:
        InputError: it has a driver; something in it is a link.
    """
    run.refuse_links()
    lock = FileLock(run.driver_lock, ONE_WRITER, how_to_take_over(run.path), take_over=take_over)
    before = lock.before
    try:
        if take_over:
            free_journal(run.journal)
        else:
            require_no_writer(run.journal)
        for path in (run.recipe, run.top10, run.pareto):
            remove_leftovers(run.path, path.stem)
    except BaseException:
        lock.release()
        raise
    return Driver(run, lock, str(before) if take_over and before.host is not None else None)


def _take(run: RunFolder) -> Driver:
    if not run.path.is_dir():
        raise InputError(
            "a run must have a folder",
            value="something else",
            where=run.path,
            repair="Choose another name.",
        )
    _require_new(run)
    run.refuse_links()
    # Without a recipe there is nothing to resume.
    how = how_to_take_over(run.path) if run.recipe.exists() else f"delete {run.driver_lock}"
    lock = FileLock(run.driver_lock, ONE_WRITER, how)
    try:
        # Whoever had the lock until now may have begun it.
        _require_new(run)
    except InputError:
        lock.release()
        raise
    return Driver(run, lock)


def _require_new(run: RunFolder) -> None:
    if run.journal.exists():
        raise InputError(
            "a new run must have a folder of its own",
            value="a run that exists",
            where=run.path,
            repair=f"Choose another name, or continue it: nasperc search --resume {run.path}",
        )
