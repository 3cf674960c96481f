"""What a search shows while it runs: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nasperc.plain_console import plain
from nasperc.search.progress import WINDOW, SearchProgress
from nasperc.shown_text import printable

PLAIN_EVERY_S = 10.0


class SearchDisplay(ABC):
    """A context manager that shows the progress of a search."""

    @abstractmethod
    def update(self, progress: SearchProgress) -> None:
        """The progress has changed, or time has passed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def search_display(console: Console, every_s: float = PLAIN_EVERY_S) -> SearchDisplay:
    """The display that fits the console."""
    return PanelDisplay(console) if console.is_terminal else PlainDisplay(console, every_s)


class PlainDisplay(SearchDisplay):
    """One line every few seconds if anything has changed, and one for each stage and each new failure."""

    def __init__(self, console: Console, every_s: float) -> None:
        self._console, self._every_s = console, every_s
        self._next = 0.0
        self._shown: tuple[object, ...] = ()
        self._stage: str | None = None

    def update(self, progress: SearchProgress) -> None:
        now = time.monotonic()
        if progress.stage != self._stage:
            self._stage, self._next = progress.stage, 0.0
        state = (progress.stage, progress.done, progress.rejected, progress.replayed, progress.last_failure)
        if state == self._shown or (now < self._next and not progress.finished):
            return
        self._shown, self._next = state, now + self._every_s
        self._console.print(line(progress, now), highlight=False, soft_wrap=True, markup=False)


class PanelDisplay(SearchDisplay):
    """A panel that is redrawn four times a second."""

    def __init__(self, console: Console) -> None:
        self._progress: SearchProgress | None = None
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4)

    def update(self, progress: SearchProgress) -> None:
        self._progress = progress

    def _render(self) -> RenderableType:
        return panel(self._progress, time.monotonic()) if self._progress is not None else Text("starting ...")

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


def line(progress: SearchProgress, now: float) -> str:
    """The whole state in one line."""
    parts = [
        f"[{_stage(progress)}]",
        f"{progress.done}{_of(progress)} done",
        f"({progress.completed} completed, {progress.stopped} stopped, {progress.failed} failed,"
        f" {progress.replayed} replayed{_rejected(progress)})",
        f"best {_best(progress)}",
        f"mean of last {WINDOW} {_number(progress.moving_average)}",
        f"{_rate(progress, now)}/h",
        f"{duration(progress.seconds_left(now))} left",
    ]
    if progress.warm:
        parts.append(f"{progress.warm} evaluations of other runs learnt from")
    if progress.failed and progress.last_failure:
        parts.append(f"last failure: {printable(progress.last_failure[:160])}")
    return "  ".join(parts)


def panel(progress: SearchProgress, now: float) -> RenderableType:
    """The whole state as a panel."""
    grid = Table.grid(padding=(0, 2))
    grid.add_row("stage", plain(_stage(progress)))
    grid.add_row(
        "candidates",
        f"{progress.done}{_of(progress)}: {progress.completed} completed, {progress.stopped} stopped,"
        f" {progress.failed} failed, {progress.replayed} replayed{_rejected(progress)}",
    )
    whose = f" (candidate {progress.best_id})" if progress.best_id is not None else ""
    grid.add_row("best reward", f"{_best(progress)}{whose}")
    grid.add_row(f"mean of last {WINDOW}", _number(progress.moving_average))
    grid.add_row("speed", f"{_rate(progress, now)} candidates an hour")
    gone, left = duration(progress.elapsed(now)), duration(progress.seconds_left(now))
    grid.add_row("time", f"{gone} gone, {left} left")
    for slot, running in sorted(progress.running.items()):
        gone = duration(progress.running_for(slot, now))
        grid.add_row(f"slot {slot}", f"candidate {running.id} for {gone}")
    if progress.diagnostics:
        numbers = (f"{name} {value:.3g}" for name, value in progress.diagnostics.items())
        grid.add_row("controller", plain("  ".join(numbers)))
    if progress.last_failure:
        grid.add_row("last failure", plain(progress.last_failure[:200]))
    if progress.warm:
        grid.add_row("warm start", f"{progress.warm} evaluations of other runs")
    if progress.last_rejection:
        grid.add_row("last rejection", plain(progress.last_rejection[:200]))
    bar = ProgressBar(total=1.0, completed=progress.fraction(now))
    return Panel(Group(bar, grid), title="nasperc search", title_align="left")


class PrepareDisplay:
    """Progress of a proxy task's preparation: ``(phase, fraction)`` as it is called."""

    def __init__(self, console: Console, every_s: float = PLAIN_EVERY_S) -> None:
        self._console, self._every_s = console, every_s
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(console=console, auto_refresh=False, transient=True)
        self._phase: str | None = None
        self._start = self._next = 0.0

    def __call__(self, phase: str, fraction: float) -> None:
        now = time.monotonic()
        if phase != self._phase:
            self._end_phase(now)
            self._phase, self._start, self._next = phase, now, 0.0
        if self._live is not None:
            if now >= self._next or fraction >= 1.0:
                self._next = now + 0.2
                row = Table.grid(padding=(0, 2))
                row.add_row(
                    plain(phase), ProgressBar(total=1.0, completed=fraction, width=40), f"{fraction:4.0%}"
                )
                self._live.update(row, refresh=True)
        elif now >= self._next:
            self._next = now + self._every_s
            self._console.print(f"{phase}: {fraction:.0%}", highlight=False, markup=False)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if kind is None:
            self._end_phase(time.monotonic())

    def _end_phase(self, now: float) -> None:
        if self._phase is not None:
            text = f"{self._phase}: done in {duration(now - self._start)}"
            self._console.print(text, highlight=False, markup=False)


def duration(seconds: float | None) -> str:
    """``3h 05m``, ``4m 10s``, ``7s``; ``?`` when it is not known."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"


def _stage(progress: SearchProgress) -> str:
    if progress.stage is None:
        return "starting"
    position = progress.stages.index(progress.stage) + 1
    return f"{progress.stage}, stage {position} of {len(progress.stages)}"


def _of(progress: SearchProgress) -> str:
    return f" of {progress.plan['candidates']}" if progress.plan.get("candidates") else ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _best(progress: SearchProgress) -> str:
    """What rankings go by and, where its cost took something off, the reward itself."""
    if progress.best is None or not progress.best_penalty:
        return _number(progress.best)
    return (
        f"{_number(progress.best)} (reward {_number(progress.best + progress.best_penalty)} before its cost)"
    )


def _rejected(progress: SearchProgress) -> str:
    return f", {progress.rejected} rejected" if progress.rejected else ""


def _rate(progress: SearchProgress, now: float) -> str:
    rate = progress.candidates_per_hour(now)
    return "?" if rate is None else f"{rate:.0f}"
