"""Where the time of a proxy candidate goes: ``python benchmarks/proxy_step.py [--recipe NAME]``.

Trains a few random architectures of the first stage of a recipe's search (``demo``: decoders of detectors;
``dynamic_cell``, ``camvid``: cells for videos) and prints the share of each phase. Goal: forward, loss, backward
and optimiser step take at least 95 % of a candidate's training. Measuring the reward (BatchNorm statistics and the
forward pass over meta-val, half-way and at the end) is booked apart and printed below.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    # The script's own folder would hide the package `controllers`; the one above shows all.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch

from controllers.base import Candidate
from nasperc.recipe.reading import load_recipe
from nasperc.recipe.root import Recipe
from nasperc.search.components import build_proxy, build_space
from proxy_tasks.base import no_progress
from proxy_tasks.cached_task import CachedTask
from proxy_tasks.stopwatch import Stopwatch
from search_spaces.base import Architecture, SearchSpace, Stage, TokenSpace

# The network's own work; everything else is overhead.
NETWORK = {
    "training": ("forward", "loss", "backward", "optimiser"),
    "measuring": ("statistics", "meta-val"),
}
GOAL = 0.95


def random_architecture(space: SearchSpace, stage: Stage, rng: random.Random) -> Architecture:
    """A uniform choice at every decision; parts that wait for an earlier stage are the original ones."""
    tokens = TokenSpace(space, stage, dict.fromkeys(space.parts, "original"))
    drawn: list[int] = []
    for _ in tokens.decisions:
        allowed = tokens.allowed(tuple(drawn))
        drawn.append(rng.choice([index for index, good in enumerate(allowed) if good]))
    return tokens.architecture(drawn)


def profile(recipe: Recipe, folder: Path, candidates: int) -> dict[str, float]:
    """Seconds by phase over all candidates, and ``building`` for what comes before the first iteration."""
    space = build_space(recipe)
    task = build_proxy(recipe, space, folder)
    if not isinstance(task, CachedTask):
        raise SystemExit(f"the proxy task {recipe.proxy.name} trains nothing")
    task.prepare()
    torch.set_num_threads(task.recipe.num_threads)
    rng = random.Random(recipe.seed)
    stage = space.stages()[0]
    seconds: dict[str, float] = {}
    for index in range(-1, candidates):
        watch = Stopwatch(task.device, synchronize=True)
        candidate = Candidate(
            id=index,
            stage=stage.name,
            architecture=random_architecture(space, stage, rng),
            widths=stage.widths,
            hash=str(index),
            seed=index + 1,
            overrides=stage.overrides,
        )
        training = task.training(candidate, watch)
        watch.lap("training: building")
        training.run(None, no_progress)
        watch.lap("training: ending")
        if index >= 0:
            # The first one pays for the libraries' own preparations.
            for phase, value in watch.seconds.items():
                seconds[phase] = seconds.get(phase, 0.0) + value
    return seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="of the cache; a temporary one when left out")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, settings=arguments.settings)
    with tempfile.TemporaryDirectory() as temporary:
        seconds = profile(recipe, arguments.folder or Path(temporary), arguments.candidates)
    for group in ("training", "measuring"):
        phases = {name.partition(": ")[2]: value for name, value in seconds.items() if name.startswith(group)}
        total = sum(phases.values())
        print(f"{group}: {total / arguments.candidates:.2f} s a candidate")
        for name, value in phases.items():
            print(f"  {name:<12} {value / arguments.candidates:8.3f} s {value / total:7.1%}")
        share = sum(phases[name] for name in NETWORK[group]) / total
        verdict = (
            f" (goal {GOAL:.0%}: {'reached' if share >= GOAL else 'missed'})" if group == "training" else ""
        )
        print(f"  {' + '.join(NETWORK[group])}: {share:.1%}{verdict}")


if __name__ == "__main__":
    main()
