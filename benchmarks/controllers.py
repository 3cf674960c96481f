"""How many candidates each controller needs, on scores that are known without training.

    python benchmarks/controllers.py --table nas_bench_201.csv.gz --level 0.556
    python benchmarks/controllers.py --synthetic

*Observed regret* at n: the best reward there is minus the best among the first n distinct architectures. *Test
regret*: the same of the test score, of the architecture with the best reward so far. Each cell is the mean over
the seeds, with the quartiles in brackets. *Evaluations to the level*: where the mean curve first reaches it.
Seconds are CPU seconds on one thread, the scores' own computation included.

Every run is kept as a file in ``--out``; started again, the script only runs what is missing or has seen fewer
architectures than ``--budget``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # The script's own folder would hide the package `controllers`; the one above shows all.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch

from benchmarks.known_scores import HIDDEN_SCORES, HiddenScore, Problem, TableProblem, Trace, simulate
from nasperc.plugins import load_component
from nasperc.recipe.reading import load_recipe, merge, parse_setting
from nasperc.whole_files import write_whole

POINTS = (50, 100, 200, 500, 1000)


@dataclass(frozen=True)
class Row:
    """A line of the table: a controller, its settings, and how many architectures it may see."""

    name: str
    controller: str
    options: dict[str, Any]
    budget: int


@dataclass(frozen=True)
class Source:
    """Where the scores come from: ``table`` and its test column, or the hidden scores from ``first`` on."""

    table: Path | None
    test: str | None
    first: int

    def problem(self, seed: int) -> Problem:
        """The problem that a seed runs on: the table, or one of the hidden scores in turn."""
        return _problem(self, None if self.table else self.first + seed % HIDDEN_SCORES)


@cache
def _problem(source: Source, number: int | None) -> Problem:
    if source.table is not None:
        return TableProblem(source.table, source.test)
    assert number is not None
    return HiddenScore(number)


def rows(names: list[str], budget: int, thesis_budget: int, settings: list[str]) -> Iterator[Row]:
    """The rows of the table; ``settings`` change all of them (to try something out)."""
    changes: dict[str, Any] = {}
    for setting in settings:
        changes = merge(changes, parse_setting(setting))
    for name in names:
        if name == "ppo-thesis":
            options = load_recipe("paper").controller.options
            yield Row(name, "ppo", options, min(budget, thesis_budget))
        else:
            model = load_component("controller", name).Recipe
            yield Row(name, name, model.model_validate(changes).model_dump(mode="json"), budget)


def trace_file(out: Path, source: Source, row: Row, seed: int) -> Path:
    """Named by all that the run depends on."""
    scores = hashlib.sha256(source.table.read_bytes()).hexdigest() if source.table else source.first
    text = json.dumps([scores, source.test, row.controller, row.options], sort_keys=True)
    return out / f"{row.name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}-{seed:04d}.json"


def read(path: Path) -> Trace | None:
    """The run in ``path``, if there is one."""
    return Trace(**json.loads(path.read_text())) if path.exists() else None


def run(path: Path, source: Source, row: Row, seed: int) -> None:
    """One run, kept in ``path``."""
    torch.set_num_threads(1)
    problem = source.problem(seed)
    component = load_component("controller", row.controller)
    controller = component(problem.tokens, component.Recipe.model_validate(row.options), seed)
    trace = simulate(controller, problem, row.budget)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(asdict(trace)))


def regrets(trace: Trace, best: tuple[float, float], budget: int) -> tuple[np.ndarray, np.ndarray]:
    """Observed and test regret after 1, 2, ... ``budget`` architectures; a run that converged stays where it
    ended."""
    rewards, tests = np.array(trace.rewards[:budget]), np.array(trace.tests[:budget])
    leader = [0]
    for index in range(1, len(rewards)):
        leader.append(index if rewards[index] > rewards[leader[-1]] else leader[-1])
    leader += leader[-1:] * (budget - len(rewards))
    return best[0] - rewards[leader], best[1] - tests[leader]


def cell(values: np.ndarray) -> str:
    low, high = np.quantile(values, (0.25, 0.75))
    return f"{values.mean():.3f} ({low:.2f}–{high:.2f})"


def table(title: str, points: list[int], curves: dict[str, np.ndarray]) -> str:
    """Markdown: a row for each controller, (seeds, budget) regrets."""
    lines = [f"| {title} | " + " | ".join(f"@{point}" for point in points) + " |"]
    lines.append("|---" * (len(points) + 1) + "|")
    for name, curve in curves.items():
        cells = [cell(curve[:, point - 1]) if point <= curve.shape[1] else "-" for point in points]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def first_at_most(curve: np.ndarray, level: float | None) -> int | None:
    """After how many architectures a curve reaches the level; None: never."""
    below = np.flatnonzero(curve <= level) if level is not None else ()
    return int(below[0]) + 1 if len(below) else None


def report(found: dict[str, dict[int, Trace]], source: Source, level: float | None) -> None:
    """Print the tables; ``found``: for each row its runs by seed, as far as all of them have come."""
    best = cache(lambda problem: problem.best())
    observed: dict[str, np.ndarray] = {}
    test: dict[str, np.ndarray] = {}
    for name, runs in found.items():
        budget = min(trace.budget for trace in runs.values())
        pairs = [regrets(trace, best(source.problem(seed)), budget) for seed, trace in runs.items()]
        observed[name], test[name] = (np.stack(curves) for curves in zip(*pairs, strict=True))
    if level is None and "random" in observed:
        level = float(observed["random"][:, -1].mean())
    reached = {name: first_at_most(curves.mean(axis=0), level) for name, curves in observed.items()}
    summary = [
        "| controller | runs | distinct architectures | duplicates | converged early | evaluations to the level "
        "| random's / its own | s per 1000 |",
        "|---" * 8 + "|",
    ]
    for name, runs in found.items():
        traces, own, random = list(runs.values()), reached[name], reached.get("random")
        seen = np.array([len(trace.rewards) for trace in traces])
        cells = (
            name,
            len(traces),
            f"{seen.mean():.0f}",
            f"{np.mean([trace.replays for trace in traces]):.0f}",
            sum(trace.converged for trace in traces),
            own or f"> {observed[name].shape[1]}",
            f"{random / own:.1f}" if random and own else "-",
            f"{1000 * sum(trace.seconds for trace in traces) / seen.sum():.2f}",
        )
        summary.append("| " + " | ".join(map(str, cells)) + " |")
    most = max(curves.shape[1] for curves in observed.values())
    points = [*(point for point in POINTS if point < most), most]
    print(table("observed regret", points, observed), end="\n\n")
    problem = source.problem(0)
    if problem.test_column is not None:
        print(table(f"test regret ({problem.test_column})", points, test), end="\n\n")
    if level is not None:
        print(f"Level: observed regret {level:.3f}\n")
    print("\n".join(summary))


def main() -> None:
    """Run what is missing, print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    scores = parser.add_mutually_exclusive_group(required=True)
    scores.add_argument("--table", type=Path, help="CSV file of tokens and scores (.gz too)")
    scores.add_argument("--synthetic", action="store_true", help="five hidden scores of fcos_decoder")
    names = "random,evolution,surrogate,ppo,tpe,ppo-thesis"
    parser.add_argument("--controllers", default=names, help=f"default: {names}")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--first-score", type=int, default=0, help="number of the first hidden score")
    parser.add_argument("--budget", type=int, help="architectures a run (1000; hidden scores: 500)")
    parser.add_argument("--thesis-budget", type=int, default=200, help="of the row ppo-thesis, which is slow")
    parser.add_argument("--test", help="the table's column of the test score; default: right of the reward")
    parser.add_argument("--level", type=float, help="an observed regret; default: random's at the end")
    parser.add_argument("--set", action="append", default=[], help="controller key=value, to try it out")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, default=Path("controller_runs"), help="folder of the runs")
    parser.add_argument("--report", action="store_true", help="run nothing, print what is there")
    arguments = parser.parse_args()
    source = Source(arguments.table, arguments.test, arguments.first_score)
    budget = arguments.budget or (1000 if arguments.table else 500)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    chosen = list(rows(arguments.controllers.split(","), budget, arguments.thesis_budget, arguments.set))
    files = [((row, seed), trace_file(arguments.out, source, row, seed)) for row in chosen for seed in seeds]
    missing = [
        (path, source, row, seed)
        for (row, seed), path in files
        if (kept := read(path)) is None or kept.budget < row.budget
    ]
    if missing and not arguments.report:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(arguments.workers, mp_context=spawn) as pool:
            for future in [pool.submit(run, *each) for each in missing]:
                future.result()
    found: dict[str, dict[int, Trace]] = {}
    for (row, seed), path in files:
        if (kept := read(path)) is not None:
            found.setdefault(row.name, {})[seed] = kept
    if found:
        report(found, source, arguments.level)


if __name__ == "__main__":
    main()
