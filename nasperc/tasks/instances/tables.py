"""The tables of instance segmenters: AP of masks, by which rows are ranked, and of boxes beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from nasperc.data.dataset import DetectionDataset
from nasperc.evaluation.coco_ap import coco_ap
from nasperc.tasks.detection.tables import NUMBERS, PRINTED, CocoTables
from nasperc.tasks.presentation import TableText, percent
from nasperc.tasks.row import Row

# In a row's metrics: what is measured of boxes stands below this key.
BOXES = "boxes"


def mask_metrics(dataset: DetectionDataset, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """COCO's twelve numbers of masks, and below :data:`BOXES` those of boxes, as plain values.

    Args:
        dataset: opened with masks.
        found: in COCO's result format, with ``segmentation``.
    """
    truth = dataset.coco_ground_truth()
    boxes = coco_ap(truth, found, "bbox").as_dict()
    return {**coco_ap(truth, found, "segm").as_dict(), BOXES: boxes}


class MaskTables(CocoTables):
    """Metrics are what :func:`mask_metrics` gives."""

    heading = "mask AP"
    printed: ClassVar = {"box_ap": ((BOXES, "ap"), "box AP"), **PRINTED}

    def details(self, rows: Sequence[Row], reported_on: str) -> list[TableText]:
        """Of masks, then of boxes."""
        header = ["row", *(heading for _, heading in NUMBERS)]
        tables = []
        for what in ("masks", "boxes"):
            measured = [(row.name, row.metrics[reported_on]) for row in rows]
            values = [(name, each[BOXES] if what == "boxes" else each) for name, each in measured]
            body = [[name, *(percent(each[key]) for key, _ in NUMBERS)] for name, each in values]
            tables.append(TableText(f"COCO metrics of {what} on {reported_on}", header, body))
        return tables

    def measured(self, values: Any) -> dict[str, Any] | None:
        if not isinstance(values, dict) or BOXES not in values:
            return None
        masks = super().measured({key: value for key, value in values.items() if key != BOXES})
        boxes = super().measured(values[BOXES])
        return None if masks is None or boxes is None else {**masks, BOXES: boxes}
