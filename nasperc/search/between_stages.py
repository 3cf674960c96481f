"""What happens between two stages: the architecture to build on is chosen, what the next stage needs is prepared.

The thesis trains the 20 best FPNs of the proxy task in full, builds the heads on the best of them and caches
its features (7.4.1). Full training stands above the search, so it comes in as a function.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from rich.console import Console

from controllers.service.journal import Event
from nasperc.errors import InputError
from nasperc.recipe.root import Recipe
from nasperc.search.executor import Executor
from nasperc.search.live_display import PrepareDisplay
from nasperc.search.run_folder import RunFolder
from nasperc.search.top10 import Top10
from nasperc.shown_text import printable
from proxy_tasks.base import ProxyTask
from search_spaces.base import ORIGINAL, Architecture, Part, SearchSpace, Stage

BY_REWARD = "proxy"


class Selection(NamedTuple):
    """The chosen architecture's canonical hash, and what it was chosen by (AP, by hash)."""

    hash: str
    scores: Mapping[str, float]


class Selector(Protocol):
    """Chooses what a stage builds on, outside of the search."""

    def check(self, recipe: Recipe, prepared: Path) -> None:
        """Before the run: whether it will be able to choose. ``prepared``: the folder of what runs share.

        Raises:
            InputError: the data do not allow it.
        """

    def __call__(self, candidates: Path, widths: Mapping[str, int]) -> Selection:
        """One of the entries of a file like ``top10.json``; ``widths``: of the stage to come, by part."""


def selected_count(rule: str) -> int | None:
    """How many candidates of a stage are compared outside: ``fulltrain:20`` -> 20; None for ``proxy``."""
    return None if rule == BY_REWARD else int(rule.removeprefix("fulltrain:"))


class BetweenStages:
    """Chooses and prepares, each in its turn.

    Args:
        recipe: of the run.
        space: its search space.
        run: its folder.
        proxy: the prepared proxy task.
        selector: needed unless ``search.select`` is ``proxy``.
        console: where to say what happens.
    """

    def __init__(
        self,
        recipe: Recipe,
        space: SearchSpace,
        run: RunFolder,
        proxy: ProxyTask,
        selector: Selector | None,
        console: Console,
    ) -> None:
        self._count = selected_count(recipe.search.select)
        if self._count is not None and selector is None:
            raise ValueError(f"search.select {recipe.search.select} needs a selector")
        self._recipe, self._space, self._run, self._proxy = recipe, space, run, proxy
        self._selector, self._console = selector, console

    def begin(self, events: list[Event]) -> None:
        """Prepare the stage that a new or resumed run is in; it may be one that builds on nothing."""
        starts = [event for event in events if event["event"] == "stage_start"]
        if starts:
            stages = {stage.name: stage for stage in self._space.stages()}
            fixed: dict[str, Part] = {
                name: ORIGINAL if part == ORIGINAL else tuple(part)
                for name, part in starts[-1]["fixed"].items()
            }
            self._prepare(stages[starts[-1]["stage"]], fixed)
            return
        first = self._space.stages()[0]
        if "best" not in first.fixed.values():
            self._prepare(first, first.fixed)  # type: ignore[arg-type]

    def go_on(self, executor: Executor, description: Mapping[str, Any]) -> None:
        """End the wait of a stage that is over: choose its best, prepare the next stage, tell the service.

        Args:
            executor: of the run; its status says ``selecting``.
            description: of the proxy task, for the file that the selector gets.

        Raises:
            InputError: nothing could be chosen or prepared.
        """
        started = time.monotonic()
        names = [stage.name for stage in self._space.stages()]
        stage = executor.status().stage
        assert stage is not None
        following = self._space.stages()[names.index(stage) + 1]
        ranked = Top10(self._count or 1)
        for event in executor.events_since(0):
            if event.get("stage") == stage:
                ranked.apply(event)
        selection = Selection(ranked.events()[0]["hash"], {})
        if self._count is not None:
            path = self._run.path / f"select-{stage}.json"
            ranked.write(path, self._recipe, self._space, description)
            selection = self._select(path, following, {event["hash"] for event in ranked.events()})
        chosen = next(event for event in ranked.events() if event["hash"] == selection.hash)
        architecture = self._space.from_dict(chosen["architecture"], where=f"candidate {chosen['id']}")
        self._prepare(following, _fixed_parts(following, architecture))
        executor.select(stage, selection.hash, selection.scores, time.monotonic() - started)

    def _select(self, path: Path, following: Stage, candidates: Set[str]) -> Selection:
        assert self._selector is not None
        self._console.print(
            printable(f"choosing what the stage {following.name} builds on: {self._recipe.search.select}"),
            highlight=False,
            markup=False,
        )
        selection = self._selector(path, following.widths)
        if selection.hash not in candidates:
            raise InputError(
                "one of the candidates must be selected",
                value=selection.hash,
                where=path,
                repair="Delete what the selection keeps beside it, and resume.",
            )
        self._console.print(f"chosen: {selection.hash[:8]}", highlight=False)
        return selection

    def _prepare(self, stage: Stage, fixed: Mapping[str, Part]) -> None:
        with PrepareDisplay(self._console) as display:
            self._proxy.prepare_stage(stage, fixed, display)


def _fixed_parts(stage: Stage, best: Architecture) -> dict[str, Part]:
    """The stage's fixed parts, those of the chosen architecture filled in."""
    return {name: best.parts[name] if part == "best" else part for name, part in stage.fixed.items()}
