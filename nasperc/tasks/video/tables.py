"""The tables of networks for videos: the means of segmentation, and mIoU by frame position (thesis Table 6.3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nasperc.evaluation.miou import SegmentationEvaluation, SegmentationMetrics
from nasperc.tasks.presentation import Presentation, TableText, cell, devices
from nasperc.tasks.row import Row
from nasperc.tasks.video.evaluate import VideoReport, position_groups

MEANS = (("miou", "mIoU"), ("macc", "mAcc"), ("gacc", "gAcc"), ("fwiou", "fwIoU"), ("tiou", "tIoU"))
# mIoU by the frame's number: in short sequences, as they are trained on, and along whole runs.
BY_POSITION = ("sequences", "runs")


class VideoTables(Presentation):
    """Metrics are what :func:`video_metrics` gives."""

    metric = "miou"
    heading = "mIoU"
    nothing = "it has no pixel of a class"

    def preface(self, rows: Sequence[Row], selected_on: str, reported_on: str) -> str:
        (height, width), on = rows[0].cost_size, devices(rows)
        latency = f" ms: median latency of a frame after the first, of {width}x{height} ({on})." if on else ""
        return (
            f"{self.ranking(rows, selected_on)}. Measured over whole runs of frames, each from its first to its last; "
            f"the other numbers are measured on {reported_on} (-: undefined). tIoU: within 3 pixels of a border. "
            f"Parameters are all of the network's.{latency}"
        )

    def details(self, rows: Sequence[Row], reported_on: str) -> list[TableText]:
        measured = [(row.name, row.metrics[reported_on]) for row in rows]
        means = [[name, *(cell(values, key) for key, _ in MEANS)] for name, values in measured]
        return [
            TableText(f"Segmentation on {reported_on}", ["row", *(head for _, head in MEANS)], means),
            *(_by_position(kind, measured, reported_on) for kind in BY_POSITION),
        ]

    def measured(self, values: Any) -> dict[str, Any] | None:
        if not isinstance(values, dict) or not {"miou", "classes", *BY_POSITION} <= values.keys():
            return None
        inner = [values[key] for key in ("classes", *BY_POSITION)]
        if not all(isinstance(each, dict) for each in inner):
            return None
        numbers = [values.get(key) for key, _ in MEANS] + [value for each in inner for value in each.values()]
        return values if all(value is None or type(value) in (int, float) for value in numbers) else None


def video_metrics(
    runs: SegmentationEvaluation, sequences: SegmentationEvaluation, classes: Sequence[str]
) -> dict[str, Any]:
    """What was measured on a split, as plain values: shares of 1, None where undefined.

    Args:
        runs: counted over whole runs of frames: the means, IoU by class, and mIoU by groups of positions.
        sequences: counted over short sequences: mIoU by position.
        classes: names.
    """
    metrics = runs.metrics()
    means = metrics.means()
    groups = position_groups(runs.positions)
    return {
        **{key: means.get(key) for key, _ in MEANS},
        "classes": {name: _defined(iou) for name, iou in zip(classes, metrics.iou, strict=True)},
        "sequences": {str(k + 1): _miou(sequences, (k,)) for k in sequences.positions},
        "runs": {name: _miou(runs, positions) for name, positions in groups.items()},
    }


def report_tables(report: VideoReport, title: str) -> list[TableText]:
    """Quality by frame position, and by class; ``title``: of the first."""
    body = [["all", *_percents(report.overall)]]
    body += [[name, *_percents(metrics)] for name, metrics in report.by_position.items()]
    classes = [
        [name, _percent(iou), _percent(acc)]
        for name, iou, acc in zip(report.classes, report.overall.iou, report.overall.acc, strict=True)
    ]
    return [
        TableText(title, ["frame", *(heading for _, heading in MEANS)], body),
        TableText("by class, in %", ["class", "IoU", "acc"], classes),
    ]


def report_remarks(report: VideoReport) -> list[str]:
    """What a frame costs, and how the tables are to be read."""
    first, following = report.latency
    height, width = report.size
    remarks = [
        f"{following.median_s * 1e3:.1f} ms a frame without the first, which takes {first.median_s * 1e3:.1f} ms "
        f"({width}x{height}, {following.device}); {report.parameters / 1e6:.2f} M parameters"
    ]
    doubts = [each.doubt for each in report.latency if each.doubt is not None]
    if doubts:
        remarks.append(f"ms: {doubts[-1]}; they may not hold")
    return [
        *remarks,
        "In %; the number of a frame is its place in its sequence; tIoU: within 3 pixels of a boundary.",
    ]


def _by_position(kind: str, measured: Sequence[tuple[str, Mapping[str, Any]]], split: str) -> TableText:
    positions = list(dict.fromkeys(name for _, values in measured for name in values[kind]))
    title = (
        f"mIoU on {split} by the frame's number in {'short sequences' if kind == 'sequences' else 'its run'}"
    )
    body = [[name, *(cell(values[kind], place) for place in positions)] for name, values in measured]
    return TableText(title, ["row", *positions], body)


def _miou(evaluation: SegmentationEvaluation, positions: tuple[int, ...]) -> float | None:
    return _defined(evaluation.metrics(*positions).miou)


def _defined(value: float) -> float | None:
    return value if value == value else None


def _percents(metrics: SegmentationMetrics) -> list[str]:
    return [_percent(getattr(metrics, name)) for name, _ in MEANS]


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.2f}"
