"""Architectures drawn from a whole search (thesis Fig. 7.6), and from the controller that it trained (6.4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from controllers.service.journal import Journal
from controllers.service.resume import ControllerReplay
from nasperc.errors import InputError
from nasperc.search.components import build_space, controller_factory
from nasperc.search.run_folder import RunFolder
from nasperc.search.top10 import Top10, read_top10
from search_spaces.base import Architecture

# A controller that has converged proposes one architecture again and again.
DRAWS = 1000


@dataclass(frozen=True)
class DrawnArchitecture:
    """An architecture that a controller drew; ``reward``: where the search has measured it."""

    architecture: Architecture
    hash: str
    widths: Mapping[str, int]
    reward: float | None


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


def sample_controller(run: RunFolder, count: int) -> list[DrawnArchitecture]:
    """Draw different architectures from the controller of a run's last stage, as the journal left it.

    The same journal gives the same ones; nothing is written.

    Args:
        run: of a search.
        count: of architectures, different in their canonical form.

    Raises:
        InputError: no run or no stage there; its controller draws fewer different architectures.
    """
    recipe = run.read_recipe()
    space = build_space(recipe)
    events = Journal.read(run.journal)
    # The controller of a stage is gone with its end.
    started = max((n for n, event in enumerate(events) if event["event"] == "stage_start"), default=None)
    ended = (n for n, event in enumerate(events) if event["event"] == "stage_end")
    until = next((n for n in ended if started is not None and n > started), len(events))
    learner = ControllerReplay(run.path, space, controller_factory(recipe)).run(events[:until])
    if learner is None or started is None:
        raise InputError(
            "a controller to draw from must have begun a stage",
            value=f"{len(events)} events",
            where=run.journal,
            repair="Name the folder of a search, or use --pick best.",
        )
    stage = {stage.name: stage for stage in space.stages()}[events[started]["stage"]]
    rewards = {
        event["hash"]: event["reward"] for event in events[started:until] if event["event"] == "completion"
    }
    found: dict[str, DrawnArchitecture] = {}
    for _ in range(DRAWS):
        proposal = learner.propose()
        learner.drop(proposal.id)
        hash = space.hash(proposal.architecture)
        found.setdefault(
            hash, DrawnArchitecture(proposal.architecture, hash, stage.widths, rewards.get(hash))
        )
        if len(found) == count:
            return list(found.values())
    raise InputError(
        "the controller must draw as many different architectures as are asked for",
        value=f"{len(found)} in {DRAWS} draws",
        where=run.journal,
        repair="Ask for fewer, with --top.",
    )
