"""Choosing what the next stage of a search builds on, by full training (thesis 7.4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from nasperc.errors import InputError
from nasperc.fulltrain.run import fulltrain
from nasperc.recipe.root import Recipe
from nasperc.search.between_stages import Selection
from nasperc.tasks.lookup import recipe_task


class FullTrainingSelector:
    """What ``search.select: fulltrain:N`` stands for, see :class:`nasperc.search.between_stages.Selector`.

    Args:
        console: for progress and tables.
        take_over: see :func:`select_by_full_training`.
    """

    def __init__(self, console: Console, *, take_over: bool = False) -> None:
        self._console, self._take_over = console, take_over

    def check(self, recipe: Recipe, prepared: Path) -> None:
        """Open the data as full training will.

        Raises:
            InputError: they cannot be used, or the metric is undefined on the selecting split.
        """
        recipe_task(recipe).Training(recipe, prepared, recipe, None).check_selects()

    def __call__(self, candidates: Path, widths: Mapping[str, int]) -> Selection:
        return select_by_full_training(candidates, widths, console=self._console, take_over=self._take_over)


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
    # The baselines have no part in it.
    results = fulltrain(
        candidates,
        folder=candidates.with_suffix(""),
        width=width,
        overrides=[{"baselines": []}],
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
