"""``nasperc fulltrain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nasperc.cli.console import console
from nasperc.cli.latest import find_top10
from nasperc.fulltrain.run import fulltrain as run_fulltrain


def fulltrain(
    arch: Annotated[
        Path | None, typer.Option(help="top10.json of a search; the latest run's by default.")
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="How many entries, by rank; all by default.")] = None,
    task: Annotated[str, typer.Option(help="The model that the decoder is put into.")] = "fcos",
    width: Annotated[str | None, typer.Option(help="Channels: 128, 256 or 128-256 (FPN-head).")] = None,
    data: Annotated[Path | None, typer.Option(help="Another data set than the search's.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Backbone weights.")] = None,
    normalisation: Annotated[str | None, typer.Option(help="imagenet, tf or caffe.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the training.")] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that share every batch (Ray Train); one GPU each.")
    ] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results; fulltrain/ beside top10.json.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Recipe key=value, repeatable.")] = None,
) -> None:
    """Train the found architectures and FPN-FCOS on images; typed again, it goes on where it was."""
    backbone: dict[str, Any] = {}
    if weights is not None:
        backbone["weights"] = str(weights.resolve())
    if normalisation is not None:
        backbone["normalisation"] = normalisation
    overrides: dict[str, Any] = {"model": {"backbone": backbone}}
    if data is not None:
        # The search's layout and class file belong to its own data set.
        overrides["data"] = {"path": str(data.resolve()), "format": "auto", "classes": None}
    if seed is not None:
        overrides["seed"] = seed
    run_fulltrain(
        find_top10(arch),
        folder=out,
        top=top,
        width=width,
        task=task,
        overrides=[overrides],
        settings=set_ or [],
        workers=workers,
        console=console,
    )


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(fulltrain)
