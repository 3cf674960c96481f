"""Choosing what the next stage of a search builds on, by full training (thesis 7.4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from nasperc.assembly.detector import Searched
from nasperc.errors import InputError
from nasperc.fulltrain.run import fulltrain
from nasperc.recipe.root import Recipe
from nasperc.search.between_stages import Selection
from nasperc.search.components import build_space
from nasperc.tasks.lookup import recipe_task
from search_spaces.base import TokenSpace

# Baselines have no part in it.
_ALONE: Mapping[str, Any] = {"baselines": ()}


class FullTrainingSelector:
    """What ``search.select: fulltrain:N`` stands for, see :class:`nasperc.search.between_stages.Selector`.

    Args:
        console: for progress and tables.
        take_over: see :func:`select_by_full_training`.
    """

    def __init__(self, console: Console, *, take_over: bool = False) -> None:
        self._console, self._take_over = console, take_over

    def check(self, recipe: Recipe, prepared: Path) -> None:
        """Build a network, and open the data, as full training will.

        Raises:
            InputError: a choice of the recipe does not fit what the search finds; the data cannot be used, or the
                metric is undefined on the selecting split.
        """
        task = recipe_task(recipe)
        task.require_fit(recipe.model_copy(update=_ALONE), _any_candidate(recipe))
        task.Training(recipe, prepared, recipe, None).check_selects()

    def __call__(self, candidates: Path, widths: Mapping[str, int]) -> Selection:
        return select_by_full_training(candidates, widths, console=self._console, take_over=self._take_over)


def _any_candidate(recipe: Recipe) -> Searched:
    """One that the first stage could find."""
    space, rng = build_space(recipe), np.random.default_rng(recipe.seed)
    stage = space.stages()[0]
    tokens = [token for part in stage.free for token in space.sample(part, rng)]
    return Searched(space, TokenSpace(space, stage).architecture(tokens), stage.widths)


def select_by_full_training(
    candidates: Path, widths: Mapping[str, int], *, console: Console, take_over: bool = False
) -> Selection:
    """Train every entry of ``candidates`` in full and take the one with the best AP on the selecting split.

    Results are kept in the folder of that name beside the file, so that an interrupted selection continues.

    Args:
        candidates: a file like ``top10.json``.
        widths: channels by part that they are trained at: those of the stage to come.
        console: for progress and tables.
        take_over: nothing trains there any more on the host that the lock names.

    Raises:
        InputError: no entry could be trained to its end, or AP is undefined for all of them.
    """
    width = "-".join(str(channels) for channels in widths.values())
    results = fulltrain(
        candidates,
        folder=candidates.with_suffix(""),
        width=width,
        overrides=[_ALONE],
        console=console,
        say_next=False,
        take_over=take_over,
    )
    found = {row.hash: results.selected(row) for row in results.rows if row.status == "done"}
    scores = {hash: score for hash, score in found.items() if hash is not None and score is not None}
    if not scores:
        raise InputError(
            "AP must be defined to select by it",
            value=f"no objects in {results.selected_on}",
            where=candidates,
            repair="Use a data set with annotated val images, or --select-fpn proxy.",
        )
    return Selection(max(scores, key=lambda hash: scores[hash]), scores)
