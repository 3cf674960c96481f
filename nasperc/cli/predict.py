"""``nasperc predict``: what a checkpoint sees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nasperc.cli.console import console, error_console
from nasperc.cli.evaluate import Checkpoint, progress_of
from nasperc.errors import InputError
from nasperc.fulltrain.predict import predict_images
from nasperc.fulltrain.predict_video import ANIMATION, LABELS, MOST_ANIMATED, predict_video
from nasperc.fulltrain.trained import load_trained
from nasperc.fulltrain.trained_segmenter import TrainedSegmenter


def predict(
    checkpoint: Checkpoint,
    images: Annotated[
        list[Path], typer.Argument(help="Image files; for a network for videos a folder of frames.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for what is found and the pictures.")] = Path(
        "predictions"
    ),
    threshold: Annotated[float, typer.Option(help="Detectors: lowest score, 0 to 1.")] = 0.3,
) -> None:
    """Detect objects in images: JSON, and a picture with boxes for each. Or segment a folder of frames, in the order
    of their numbers: a label map for each, a strip (frame | labels) and an animation."""
    trained = load_trained(checkpoint)
    if isinstance(trained, TrainedSegmenter):
        _predict_video(trained, checkpoint, images, out)
        return
    result = predict_images(trained, checkpoint, images, out, threshold)
    for image, picture in result.pictures.items():
        console.print(f"{image}: {len(result.objects[image])} objects, drawn in {picture}", markup=False)
    console.print(f"{result.json} written", markup=False)
    _report_unreadable(result.unreadable, len(images), "Those named above were skipped, the others are done.")


def _predict_video(trained: TrainedSegmenter, checkpoint: Path, folders: Sequence[Path], out: Path) -> None:
    if len(folders) != 1 or not folders[0].is_dir():
        raise InputError(
            "a network for videos takes one folder of frames",
            value=", ".join(map(str, folders)),
            where="the command line",
            repair="Name the folder that the frames are in.",
        )
    with progress_of("frames") as on_frame:
        result = predict_video(trained, checkpoint, folders[0], out, on_frame)
    count = len(result.labels)
    videos = "1 video" if result.runs == 1 else f"{result.runs} videos, each started anew"
    frames = "1 frame" if count == 1 else f"{count} frames"
    console.print(f"{frames} of {videos}: label maps in {out / LABELS}", markup=False)
    for path in result.pictures:
        cut = path.name == ANIMATION and count > MOST_ANIMATED
        console.print(f"{path} written{f' (the first {MOST_ANIMATED} frames)' * cut}", markup=False)
    console.print(f"{result.json} written", markup=False)
    _report_unreadable(
        result.unreadable,
        count + len(result.unreadable),
        "Those named above were skipped, and the frames after them go on from the last good one.",
    )


def _report_unreadable(errors: Sequence[InputError], count: int, repair: str) -> None:
    for error in errors:
        error_console.print(f"skipped: {error}", markup=False)
    if errors:
        raise InputError(
            "every image must be readable",
            value=f"{len(errors)} of {count} are not",
            where="the images given",
            repair=repair,
        )


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(predict)
