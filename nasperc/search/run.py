"""A search from its recipe to ``top10.json``."""

from __future__ import annotations

import errno
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from controllers.costs import objective
from controllers.service.journal import Event, Journal
from controllers.service.journal_lines import Dropped
from nasperc.errors import InputError, shown
from nasperc.evaluation.latency import doubt
from nasperc.plain_console import PlainConsole, plain
from nasperc.search.between_stages import BetweenStages, Selector, selected_count
from nasperc.search.components import (
    build_plan,
    build_proxy,
    build_space,
    build_warm_start,
    controller_factory,
)
from nasperc.search.cost_gate import CORE_SHARE, LATENCY
from nasperc.search.driver import Driver, begin_run, resume_run
from nasperc.search.executor import Executor
from nasperc.search.journal_beside import check_journal_beside
from nasperc.search.live_display import PrepareDisplay, SearchDisplay, duration, search_display
from nasperc.search.local_executor import LocalExecutor
from nasperc.search.pareto import ParetoFronts
from nasperc.search.progress import SearchProgress
from nasperc.search.recipe import Recipe
from nasperc.search.recorded_recipe import EXECUTION, LIMITS
from nasperc.search.run_caches import RunCaches
from nasperc.search.run_folder import RUNS, RunFolder, resolve_paths
from nasperc.search.tensorboard import SearchScalars
from nasperc.search.top10 import Top10
from nasperc.shown_text import printable
from proxy_tasks.base import Findings, ProxyTask
from proxy_tasks.cache_check import CacheCheck
from search_spaces.base import SearchSpace, TokenSpace

# Under a fast proxy the file need not be rewritten for every candidate.
WRITE_EVERY_S = 2.0
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
        search = _Search(recipe, space, driver, proxy.description(), session)
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


class _Search:
    """What the driver keeps of a running search, folded from the journal: views, ``top10.json``, ``pareto.json``."""

    def __init__(
        self, recipe: Recipe, space: SearchSpace, driver: Driver, description: dict[str, Any], session: str
    ) -> None:
        self._recipe, self._space, self._description = recipe, space, description
        self._driver, self._run, self._session = driver, driver.run, session
        self.progress = SearchProgress(space)
        self._top10, self._fronts = Top10(recipe.search.top), ParetoFronts()
        self._seen = 0
        self._unwritten = False
        self._next_write = 0.0

    def follow(self, executor: Executor, console: Console, between: BetweenStages) -> None:
        """Run to the end, and keep every view up to date."""
        self._driver.check()
        executor.start()
        for note in executor.notes():
            console.print(note, highlight=False, markup=False, soft_wrap=True)
        scalars = SearchScalars(self._run.tensorboard)
        try:
            while self._follow_stage(executor, console, scalars):
                self._write()
                between.go_on(executor, self._description)
        except InputError:
            # Where the run has lost its folder or its lock, nothing more can be written, and that is what is said.
            with suppress(InputError, OSError):
                self._write()
            raise
        except BaseException:
            self._write()
            raise
        else:
            self._write()
        finally:
            scalars.close()

    def _follow_stage(self, executor: Executor, console: Console, scalars: SearchScalars) -> bool:
        """Run on; True when a stage waits for what it needs from outside, False at the end of the run."""
        with search_display(console) as display:
            going, waiting = True, False
            while going and not waiting:
                self._take_events(executor, console, scalars, display)
                going = executor.advance()
                waiting = going and executor.status().selecting
            self._take_events(executor, console, scalars, display)
        return waiting

    def conclude(self, console: Console, proxy: ProxyTask) -> None:
        """Say how it ended, and rank the best with their latency.

        Raises:
            InputError: the run ended with an error.
        """
        progress = self.progress
        if progress.error is not None:
            raise InputError(
                "a search must be able to train candidates",
                value=progress.error,
                where=self._run.path,
                repair="Begin a new run with higher limits."
                if progress.rejected and not progress.completed
                else f"Remove the cause, then: nasperc search --resume {self._run.path}",
            )
        rejected = f"{progress.rejected} rejected, " if progress.rejected else ""
        console.print(
            f"search ended: {progress.completed} completed, {progress.stopped} stopped, {progress.failed} "
            f"failed, {rejected}{progress.replayed} replayed in {duration(progress.elapsed(time.monotonic()))}",
            highlight=False,
        )
        for stage in progress.converged:
            console.print(
                f"the stage {stage} ended early: its controller proposed known architectures only",
                highlight=False,
                markup=False,
            )
        for stage in progress.over_limits:
            console.print(
                f"the stage {stage} ended early: too many candidates in a row exceeded a limit, the last: "
                f"{progress.last_rejection}",
                highlight=False,
                markup=False,
            )
        for reason in progress.not_warm:
            console.print(printable(f"no warm start for the stage {reason}"), highlight=False, markup=False)
        table, doubted = self._ranking(proxy, console)
        console.print(table)
        if doubted is not None:
            console.print(f"ms: {doubted}; they may not hold", highlight=False, markup=False, soft_wrap=True)
        next_command = proxy.next_command.format(top10=self._run.top10, run=self._run.path)
        console.print(
            f"{self._run.top10}\nnext: {next_command}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    def _take_events(
        self, executor: Executor, console: Console, scalars: SearchScalars, display: SearchDisplay
    ) -> None:
        self._driver.check()
        events = executor.events_since(self._seen)
        resumed = [event for event in events if event["event"] == "run_resume"]
        # Before this driver's own there are those of earlier ones.
        for event in resumed if self._seen else resumed[-1:]:
            passed_over = event.get("passed_over")
            for snapshot in passed_over if isinstance(passed_over, list) else ():
                console.print(
                    f"a snapshot of the controller was passed over: {shown(snapshot)} (an older one, and the "
                    "journal after it, serve as well)",
                    highlight=False,
                    markup=False,
                    soft_wrap=True,
                )
        self._seen += len(events)
        for event in events:
            dropped = event.get("dropped")
            if dropped is not None and event["session"] == self._session:
                note = f"{self._run.journal}: {Dropped(**dropped)}"
                console.print(note, highlight=False, markup=False, soft_wrap=True)
            self.progress.apply(event)
            scalars.apply(event, self.progress)
            ranked, on_front = self._top10.apply(event), self._fronts.apply(event)
            self._unwritten |= ranked or on_front
        if events:
            executor.publish(self.progress)
        if self._unwritten and time.monotonic() >= self._next_write:
            self._write()
            scalars.flush()
        display.update(self.progress)

    def _write(self) -> None:
        self._driver.check()
        self._top10.write(self._run.top10, self._recipe, self._space, self._description)
        self._fronts.write(self._run.pareto, self._recipe)
        self._unwritten, self._next_write = False, time.monotonic() + WRITE_EVERY_S

    def _ranking(self, proxy: ProxyTask, console: Console) -> tuple[Table, str | None]:
        """The best with their costs, and why their latencies cannot be trusted."""
        events = self._top10.events()
        architectures = [
            self._space.from_dict(
                {**event["architecture"], "hash": event["hash"]}, where=str(self._run.journal)
            )
            for event in events
        ]
        known = [event["cost"].get(LATENCY) for event in events]
        timed = {number: latency_ms for number, latency_ms in enumerate(known) if latency_ms is not None}
        untimed = [number for number in range(len(events)) if number not in timed]
        with PrepareDisplay(console) as display:
            pairs = [(architectures[number], events[number]["widths"]) for number in untimed]
            measured = dict(zip(untimed, proxy.latencies(pairs, display), strict=True))
        captions = ["as the workers measured it, on one thread"] if timed else []
        captions += sorted(
            {f"median latency of one image ({each.device})" for each in measured.values() if each is not None}
        )
        shares = [event["cost"].get(CORE_SHARE) for event in events]
        shares += [each.core_share for each in measured.values() if each is not None]
        target = self._recipe.search.cost_target
        penalised = [] if target is None else ["penalised"]
        table = Table("rank", "stage", "candidate", "reward", *penalised, "hash", "MACs", "parameters", "ms")
        table.caption = plain(f"ms: {'; '.join(captions)}") if captions else None
        for number, event in enumerate(events):
            costs = [event["cost"].get(key) for key in ("flops", "params")]
            latency, latency_ms = measured.get(number), timed.get(number)
            if latency is not None:
                latency_ms = 1e3 * latency.median_s
            table.add_row(
                str(number + 1),
                plain(event["stage"]),
                str(event["id"]),
                f"{event['reward']:.4f}",
                *([] if target is None else [f"{objective(event):.4f}"]),
                plain(event["hash"][:8]),
                *("-" if cost is None else f"{cost:.3g}" for cost in costs),
                "-" if latency_ms is None else f"{latency_ms:.1f}",
            )
        return table, doubt(min((share for share in shares if share is not None), default=None))
