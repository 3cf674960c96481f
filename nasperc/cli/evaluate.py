"""``nasperc evaluate`` and ``nasperc predict``: what a checkpoint is worth, and what it sees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from nasperc.cli.console import console, error_console
from nasperc.errors import InputError
from nasperc.fulltrain.evaluate import evaluate_checkpoint
from nasperc.fulltrain.predict import predict as predict_images

Checkpoint = Annotated[Path, typer.Argument(help="checkpoint.pt of a full training.")]


def evaluate(
    checkpoint: Checkpoint,
    data: Annotated[Path, typer.Option(help="Folder with images and annotations (VOC or COCO).")],
    split: Annotated[str | None, typer.Option(help="By default test, or val where there is no test.")] = None,
    format: Annotated[str, typer.Option(help="voc or coco; recognised by default.")] = "auto",
    strict: Annotated[bool, typer.Option("--strict", help="Degenerate or outside boxes are errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """COCO's 12 numbers of a checkpoint on a data set."""
    with Progress(console=error_console, transient=True) as progress:
        task = progress.add_task("images", total=None)
        metrics, dataset = evaluate_checkpoint(
            checkpoint,
            data,
            split=split,
            format=format,
            strict=strict,
            on_image=lambda done, total: progress.update(task, completed=done, total=total),
        )
    for line in dataset.report.lines():
        error_console.print(line, markup=False)
    if as_json:
        console.print_json(json.dumps(metrics.as_dict()))
        return
    table = Table(
        "metric",
        "value",
        title=escape(f"{checkpoint} on {dataset.name} {dataset.split}, {len(dataset)} images"),
    )
    for name, value in metrics.as_dict().items():
        if isinstance(value, float):
            table.add_row(name, "undefined" if value < 0 else f"{value:.4f}")
    console.print(table)


def predict(
    checkpoint: Checkpoint,
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    out: Annotated[Path, typer.Option(help="Folder for detections.json and the pictures.")] = Path(
        "predictions"
    ),
    threshold: Annotated[float, typer.Option(help="Lowest score, 0 to 1.")] = 0.3,
) -> None:
    """Detect objects in images: JSON, and a picture with boxes for each."""
    result = predict_images(checkpoint, images, out, threshold)
    for image, picture in result.pictures.items():
        console.print(f"{image}: {len(result.objects[image])} objects, drawn in {picture}", markup=False)
    console.print(f"{result.json} written", markup=False)
    for error in result.unreadable:
        error_console.print(f"skipped: {error}", markup=False)
    if result.unreadable:
        raise InputError(
            "every image must be readable",
            value=f"{len(result.unreadable)} of {len(images)} are not",
            where="the images given",
            repair="Those named above were skipped, the others are done.",
        )


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(evaluate)
    app.command()(predict)
