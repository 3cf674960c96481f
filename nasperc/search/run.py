"""A search from its recipe to ``top10.json``."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from controllers.service.journal import Event, Journal
from nasperc.errors import InputError
from nasperc.plain_console import PlainConsole
from nasperc.recipe.root import Recipe
from nasperc.search.between_stages import BetweenStages, Selector, selected_count
from nasperc.search.components import (
    build_plan,
    build_proxy,
    build_space,
    build_warm_start,
    controller_factory,
)
from nasperc.search.driver import Driver, begin_run, resume_run
from nasperc.search.executor import Executor
from nasperc.search.followed import FollowedSearch
from nasperc.search.journal_beside import check_journal_beside
from nasperc.search.live_display import PrepareDisplay
from nasperc.search.local_executor import LocalExecutor
from nasperc.search.recorded_recipe import EXECUTION, LIMITS
from nasperc.search.run_caches import RunCaches
from nasperc.search.run_folder import RUNS, RunFolder, resolve_paths
from nasperc.shown_text import printable
from proxy_tasks.base import Findings, ProxyTask
from proxy_tasks.cache_check import CacheCheck
from search_spaces.base import SearchSpace, TokenSpace

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def run_search(
    recipe: Recipe | None,
    folder: Path | None,
    *,
    resume: bool = False,
    take_over: bool = False,
    console: Console | None = None,
    selector: Selector | None = None,
    verify: bool = False,
) -> Path:
    """Search, and write ``top10.json``; the folder holds everything that a resumption needs, at any moment.

    Args:
        recipe: the whole recipe; None with ``resume``: the folder's own. A resumed run may change how it is
            executed (workers, executor, dashboard), not what it searches.
        folder: of the run; new unless ``resume``. None: a new one below ``runs``, numbered.
        take_over: of ``resume``: nothing drives the run any more on the host that its locks name.
        resume: go on where the run's journal ends; a run that has ended only writes its ``top10.json`` again.
        console: where to show progress.
        selector: chooses what a later stage builds on; needed unless ``search.select`` is ``proxy``.
        verify: read caches whole even where nothing has happened to their files.

    Returns:
        The path of ``top10.json``.

    Raises:
        InputError: bad recipe, data or folder; the run has another driver; no worker could be set up; no candidate of
            a stage was completed.
        KeyboardInterrupt: interrupted; how to resume was printed.
    """
    console = console or PlainConsole()
    if resume:
        if folder is None:
            raise ValueError("a search is resumed in its folder")
        run = RunFolder(folder)
        recipe = _resumed_recipe(run, recipe)
    else:
        recipe = _new_recipe(recipe)
    space = build_space(recipe)
    # A budget that does not fit the stages is told before anything is prepared.
    build_plan(recipe).candidate_bounds(space.stages())
    # So is a controller that cannot be made, since its library is not installed.
    controller_factory(recipe)(TokenSpace(space, space.stages()[0]), recipe.seed)
    # So are data by which a later stage could not choose what it builds on.
    if selector is not None and selected_count(recipe.search.select) is not None:
        selector.check(recipe, RunFolder(folder or RUNS / "new").prepared)
    with _naming_full_disks(folder or RUNS):
        driver = resume_run(run, take_over=take_over) if resume else begin_run(folder)
    with driver, _naming_full_disks(driver.run.path):
        if resume:
            # Read again: until the lock was held, somebody else could begin the run anew.
            recipe = _resumed_recipe(driver.run, recipe)
        notes = check_journal_beside(driver.run, recipe if resume else None)
        if driver.taken_from is not None:
            notes.insert(0, f"taken over from {driver.taken_from}")
        if not resume:
            driver.run.create(recipe)
        return _drive(recipe, space, driver, resume, console, selector, verify, notes)


def _drive(
    recipe: Recipe,
    space: SearchSpace,
    driver: Driver,
    resume: bool,
    console: Console,
    selector: Selector | None,
    verify: bool,
    notes: Sequence[str],
) -> Path:
    """The search from its preparation to its ranking."""
    run = driver.run
    # Said before anything can end this process without a word, as Ray does where its node is gone.
    console.print(
        f"run folder: {run.path} (whatever ends it: nasperc search --resume {run.path} goes on)",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    for note in notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    try:
        events = Journal.read(run.journal, to_open=True) if run.journal.exists() else []
        check = _cache_check(run, console, resumed=resume, verify=verify)
        proxy = _prepare(recipe, space, run, events, check, console)
        findings = Findings.of(proxy)
        warm_start = build_warm_start(recipe, space, findings)
        if warm_start is not None and not resume:
            for note in warm_start.check():
                console.print(note, highlight=False, markup=False)
        session = uuid.uuid4().hex
        search = FollowedSearch(recipe, space, driver, proxy.description(), session)
        between = BetweenStages(recipe, space, run, proxy, selector, console)
        between.begin(events)
        with _executor(recipe, run, session, findings, begin=not resume) as executor:
            search.follow(executor, console, between)
    except KeyboardInterrupt:
        console.print(
            f"\ninterrupted; continue with: nasperc search --resume {run.path}", highlight=False, markup=False
        )
        raise
    search.conclude(console, proxy)
    return run.top10


@contextmanager
def _naming_full_disks(path: Path) -> Iterator[None]:
    """A full disk in one line, wherever it was met; ``path``: of the run."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        begun = RunFolder(path).recipe.exists()
        then = f"nasperc search --resume {path}" if begun else "the same command"
        raise InputError(
            "the disk of a run must have space",
            value=error.strerror,
            where=error.filename or path,
            repair=f"Free some, then: {then} (every completed candidate is kept).",
        ) from error


def _new_recipe(recipe: Recipe | None) -> Recipe:
    if recipe is None:
        raise ValueError("a new search needs a recipe")
    return resolve_paths(recipe)


def _resumed_recipe(run: RunFolder, recipe: Recipe | None) -> Recipe:
    kept = run.read_recipe()
    if recipe is None:
        return kept
    given = resolve_paths(recipe)
    free = {key: getattr(given.search, key) for key in (*EXECUTION, *LIMITS)}
    merged = kept.model_copy(update={"search": kept.search.model_copy(update=free)})
    key = _first_difference(merged.to_dict(), given.to_dict())
    if key is not None:
        raise InputError(
            "a resumed run must keep what it searches",
            value=f"another {key}",
            where=run.recipe,
            repair="Start a new run, or resume without changing that key.",
        )
    return merged


def _first_difference(one: Any, other: Any, path: str = "") -> str | None:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *(key for key in other if key not in one)]:
            found = _first_difference(one.get(key), other.get(key), f"{path}.{key}" if path else key)
            if found is not None:
                return found
        return None
    return None if one == other else path


def _cache_check(run: RunFolder, console: Console, *, resumed: bool, verify: bool) -> CacheCheck:
    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    return CacheCheck(say, RunCaches(run.path, resumed=resumed, say=say).take, verify)


def _prepare(
    recipe: Recipe,
    space: SearchSpace,
    run: RunFolder,
    events: Sequence[Event],
    check: CacheCheck,
    console: Console,
) -> ProxyTask:
    """The proxy task, prepared once, before workers exist; ``events``: of a resumed run."""
    began_with = events[0].get("fingerprint") if events else None
    proxy = build_proxy(recipe, space, run.prepared, check=check, began_with=began_with)
    with PrepareDisplay(console) as display:
        proxy.prepare(display)
    for note in proxy.notes():
        console.print(printable(note), highlight=False, markup=False)
    return proxy


def _executor(recipe: Recipe, run: RunFolder, session: str, findings: Findings, begin: bool) -> Executor:
    if recipe.search.executor == "local":
        return LocalExecutor(recipe, run.path, session, findings, begin)
    from nasperc.search.ray_executor import RayExecutor

    return RayExecutor(recipe, run.path, session, findings, begin)
