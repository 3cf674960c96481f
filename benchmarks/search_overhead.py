"""What a search on Ray costs beside the training of its candidates.

    python benchmarks/search_overhead.py
    python benchmarks/search_overhead.py --candidates 8 --set proxy.iterations=5
    python benchmarks/search_overhead.py --nothing 1000

Searches, then trains the same candidates again in as many bare processes as the search had workers (no Ray, no
service, no journal), all at once:

    overhead = wall * workers / (candidates * their mean time in the bare processes) - 1

Wall is from the first proposal to the last result by the times in the journal, without what it takes to prepare
a later stage (the default recipe has one stage). Each bare process imports and opens the cache before the clock
starts, as the workers do before their first proposal. Bound: 5 % at 2 workers and candidates of 10 s, 60 or more.
Measure on a quiet machine: the two sides run one after the other, and where the bare processes are slower by more
than the bound, the machine had other work and no verdict is given.

``--nothing N``: N candidates that do nothing, proposed by random search unless ``--set`` names another
controller. Bounds: 20 ms each; the driver's memory is flat, no more than 2 % larger after 1,000 than after 200
(RSS after a fifth of them and after all; that of the controller service's process is printed beside it).
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import TracebackType
from typing import Any, Self

if __name__ == "__main__":
    # The script's own folder would hide the package `controllers`; the one above shows all.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from controllers.base import Candidate, Result
from controllers.service.candidate_events import candidate_from
from controllers.service.journal import Event, Journal
from controllers.service.run_time import RunTime
from nasperc.errors import InputError
from nasperc.recipe.reading import load_recipe, parse_recipe
from nasperc.recipe.root import Recipe
from nasperc.search.components import build_proxy, build_space
from nasperc.search.run import run_search
from nasperc.search.run_folder import RunFolder
from proxy_tasks.base import Progress, ProxyTask, TaskContext, no_progress

OVERHEAD, NOTHING_MS = 0.05, 20.0
# Of the driver's memory, from a fifth of 1,000 candidates to the last.
FLAT = 0.02
MIB = 2**20
RESULTS = ("completion", "stop")
SAMPLE_S = 0.05


class NothingRecipe(BaseModel):
    """Doing nothing has no settings."""

    model_config = ConfigDict(extra="forbid")


class NothingProxy(ProxyTask):
    """Trains nothing; the reward is a number in [0, 1) that follows from the candidate's seed."""

    Recipe = NothingRecipe

    def __init__(self, recipe: BaseModel, context: TaskContext) -> None: ...

    def prepare(self, on_progress: Progress = no_progress) -> None:
        """Nothing, too."""

    def evaluate(self, candidate: Candidate, on_progress: Progress = no_progress) -> Result:
        return Result("completed", (candidate.seed % 9973) / 9973)

    def fingerprint(self) -> str:
        return hashlib.sha256(b"nothing").hexdigest()

    def description(self) -> dict[str, Any]:
        return {
            "data": {"fingerprint": self.fingerprint(), "classes": [], "normalisation": None},
            "weights": {},
        }


class MemoryTrace:
    """Samples the resident memory of this process and of the one that writes ``journal`` while it is open."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._samples: list[tuple[float, int, int]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def at(self, when: float) -> tuple[int, int]:
        """Bytes of both processes at ``when`` (by the monotonic clock): the last sample before it."""
        _, driver, service = [sample for sample in self._samples if sample[0] <= when][-1]
        return driver, service

    def _sample(self) -> None:
        service: int | None = None
        while not self._ended.wait(SAMPLE_S):
            if service is None:
                events = Journal.read(self._journal) if self._journal.exists() else []
                service = events[0]["pid"] if events else None
            else:
                try:
                    self._samples.append((time.monotonic(), _resident(os.getpid()), _resident(service)))
                except (FileNotFoundError, ProcessLookupError):
                    # The service ends a moment before the search does.
                    return


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(recipe: Recipe, folder: Path) -> list[Event]:
    """Search without a display; the journal.

    Raises:
        InputError: the search cannot run, or a candidate failed: then its time is none.
    """
    with open(os.devnull, "w") as nowhere:
        run_search(recipe, folder, console=Console(file=nowhere))
    events = Journal.read(RunFolder(folder).journal)
    failures = [event["reason"] for event in events if event["event"] == "failure"]
    if failures:
        raise InputError(
            "every candidate must be trained",
            value=f"{len(failures)} failed, the last: {failures[-1]}",
            where=folder,
            repair="Remove the cause: a candidate that fails takes less time than one that is trained.",
        )
    return events


def results(events: Sequence[Event]) -> list[Event]:
    """The candidates that were trained."""
    return [event for event in events if event["event"] in RESULTS]


def wall_seconds(events: Sequence[Event]) -> float:
    """From the first proposal to the last result, without the preparation of later stages."""
    clock, first, last = RunTime(), None, 0.0
    for event in events:
        clock.take(event)
        now = clock.counted(clock.seconds)
        if event["event"] == "proposal" and first is None:
            first = now
        if event["event"] in RESULTS:
            last = now
    assert first is not None, "a search proposes"
    return last - first


def overhead(wall: float, workers: int, candidates: int, mean: float) -> float:
    """Seconds of the workers that were no training, over those that were."""
    return wall * workers / (candidates * mean) - 1


_bare: dict[str, Any] = {}


def _open(recipe: dict[str, Any], prepared: Path, all_open: Barrier) -> None:
    torch.set_num_threads(1)
    resolved = parse_recipe(recipe, where="the recipe of the search")
    space = build_space(resolved)
    proxy = build_proxy(resolved, space, prepared)
    proxy.prepare()
    _bare.update(space=space, proxy=proxy)
    all_open.wait()


def _train(proposal: Event) -> Result:
    result: Result = _bare["proxy"].evaluate(candidate_from(proposal, _bare["space"]))
    return result


def train_bare(recipe: Recipe, prepared: Path, candidates: Sequence[Event]) -> list[Result]:
    """Train candidates in ``recipe.search.workers`` processes; a process that is free takes the next one."""
    spawn, workers = multiprocessing.get_context("spawn"), recipe.search.workers
    arguments = (recipe.to_dict(), prepared, spawn.Barrier(workers))
    with ProcessPoolExecutor(workers, spawn, initializer=_open, initargs=arguments) as pool:
        return list(pool.map(_train, candidates))


def verdict(held: bool, bound: str) -> str:
    return f"bound {bound}: {'held' if held else 'missed'}"


def overhead_verdict(total: float, searched_to_bare: float) -> str:
    """Whether the bound is held; none where the bare candidates took longer than those of the search."""
    if searched_to_bare < 1 - OVERHEAD:
        return "no verdict: the machine was busier while the bare processes trained"
    return verdict(total <= OVERHEAD, f"<= {OVERHEAD:.0%}")


def report_overhead(recipe: Recipe, folder: Path) -> None:
    """Search, train bare, print."""
    run_folder = Path(tempfile.mkdtemp(prefix="search-", dir=folder))
    events = run(recipe, run_folder)
    trained = results(events)
    bare = train_bare(recipe, RunFolder(run_folder).prepared, trained)
    same = sum(
        event.get("reward") == result.reward and event["halfway"] == result.halfway
        for event, result in zip(trained, bare, strict=True)
    )
    wall, workers, count = wall_seconds(events), recipe.search.workers, len(trained)
    searched = statistics.mean(event["seconds"] for event in trained)
    mean = statistics.mean(result.seconds for result in bare)
    total = overhead(wall, workers, count, mean)
    table = Table("", title=f"{count} candidates, {workers} workers", show_header=False)
    table.add_column(justify="right")
    table.add_row("wall, first proposal to last result", f"{wall:.2f} s")
    table.add_row("a candidate in the search, mean", f"{searched:.3f} s")
    table.add_row("a candidate in a bare process, mean", f"{mean:.3f} s")
    table.add_row("rewards that are the same in both", f"{same} of {count}")
    table.add_row("overhead: slower candidates", f"{searched / mean - 1:+.1%}")
    table.add_row("overhead: between candidates", f"{(wall * workers / count - searched) / mean:+.1%}")
    Console(width=100).print(table)
    print(f"overhead of the search: {total:.1%} ({overhead_verdict(total, searched / mean)})")


def report_nothing(recipe: Recipe, folder: Path) -> None:
    """Search among candidates that do nothing, print."""
    run_folder = Path(tempfile.mkdtemp(prefix="search-", dir=folder))
    with MemoryTrace(RunFolder(run_folder).journal) as memory:
        events = run(recipe, run_folder)
    done = results(events)
    each = wall_seconds(events) / len(done) * 1e3
    points = (max(1, len(done) // 5), len(done))
    zero = events[0]["zero"]
    found = [memory.at(zero + done[point - 1]["at"]) for point in points]
    table = Table("RSS in MiB", title=f"{len(done)} candidates, {recipe.search.workers} workers")
    for point in points:
        table.add_column(f"after {point}", justify="right")
    for name, values in zip(("driver", "controller service"), zip(*found, strict=True), strict=True):
        table.add_row(name, *(f"{value / MIB:.1f}" for value in values))
    Console(width=100).print(table)
    growth = found[1][0] / found[0][0] - 1
    print(
        f"{each:.1f} ms a candidate, {each / NOTHING_MS:.2f} of the bound "
        f"({verdict(each <= NOTHING_MS, f'<= {NOTHING_MS:g} ms')})"
    )
    flat = verdict(growth <= FLAT, f"<= {FLAT:.0%}")
    print(f"driver memory: {growth:+.1%} from {points[0]} to {points[1]} candidates ({flat})")


def main() -> None:
    """Print one of the two measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    own = Path(__file__).with_suffix(".yaml")
    parser.add_argument("--candidates", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--recipe", default=str(own), help=f"default: {own.name} beside this script")
    parser.add_argument("--data", type=Path, help="data set; the recipe's (synthetic) by default")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--nothing", type=int, metavar="N", help="N candidates that do nothing, instead")
    parser.add_argument(
        "--folder", type=Path, help="keeps runs and what they prepare; default: a temporary one"
    )
    arguments = parser.parse_args()
    budget = arguments.nothing or arguments.candidates
    overrides: dict[str, Any] = {
        "search": {"budget": str(budget), "workers": arguments.workers, "executor": "ray"}
    }
    if arguments.data is not None:
        overrides["data"] = {"path": str(arguments.data)}
    if arguments.nothing:
        overrides["proxy"] = {"name": f"{Path(__file__).resolve()}:{NothingProxy.__name__}"}
        overrides["controller"] = {"name": "random"}
    recipe = load_recipe(arguments.recipe, [overrides], arguments.set)
    with tempfile.TemporaryDirectory() as temporary:
        report = report_nothing if arguments.nothing else report_overhead
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        report(recipe, folder)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
