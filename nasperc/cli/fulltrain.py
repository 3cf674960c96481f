"""``nasperc fulltrain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nasperc.cli.console import console
from nasperc.cli.latest import existing_run, find_top10
from nasperc.data.recipe import AUTO
from nasperc.errors import InputError
from nasperc.fulltrain.run import fulltrain as run_fulltrain
from nasperc.search.run_folder import RunFolder
from nasperc.search.sample import draw_sample


def fulltrain(
    run: Annotated[Path | None, typer.Argument(help="A run; the latest by default.")] = None,
    arch: Annotated[Path | None, typer.Option(help="top10.json of a search, instead of a run.")] = None,
    top: Annotated[int | None, typer.Option(min=1, help="How many entries, by rank; all by default.")] = None,
    sample: Annotated[
        int | None,
        typer.Option(min=2, help="Draw so many architectures from the whole search instead (Fig. 7.6)."),
    ] = None,
    stage: Annotated[
        str | None, typer.Option(help="Of --sample: the stage; the one with most candidates by default.")
    ] = None,
    pick: Annotated[
        str, typer.Option(help="best, or controller: so many as --top says (2), drawn from the trained one.")
    ] = "best",
    random: Annotated[
        int, typer.Option(min=0, help="So many random architectures beside them, at the same budget.")
    ] = 0,
    task: Annotated[
        str | None, typer.Option(help="The model that the decoder is put into: fcos, of detection.")
    ] = None,
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
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Nothing runs any more on the host that holds the folder.")
    ] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Recipe key=value, repeatable.")] = None,
) -> None:
    """Train the found architectures and baselines in full; typed again, it goes on where it was."""
    overrides: dict[str, Any] = {"model": {"backbone": backbone_overrides(weights, normalisation)}}
    if data is not None:
        # The search's layout and class file belong to its own data set.
        overrides["data"] = {"path": str(data.resolve()), "format": AUTO, "classes": None}
    if seed is not None:
        overrides["seed"] = seed
    if run is not None and arch is not None:
        raise InputError(
            "full training takes a run or a file of architectures",
            value=f"{run} and {arch}",
            where="the command line",
            repair="Leave one of them out.",
        )
    if sample is not None and pick != "best":
        raise InputError(
            "full training takes architectures of the search or of its controller",
            value=f"--sample {sample} --pick {pick}",
            where="the command line",
            repair="Leave one of them out.",
        )
    if sample is not None:
        drawn_from = existing_run(run) if run is not None else RunFolder(find_top10(arch).parent)
        source = draw_sample(drawn_from, sample, stage=stage)
        out = out or source.with_suffix("")
    else:
        source = find_top10(run or arch)
    run_fulltrain(
        source,
        folder=out,
        top=top,
        pick=pick,
        random=random,
        width=width,
        task=task,
        overrides=[overrides],
        settings=set_ or [],
        workers=workers,
        console=console,
        take_over=take_over,
    )


def backbone_overrides(weights: Path | None, normalisation: str | None) -> dict[str, Any]:
    """What is laid over the recipe of the search. Normalisation and stride are those of the search's weights:
    other weights bring their own, or it is asked for."""
    overrides: dict[str, Any] = {}
    if weights is not None:
        overrides = {"weights": str(weights.resolve()), "normalisation": None, "stride_in": None}
    if normalisation is not None:
        overrides["normalisation"] = normalisation
    return overrides


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(fulltrain)
