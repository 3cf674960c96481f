"""``nasperc predict``: what a checkpoint sees."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nasperc.cli.console import console, error_console
from nasperc.cli.evaluate import Checkpoint, progress_of
from nasperc.errors import InputError
from nasperc.tasks.lookup import load_trained
from nasperc.tasks.trained import PredictOptions


def predict(
    checkpoint: Checkpoint,
    images: Annotated[
        list[Path], typer.Argument(help="Image files; for a network for videos a folder of frames.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for what is found and the pictures.")] = Path(
        "predictions"
    ),
    threshold: Annotated[
        float | None, typer.Option(help="Detectors: lowest score, 0 to 1; 0.3 by default.")
    ] = None,
    show: Annotated[
        str | None,
        typer.Option(
            help="Segmenters: another picture of each image that shows how masks come about (bases)."
        ),
    ] = None,
) -> None:
    """Detect objects in images: JSON, and a picture with boxes, masks or segments for each. Or segment a folder of
    frames, in the order of their numbers: a label map for each, a strip (frame | labels) and an animation."""
    trained = load_trained(checkpoint)
    options = PredictOptions(threshold=threshold, show=show)
    trained.require_own(options)
    with progress_of(trained.examples) as on_progress:
        done = trained.predict(checkpoint, images, out, options, on_progress)
    for line in done.lines:
        console.print(line, markup=False)
    for error in done.unreadable:
        error_console.print(f"skipped: {error}", markup=False)
    if done.unreadable:
        raise InputError(
            "every image must be readable",
            value=f"{len(done.unreadable)} of {done.inputs} are not",
            where="the images given",
            repair=done.others,
        )


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(predict)
