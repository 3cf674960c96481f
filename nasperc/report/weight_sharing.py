"""How many of the sampled heads share all their weights across levels, over a search (thesis Fig. 7.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nasperc.report.figure_file import save_figure
from nasperc.shown_text import for_plot
from search_spaces.base import SearchSpace

PERIOD = 50
SHARE = "share"


def fully_shared(
    events: Sequence[Mapping[str, Any]], space: SearchSpace, period: int = PERIOD
) -> list[float]:
    """The share of fully shared heads among every ``period`` completed candidates, the last of them perhaps fewer.

    A head is fully shared if its share index is 0 in the canonical form, which leaves skips out: a layer
    without weights shares nothing. Candidates whose head was not searched do not count.

    Args:
        events: of a journal.
        space: of the run; empty for one without a share index.
        period: in candidates.
    """
    place = _share_index(space)
    if place is None:
        return []
    part, index = place
    shared = []
    for event in events:
        if event["event"] == "completion":
            architecture = space.canonical(space.from_dict(event["architecture"], where="the journal"))
            tokens = architecture.parts[part]
            if not isinstance(tokens, str):
                shared.append(tokens[index] == 0)
    return [
        sum(chunk) / len(chunk)
        for chunk in (shared[start : start + period] for start in range(0, len(shared), period))
    ]


def plot_weight_sharing(runs: Mapping[str, Sequence[float]], path: Path, period: int = PERIOD) -> None:
    """A line for each run: period against proportion."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for run, proportions in runs.items():
        axis.plot(range(1, len(proportions) + 1), proportions, "o-", label=for_plot(run))
    axis.set(
        xlabel=f"period of {period} heads", ylabel="proportion of fully shared heads", ylim=(-0.02, 1.02)
    )
    axis.grid(alpha=0.3)
    axis.legend()
    save_figure(figure, path)
    pyplot.close(figure)


def _share_index(space: SearchSpace) -> tuple[str, int] | None:
    """The part and the place of the share index among its tokens."""
    for part in space.parts:
        for index, decision in enumerate(space.decisions(part)):
            if decision.kind == SHARE:
                return part, index
    return None
