"""A running search as its driver follows it: what is shown of it, what is written of it, how it ended."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from rich.console import Console

from controllers.service.journal_lines import Dropped
from nasperc.errors import InputError, shown
from nasperc.recipe.root import Recipe
from nasperc.search.between_stages import BetweenStages
from nasperc.search.driver import Driver
from nasperc.search.executor import Executor
from nasperc.search.live_display import PrepareDisplay, SearchDisplay, duration, search_display
from nasperc.search.pareto import ParetoFronts
from nasperc.search.progress import SearchProgress
from nasperc.search.ranking_table import ranking_table
from nasperc.search.tensorboard import SearchScalars
from nasperc.search.top10 import Top10
from nasperc.shown_text import printable
from proxy_tasks.base import ProxyTask
from search_spaces.base import SearchSpace

# Under a fast proxy the file need not be rewritten for every candidate.
WRITE_EVERY_S = 2.0


class FollowedSearch:
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
            f"search ended: {progress.completed} completed, {progress.stopped} stopped (pruned), "
            f"{progress.failed} failed, {rejected}{progress.replayed} replayed in "
            f"{duration(progress.elapsed(time.monotonic()))}",
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
        with PrepareDisplay(console) as display:
            table, doubted = ranking_table(
                self._top10.events(),
                self._space,
                proxy,
                self._recipe.search.cost_target,
                self._run.journal,
                display,
            )
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
