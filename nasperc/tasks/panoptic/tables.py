"""The tables of panoptic networks: PQ, by which rows are ranked, SQ and RQ; of all classes, of things, of stuff."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nasperc.evaluation.pq import PanopticMetrics
from nasperc.tasks.presentation import Presentation, TableText, devices, percent
from nasperc.tasks.row import Row

# What classes, field of the metrics behind the quality, heading behind it.
GROUPS = (("all", "", ""), ("things", "_things", " Th"), ("stuff", "_stuff", " St"))
QUALITIES = (("pq", "PQ"), ("sq", "SQ"), ("rq", "RQ"))
_NUMBERS = tuple(
    (quality + suffix, heading + behind) for _, suffix, behind in GROUPS for quality, heading in QUALITIES
)


class PanopticTables(Presentation):
    """Metrics are the fields of :class:`PanopticMetrics`."""

    metric = "pq"
    heading = "PQ"
    nothing = "it has no segment that counts"

    def preface(self, rows: Sequence[Row], selected_on: str, reported_on: str) -> str:
        size, on = rows[0].cost_size, devices(rows)
        latency = (
            f" ms: median latency of the network on such an image ({on}), decoding, suppression and merging left out."
            if on
            else ""
        )
        return (
            f"{self.ranking(rows, selected_on)}; the other numbers are measured on {reported_on} (-: no such classes; "
            f"Th: things, St: stuff). FLOPs (one multiply-accumulate = 1) are for an image of {size[0]} x {size[1]}, "
            f"parameters those that are trained.{latency}"
        )

    def details(self, rows: Sequence[Row], reported_on: str) -> list[TableText]:
        header = ["row", *(heading for _, heading in _NUMBERS)]
        body = [[row.name, *(percent(row.metrics[reported_on][key]) for key, _ in _NUMBERS)] for row in rows]
        return [TableText(f"Panoptic quality on {reported_on}", header, body)]

    def measured(self, values: Any) -> dict[str, Any] | None:
        try:
            found = PanopticMetrics(**values).as_dict()
            numbers = [found[key] for key, _ in _NUMBERS] + list(found["per_class"].values())
        except (TypeError, AttributeError):
            return None
        shares = (value is None or (type(value) in (int, float) and 0 <= value <= 1) for value in numbers)
        return found if all(shares) else None


def report_table(metrics: PanopticMetrics, title: str) -> TableText:
    """PQ, SQ and RQ, a row each for all classes, things and stuff."""
    values = metrics.as_dict()
    body = [
        [name, *(percent(values[quality + suffix]) for quality, _ in QUALITIES)] for name, suffix, _ in GROUPS
    ]
    return TableText(title, ["classes", *(heading for _, heading in QUALITIES)], body)
