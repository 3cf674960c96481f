"""The tables of detectors: AP, and pycocotools' twelve numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

from nasperc.data.dataset import DetectionDataset
from nasperc.evaluation.coco_ap import CocoMetrics
from nasperc.recipe.thesis import PrintedRow, PrintedTable
from nasperc.tasks.presentation import Presentation, TableText, devices, percent
from nasperc.tasks.row import Row

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


# Figures that the thesis prints, by their keys there: where they stand in the metrics, and their heading.
PRINTED: dict[str, tuple[tuple[str, ...], str]] = {
    "ap": (("ap",), "AP"),
    "ap50": (("ap50",), "AP50"),
    "ap75": (("ap75",), "AP75"),
    "ap_s": (("ap_small",), "APs"),
    "ap_m": (("ap_medium",), "APm"),
    "ap_l": (("ap_large",), "APl"),
}


class CocoTables(Presentation):
    """Metrics are the fields of :class:`CocoMetrics`."""

    metric = "ap"
    heading = "AP"
    nothing = "it has no object that counts"
    printed: ClassVar = PRINTED

    def preface(self, rows: Sequence[Row], selected_on: str, reported_on: str) -> str:
        size, on = rows[0].cost_size, devices(rows)
        latency = (
            f" ms: median latency of the network on such an image ({on}), decoding and suppression left out."
            if on
            else ""
        )
        return (
            f"{self.ranking(rows, selected_on)}; the twelve numbers are measured on {reported_on} (-: no such "
            f"objects). FLOPs (one multiply-accumulate = 1) are for an image of {size[0]} x {size[1]}, parameters "
            f"those that are trained.{latency}"
        )

    def details(self, rows: Sequence[Row], reported_on: str) -> list[TableText]:
        header = ["row", *(heading for _, heading in NUMBERS)]
        measured = [(row, row.metrics[reported_on]) for row in rows]
        body = [[row.name, *(percent(values[key]) for key, _ in NUMBERS)] for row, values in measured]
        return [TableText(f"COCO metrics on {reported_on}", header, body)]

    def beside(self, rows: Sequence[Row], reported_on: str, printed: PrintedTable) -> TableText | None:
        columns = {
            figure: place
            for figure, place in self.printed.items()
            if any(figure in row.figures for row in printed.rows)
        }
        if not columns:
            return None
        body = [
            [row.name, *(percent(_at(row.metrics[reported_on], path)) for path, _ in columns.values())]
            for row in rows
        ]
        for row in printed.rows:
            values = (f"{row.figures[figure]:.1f}" if figure in row.figures else "" for figure in columns)
            body.append([_printed_name(row, printed.own), *values])
        title = f"{self.heading} on {reported_on}, above what the thesis prints for COCO: {printed.about}"
        for row in printed.rows:
            if row.name == printed.own and row.note is not None:
                title += f" (of this recipe's row: {row.note})"
        header = ["row", *(heading for _, heading in columns.values())]
        return TableText(title, header, body)

    def measured(self, values: Any) -> dict[str, Any] | None:
        try:
            by_name = asdict(CocoMetrics(**values))
            per_class = {name: _defined(value) for name, value in by_name.pop("per_class").items()}
            return {**{name: _defined(value) for name, value in by_name.items()}, "per_class": per_class}
        except (TypeError, AttributeError):
            return None


def _printed_name(row: PrintedRow, own: str) -> str:
    if row.quoted:
        return f"quoted: {row.name}"
    return f"thesis, this recipe: {row.name}" if row.name == own else f"thesis: {row.name}"


def _at(values: Any, path: Sequence[str]) -> float | None:
    for key in path:
        values = values[key]
    found: float | None = values
    return found


def evaluation_tables(
    dataset: DetectionDataset, measured: Mapping[str, Mapping[str, Any]], per_class: bool
) -> list[TableText]:
    """The twelve numbers of one network on a split, and with ``per_class`` AP of each class in a table of its own.

    Args:
        dataset: the split.
        measured: the fields of :class:`CocoMetrics` by what they are of, a column each ("boxes").
        per_class: whether there is the second table.
    """
    title, columns = f"on {dataset.name} {dataset.split}, {len(dataset)} images", list(measured)
    tables = [TableText(title, ["metric", *columns], _body([key for key, _ in NUMBERS], measured.values()))]
    if per_class:
        by_class = [values["per_class"] for values in measured.values()]
        header = ["class", *(f"AP of {column}" for column in columns)]
        tables.append(TableText("AP by class", header, _body(dataset.classes, by_class)))
    return tables


def _body(keys: Iterable[str], columns: Collection[Mapping[str, Any]]) -> list[list[str]]:
    """A row for each key, with its value in each column."""
    values = {key: [column[key] for column in columns] for key in keys}
    return [
        [key, *("undefined" if value is None else f"{value:.4f}" for value in row)]
        for key, row in values.items()
    ]


def _defined(value: Any) -> float | None:
    """A number of a file; older ones have pycocotools' -1 where it is undefined.

    Raises:
        TypeError: it is no such number.
    """
    if value is None:
        return None
    if type(value) not in (int, float) or not value <= 1:
        raise TypeError(f"{type(value).__name__} instead of a share of 1")
    return None if value < 0 else float(value)
