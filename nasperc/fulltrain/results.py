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
from nasperc.fulltrain.entry_run import Row
from nasperc.search.run_folder import write_atomically

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FORMAT = "nasperc-fulltrain/1"
# pycocotools' twelve numbers in its order: field of the metrics, heading.
NUMBERS = (
    ("ap", "AP"),
    ("ap50", "AP50"),
    ("ap75", "AP75"),
    ("ap_small", "APs"),
    ("ap_medium", "APm"),
    ("ap_large", "APl"),
    ("ar1", "AR1"),
    ("ar10", "AR10"),
    ("ar100", "AR100"),
    ("ar_small", "ARs"),
    ("ar_medium", "ARm"),
    ("ar_large", "ARl"),
)
# A line through two points would always look like a law.
ENTRIES_TO_PLOT = 3


@dataclass(frozen=True)
class Results:
    """Rows in the order of AP on the split that selects; failed ones last.

    ``selected_on``: val where there is one. ``reported_on``: test where there is one.
    """

    rows: tuple[Row, ...]
    selected_on: str
    reported_on: str

    @property
    def best(self) -> Row | None:
        """The best row that is an entry of ``top10.json``."""
        done = (row for row in self.rows if row.status == "done" and row.rank is not None)
        return next(done, None)

    @property
    def rewarded(self) -> tuple[Row, ...]:
        """The rows that were trained to their end and have a proxy reward: those that can be compared."""
        return tuple(row for row in self.rows if row.status == "done" and row.reward is not None)

    def agreement(self) -> str | None:
        """How far reward and AP order the entries alike, in a sentence; None for fewer than three entries."""
        rows = self.rewarded
        if len(rows) < ENTRIES_TO_PLOT:
            return None
        rewards = [row.reward for row in rows if row.reward is not None]
        tau = kendall_tau(rewards, [row.ap(self.reported_on) for row in rows])
        value = "undefined, since all are alike" if math.isnan(tau) else f"{tau:.2f}"
        return (
            f"Proxy reward and AP on {self.reported_on} of {len(rows)} architectures: Kendall's tau {value}."
        )


def rank_rows(rows: Sequence[Row], splits: Sequence[str]) -> Results:
    """Order the rows. ``splits``: those that were measured, ``val`` or ``test`` or both."""
    selected_on = "val" if "val" in splits else "test"
    reported_on = "test" if "test" in splits else "val"
    ordered = sorted(rows, key=lambda row: (row.status != "done", -row.ap(selected_on)))
    return Results(tuple(ordered), selected_on, reported_on)


def write_results(results: Results, folder: Path, about: dict[str, Any]) -> None:
    """Write ``results.json`` and ``results.md``, and ``reward_ap.png`` if at least three entries are done.

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
        _plot(results.rewarded, results, folder / "reward_ap.png")


def to_markdown(results: Results) -> str:
    """The tables as Markdown."""
    size = results.rows[0].cost_size
    lines = [
        f"Ranked by AP on {results.selected_on}; the twelve numbers are measured on {results.reported_on}. "
        f"FLOPs (one multiply-accumulate = 1) are for an image of {size[0]} x {size[1]}, parameters those "
        f"that are trained.{_about_latency(results)}",
        "",
    ]
    for header, body in (_summary(results), _numbers(results)):
        lines += ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
        lines += ["| " + " | ".join(row) + " |" for row in body]
        lines.append("")
    agreement = results.agreement()
    if agreement is not None:
        lines += [agreement, ""]
    lines += [f"- {row.name} failed: {row.reason}" for row in results.rows if row.status == "failed"]
    return "\n".join(lines).rstrip() + "\n"


def to_tables(results: Results) -> list[Table]:
    """The tables for the console."""
    tables = []
    titles = ("Full training", f"COCO metrics on {results.reported_on}")
    for title, (header, body) in zip(titles, (_summary(results), _numbers(results)), strict=True):
        # Twelve numbers and a name fit into 80 columns only without lines between them.
        table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
        for name in header:
            table.add_column(name, justify="left" if name in {"row", "widths"} else "right", no_wrap=True)
        for row in body:
            table.add_row(*row)
        tables.append(table)
    return tables


def _summary(results: Results) -> tuple[list[str], list[list[str]]]:
    names = list(dict.fromkeys((results.selected_on, results.reported_on)))
    header = [
        "",
        "row",
        "reward",
        *(f"AP {name}" for name in names),
        "widths",
        "GFLOPs",
        "M params",
        "ms",
        "min",
    ]
    body = []
    for place, row in enumerate(results.rows, start=1):
        widths = "-".join(str(width) for width in row.widths.values())
        body.append(
            [
                str(place) if row.status == "done" else "-",
                row.name,
                "" if row.reward is None else f"{row.reward:.4f}",
                *(_percent(row.metrics.get(name, {}).get("ap")) for name in names),
                widths if row.depth is None else f"{widths} x{row.depth}",
                f"{row.flops / 1e9:.2f}",
                f"{row.params / 1e6:.2f}",
                "" if row.latency is None else f"{1e3 * row.latency['median_s']:.1f}",
                f"{row.seconds / 60:.1f}",
            ]
        )
    return header, body


def _about_latency(results: Results) -> str:
    devices = sorted({row.latency["device"] for row in results.rows if row.latency is not None})
    if not devices:
        return ""
    on = "; ".join(devices)
    return f" ms: median latency of the network on such an image ({on}), decoding and suppression left out."


def _numbers(results: Results) -> tuple[list[str], list[list[str]]]:
    header = ["row", *(heading for _, heading in NUMBERS)]
    done = [row for row in results.rows if row.status == "done"]
    measured = [(row, row.metrics[results.reported_on]) for row in done]
    return header, [[row.name, *(_percent(values[key]) for key, _ in NUMBERS)] for row, values in measured]


def _percent(value: float | None) -> str:
    """As AP is usually printed; -1 is pycocotools' "no such objects"."""
    return "" if value is None else "-" if value < 0 else f"{100 * value:.1f}"


def _plot(points: Sequence[Row], results: Results, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(5, 3.8), layout="constrained")
    for row in points:
        assert row.reward is not None
        ap = 100 * row.ap(results.reported_on)
        axes.plot(row.reward, ap, "o", color="tab:blue")
        axes.annotate(str(row.rank), (row.reward, ap), textcoords="offset points", xytext=(5, 4))
    for row in results.rows:
        if row.status == "done" and row.reward is None:
            axes.axhline(100 * row.ap(results.reported_on), color="tab:gray", linestyle="--", label=row.name)
            axes.legend()
    axes.set(xlabel="proxy reward", ylabel=f"AP on {results.reported_on} after full training")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)
