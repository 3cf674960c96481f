"""Choosing what the next stage of a search builds on, by full training (thesis 7.4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from nasperc.errors import InputError
from nasperc.fulltrain.run import fulltrain
from nasperc.search.between_stages import Selection


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
    scores = {
        row.hash: results.selected(row)
        for row in results.rows
        if row.hash is not None and row.status == "done" and results.selected(row) >= 0
    }
    if not scores:
        raise InputError(
            "AP must be defined to select by it",
            value=f"no objects in {results.selected_on}",
            where=candidates,
            repair="Use a data set with annotated val images, or --select-fpn proxy.",
        )
    return Selection(max(scores, key=lambda hash: scores[hash]), scores)
