"""What it costs to know data and caches by their bytes.

``python benchmarks/content_hash.py [--data DIR --recipe cpu]``

Everything is CPU time (user and system) of one process, children included, since waiting for a busy core or disk is
not what is asked for.

* reading: :class:`nasperc.data.content.FileHashes` without a list, beside ``sha256sum`` on the same files, in turns.
* searches: the driver's part of ``nasperc search``, from its beginning until workers would start, each in a fresh
  process: the first one prepares everything, the second and the third find it. Before the fourth the caches are
  touched, so that their stamps are other ones and they have to be read; the fifth finds them read. What one of them
  costs more than the cheapest of those that build nothing is what it read; bytes are those of read() calls, which
  Linux counts. (Below 100 MiB of caches, their reading is lost in the rest: bytes tell, times do not.)

Bounds: reading >= 0.8 of sha256sum's speed; hashing adds <= 2 % to the first preparation; a reading of the caches takes
<= 1.2 of sha256sum's time, and there is at most one in the second search and the fourth, none in the third and fifth.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    # The script's own folder would hide the package `controllers`; the one above shows all.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from rich.console import Console

from nasperc.data.content import FileHashes
from nasperc.data.fingerprinted import Fingerprinted
from nasperc.plugins import load_component
from nasperc.recipe.reading import load_recipe
from nasperc.search.local_executor import LocalExecutor
from nasperc.search.run import run_search

SPEED, ADDED, READING = 0.8, 0.02, 1.2
# Of a reading: less is no reading, but the noise of everything else.
NONE = 0.2
TELLING = 100 * 2**20
MIB = 2**20
CACHES = ("*.h5",)
SEARCHES = ("first", "second", "third", "fourth, caches touched", "fifth")


class Prepared(Exception):
    """Workers would start now."""


class Preparation(NamedTuple):
    """CPU seconds of the driver until workers would start, of them for the hashes of the data; bytes that it read (0:
    not known); the data's files."""

    seconds: float
    hashing: float
    nbytes: int
    files: list[Path]


def cpu_seconds() -> float:
    """User and system time of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def bytes_read() -> int:
    """Of this process and of its children that have ended, by read() calls; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("rchar:"))


def measured(call: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    start = cpu_seconds()
    call()
    return cpu_seconds() - start


def sha256sum(files: Sequence[Path]) -> float:
    """CPU seconds of ``sha256sum`` on files."""
    names = [os.fspath(file) for file in files]

    def run() -> None:
        for start in range(0, len(names), 1000):
            command = ["sha256sum", "--", *names[start : start + 1000]]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return measured(run)


def prepare(recipe: str, overrides: dict[str, Any], settings: Sequence[str], folder: Path) -> Preparation:
    """A search up to its workers, in this process."""
    loaded = load_recipe(recipe, [overrides], settings)
    # Imports are no preparation.
    load_component("space", loaded.space.name)
    load_component("proxy", loaded.proxy.name)
    hashing, files = 0.0, []
    read_files = Fingerprinted.read_files

    def read(dataset: Fingerprinted, *arguments: Any, **options: Any) -> list[str]:
        nonlocal hashing
        start = cpu_seconds()
        notes = read_files(dataset, *arguments, **options)
        hashing += cpu_seconds() - start
        files[:] = dataset.files()
        return notes

    def end(executor: LocalExecutor) -> None:
        raise Prepared

    Fingerprinted.read_files = read  # type: ignore[method-assign]
    LocalExecutor.start = end  # type: ignore[method-assign]
    start, nbytes = cpu_seconds(), bytes_read()
    try:
        run_search(loaded, folder, console=Console(quiet=True))
    except Prepared:
        return Preparation(cpu_seconds() - start, hashing, bytes_read() - nbytes, files)
    raise RuntimeError("the search ended without workers")


def _in_child(pipe: Connection, *arguments: Any) -> None:
    pipe.send(prepare(*arguments))


def prepare_afresh(*arguments: Any) -> Preparation:
    """As :func:`prepare`, in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_in_child, args=(theirs, *arguments))
    process.start()
    # With no other copy open, a process that dies ends recv() with EOFError.
    theirs.close()
    found: Preparation = ours.recv()
    process.join()
    return found


def verdict(held: bool, bound: str) -> str:
    return f"bound {bound}: {'held' if held else 'missed'}"


def report_reading(files: Sequence[Path], rounds: int) -> None:
    """Print the speed of reading beside sha256sum's."""
    sides: tuple[Callable[[], float], Callable[[], float]] = (
        lambda: sha256sum(files),
        lambda: measured(lambda: FileHashes(None).of(files)),
    )
    seconds: tuple[list[float], list[float]] = ([], [])
    # The first round fills the page cache.
    for number in range(-1, rounds):
        for side in (0, 1) if number % 2 else (1, 0):
            taken = sides[side]()
            if number >= 0:
                seconds[side].append(taken)
    theirs, ours = (statistics.median(side) for side in seconds)
    size = sum(file.stat().st_size for file in files) / MIB
    print(
        f"reading: {len(files)} files, {size:.1f} MiB; sha256sum {theirs:.3f} s, here {ours:.3f} s: "
        f"{theirs / ours:.2f} of its speed ({verdict(theirs / ours >= SPEED, f'>= {SPEED}')})"
    )


def report_searches(found: Sequence[Preparation], caches: Sequence[Path]) -> None:
    """Print what hashing adds to the first search, and what of the caches the others read."""
    first = found[0]
    added = first.hashing / (first.seconds - first.hashing)
    print(
        f"first search: {first.seconds:.2f} s, of them {first.hashing:.3f} s for the hashes of the data: "
        f"{added:+.2%} ({verdict(added <= ADDED, f'<= {ADDED:.0%}')})"
    )
    reading = statistics.median(sha256sum(caches) for _ in range(3))
    size = sum(cache.stat().st_size for cache in caches)
    print(f"sha256sum of {len(caches)} caches, {size / MIB:.1f} MiB: {reading:.3f} s")
    least = min(preparation.seconds for preparation in found[1:])
    fewest = min(preparation.nbytes for preparation in found[1:])
    for name, preparation, bound in zip(SEARCHES[1:], found[1:], (READING, NONE, READING, NONE), strict=True):
        share, times = (preparation.seconds - least) / reading, (preparation.nbytes - fewest) / size
        held = verdict(share <= bound, f"<= {bound}") if size >= TELLING else "too little to tell"
        print(
            f"{name} search: {preparation.seconds:.2f} s, data {preparation.hashing:.3f} s; caches read {times:.2f} "
            f"times; {share:.2f} of sha256sum's time more than the cheapest ({held})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="data set; none: the synthetic one")
    parser.add_argument("--recipe", default="demo", help="of the search (default demo; cpu for real data)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="recipe key, repeatable"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of reading (default 5)")
    arguments = parser.parse_args()
    overrides: dict[str, Any] = {"search": {"executor": "local", "budget": "10"}}
    if arguments.data is not None:
        overrides["data"] = {"path": str(arguments.data.resolve())}
    with tempfile.TemporaryDirectory() as folder:
        runs, found = Path(folder) / "runs", []
        for number, name in enumerate(SEARCHES):
            caches = sorted(file for kind in CACHES for file in (runs / "prepared").glob(kind))
            if "touched" in name:
                for cache in caches:
                    os.utime(cache)
            run = runs / f"search-{number + 1:03d}"
            found.append(prepare_afresh(arguments.recipe, overrides, arguments.set, run))
        report_reading(found[0].files, arguments.rounds)
        report_searches(found, caches)


if __name__ == "__main__":
    main()
