"""How often a controller draws each choice, over a search (thesis Fig. 6.4)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasperc.errors import InputError
from nasperc.report.figure_file import save_figure
from nasperc.report.reward_curve import WINDOW, moving_average
from nasperc.shown_text import for_plot
from search_spaces.base import Decision, SearchSpace

# Draws that were trained, and those that were known already or not to be tried again.
_DRAWS = ("proposal", "replay", "redraw")
_TITLES = {"op": "operations", "agg": "aggregations", "input": "inputs", "head_op": "operations"}
_COLUMNS = 3
# Means of fewer draws say nothing, and would set the scale.
_FEWEST = 10


@dataclass(frozen=True)
class Proportions:
    """Of the decisions of one kind, e.g. all operations of a part.

    ``shares``: (labels, draws), the share of each choice in each architecture drawn; a column sums to 1. ``uniform``:
    the share of each where choices are equally likely.
    """

    stage: str
    part: str
    kind: str
    labels: tuple[str, ...]
    shares: np.ndarray
    uniform: np.ndarray


def sampling_proportions(events: Sequence[Mapping[str, Any]], space: SearchSpace) -> list[Proportions]:
    """Proportions of each stage, free part and kind of decision, in that order.

    Choices that not all decisions of a kind have (results of earlier blocks) are counted as one.

    Args:
        events: of a journal.
        space: of the run.

    Raises:
        InputError: an architecture of the journal is none of the space, or a stage searches parts that it has not.
    """
    free: dict[str, Sequence[str]] = {}
    drawn: dict[tuple[str, str], list[Sequence[int]]] = {}
    for event in events:
        if event["event"] == "stage_start":
            free[event["stage"]] = event["free"]
            unknown = [part for part in event["free"] if part not in space.parts]
            if unknown:
                raise InputError(
                    f"the parts that a stage searches must be out of {', '.join(space.parts)}",
                    value=unknown[0],
                    where="the journal",
                    repair="It is of another space: restore the run's journal or its recipe.yaml.",
                )
        if event["event"] not in _DRAWS:
            continue
        architecture = space.from_dict(event["architecture"], where="the journal")
        for part in free.get(event["stage"], ()):
            tokens = architecture.parts[part]
            if not isinstance(tokens, str):
                drawn.setdefault((event["stage"], part), []).append(tokens)
    return [
        proportions
        for (stage, part), tokens in drawn.items()
        for proportions in _by_kind(stage, part, space.decisions(part), np.array(tokens))
    ]


def _by_kind(
    stage: str, part: str, decisions: Sequence[Decision], tokens: np.ndarray
) -> Iterator[Proportions]:
    for kind in dict.fromkeys(decision.kind for decision in decisions):
        places = [place for place, decision in enumerate(decisions) if decision.kind == kind]
        choices = [decisions[place].choices for place in places]
        common = [label for label in choices[0] if all(label in each for each in choices)]
        others = list(dict.fromkeys(label for each in choices for label in each if label not in common))
        labels = (*common, *([_joined(others)] if others else []))
        shares, uniform = np.zeros((len(labels), len(tokens))), np.zeros(len(labels))
        for place, names in zip(places, choices, strict=True):
            # The row of each choice of this decision.
            rows = np.array([common.index(name) if name in common else len(common) for name in names])
            np.add.at(shares, (rows[tokens[:, place]], np.arange(len(tokens))), 1 / len(places))
            np.add.at(uniform, rows, 1 / len(names) / len(places))
        yield Proportions(stage, part, kind, labels, shares, uniform)


def _joined(labels: Sequence[str]) -> str:
    return ", ".join(labels) if len(labels) < 3 else f"{labels[0]} to {labels[-1]}"


def plot_sampling(panels: Sequence[Proportions], path: Path) -> None:
    """A panel for each kind of decision: moving averages over draws, and dashed what equally likely choices have (grey
    where several have the same)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import PercentFormatter

    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(5 * columns, 5 * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    for axis, panel in zip(axes.flat, panels, strict=False):
        draws = np.arange(1, panel.shares.shape[1] + 1)
        first = min(_FEWEST, len(draws)) - 1
        for number, (label, shares) in enumerate(zip(panel.labels, panel.shares, strict=True)):
            # Ten colours in all.
            line = "-" if number < 10 else ":"
            average = moving_average(list(shares))
            axis.plot(draws[first:], average[first:], line, color=f"C{number % 10}", label=for_plot(label))
        values, counts = np.unique(panel.uniform.round(6), return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            number = int(np.argmin(abs(panel.uniform - value)))
            colour = f"C{number % 10}" if count == 1 else "0.4"
            axis.axhline(value, color=colour, linestyle="--", linewidth=1)
        title = _TITLES.get(panel.kind, panel.kind)
        drawn = f"architectures drawn in stage {panel.stage}"
        axis.set(title=for_plot(f"{panel.part}: {title}"), xlabel=for_plot(drawn))
        axis.set_ylim(bottom=0)
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axis.grid(alpha=0.3)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False, fontsize=9)
    figure.suptitle(
        f"Share of each choice among those drawn, mean of the last {WINDOW}; dashed: if all were equally likely"
    )
    save_figure(figure, path)
    pyplot.close(figure)
