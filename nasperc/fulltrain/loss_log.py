"""The losses of a training, one line an iteration, through interruptions."""

from __future__ import annotations

import csv
import os
import re
from collections import deque
from io import StringIO
from pathlib import Path
from types import TracebackType
from typing import TextIO

from nasperc.shown_text import for_csv
from nasperc.whole_files import open_in_place, write_whole

_FLUSH_EVERY = 50
_ITERATION = re.compile(r"[0-9]{1,12}")


class LossLog:
    """Context that writes ``path`` (CSV: iteration and each loss).

    A line decides what is kept of those before it: a training that continues from its last checkpoint does some
    iterations a second time.

    Args:
        path: of the file; nothing is touched before the first line.
        window: number of iterations of :meth:`mean`.
    """

    def __init__(self, path: Path, window: int = 50) -> None:
        self._path = path
        self._file: TextIO | None = None
        self._last = 0
        self._totals: deque[float] = deque(maxlen=window)

    def __enter__(self) -> LossLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, iteration: int, losses: dict[str, float]) -> None:
        """Add one line; the losses have the same names every time."""
        if self._file is not None and iteration <= self._last:
            self._file.close()
            self._file = None
        if self._file is None:
            kept = self._lines_before(iteration)
            text = StringIO(newline="")
            lines = [["iteration", *losses], *kept]
            csv.writer(text).writerows([for_csv(cell) for cell in line] for line in lines)
            write_whole(self._path, text.getvalue())
            descriptor = open_in_place(self._path, os.O_WRONLY | os.O_APPEND)
            self._file = open(descriptor, "a", newline="", encoding="utf-8")  # noqa: SIM115 (closed with this)
        csv.writer(self._file).writerow([iteration, *(f"{value:.6g}" for value in losses.values())])
        self._totals.append(sum(losses.values()))
        self._last = iteration
        if iteration % _FLUSH_EVERY == 0:
            self._file.flush()

    def mean(self) -> float:
        """Mean of the summed losses over the last iterations."""
        return sum(self._totals) / len(self._totals)

    def _lines_before(self, iteration: int) -> list[list[str]]:
        if not self._path.is_file():
            return []
        # A line that is damaged is left out: the log is for the eye, the checkpoint says what was trained.
        with self._path.open(newline="", encoding="utf-8", errors="replace") as file:
            lines = [line.rstrip("\r\n").split(",") for line in file][1:]
        return [line for line in lines if _ITERATION.fullmatch(line[0]) and int(line[0]) < iteration]
