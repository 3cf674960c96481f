"""The thesis's proxy workload on one GPU: ``python benchmarks/proxy_gpu.py --minutes 9 --out FILE``.

Random FPNs of ``fcos_decoder`` with the original head at width 64, trained as the proxy task trains them
(batches of 200, 300 iterations, bfloat16 autocast, measured half-way and at the end) on C2 to C5 of a
ResNet-50 with random weights over 384x384 crops that are made on the device: 2,002 to train on and 858 to
measure on, the thesis's 4,000 to 1,715. No data, no Ray, no pycocotools, no network.

The thesis needed about 13 minutes on a V100; the goal is under 17 s, 5,000 candidates a GPU-day. A candidate's
seconds are those from its tokens to its reward; the first one of a process pays for the libraries' own
preparations and is printed apart. Each candidate is written to ``--out`` as soon as it is there; run again with
the same settings, the script goes on where it was. ``--profile`` trains one architecture for a few iterations,
prints its most expensive operations and, on CUDA, warns wherever the host waits for the device.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # The script's own folder would hide the package `controllers`; the one above shows all.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from torch.profiler import ProfilerActivity

from benchmarks.resident_crops import CLASSES, ResidentRecords, resident_cache
from controllers.drawing import draw
from nasperc.assembly.detector import Searched, build_decoder
from nasperc.models.fcos.preset import get_preset
from nasperc.models.features import FeatureSpec
from nasperc.whole_files import write_whole
from proxy_tasks.base import no_progress
from proxy_tasks.detection_cache import DetectionCache
from proxy_tasks.detection_recipe import DetectionProxyRecipe
from proxy_tasks.detection_training import DecoderTraining, NeckAndHead
from proxy_tasks.stopwatch import Stopwatch
from search_spaces.base import Tokens, TokenSpace
from search_spaces.fcos_decoder import FcosDecoder
from search_spaces.fcos_recipe import FcosDecoderRecipe

# What goal and thesis's time are of.
WORKLOAD = {"crop": 384, "batch": 200, "iterations": 300, "width": 64, "backbone": "resnet50"}
GOAL_S, THESIS_S = 17.0, 13 * 60.0
DAY_S = 86400
# Phases in which the network computes; the rest of a candidate's seconds is overhead.
NETWORK = ("forward", "loss", "backward", "optimiser", "statistics", "meta-val")
PROFILED_ITERATIONS = 5


class Workload:
    """Architectures and the records that they are trained on."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.device = torch.device(settings["device"])
        self.seed = settings["seed"]
        self.recipe = DetectionProxyRecipe(
            short_side=settings["crop"],
            crop=settings["crop"],
            batch_size=settings["batch"],
            val_batch_size=settings["batch"],
            iterations=settings["iterations"],
        )
        self.preset = get_preset("nas_fcos")
        widths = {"fpn": settings["width"], "head": settings["width"]}
        self.space = FcosDecoder(FcosDecoderRecipe(mode="fpn", stage_widths={"fpn": widths}))
        (self.stage,) = self.space.stages()
        self.tokens = TokenSpace(self.space, self.stage)
        self.cache: DetectionCache
        self.features: tuple[FeatureSpec, ...]
        self.cache, self.features = resident_cache(
            settings["crops"], self.recipe, self.preset, self.device, settings["backbone"]
        )

    def draw(self, index: int) -> Tokens:
        """Tokens of architecture number ``index``."""
        return draw(self.tokens, np.random.default_rng([self.seed, index]))

    def training(self, tokens: Tokens, seed: int, **changes: Any) -> DecoderTraining:
        """As :meth:`DetectionProxy.training`, without the files that it stands on."""
        torch.manual_seed(seed)
        searched = Searched(self.space, self.tokens.architecture(tokens), self.stage.widths)
        decoder = NeckAndHead(build_decoder(searched, self.features, CLASSES, self.preset)).to(self.device)
        recipe = self.recipe.for_stage(changes)
        return DecoderTraining(decoder, self.cache, recipe, self.preset, seed, Stopwatch(self.device))

    def measure(self, index: int) -> dict[str, Any]:
        """Train one candidate; one that fails is a row too."""
        tokens = self.draw(index)
        row: dict[str, Any] = {"index": index, "tokens": list(tokens)}
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        started = time.perf_counter()
        try:
            training = self.training(tokens, seed=index)
            outcome = training.run(None, no_progress)
        except (ArithmeticError, torch.cuda.OutOfMemoryError) as error:
            row["failed"] = f"{type(error).__name__}: {error}".splitlines()[0]
        else:
            assert outcome.halfway is not None
            assert outcome.final is not None
            row |= {"halfway": outcome.halfway.reward, "reward": outcome.final.reward}
            row["phases"] = dict(training.stopwatch.seconds)
        self._synchronise()
        row["seconds"] = time.perf_counter() - started
        row["peak_gib"] = self._peak_gib()
        return row

    def profile(self) -> str:
        """The most expensive operations of a few iterations of architecture 0."""
        training = self.training(self.draw(0), seed=0, early_stop=False)
        order = self.cache.training_order(self.recipe.batch_size, seed=0)
        training.decoder.train()
        training._step(next(order), check=False)
        self._synchronise()
        on_cuda = self.device.type == "cuda"
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
        if on_cuda:
            torch.cuda.set_sync_debug_mode("warn")
        with torch.profiler.profile(activities=activities) as profiler:
            for _ in range(PROFILED_ITERATIONS):
                training._step(next(order), check=False)
            if on_cuda:
                torch.cuda.set_sync_debug_mode("default")
            self._synchronise()
        by = "self_cuda_time_total" if on_cuda else "self_cpu_time_total"
        return profiler.key_averages().table(sort_by=by, row_limit=30, max_name_column_width=60)

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _peak_gib(self) -> float:
        """Of the device's allocator, the resident records included; on a CPU of the process so far."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**30
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def read_rows(path: Path | None, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """What an earlier run with the same settings measured.

    Raises:
        SystemExit: the file is of other settings.
    """
    if path is None or not path.exists():
        return []
    content = json.loads(path.read_text())
    if content["settings"] != settings:
        keys = settings.keys() | content["settings"].keys()
        differ = sorted(key for key in keys if settings.get(key) != content["settings"].get(key))
        raise SystemExit(f"{path} was measured with other settings ({', '.join(differ)}): name another file")
    rows: list[dict[str, Any]] = content["rows"]
    return rows


def write_rows(path: Path | None, settings: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Whole or not at all: the next run reads it."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"settings": settings, "rows": rows}, indent=1) + "\n")


def network_share(rows: list[dict[str, Any]]) -> float:
    """Part of all candidates' seconds that the network's own work took."""
    busy = (
        seconds
        for row in rows
        for phase, seconds in row["phases"].items()
        if phase.partition(": ")[2] in NETWORK
    )
    return sum(busy) / sum(row["seconds"] for row in rows)


def summary(rows: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    """The median over what was trained by a warm process; of the whole workload against goal and thesis."""
    good = [row for row in rows if "failed" not in row]
    warm = sorted(row["seconds"] for row in good if not row["first"])
    lines = [f"{len(good)} candidates, {len(rows) - len(good)} failed"]
    if first := [f"{row['seconds']:.1f}" for row in good if row["first"]]:
        lines.append(f"first of a process: {', '.join(first)} s")
    if warm:
        median = statistics.median(warm)
        quartiles = np.quantile(warm, [0.25, 0.75])
        lines += [
            f"median {median:.2f} s a candidate (quartiles {quartiles[0]:.2f} to {quartiles[1]:.2f}, "
            f"all {warm[0]:.2f} to {warm[-1]:.2f}, {len(warm)} candidates): {DAY_S / median:.0f} a day",
            f"peak memory {max(row['peak_gib'] for row in good):.1f} GiB",
            f"{network_share(good):.3f} of the candidates' seconds in the network",
        ]
        smaller = [f"{key} {settings[key]}" for key, value in WORKLOAD.items() if settings[key] != value]
        lines += [
            f"not the thesis's workload ({', '.join(smaller)}): no ratio to the goal"
            if smaller
            else f"{median / GOAL_S:.2f} of the goal of {GOAL_S:.0f} s, "
            f"{median / THESIS_S:.3f} of the thesis's 13 minutes (on its workload and a V100)",
        ]
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--minutes", type=float, default=9.0, help="no candidate is begun that would end later"
    )
    parser.add_argument("--architectures", type=int, default=1000, help="at most so many")
    parser.add_argument("--crop", type=int, default=WORKLOAD["crop"], help="pixels, a multiple of 32")
    parser.add_argument("--crops", type=int, default=2860, help="resident, 0.7 of them to train on")
    parser.add_argument("--batch", type=int, default=WORKLOAD["batch"])
    parser.add_argument("--iterations", type=int, default=WORKLOAD["iterations"])
    parser.add_argument("--width", type=int, default=WORKLOAD["width"])
    parser.add_argument("--backbone", default=WORKLOAD["backbone"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cudnn-benchmark", action="store_true", help="let cuDNN try its algorithms")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--out", type=Path, help="JSON; what is there is kept")
    arguments = parser.parse_args()
    started = time.perf_counter()
    own = ("minutes", "architectures", "profile", "out")
    settings = {key: value for key, value in vars(arguments).items() if key not in own}
    on_cuda = torch.device(arguments.device).type == "cuda"
    settings["machine"] = torch.cuda.get_device_name() if on_cuda else "cpu"
    settings["torch"] = torch.__version__
    rows = read_rows(arguments.out, settings)
    torch.backends.cudnn.benchmark = arguments.cudnn_benchmark
    if not on_cuda:
        torch.set_num_threads(1)

    workload = Workload(settings)
    records = workload.cache.reader
    assert isinstance(records, ResidentRecords)
    print(
        f"{settings['machine']}: {len(records)} crops of {arguments.crop} px resident, "
        f"{records.nbytes / 2**30:.1f} GiB, made in {time.perf_counter() - started:.1f} s",
        flush=True,
    )
    if arguments.profile:
        print(workload.profile())
        return
    longest, first = 0.0, True
    while len(rows) < arguments.architectures:
        if time.perf_counter() - started + longest > 60 * arguments.minutes:
            break
        row = workload.measure(len(rows)) | {"first": first}
        longest, first = max(longest, row["seconds"]), False
        if on_cuda and "failed" in row:
            torch.cuda.empty_cache()
        rows.append(row)
        write_rows(arguments.out, settings, rows)
        outcome = row.get("failed") or f"reward {row['halfway']:.3f}, {row['reward']:.3f}"
        print(f"{row['index']:4}  {row['seconds']:8.2f} s  {row['peak_gib']:6.1f} GiB  {outcome}", flush=True)
    print(summary(rows, settings))


if __name__ == "__main__":
    main()
