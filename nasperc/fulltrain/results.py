"""The outcome of full training: a ranking with proxy reward beside AP, as JSON, Markdown and a plot."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib
from rich.table import Table

from nasperc.evaluation.rank_agreement import kendall_tau
from nasperc.fulltrain.presentation import Presentation
from nasperc.fulltrain.row import Row
from nasperc.plain_console import plain
from nasperc.search.run_folder import write_atomically
from nasperc.shown_text import for_markdown, for_plot

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FORMAT = "nasperc-fulltrain/1"
# A line through two points would always look like a law.
ENTRIES_TO_PLOT = 3


@dataclass(frozen=True)
class Results:
    """Rows in the order of the presentation's metric on the split that selects; failed ones last.

    ``selected_on``: val where there is one. ``reported_on``: test where there is one.
    """

    rows: tuple[Row, ...]
    selected_on: str
    reported_on: str
    presentation: Presentation

    @property
    def best(self) -> Row | None:
        """The best row that a search found."""
        return next((row for row in self.rows if row.status == "done" and row.is_entry), None)

    def reported(self, row: Row) -> float:
        """A row's metric on the split that is reported."""
        return row.score(self.reported_on, self.presentation.metric)

    def selected(self, row: Row) -> float:
        """A row's metric on the split that selects."""
        return row.score(self.selected_on, self.presentation.metric)

    @property
    def rewarded(self) -> tuple[Row, ...]:
        """The rows that were trained to their end and have a proxy reward: those that can be compared."""
        return tuple(row for row in self.rows if row.status == "done" and row.reward is not None)

    def agreement(self) -> str | None:
        """How far reward and metric order the entries alike, in a sentence; None for fewer than three entries."""
        rows = self.rewarded
        if len(rows) < ENTRIES_TO_PLOT:
            return None
        rewards = [row.reward for row in rows if row.reward is not None]
        tau = kendall_tau(rewards, [self.reported(row) for row in rows])
        value = "undefined, since all are alike" if math.isnan(tau) else f"{tau:.2f}"
        return (
            f"Proxy reward and {self.presentation.heading} on {self.reported_on} of {len(rows)} architectures: "
            f"Kendall's tau {value}."
        )


def rank_rows(rows: Sequence[Row], splits: Sequence[str], presentation: Presentation) -> Results:
    """Order the rows. ``splits``: those that were measured, ``val`` or ``test`` or both."""
    selected_on = "val" if "val" in splits else "test"
    reported_on = "test" if "test" in splits else "val"
    metric = presentation.metric
    ordered = sorted(rows, key=lambda row: (row.status != "done", -row.score(selected_on, metric)))
    return Results(tuple(ordered), selected_on, reported_on, presentation)


def write_results(results: Results, folder: Path, about: dict[str, Any]) -> None:
    """Write ``results.json`` and ``results.md``, and ``reward_<metric>.png`` if at least three entries are done.

    Args:
        results: the ranking.
        folder: exists.
        about: plain values stored beside the rows: recipe, data, where the entries came from.
    """
    content = {
        "format": FORMAT,
        **about,
        "selected_on": results.selected_on,
        "reported_on": results.reported_on,
        "rows": [asdict(row) for row in results.rows],
    }
    write_atomically(folder / "results.json", json.dumps(content, indent=1) + "\n")
    write_atomically(folder / "results.md", to_markdown(results))
    if len(results.rewarded) >= ENTRIES_TO_PLOT:
        _plot(results.rewarded, results, folder / f"reward_{results.presentation.metric}.png")


def to_markdown(results: Results) -> str:
    """The tables as Markdown."""
    named = (results.rows, results.selected_on, results.reported_on)
    lines = [results.presentation.preface(*named), ""]
    for number, (title, header, body) in enumerate(results.presentation.tables(*named)):
        # The paragraph above speaks of the first ones.
        lines += [f"{for_markdown(title)}:", ""] if number > 1 else []
        lines += [_markdown_row(header), "|" + " --- |" * len(header)]
        lines += map(_markdown_row, body)
        lines.append("")
    agreement = results.agreement()
    if agreement is not None:
        lines += [agreement, ""]
    failed = [row for row in results.rows if row.status == "failed"]
    lines += [f"- {for_markdown(f'{row.name} failed: {row.reason}')}" for row in failed]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(for_markdown, cells)) + " |"


def to_tables(results: Results) -> list[Table]:
    """The tables for the console."""
    tables = []
    for title, header, body in results.presentation.tables(
        results.rows, results.selected_on, results.reported_on
    ):
        # Twelve numbers and a name fit into 80 columns only without lines between them.
        table = Table(title=plain(title), title_justify="left", box=None, padding=(0, 1, 0, 0))
        for name in header:
            table.add_column(
                plain(name), justify="left" if name in {"row", "widths"} else "right", no_wrap=True
            )
        for row in body:
            table.add_row(*map(plain, row))
        tables.append(table)
    return tables


def _plot(points: Sequence[Row], results: Results, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(5, 3.8), layout="constrained")
    for row in points:
        assert row.reward is not None
        score = 100 * results.reported(row)
        axes.plot(row.reward, score, "o", color="tab:blue")
        axes.annotate(
            for_plot(str(row.rank or row.name)),
            (row.reward, score),
            textcoords="offset points",
            xytext=(5, 4),
        )
    for row in results.rows:
        if row.status == "done" and not row.is_entry:
            axes.axhline(
                100 * results.reported(row), color="tab:gray", linestyle="--", label=for_plot(row.name)
            )
            axes.legend()
    axes.set(
        xlabel="proxy reward",
        ylabel=f"{results.presentation.heading} on {results.reported_on} after full training",
    )
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)
