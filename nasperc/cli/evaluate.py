"""``nasperc evaluate``: what a checkpoint is worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from nasperc.cli.console import console, error_console, print_json
from nasperc.errors import InputError
from nasperc.evaluation.miou import SegmentationMetrics
from nasperc.fulltrain.evaluate import evaluate_on
from nasperc.fulltrain.evaluate_video import VideoReport, evaluate_video
from nasperc.fulltrain.trained import load_trained
from nasperc.fulltrain.trained_segmenter import TrainedSegmenter
from nasperc.fulltrain.video_tables import MEANS
from nasperc.shown_text import printable

Checkpoint = Annotated[Path, typer.Argument(help="checkpoint.pt of a full training.")]


def evaluate(
    checkpoint: Checkpoint,
    data: Annotated[
        Path, typer.Option(help="Folder with images and annotations (VOC, COCO; CamVid, Cityscapes).")
    ],
    split: Annotated[str | None, typer.Option(help="By default test, or val where there is no test.")] = None,
    format: Annotated[
        str, typer.Option(help="voc, coco, camvid or cityscapes; recognised by default.")
    ] = "auto",
    strict: Annotated[bool, typer.Option("--strict", help="Degenerate or outside boxes are errors.")] = False,
    sequence_length: Annotated[
        int | None,
        typer.Option(help="Videos: start anew after so many frames; by default a whole run is one sequence."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """COCO's 12 numbers of a detector on a data set; of a network for videos IoU and accuracy, and ms a frame."""
    trained = load_trained(checkpoint)
    if isinstance(trained, TrainedSegmenter):
        with progress_of("frames") as on_frame:
            report, video = evaluate_video(
                trained,
                data,
                split=split,
                format=format,
                sequence_length=sequence_length,
                on_frame=on_frame,
            )
        for line in video.lines():
            error_console.print(printable(line), markup=False)
        if as_json:
            print_json(report.as_dict())
            return
        _print_video(report, f"{checkpoint} on {video.name} {video.split}, {len(video)} frames")
        return
    if sequence_length is not None:
        raise InputError(
            "only networks for videos are evaluated by sequences",
            value="a detector",
            where="--sequence-length",
            repair="Leave it out.",
        )
    with progress_of("images") as on_image:
        metrics, dataset = evaluate_on(
            trained, data, split=split, format=format, strict=strict, on_image=on_image
        )
    for line in dataset.lines():
        error_console.print(printable(line), markup=False)
    if as_json:
        print_json(metrics.as_dict())
        return
    table = Table(
        "metric",
        "value",
        title=printable(f"{checkpoint} on {dataset.name} {dataset.split}, {len(dataset)} images"),
    )
    for name, value in metrics.as_dict().items():
        if name != "per_class":
            table.add_row(name, "undefined" if value is None else f"{value:.4f}")
    console.print(table)


@contextmanager
def progress_of(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar while something goes over data, to be told what is done and of how many."""
    with Progress(console=error_console, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _print_video(report: VideoReport, title: str) -> None:
    caption = "In %. frame: its number in its sequence. tIoU: within 3 pixels of a boundary."
    quality = Table("frame", *(heading for _, heading in MEANS), title=printable(title), caption=caption)
    quality.title_justify = quality.caption_justify = "left"
    quality.add_row("all", *_percents(report.overall))
    for name, metrics in report.by_position.items():
        quality.add_row(name, *_percents(metrics))
    classes = Table("class", "IoU", "acc", title="by class, in %", title_justify="left")
    for name, iou, acc in zip(report.classes, report.overall.iou, report.overall.acc, strict=True):
        classes.add_row(printable(name), _percent(iou), _percent(acc))
    for table in (quality, classes):
        for column in table.columns[1:]:
            column.justify = "right"
        console.print(table)
    first, following = report.latency
    height, width = report.size
    console.print(
        f"{following.median_s * 1e3:.1f} ms a frame without the first, which takes {first.median_s * 1e3:.1f} ms "
        f"({width}x{height}, {following.device}); {report.parameters / 1e6:.2f} M parameters",
        markup=False,
    )
    doubts = [each.doubt for each in report.latency if each.doubt is not None]
    if doubts:
        console.print(f"ms: {doubts[-1]}; they may not hold", markup=False)
    console.print(
        "In %; the number of a frame is its place in its sequence; tIoU: within 3 pixels of a boundary."
    )


def _percents(metrics: SegmentationMetrics) -> list[str]:
    return [_percent(getattr(metrics, name)) for name, _ in MEANS]


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(evaluate)
