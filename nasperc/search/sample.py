"""Architectures drawn from a whole search, as a file like ``top10.json`` (thesis Fig. 7.6)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from controllers.journal import Journal
from nasperc.errors import InputError
from nasperc.search.run_folder import RunFolder
from nasperc.search.top10 import Top10, read_top10


def draw_sample(run: RunFolder, count: int, *, stage: str | None = None, seed: int = 0) -> Path:
    """Draw ``count`` completed architectures of one stage, each equally likely, good and bad ones.

    Rewards of different stages cannot be compared (other widths, other proxy settings), so they are of one.

    Args:
        run: of a search.
        count: of architectures.
        stage: None: the one with the most of them.
        seed: of the draw.

    Returns:
        The path of ``sample-<stage>-<count>-<seed>.json`` in the run folder, ranked by reward.

    Raises:
        InputError: no such stage, or fewer architectures than asked for.
    """
    recipe, top10 = run.read_recipe(), read_top10(run.top10)
    events = Journal.read(run.journal)
    completed: dict[str, dict[str, dict[str, object]]] = {}
    # Its stage becomes part of a file name, so it is not taken from just any journal.
    stages = {stage.name for stage in top10.space.stages()}
    begun = {event["stage"]: event for event in events if event["event"] == "stage_start"}
    for event in events:
        if event["event"] == "completion" and event["stage"] in stages & begun.keys():
            completed.setdefault(event["stage"], {}).setdefault(event["hash"], event)
    if stage is None:
        stage = max(completed, key=lambda name: len(completed[name]), default="")
    available = list(completed.get(stage, {}).values())
    if not 2 <= count <= len(available):
        counts = ", ".join(f"{name} {len(measured)}" for name, measured in completed.items()) or "none"
        raise InputError(
            "a sample must have 2 architectures at least, and no more than its stage has",
            value=f"{count} of {stage or 'no stage'}",
            where=run.journal,
            repair=f"Completed by stage: {counts}.",
        )
    drawn = Top10(count)
    drawn.apply(begun[stage])
    for number in np.random.default_rng(seed).choice(len(available), count, replace=False):
        drawn.apply(available[number])
    path = run.path / f"sample-{stage}-{count}-{seed}.json"
    drawn.write(path, recipe, top10.space, {"data": top10.data, "weights": top10.weights})
    return path
