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
from rich.text import Text

from nasperc.evaluation.rank_agreement import kendall_tau
from nasperc.plain_console import plain
from nasperc.recipe.thesis import PrintedTable
from nasperc.shown_text import for_markdown, for_plot
from nasperc.tasks.presentation import Presentation, TableText, devices
from nasperc.tasks.row import Row
from nasperc.tasks.training import selecting
from nasperc.whole_files import write_whole, writing_whole

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FORMAT = "nasperc-fulltrain/1"
# A line through two points would always look like a law.
ENTRIES_TO_PLOT = 3


@dataclass(frozen=True)
class Results:
    """Rows in the order of the presentation's metric on the split that selects, as they came where it is undefined;
    failed ones last.

    ``selected_on``: val where there is one. ``reported_on``: test where there is one. ``printed``: the table of the
    thesis that the recipe is of.
    """

    rows: tuple[Row, ...]
    selected_on: str
    reported_on: str
    presentation: Presentation
    printed: PrintedTable | None = None

    @property
    def best(self) -> Row | None:
        """The best row that a search found."""
        return next((row for row in self.rows if row.status == "done" and row.is_entry), None)

    def reported(self, row: Row) -> float | None:
        """A row's metric on the split that is reported; None where it is undefined."""
        return row.score(self.reported_on, self.presentation.metric)

    def selected(self, row: Row) -> float | None:
        """A row's metric on the split that selects; None where it is undefined."""
        return row.score(self.selected_on, self.presentation.metric)

    @property
    def rewarded(self) -> tuple[tuple[Row, float, float], ...]:
        """The rows that were trained to their end, with their proxy reward and the metric that is reported: those that
        have both can be compared."""
        found = ((row, row.reward, self.reported(row)) for row in self.rows if row.status == "done")
        return tuple(
            (row, reward, score) for row, reward, score in found if reward is not None and score is not None
        )

    def tables(self) -> list[TableText]:
        """All tables, that of the thesis last."""
        tables = self.presentation.tables(self.rows, self.selected_on, self.reported_on)
        done = [row for row in self.rows if row.status == "done"]
        if self.printed is None or not done:
            return tables
        beside = self.presentation.beside(done, self.reported_on, self.printed)
        return tables if beside is None else [*tables, beside]

    def agreement(self) -> str | None:
        """How far reward and metric order the entries alike, in a sentence; None for fewer than three entries."""
        rows = self.rewarded
        if len(rows) < ENTRIES_TO_PLOT:
            return None
        tau = kendall_tau([reward for _, reward, _ in rows], [score for _, _, score in rows])
        value = "undefined, since all are alike" if math.isnan(tau) else f"{tau:.2f}"
        return (
            f"Proxy reward and {self.presentation.heading} on {self.reported_on} of {len(rows)} architectures: "
            f"Kendall's tau {value}."
        )


def rank_rows(
    rows: Sequence[Row],
    splits: Sequence[str],
    presentation: Presentation,
    printed: PrintedTable | None = None,
) -> Results:
    """Order the rows. ``splits``: those that were measured, ``val`` or ``test`` or both; ``printed``: see
    :class:`Results`."""
    selected_on = selecting(splits)
    reported_on = "test" if "test" in splits else "val"

    def place(row: Row) -> tuple[bool, float]:
        score = row.score(selected_on, presentation.metric)
        return row.status != "done", math.inf if score is None else -score

    return Results(tuple(sorted(rows, key=place)), selected_on, reported_on, presentation, printed)


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
    write_whole(folder / "results.json", json.dumps(content, indent=1) + "\n")
    write_whole(folder / "results.md", to_markdown(results))
    if len(results.rewarded) >= ENTRIES_TO_PLOT:
        _plot(results, folder / f"reward_{results.presentation.metric}.png")


def to_markdown(results: Results) -> str:
    """The tables as Markdown."""
    lines = [results.presentation.preface(results.rows, results.selected_on, results.reported_on), ""]
    for number, (title, header, body) in enumerate(results.tables()):
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
    for title, header, body in results.tables():
        # Twelve numbers and a name fit into 80 columns only without lines between them.
        table = Table(title=plain(title), title_justify="left", box=None, padding=(0, 1, 0, 0))
        for name in header:
            table.add_column(
                plain(name), justify="left" if name in {"row", "widths"} else "right", no_wrap=True
            )
        for row in body:
            table.add_row(*map(plain, row))
        tables.append(table)
    if on := devices(results.rows):
        # The first table has the column.
        tables[0].caption, tables[0].caption_justify = Text(f"ms: median latency ({on})"), "left"
    return tables


def _plot(results: Results, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(5, 3.8), layout="constrained")
    for row, reward, score in results.rewarded:
        point = reward, 100 * score
        axes.plot(*point, "o", color="tab:blue")
        axes.annotate(for_plot(str(row.rank or row.name)), point, textcoords="offset points", xytext=(5, 4))
    for row in results.rows:
        reported = results.reported(row)
        if row.status == "done" and not row.is_entry and reported is not None:
            axes.axhline(100 * reported, color="tab:gray", linestyle="--", label=for_plot(row.name))
            axes.legend()
    axes.set(
        xlabel="proxy reward",
        ylabel=f"{results.presentation.heading} on {results.reported_on} after full training",
    )
    axes.grid(alpha=0.3)
    with writing_whole(path) as part:
        figure.savefig(part, dpi=120)
    plt.close(figure)
