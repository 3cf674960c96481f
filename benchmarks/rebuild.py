"""Whether training got slower from one state of the source to another.

``python benchmarks/rebuild.py --before PATH --after PATH``

Both are checkouts. Each pair is one process of either, the one straight after the other, and which begins changes from
pair to pair, so that a slow minute of the machine meets both. What is taken is CPU time (user and system) of one
thread, of a process the fastest of several runs, since what others take of caches and memory only ever adds:

* a training step of FPN-FCOS on MobileNetV2, 2 images of 256 x 320: targets, forward, losses, backward, optimiser;
* a proxy candidate: training and reward of a random FPN on features that are made in memory (``proxy_gpu.py``).

Printed are the ratios of after to before: the geometric mean over the pairs, and the upper end of its one-sided 95 %
confidence interval (Student's t of the logarithms). Bound of the latter: 1.03.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    # The script's own folder would hide the package `controllers`; the one above, or the checkout that a process is to
    # measure, shows all.
    sys.path[0] = os.environ.get("MEASURED_TREE", str(Path(__file__).resolve().parents[1]))

import torch
from scipy.stats import t as student
from torch import Tensor

from benchmarks.proxy_gpu import Workload
from nasperc.assembly.detector import Baseline, build_detector
from nasperc.assembly.recipe import ModelRecipe
from nasperc.data.batch import Batch
from nasperc.data.sample import Meta, Sample
from proxy_tasks.base import no_progress

try:
    from nasperc.training.detection import detection_losses
except ImportError:
    # A checkout of when it had a file of its own.
    from nasperc.training.detection_losses import detection_losses

BOUND, CONFIDENCE = 1.03, 0.95
SIZE = (256, 320)
CLASSES, BOXES, WIDTH = 20, 8, 128
CANDIDATE = {
    "crop": 128,
    "crops": 48,
    "batch": 8,
    "iterations": 8,
    "width": 64,
    "backbone": "mobilenet_v2",
    "device": "cpu",
    "seed": 0,
}


class Measured(NamedTuple):
    """CPU seconds."""

    step: float
    candidate: float


class Comparison(NamedTuple):
    """After over before: geometric mean of the pairs, and the upper bound of it."""

    ratio: float
    upper: float


def training_step(steps: int, size: tuple[int, int] = SIZE) -> float:
    """CPU seconds of the fastest of ``steps`` after one that is not counted."""
    torch.manual_seed(0)
    model = build_detector(ModelRecipe(), Baseline(WIDTH, WIDTH), CLASSES, load_weights=False).train()
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    batch = _batch(size)
    seconds = []
    for _ in range(1 + steps):
        start = time.process_time()
        losses = detection_losses(model, batch)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        seconds.append(time.process_time() - start)
    return min(seconds[1:])


def _batch(size: tuple[int, int]) -> Batch:
    """Two images of noise with boxes of all sizes."""
    height, width = size

    def boxes() -> Tensor:
        corners = torch.rand(BOXES, 2, 2).sort(dim=1).values * torch.tensor([width, height])
        return corners.flatten(1)

    samples = [
        Sample(
            torch.zeros(3, height, width, dtype=torch.uint8),
            Meta(number, Path(f"{number}.png"), size),
            boxes=boxes(),
            labels=torch.randint(CLASSES, (BOXES,)),
            crowd=torch.zeros(BOXES, dtype=torch.bool),
        )
        for number in range(2)
    ]
    images = torch.randn(2, 3, height, width).contiguous(memory_format=torch.channels_last)
    return Batch(images, [size] * 2, samples)


def candidate(runs: int, settings: dict[str, object]) -> float:
    """CPU seconds of the fastest of ``runs`` trainings of one candidate after one that is not counted."""
    workload = Workload(settings)
    tokens = workload.draw(0)
    seconds = []
    for _ in range(1 + runs):
        training = workload.training(tokens, seed=0, early_stop=False)
        start = time.process_time()
        training.run(None, no_progress)
        seconds.append(time.process_time() - start)
    return min(seconds[1:])


def measure_here(runs: int) -> None:
    """In a process of its own: print what the checkout that ``MEASURED_TREE`` names takes."""
    import nasperc

    tree = Path(os.environ["MEASURED_TREE"])
    assert Path(nasperc.__file__).is_relative_to(tree), f"{nasperc.__file__} is not of {tree}"
    torch.set_num_threads(1)
    print(json.dumps(Measured(training_step(2 * runs), candidate(runs, dict(CANDIDATE)))))


def measure(tree: Path, runs: int) -> Measured:
    """What one process of a checkout takes."""
    command = [sys.executable, __file__, "--runs", str(runs)]
    environment = {**os.environ, "MEASURED_TREE": str(tree), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{tree} could not be measured:\n{done.stderr}")
    return Measured(*json.loads(done.stdout.splitlines()[-1]))


def compare(before: Sequence[float], after: Sequence[float]) -> Comparison:
    """Of two or more pairs."""
    logarithms = [math.log(b / a) for a, b in zip(before, after, strict=True)]
    mean, count = statistics.mean(logarithms), len(logarithms)
    error = statistics.stdev(logarithms) / math.sqrt(count)
    return Comparison(math.exp(mean), math.exp(mean + student.ppf(CONFIDENCE, count - 1) * error))


def main() -> None:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path, help="a checkout of the source")
    parser.add_argument("--after", type=Path, help="another one")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument(
        "--runs", type=int, default=5, help="of a candidate in a process, and twice as many steps"
    )
    arguments = parser.parse_args()
    if "MEASURED_TREE" in os.environ:
        measure_here(arguments.runs)
        return
    if arguments.before is None or arguments.after is None or arguments.pairs < 2:
        parser.error("two checkouts are compared, --before and --after, in two pairs or more")
    trees = (arguments.before.resolve(), arguments.after.resolve())
    found: tuple[list[Measured], list[Measured]] = ([], [])
    for pair in range(arguments.pairs):
        for side in (0, 1) if pair % 2 == 0 else (1, 0):
            found[side].append(measure(trees[side], arguments.runs))
        print(
            f"pair {pair + 1}: " + ", ".join(_line(*values) for values in _columns(found, pair)), flush=True
        )
    for name in Measured._fields:
        before, after = ([getattr(each, name) for each in side] for side in found)
        ratio, upper = compare(before, after)
        print(
            f"{name}: {statistics.median(before):.3f} s before, {statistics.median(after):.3f} s after; ratio "
            f"{ratio:.4f}, upper bound {upper:.4f} (bound {BOUND}: {'held' if upper <= BOUND else 'missed'})"
        )


def _columns(found: tuple[list[Measured], list[Measured]], pair: int) -> list[tuple[str, float, float]]:
    before, after = (side[pair] for side in found)
    return [(name, getattr(before, name), getattr(after, name)) for name in Measured._fields]


def _line(name: str, before: float, after: float) -> str:
    return f"{name} {before:.3f} s, {after:.3f} s ({after / before:.3f})"


if __name__ == "__main__":
    main()
