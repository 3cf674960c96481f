"""A search from its recipe to ``top10.json``."""

from __future__ import annotations

import errno
import time
import uuid
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from controllers.costs import objective
from controllers.service.journal import Journal
from nasperc.errors import InputError
from nasperc.plain_console import PlainConsole, plain
from nasperc.search.between_stages import BetweenStages, Selector
from nasperc.search.components import (
    build_plan,
    build_proxy,
    build_space,
    build_warm_start,
    controller_factory,
)
from nasperc.search.executor import Executor
from nasperc.search.live_display import PrepareDisplay, SearchDisplay, duration, search_display
from nasperc.search.local_executor import LocalExecutor
from nasperc.search.pareto import ParetoFronts
from nasperc.search.progress import SearchProgress
from nasperc.search.recipe import Recipe
from nasperc.search.run_folder import RunFolder, resolve_paths
from nasperc.search.tensorboard import SearchScalars
from nasperc.search.top10 import Top10
from nasperc.shown_text import printable
from proxy_tasks.base import ProxyTask
from search_spaces.base import SearchSpace, TokenSpace

# Under a fast proxy the file need not be rewritten for every candidate.
WRITE_EVERY_S = 2.0
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_EXECUTION = ("workers", "gpus_per_worker", "executor", "ray_address", "dashboard", "dashboard_host", "top")
# Where candidates fail of them, a resumed run may have others.
_LIMITS = ("candidate_time_limit_s", "worker_memory_gib")


def run_search(
    recipe: Recipe | None,
    folder: Path,
    *,
    resume: bool = False,
    console: Console | None = None,
    selector: Selector | None = None,
) -> Path:
    """Search, and write ``top10.json``; the folder holds everything that a resumption needs, at any moment.

    Args:
        recipe: the whole recipe; None with ``resume``: the folder's own. A resumed run may change how it is
            executed (workers, executor, dashboard), not what it searches.
        folder: of the run; new unless ``resume``.
        resume: go on where the run's journal ends; a run that has ended only writes its ``top10.json`` again.
        console: where to show progress.
        selector: chooses what a later stage builds on; needed unless ``search.select`` is ``proxy``.

    Returns:
        The path of ``top10.json``.

    Raises:
        InputError: bad recipe, data or folder; no worker could be set up; no candidate of a stage was
            completed.
        KeyboardInterrupt: interrupted; how to resume was printed.
    """
    console = console or PlainConsole()
    run = RunFolder(folder)
    recipe = _resumed_recipe(run, recipe) if resume else _new_recipe(run, recipe)
    space = build_space(recipe)
    # A budget that does not fit the stages is told before anything is prepared.
    build_plan(recipe).candidate_bounds(space.stages())
    # So is a controller that cannot be made, since its library is not installed.
    controller_factory(recipe)(TokenSpace(space, space.stages()[0]), recipe.seed)
    if not resume:
        run.create(recipe)
    # Said before anything can end this process without a word, as Ray does where its node is gone.
    console.print(
        f"run folder: {run.path} (whatever ends it: nasperc search --resume {run.path} goes on)",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    try:
        proxy = _prepare(recipe, space, run, console)
        fingerprint = proxy.fingerprint()
        warm_start = build_warm_start(recipe, space, fingerprint)
        if warm_start is not None and not resume:
            warm_start.check()
        search = _Search(recipe, space, run, proxy.description())
        between = BetweenStages(recipe, space, run, proxy, selector, console)
        between.begin(Journal.read(run.journal) if run.journal.exists() else [])
        with _executor(recipe, run, fingerprint) as executor:
            search.follow(executor, console, between)
    except KeyboardInterrupt:
        console.print(
            f"\ninterrupted; continue with: nasperc search --resume {run.path}", highlight=False, markup=False
        )
        raise
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise InputError(
            "the disk of a run must have space",
            value=error.strerror,
            where=error.filename or run.path,
            repair=f"Free some, then: nasperc search --resume {run.path} (every completed candidate is kept).",
        ) from error
    search.conclude(console, proxy)
    return run.top10


def _new_recipe(run: RunFolder, recipe: Recipe | None) -> Recipe:
    if recipe is None:
        raise ValueError("a new search needs a recipe")
    return resolve_paths(recipe)


def _resumed_recipe(run: RunFolder, recipe: Recipe | None) -> Recipe:
    kept = run.read_recipe()
    if recipe is None:
        return kept
    given = resolve_paths(recipe)
    free = {key: getattr(given.search, key) for key in (*_EXECUTION, *_LIMITS)}
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


def _prepare(recipe: Recipe, space: SearchSpace, run: RunFolder, console: Console) -> ProxyTask:
    """The proxy task, prepared once, before workers exist."""
    proxy = build_proxy(recipe, space, run.prepared)
    with PrepareDisplay(console) as display:
        proxy.prepare(display)
    for note in proxy.notes():
        console.print(printable(note), highlight=False, markup=False)
    return proxy


def _executor(recipe: Recipe, run: RunFolder, fingerprint: str) -> Executor:
    session = uuid.uuid4().hex
    if recipe.search.executor == "local":
        return LocalExecutor(recipe, run.path, session, fingerprint)
    from nasperc.search.ray_executor import RayExecutor

    return RayExecutor(recipe, run.path, session, fingerprint)


class _Search:
    """What the driver keeps of a running search, folded from the journal: views, ``top10.json``, ``pareto.json``."""

    def __init__(
        self, recipe: Recipe, space: SearchSpace, run: RunFolder, description: dict[str, Any]
    ) -> None:
        self._recipe, self._space, self._run, self._description = recipe, space, run, description
        self.progress = SearchProgress(space)
        self._top10, self._fronts = Top10(recipe.search.top), ParetoFronts()
        self._seen = 0
        self._unwritten = False
        self._next_write = 0.0

    def follow(self, executor: Executor, console: Console, between: BetweenStages) -> None:
        """Run to the end, and keep every view up to date."""
        executor.start()
        for note in executor.notes():
            console.print(note, highlight=False, markup=False, soft_wrap=True)
        scalars = SearchScalars(self._run.tensorboard)
        try:
            while self._follow_stage(executor, console, scalars):
                self._write()
                between.go_on(executor, self._description)
        finally:
            scalars.close()
            self._write()

    def _follow_stage(self, executor: Executor, console: Console, scalars: SearchScalars) -> bool:
        """Run on; True when a stage waits for what it needs from outside, False at the end of the run."""
        with search_display(console) as display:
            going, waiting = True, False
            while going and not waiting:
                self._take_events(executor, scalars, display)
                going = executor.advance()
                waiting = going and executor.status().selecting
            self._take_events(executor, scalars, display)
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
            f"failed, {rejected}{progress.replayed} replayed in {duration(progress.elapsed(time.time()))}",
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
        console.print(self._ranking(proxy))
        next_command = proxy.next_command.format(top10=self._run.top10, run=self._run.path)
        console.print(
            f"{self._run.top10}\nnext: {next_command}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    def _take_events(self, executor: Executor, scalars: SearchScalars, display: SearchDisplay) -> None:
        events = executor.events_since(self._seen)
        self._seen += len(events)
        for event in events:
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
        self._top10.write(self._run.top10, self._recipe, self._space, self._description)
        self._fronts.write(self._run.pareto, self._recipe)
        self._unwritten, self._next_write = False, time.monotonic() + WRITE_EVERY_S

    def _ranking(self, proxy: ProxyTask) -> Table:
        target = self._recipe.search.cost_target
        penalised = [] if target is None else ["penalised"]
        table = Table("rank", "stage", "candidate", "reward", *penalised, "hash", "MACs", "parameters", "ms")
        for rank, event in enumerate(self._top10.events(), start=1):
            costs = [event["cost"].get(key) for key in ("flops", "params")]
            described = {**event["architecture"], "hash": event["hash"]}
            architecture = self._space.from_dict(described, where=str(self._run.journal))
            latency_ms = event["cost"].get("latency_ms")
            latency = None if latency_ms is not None else proxy.latency(architecture, event["widths"])
            if latency is not None:
                latency_ms = 1e3 * latency.median_s
                table.caption = plain(f"ms: median latency of one image ({latency.device})")
            table.add_row(
                str(rank),
                plain(event["stage"]),
                str(event["id"]),
                f"{event['reward']:.4f}",
                *([] if target is None else [f"{objective(event):.4f}"]),
                plain(event["hash"][:8]),
                *("-" if cost is None else f"{cost:.3g}" for cost in costs),
                "-" if latency_ms is None else f"{latency_ms:.1f}",
            )
        return table
