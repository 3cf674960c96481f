"""How far a search's rewards can be trusted, measured on a finished run with the run's own proxy task.

Prints and writes (JSON) three things:

* noise: the reward of one architecture under five seeds;
* rank agreement: Kendall's tau between the rewards of 15 architectures of the run and their rewards with a proxy
  three times as long;
* the best architecture of each stage against FPN-FCOS at the same widths, under the same proxy and the same seeds.

Every measurement is kept in the JSON file as soon as it is there; run again, the script goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from controllers.base import Candidate
from controllers.service.journal import Journal
from nasperc.recipe.reading import parse_recipe
from nasperc.search.components import build_proxy, build_space
from nasperc.search.run_folder import RunFolder
from proxy_tasks.cache_check import CacheCheck
from search_spaces.base import ORIGINAL

SEEDS = 5
ARCHITECTURES = 15
LONGER = 3

_worker: dict[str, Any] = {}


def _start(recipe: dict[str, Any], folder: str) -> None:
    resolved = parse_recipe(recipe, where="run")
    space = build_space(resolved)
    proxy = build_proxy(resolved, space, Path(folder))
    proxy.prepare()
    _worker.update(space=space, proxy=proxy)


def _measure(job: dict[str, Any]) -> dict[str, Any]:
    architecture = _worker["space"].from_dict(job["architecture"], where="study")
    candidate = Candidate(
        0, job["stage"], architecture, job["widths"], "", job["seed"], None, job["overrides"]
    )
    result = _worker["proxy"].evaluate(candidate)
    return {
        "reward": result.reward,
        "seconds": result.seconds,
        "status": result.status,
        "reason": result.reason,
    }


def _key(job: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("search_study.json"))
    arguments = parser.parse_args()

    run = RunFolder(arguments.run)
    recipe = run.read_recipe()
    space = build_space(recipe)
    events = Journal.read(run.journal)
    completed = [event for event in events if event["event"] == "completion"]
    stages = {stage.name: stage for stage in space.stages()}
    # Measurements of another run with another proxy must not answer for this one.
    proxy_hash = hashlib.sha256(json.dumps(recipe.to_dict()["proxy"], sort_keys=True).encode()).hexdigest()[
        :8
    ]
    first = next(iter(stages))

    def job(stage: str, architecture: dict[str, Any], seed: int, **overrides: Any) -> dict[str, Any]:
        widths = dict(stages[stage].widths)
        return {
            "stage": stage,
            "architecture": architecture,
            "widths": widths,
            "seed": seed,
            "overrides": {**stages[stage].overrides, **overrides},
            "proxy": proxy_hash,
        }

    def plain(architecture: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in architecture.items() if key != "hash"}

    original = {
        "space": space.name,
        "version": space.version,
        "variant": space.variant,
        "parts": dict.fromkeys(space.parts, ORIGINAL),
    }
    in_first = [event for event in completed if event["stage"] == first]
    rng = np.random.default_rng(0)
    drawn = [in_first[i] for i in sorted(rng.choice(len(in_first), ARCHITECTURES, replace=False))]
    iterations = {**recipe.proxy.options, **stages[first].overrides}["iterations"]
    noise = [job(first, plain(drawn[0]["architecture"]), seed) for seed in range(SEEDS)]
    short = [job(first, plain(event["architecture"]), 0) for event in drawn]
    longer = [job(first, plain(event["architecture"]), 0, iterations=LONGER * iterations) for event in drawn]
    best, baseline = {}, {}
    for stage in stages:
        of_stage = [event for event in completed if event["stage"] == stage]
        top = max(of_stage, key=lambda event: event["reward"])
        best[stage] = [job(stage, plain(top["architecture"]), seed) for seed in range(SEEDS)]
        baseline[stage] = [job(stage, original, seed) for seed in range(SEEDS)]

    results: dict[str, dict[str, Any]] = (
        json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    )
    everything = [
        *noise,
        *short,
        *longer,
        *(j for jobs in (*best.values(), *baseline.values()) for j in jobs),
    ]
    todo = {_key(j): j for j in everything if _key(j) not in results}
    # As the driver of a search does it, before workers exist.
    build_proxy(recipe, space, run.prepared, CacheCheck(print)).prepare()
    with ProcessPoolExecutor(
        arguments.workers, initializer=_start, initargs=(recipe.to_dict(), str(run.prepared))
    ) as pool:
        futures = {pool.submit(_measure, j): key for key, j in todo.items()}
        for number, future in enumerate(as_completed(futures), start=1):
            results[futures[future]] = future.result()
            arguments.out.write_text(json.dumps(results, indent=1))
            print(f"{number} of {len(todo)} measured", flush=True)

    def rewards(jobs: list[dict[str, Any]]) -> np.ndarray:
        return np.array([results[_key(j)]["reward"] for j in jobs], dtype=float)

    tau = kendalltau(rewards(short), rewards(longer))
    print(
        f"noise: {SEEDS} seeds of one architecture: {np.round(rewards(noise), 4).tolist()}, "
        f"std {rewards(noise).std(ddof=1):.4f}"
    )
    print(f"spread over {ARCHITECTURES} architectures: std {rewards(short).std(ddof=1):.4f}")
    print(
        f"rank agreement with a proxy {LONGER} times as long: Kendall tau {tau.statistic:.3f} (p {tau.pvalue:.4f})"
    )
    for stage in stages:
        ours, theirs = rewards(best[stage]), rewards(baseline[stage])
        print(
            f"stage {stage}: best {ours.mean():.4f} +- {ours.std(ddof=1):.4f}, "
            f"FPN-FCOS {theirs.mean():.4f} +- {theirs.std(ddof=1):.4f} ({SEEDS} seeds each)"
        )


if __name__ == "__main__":
    main()
