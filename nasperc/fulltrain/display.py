"""What full training shows while it runs: a live bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

_LINE_EVERY_S = 30.0


class Display:
    """Context for one row after another.

    Args:
        console: to write to; without a terminal behind it a line is printed every half minute.
    """

    def __init__(self, console: Console) -> None:
        self._console, self._iterations = console, 0
        self._live = console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            disable=not self._live,
        )
        self._task = self._progress.add_task("", total=1.0, text="")
        self._row = self._activity = ""
        self._began = self._printed = 0.0
        self._first = 0.0

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def start_row(self, name: str, iterations: int = 0) -> None:
        """What follows is about the row ``name``; ``iterations``: of its training, for the speed that is shown."""
        self._row, self._iterations, self._activity = name, iterations, ""

    def update(self, activity: str, fraction: float, text: str) -> None:
        """Show ``fraction`` of ``activity`` as done, with a text such as the loss."""
        now = time.monotonic()
        if activity != self._activity:
            self._activity, self._began, self._first, self._printed = activity, now, fraction, now
            self._progress.reset(self._task, description=f"{self._row}: {activity}", text=text)
        done = (fraction - self._first) / (now - self._began) if now > self._began else 0.0
        if activity == "training" and done > 0:
            text = f"{text}  {done * self._iterations:.2f} it/s"
        self._progress.update(self._task, completed=fraction, text=text)
        if not self._live and now - self._printed >= _LINE_EVERY_S:
            self._printed = now
            left = f", {(1 - fraction) / done / 60:.1f} min left" if done > 0 else ""
            self._console.print(
                f"{self._row}: {activity} {fraction:.0%}  {text}{left}", highlight=False, markup=False
            )
