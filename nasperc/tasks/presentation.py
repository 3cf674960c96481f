"""How the rows of full training are ranked and shown: what every task has in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from nasperc.evaluation.latency import doubt
from nasperc.recipe.thesis import PrintedTable
from nasperc.tasks.row import Row


class TableText(NamedTuple):
    """A table in words: ``title``, the heading of each column, and the cells row by row."""

    title: str
    header: list[str]
    body: list[list[str]]


class Presentation:
    """``metric``: the key of a row's metrics that it is ranked by; ``heading``: what people call it; ``nothing``: why
    it may be undefined on a split."""

    metric: ClassVar[str]
    heading: ClassVar[str]
    nothing: ClassVar[str]

    def preface(self, rows: Sequence[Row], selected_on: str, reported_on: str) -> str:
        """What must be known to read the tables, in a paragraph."""
        on = devices(rows)
        return (
            f"{self.ranking(rows, selected_on)}.{f' ms: median latency of the network ({on}).' if on else ''}"
        )

    def details(self, rows: Sequence[Row], reported_on: str) -> list[TableText]:
        """The tables that follow the summary; ``rows``: those that are done."""
        return []

    def beside(self, rows: Sequence[Row], reported_on: str, printed: PrintedTable) -> TableText | None:
        """What was measured of ``rows``, which are done, above what the thesis prints; None: nothing in common."""
        return None

    def measured(self, values: Any) -> dict[str, Any] | None:
        """A row's metrics on one split, from these plain values of a file; None if they are none."""
        shares = isinstance(values, dict) and all(
            value is None or type(value) in (int, float) for value in values.values()
        )
        return values if shares else None

    def ranking(self, rows: Sequence[Row], selected_on: str) -> str:
        """What orders the rows, in words: the beginning of a sentence."""
        if self._undefined(rows, selected_on):
            return f"Not ranked, since {self.heading} on {selected_on} is undefined: {self.nothing}"
        return f"Ranked by {self.heading} on {selected_on}"

    def undefined(self, split: str, selects: bool) -> str:
        """What is to be said of a split on which the metric is undefined."""
        order = "; rows stand in the order of the search" if selects else ""
        return f"{self.heading} on {split} is undefined (shown as -): {self.nothing}{order}"

    def _undefined(self, rows: Sequence[Row], split: str) -> bool:
        measured = [row.metrics[split] for row in rows if split in row.metrics]
        return bool(measured) and all(values.get(self.metric) is None for values in measured)

    def tables(self, rows: Sequence[Row], selected_on: str, reported_on: str) -> list[TableText]:
        """All tables of rows in their order."""
        done = [row for row in rows if row.status == "done"]
        splits = list(dict.fromkeys((selected_on, reported_on)))
        return [self._summary(rows, splits), *self.details(done, reported_on)]

    def _summary(self, rows: Sequence[Row], splits: Sequence[str]) -> TableText:
        counted = any(row.flops is not None for row in rows)
        header = [
            "",
            "row",
            "reward",
            *(f"{self.heading} {name}" for name in splits),
            "widths",
            *(["GFLOPs"] if counted else []),
            "M params",
            "ms",
            "min",
        ]
        body = []
        for place, row in enumerate(rows, start=1):
            widths = "-".join(str(width) for width in row.widths.values())
            flops = ["" if row.flops is None else f"{row.flops / 1e9:.2f}"] if counted else []
            body.append(
                [
                    str(place) if row.status == "done" else "-",
                    row.name,
                    "" if row.reward is None else f"{row.reward:.4f}",
                    *(cell(row.metrics.get(name, {}), self.metric) for name in splits),
                    widths if row.depth is None else f"{widths} x{row.depth}",
                    *flops,
                    f"{row.params / 1e6:.2f}",
                    "" if row.latency is None else f"{1e3 * row.latency['median_s']:.1f}",
                    f"{row.seconds / 60:.1f}",
                ]
            )
        return TableText("Full training", header, body)


def percent(value: float | None) -> str:
    """As metrics are usually printed; None is undefined."""
    return "-" if value is None else f"{100 * value:.1f}"


def cell(values: Mapping[str, float | None], key: str) -> str:
    """A metric in a table; empty where it was not measured."""
    return percent(values[key]) if key in values else ""


def devices(rows: Sequence[Row]) -> str:
    """What the latencies were measured on, and which of them cannot be trusted; empty where none was."""
    measured = [(row.name, row.latency) for row in rows if row.latency is not None]
    doubted = [
        f"{name} {why}" for name, latency in measured if (why := doubt(latency.get("core_share"))) is not None
    ]
    return "; ".join([*sorted({latency["device"] for _, latency in measured}), *doubted])
