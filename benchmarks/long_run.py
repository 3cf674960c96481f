"""What a long search leaves behind: 3,000 candidates that do nothing, through Ray.

    python benchmarks/long_run.py
    python benchmarks/long_run.py --candidates 300 --every 100 --set controller.name=evolution

Prints wall time, the memory of driver, controller service and workers on the way (PSS: shared pages are shared out
among the processes that map them; in brackets the part of it that is private), and size, files and folders of the
run. Bounds: driver and service have grown by no more than 5 % from a tenth of the candidates to the last, workers by
no more than 2 %; the folder holds no folder a candidate. A worker that the search restarts counts as a new process.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

if __name__ == "__main__":
    # The script's own folder would hide the package `controllers`; the one above shows all.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from rich.console import Console
from rich.table import Table

from benchmarks.search_overhead import NothingProxy, results, run, verdict, wall_seconds
from nasperc.errors import InputError
from nasperc.recipe.reading import load_recipe
from nasperc.search.run_folder import RunFolder

OVERHEAD = Path(__file__).with_name("search_overhead.py")
MIB = 2**20
SERVICE_GROWTH, WORKER_GROWTH = 0.05, 0.02
POLL_S = 0.2


class Memory(NamedTuple):
    """Bytes of one process: its share of all its pages, and those that are its own and no file's."""

    pss: int
    private: int


def memory(pid: int) -> Memory:
    """Of a process that runs.

    Raises:
        FileNotFoundError, ProcessLookupError: it does not.
    """
    values = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        values[name] = int(value.split()[0]) * 1024
    return Memory(values["Pss"], values["Pss_Anon"])


def children(pid: int) -> list[int]:
    """Processes that ``pid`` started, and theirs."""
    found: list[int] = []
    try:
        listed = [(task / "children").read_text().split() for task in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        # Ray's processes come and go while they are listed.
        return found
    for child in (int(child) for children_of_task in listed for child in children_of_task):
        found += [child, *children(child)]
    return found


def _command(pid: int) -> bytes:
    """Of a process; nothing when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


class MemoryOnTheWay:
    """While it is open: samples the memory of this search's processes each time some more candidates are done.

    Attributes:
        samples: by name of the process, (candidates done, memory).
    """

    def __init__(self, journal: Path, points: Sequence[int]) -> None:
        self.samples: dict[str, list[tuple[int, Memory]]] = {}
        self._journal, self._points = journal, list(points)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        done, offset = 0, 0
        while self._points and not self._ended.wait(POLL_S):
            if not self._journal.exists():
                continue
            # Read by hand: to parse the whole journal again and again would be measured as well.
            with open(self._journal, "rb") as file:
                file.seek(offset)
                new = file.read()
            whole = new.rfind(b"\n") + 1
            offset += whole
            done += sum(line.startswith(b'{"event":"completion"') for line in new[:whole].splitlines())
            if done >= self._points[0]:
                while self._points and done >= self._points[0]:
                    self._points.pop(0)
                self._sample(done)

    def _sample(self, done: int) -> None:
        with open(self._journal, "rb") as file:
            service = json.loads(file.readline())["pid"]
        names = {os.getpid(): "driver", service: "controller service"}
        for pid in children(os.getpid()):
            command = _command(pid)
            if command.startswith(b"ray::") and b"ServiceActor" not in command and b"IDLE" not in command:
                names[pid] = f"worker {pid}"
        for pid, name in names.items():
            try:
                self.samples.setdefault(name, []).append((done, memory(pid)))
            except (FileNotFoundError, ProcessLookupError):
                # It ended since it was listed, which must not end the sampling.
                continue


def growth(samples: Sequence[tuple[int, Memory]]) -> float:
    """Of the PSS, from the first sample to the last, as a share of the first."""
    return samples[-1][1].pss / samples[0][1].pss - 1


def main() -> None:
    """Search, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--candidates", type=int, default=3000)
    parser.add_argument("--every", type=int, default=300, help="candidates between two samples")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--folder", type=Path, help="keeps the run; default: a temporary one")
    arguments = parser.parse_args()
    overrides = {
        "search": {"budget": str(arguments.candidates), "workers": arguments.workers, "executor": "ray"},
        "proxy": {"name": f"{OVERHEAD}:{NothingProxy.__name__}"},
        "controller": {"name": "random"},
    }
    recipe = load_recipe(str(OVERHEAD.with_suffix(".yaml")), [overrides], arguments.set)
    with tempfile.TemporaryDirectory() as temporary:
        parent = arguments.folder or Path(temporary)
        parent.mkdir(parents=True, exist_ok=True)
        folder = RunFolder(Path(tempfile.mkdtemp(prefix="search-", dir=parent)))
        points = range(arguments.every, arguments.candidates + 1, arguments.every)
        started = time.monotonic()
        with MemoryOnTheWay(folder.journal, points) as way:
            events = run(recipe, folder.path)
        report(way, wall_seconds(events), time.monotonic() - started, len(results(events)), folder.path)


def report(way: MemoryOnTheWay, wall: float, whole: float, candidates: int, folder: Path) -> None:
    """Print the tables and whether the bounds are held."""
    table = Table("PSS (private) in MiB", title=f"{candidates} candidates of {len(way.samples) - 2} workers")
    points = [done for done, _ in way.samples["driver"]]
    shown = sorted({0, len(points) // 3, 2 * len(points) // 3, len(points) - 1})
    for index in shown:
        table.add_column(f"after {points[index]}", justify="right")
    table.add_column("growth", justify="right")
    for name, samples in way.samples.items():
        cells = [
            f"{samples[i][1].pss / MIB:.1f} ({samples[i][1].private / MIB:.1f})"
            for i in shown
            if i < len(samples)
        ]
        table.add_row(name, *cells, *[""] * (len(shown) - len(cells)), f"{growth(samples):+.1%}")
    Console(width=120).print(table)
    paths = list(folder.rglob("*"))
    files = [path for path in paths if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    print(f"wall: {wall:.1f} s from the first proposal to the last result, {whole:.1f} s in all")
    print(f"{wall / candidates * 1e3:.1f} ms a candidate")
    print(f"run folder: {size / MIB:.2f} MiB, {len(files)} files, {len(paths) - len(files)} folders")
    for name, samples in way.samples.items():
        bound = WORKER_GROWTH if name.startswith("worker") else SERVICE_GROWTH
        print(f"{name}: {growth(samples):+.1%} ({verdict(growth(samples) <= bound, f'<= {bound:.0%}')})")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
