"""Whole searches with real training, tiny, on the synthetic data set."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from controllers.service.journal import Event, Journal
from nasperc.recipe.reading import parse_recipe
from nasperc.recipe.root import Recipe
from nasperc.search.run import run_search

TINY: Mapping[str, Any] = {
    "seed": 5,
    "data": {"synthetic": {"train": 8, "val": 1, "test": 1, "size": [64, 64]}},
    "model": {"backbone": {"width_mult": 0.35, "normalisation": "imagenet"}},
    "space": {
        "name": "fcos_decoder",
        "mode": "progressive",
        "stage_widths": {"fpn": {"fpn": 32, "head": 32}, "head": {"fpn": 32, "head": 32}},
    },
    "controller": {"name": "ppo", "batch": 2},
    "proxy": {
        "name": "detection",
        **{"short_side": 64, "crop": 64, "views": 1, "batch_size": 2, "val_batch_size": 2},
        **{"iterations": 2, "finetune": False, "bn_batches": 1},
    },
}
# Trains what a journal proposed, in reverse, in a process that has never heard of the search.
OTHER_WORKER = """
import json, sys
from pathlib import Path
from controllers.service.journal import Journal
from controllers.service.candidate_events import candidate_from
from nasperc.search.components import build_space
from nasperc.search.run_folder import RunFolder
from nasperc.search.worker import SlotWorker
folder = RunFolder(Path(sys.argv[1]))
recipe = folder.read_recipe()
worker = SlotWorker(recipe.to_dict(), folder.path, 1, lambda candidate, result: None)
worker.setup()
proposals = [event for event in Journal.read(folder.journal) if event["event"] == "proposal"]
for event in reversed(proposals):
    result = worker.evaluate(candidate_from(event, build_space(recipe)))
    print(json.dumps([event["id"], result.reward, result.halfway, dict(result.metrics), dict(result.cost)]))
"""


def tiny(**search: Any) -> Recipe:
    document = {**TINY, "search": {"budget": "5", "executor": "local", "dashboard": False, **search}}
    return parse_recipe(document, where="test")


def without_times(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith("seconds")}


def measured(folder: Path) -> list[Event]:
    """What was proposed and what it was worth, without times."""
    return [
        {
            key: without_times(value) if key == "metrics" else value
            for key, value in event.items()
            if key not in ("time", "at", "seconds", "slot")
        }
        for event in Journal.read(folder / "journal.jsonl")
        if event["event"]
        in ("proposal", "completion", "stop", "failure", "update", "stage_start", "stage_end")
    ]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "one"
    torch.set_num_threads(1)
    run_search(tiny(), folder, console=Console(quiet=True))
    return folder


def test_the_same_recipe_and_seed_give_the_same_tokens_and_rewards_bit_for_bit(searched: Path) -> None:
    # Random numbers that others have drawn do not matter.
    torch.manual_seed(77)
    other = searched.parent / "other"
    run_search(tiny(), other, console=Console(quiet=True))
    assert measured(other) == measured(searched)
    rewards = [event["reward"] for event in measured(searched) if event["event"] == "completion"]
    assert len(set(rewards)) == len(rewards) > 3
    third = searched.parent / "third"
    run_search(tiny().model_copy(update={"seed": 6}), third, console=Console(quiet=True))
    assert measured(third) != measured(searched)


def test_a_candidate_s_result_is_the_same_whichever_worker_ran_it(searched: Path) -> None:
    worker = subprocess.run(
        [sys.executable, "-c", OTHER_WORKER, str(searched)], check=True, capture_output=True, text=True
    )
    lines = [json.loads(line) for line in worker.stdout.splitlines() if line.startswith("[")]
    completions = [event for event in measured(searched) if event["event"] == "completion"]
    told = [[id, *rewards, without_times(metrics), cost] for id, *rewards, metrics, cost in reversed(lines)]
    keys = ("id", "reward", "halfway", "metrics", "cost")
    assert told == [[event[key] for key in keys] for event in completions]
    assert len(told) > 3
