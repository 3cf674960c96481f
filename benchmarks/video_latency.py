"""Time a frame of the dynamic network (encoder and cell) beside the static one (encoder and decoder), thesis 6.3.1:
``python benchmarks/video_latency.py [--full] [--json]``.

Random weights; a few random cells of ``dynamic_cell``, and ``TYPICAL``. All rows run once a round, interleaved, so
that a slow moment of the machine meets every row. On a CPU one thread, and its own time (waiting for a busy core is
not counted); on a GPU elapsed time. A row's ratio is its time over the static network's in the same round: the median
over rounds, with quartiles; ``best`` compares the fastest rounds of both.

Freed memory is kept, as the commands keep it.

Bound: the typical cell below 1.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from nasperc.assembly.detector import Searched
from nasperc.assembly.recipe import ModelRecipe
from nasperc.assembly.segmenter import build_static, build_video
from nasperc.evaluation.video_latency import FollowingFrame
from nasperc.training.freed_memory import keep_freed_memory
from search_spaces.dynamic_cell import DynamicCell, DynamicCellRecipe

BOUND = 1.0
STATIC, ENCODER, TYPICAL_ROW = "static network", "  its encoder alone", "typical cell"
# What Fig. 6.4 has the controllers prefer: layer 2 and the previous dec, separable 3x3, attention, all at 1/8; a
# deformable one, layer 3, and a sum of what the others made.
TYPICAL = (
    *(2, 1, 0, 0, 5),
    *(1, 3, 4, 0, 0),
    *(5, 4, 4, 0, 0),
    *(6, 2, 5, 4, 5),
    *(7, 8, 4, 4, 0),
)  # fmt: skip
CLASSES = {(360, 480): 11, (1024, 2048): 19}
Round = Callable[[], object]


def cases(size: tuple[int, int], model: ModelRecipe, cells: int, width: int) -> dict[str, Round]:
    """Every row of a table: one frame of ``size`` (H, W)."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    space = DynamicCell(DynamicCellRecipe(variant="5_layers"))
    rng = np.random.default_rng(0)
    tokens = {TYPICAL_ROW: TYPICAL}
    tokens |= {f"random cell {number}": space.sample("cell", rng) for number in range(1, cells + 1)}
    classes = CLASSES.get(size, 11)
    static = build_static(model, classes, load_weights=False)
    image = torch.rand(1, 3, *size, device=device).contiguous(memory_format=torch.channels_last)

    def ready(module: nn.Module) -> nn.Module:
        return module.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(module: Callable[[torch.Tensor], object]) -> Round:
        @torch.no_grad()
        def once() -> None:
            module(image)
            if device.type == "cuda":
                torch.cuda.synchronize()

        return once

    ready(static)
    rows = {STATIC: run(static), ENCODER: run(static.encode)}
    for name, each in tokens.items():
        searched = Searched(space, space.architecture({"cell": each}), {"cell": width})
        video = ready(build_video(model, searched, classes, static))
        rows[name] = run(ready(FollowingFrame(video, size)))
    return rows


def measure(rows: dict[str, Round], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every row in every round."""
    clock = time.perf_counter if torch.cuda.is_available() else time.thread_time
    for run in rows.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, run in rows.items():
            start = clock()
            run()
            times[name].append((clock() - start) * 1e3)
    return times


def summarise(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median and best milliseconds, and the ratio to the static network: median, quartiles, of the best rounds."""
    summary = {}
    for name, values in times.items():
        ratios = [value / static for value, static in zip(values, times[STATIC], strict=True)]
        low, median, high = np.percentile(ratios, (25, 50, 75)).tolist()
        summary[name] = {
            "ms": statistics.median(values),
            "best_ms": min(values),
            "ratio": median,
            "ratio_low": low,
            "ratio_high": high,
            "best_ratio": min(values) / min(times[STATIC]),
        }
    return summary


def main() -> None:
    """Print a table for each size, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="360x480", help="HxW of the frames")
    parser.add_argument("--full", action="store_true", help="1024x2048 too")
    parser.add_argument("--static", default="arch2", help="the static network: arch2 or deeplab_v3_plus")
    parser.add_argument("--cells", type=int, default=4, help="random ones")
    parser.add_argument("--width", type=int, default=64, help="channels of a cell's blocks")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = ModelRecipe(segmentation_decoder=arguments.static)
    height, width = map(int, arguments.size.split("x"))
    sizes = [(height, width), *([(1024, 2048)] if arguments.full else [])]
    results = {}
    for size in sizes:
        rows = cases(size, model, arguments.cells, arguments.width)
        results[size] = summarise(measure(rows, arguments.rounds))
    if arguments.json:
        named = {f"{height}x{width}": rows for (height, width), rows in results.items()}
        print(json.dumps({"bound": BOUND, "settings": vars(arguments), "sizes": named}, indent=2))
        return
    for (height, width), summary in results.items():
        table = Table("one frame", title=f"{width}x{height}, {arguments.static}")
        for column in ("ms", "best ms", "ratio", "quartiles", "best"):
            table.add_column(column, justify="right")
        for name, row in summary.items():
            quartiles = f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f}"
            numbers = (f"{row['ms']:.1f}", f"{row['best_ms']:.1f}", f"{row['ratio']:.2f}")
            table.add_row(name, *numbers, quartiles, f"{row['best_ratio']:.2f}")
        Console(width=100).print(table)
        typical = summary[TYPICAL_ROW]
        verdict = "held" if typical["ratio"] < BOUND else "missed"
        print(
            f"a frame of the dynamic network takes {typical['ratio']:.2f} of the static one's time, "
            f"{typical['ratio_low']:.2f} to {typical['ratio_high']:.2f} (bound {BOUND:g}: {verdict})"
        )


if __name__ == "__main__":
    main()
