"""Shuffled batches read from a feature cache, beside ``numpy.memmap``: ``python benchmarks/cache_read.py``.

Writes a cache as the proxy tasks on small machines have it (C2 to C5 of MobileNetV2 on crops of 128 pixels,
float16, random numbers), and measures on it:

* memory: two processes read all of it, as the workers of a search do. PSS counts a page that n processes share
  as 1/n in each of them, so their sum, less what it was before they opened the cache, over the bytes of the
  cache is the number of copies in memory: 1 when it is shared, 2 when each has its own.
* throughput: one epoch after another, from the page cache and on one thread, whose own time is taken (waiting
  for a busy core is not counted); both sides read the same batches, and from round to round they take turns at
  being first. The ratio is the median over rounds of memmap's time over the reader's.

Bounds: throughput >= 0.8 of memmap's at every batch size; at most 1.1 copies.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from feature_cache.format import TensorSpec
from feature_cache.reader import CacheReader
from feature_cache.writer import CacheWriter

THROUGHPUT, COPIES = 0.8, 1.1
WORKERS = 2
MIB = 2**20
SPECS = {
    "C2": TensorSpec((32, 32, 24), "float16"),
    "C3": TensorSpec((16, 16, 32), "float16"),
    "C4": TensorSpec((8, 8, 96), "float16"),
    "C5": TensorSpec((4, 4, 320), "float16"),
}
RECORD_BYTES = 2 * sum(int(np.prod(spec.shape)) for spec in SPECS.values())

Read = Callable[[Tensor], object]


def write_cache(path: Path, nbytes: int) -> None:
    """A cache of about ``nbytes`` bytes of random features."""
    count = max(1, nbytes // RECORD_BYTES)
    generator = torch.Generator().manual_seed(0)
    with CacheWriter(path, SPECS, count, {"benchmark": "cache_read"}) as writer:
        for start in range(0, count, 256):
            rows = min(256, count - start)
            writer.append(
                {name: torch.randn(rows, *spec.shape, generator=generator) for name, spec in SPECS.items()}
            )


def shuffled(count: int, batch: int, seed: int) -> tuple[Tensor, ...]:
    """The batches of one epoch, int64 (N,) each."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).split(batch)


def pss(pid: int) -> int:
    """Proportional set size of a process in bytes (Linux)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError("smaps_rollup has no line Pss")


def _read_all(path: Path, batch: int, seed: int, parent: Connection) -> None:
    """What each process of the memory measurement does; it waits for its parent before and after."""
    torch.set_num_threads(1)
    parent.send("started")
    parent.recv()
    reader = CacheReader(path)
    for indices in shuffled(len(reader), batch, seed):
        reader.batch(reader.names, indices)
    parent.send("read")
    parent.recv()


def shared_memory(path: Path, batch: int) -> int:
    """Bytes by which the PSS of ``WORKERS`` processes grows, together, when all read the cache.

    This process must not have the cache mapped: it would take its share of every page.
    """
    spawn = multiprocessing.get_context("spawn")
    processes, pipes = [], []
    for seed in range(WORKERS):
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=_read_all, args=(path, batch, seed, theirs), daemon=True)
        process.start()
        # With no other copy open, a process that dies ends recv() with EOFError.
        theirs.close()
        processes.append(process)
        pipes.append(ours)

    def total() -> int:
        for pipe in pipes:
            pipe.recv()
        pids = [process.pid for process in processes if process.pid is not None]
        found = sum(pss(pid) for pid in pids)
        for pipe in pipes:
            pipe.send("go on")
        return found

    before = total()
    after = total()
    for process in processes:
        process.join()
    return after - before


def by_memmap(reader: CacheReader) -> dict[str, np.memmap]:
    """The tensors of the cache as numpy maps them."""
    layouts, offsets = reader.header.layouts, reader.header.offsets
    return {
        name: np.memmap(reader.path, layouts[name].dtype, "r", offsets[name], layouts[name].shape)
        for name in reader.names
    }


def measure(reader: CacheReader, batch: int, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of each round's epoch: by memmap, by the reader."""
    mapped = by_memmap(reader)
    sides: tuple[Read, Read] = (
        lambda indices: {name: array[indices.numpy()] for name, array in mapped.items()},
        lambda indices: reader.batch(reader.names, indices),
    )
    seconds: tuple[list[float], list[float]] = ([], [])
    # The first round pays for the page tables of both maps.
    for number in range(-1, rounds):
        batches = shuffled(len(reader), batch, number + 1)
        for side in (0, 1) if number % 2 else (1, 0):
            start = time.thread_time()
            for indices in batches:
                sides[side](indices)
            if number >= 0:
                seconds[side].append(time.thread_time() - start)
    return seconds


def check(reader: CacheReader) -> None:
    """Both sides must read the same bytes.

    Raises:
        RuntimeError: they do not.
    """
    indices = shuffled(len(reader), 8, 0)[0]
    ours = reader.batch(reader.names, indices)
    for name, array in by_memmap(reader).items():
        if not np.array_equal(array[indices.numpy()], ours[name].numpy()):
            raise RuntimeError(f"{name}: the reader and numpy.memmap read different bytes")


def verdict(held: bool, bound: str) -> str:
    return f"bound {bound}: {'held' if held else 'missed'}"


def report_memory(path: Path, batch: int) -> None:
    """Print the copies in memory."""
    if not os.path.exists("/proc/self/smaps_rollup"):
        print("memory: not measured, PSS is read from /proc/PID/smaps_rollup of Linux")
        return
    held, size = shared_memory(path, batch), CacheReader(path).nbytes
    print(
        f"memory: a cache of {size / MIB:.1f} MiB, read by {WORKERS} processes: PSS of both grew by "
        f"{held / MIB:.1f} MiB, {held / size:.2f} copies ({verdict(held / size <= COPIES, f'<= {COPIES}')})"
    )


def report_throughput(path: Path, batches: Sequence[int], rounds: int) -> None:
    """Print throughputs and their ratio."""
    reader = CacheReader(path)
    check(reader)
    table = Table("batch", title=f"{len(reader)} records of {RECORD_BYTES / 1024:.0f} KiB, {rounds} rounds")
    for column in ("memmap MiB/s", "reader MiB/s", "ratio", "quartiles"):
        table.add_column(column, justify="right")
    worst = float("inf")
    for batch in batches:
        theirs, ours = measure(reader, batch, rounds)
        ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
        ratio = statistics.median(ratios)
        low, high = np.quantile(ratios, (0.25, 0.75))
        worst = min(worst, ratio)
        speeds = (reader.nbytes / MIB / statistics.median(side) for side in (theirs, ours))
        table.add_row(
            str(batch), *(f"{speed:.0f}" for speed in speeds), f"{ratio:.2f}", f"{low:.2f}–{high:.2f}"
        )
    Console(width=100).print(table)
    held = verdict(worst >= THROUGHPUT, f">= {THROUGHPUT}")
    print(f"throughput: {worst:.2f} of numpy.memmap's at the worst batch size ({held})")


def main() -> None:
    """Write the cache, print both measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=512, help="size of the cache in MiB")
    parser.add_argument("--batch", type=int, nargs="+", default=[4, 32, 200], help="records, sizes to try")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--folder", type=Path, help="where the cache is written for a while")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "cache.h5"
        write_cache(path, arguments.megabytes * MIB)
        # First, since the other measurement maps the cache into this process for good.
        report_memory(path, arguments.batch[0])
        report_throughput(path, arguments.batch, arguments.rounds)


if __name__ == "__main__":
    main()
