"""``nasperc search``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nasperc.cli.console import console
from nasperc.cli.latest import existing_run
from nasperc.data.formats import DETECTION, LAYOUTS, VIDEO, either, titles
from nasperc.errors import InputError
from nasperc.fulltrain.selection import FullTrainingSelector
from nasperc.limits import require_name
from nasperc.plugins import load_component
from nasperc.recipe.reading import load_recipe, recipe_names
from nasperc.recipe.root import Recipe
from nasperc.search.run import run_search
from nasperc.search.run_folder import RUNS
from nasperc.shown_text import printable


def search(
    space: Annotated[
        str | None, typer.Option(help="Search space: a registered name, file.py:Class, or table:FILE.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help=f"Folder with images and boxes ({titles(DETECTION)}), or with videos ({titles(VIDEO)})."
        ),
    ] = None,
    format: Annotated[str | None, typer.Option(help=f"{either(LAYOUTS)}; else recognised.")] = None,
    classes: Annotated[Path | None, typer.Option(help="File with one class name a line.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Degenerate or outside boxes are errors.")] = False,
    recipe: Annotated[
        str | None, typer.Option(help="Package recipe, or a .yaml file; NAME:ROW for a row.")
    ] = None,
    controller: Annotated[
        str | None, typer.Option(help="A registered name (nasperc spaces lists them), or file.py:Class.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Candidates trained at once.")] = None,
    budget: Annotated[str | None, typer.Option(help="Trained candidates (200) or wall time (4h).")] = None,
    executor: Annotated[str | None, typer.Option(help="ray, or local: in this process.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Backbone weights.")] = None,
    normalisation: Annotated[
        str | None, typer.Option(help="imagenet, tf or caffe: what the weights expect.")
    ] = None,
    finetune: Annotated[
        bool | None,
        typer.Option("--finetune/--no-finetune", help="Fine-tune the backbone before caching (7.4.1)."),
    ] = None,
    views: Annotated[int | None, typer.Option(help="Random crops an image in the feature cache.")] = None,
    select_fpn: Annotated[
        str | None,
        typer.Option(help="What the head stage builds on: proxy (best reward), or fulltrain:20 (7.4.1)."),
    ] = None,
    max_flops: Annotated[
        str | None,
        typer.Option(
            help="Reject above so many MACs before training (2.5G), counted as top10.json's cost is."
        ),
    ] = None,
    max_params: Annotated[str | None, typer.Option(help="Reject above so many parameters (3M).")] = None,
    max_latency_ms: Annotated[
        str | None, typer.Option(help="Reject above so many ms for one image, measured on the workers.")
    ] = None,
    cost: Annotated[
        str | None, typer.Option(help="What --cost-weight is about: flops (default), params or latency_ms.")
    ] = None,
    cost_weight: Annotated[
        float | None,
        typer.Option(help="W of the cost-aware reward: reward - W * max(0, log(cost / T))."),
    ] = None,
    cost_target: Annotated[str | None, typer.Option(help="T of the cost-aware reward (2G).")] = None,
    warm_start: Annotated[
        list[Path] | None,
        typer.Option(help="A run whose evaluations teach the controller first; repeatable."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the run.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run's folder under runs/.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this run.")] = None,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Read the caches whole, also where nothing happened to the files."),
    ] = False,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over", help="Of --resume: nothing runs any more on the host that holds the run."
        ),
    ] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Recipe key=value, repeatable.")] = None,
) -> None:
    """Search for an architecture; ends with top10.json."""
    if name is not None:
        require_name(name, "the name of a run", where="--name")
    selector = FullTrainingSelector(console, take_over=take_over)
    if take_over and resume is None:
        raise InputError(
            "a run is taken over to be resumed",
            value="--take-over alone",
            where="the command line",
            repair="Name the run: --resume RUN --take-over.",
        )
    if resume is not None:
        typed = (
            space,
            data,
            format,
            classes,
            recipe,
            controller,
            budget,
            weights,
            normalisation,
            finetune,
            views,
            select_fpn,
            max_flops,
            max_params,
            max_latency_ms,
            cost,
            cost_weight,
            cost_target,
            seed,
            name,
        )
        if any(value is not None for value in typed) or strict or warm_start or set_:
            raise InputError(
                "a resumed run keeps its recipe",
                value="options that would change it",
                where="--resume",
                repair="Give --workers, --executor or --verify at the most.",
            )
        run = existing_run(resume)
        kept = run.read_recipe()
        execution = kept.search.model_copy(update=_drop_none({"workers": workers, "executor": executor}))
        run_search(
            kept.model_copy(update={"search": execution}),
            run.path,
            console=console,
            resume=True,
            take_over=take_over,
            selector=selector,
            verify=verify,
        )
        return
    chosen_space = space_section(space) if space else {}
    proxy = getattr(load_component("space", chosen_space["name"]), "proxy", None) if chosen_space else None
    overrides: dict[str, Any] = _drop_none(
        {
            "seed": seed,
            "data": _drop_none(
                {
                    "path": data and str(data),
                    "format": format,
                    "classes": classes and str(classes),
                    "strict": strict or None,
                }
            ),
            "model": {
                "backbone": _drop_none({"weights": weights and str(weights), "normalisation": normalisation})
            },
            "space": chosen_space,
            "controller": _drop_none({"name": controller}),
            "proxy": _drop_none({"name": proxy, "finetune": finetune, "views": views}),
            "search": _drop_none(
                {
                    "workers": workers,
                    "budget": budget,
                    "executor": executor,
                    "select": select_fpn,
                    "limits": _drop_none(
                        {"flops": max_flops, "params": max_params, "latency_ms": max_latency_ms}
                    ),
                    "cost_target": _drop_none({"cost": cost, "weight": cost_weight, "target": cost_target}),
                    "warm_start": [str(existing_run(run).path) for run in warm_start or []] or None,
                }
            ),
        }
    )
    chosen = recipe or default_recipe(data, chosen_space.get("name"))
    loaded = load_recipe(chosen, [overrides], set_ or [])
    _announce(loaded, chosen, asked=recipe is not None)
    folder = None if name is None else RUNS / name
    run_search(loaded, folder, console=console, selector=selector, verify=verify)


def space_section(space: str) -> dict[str, str]:
    """The recipe section that ``--space`` stands for: ``NAME:FILE`` is the space NAME with its key ``file``."""
    name, colon, file = space.partition(":")
    if not colon or ".py:" in space:
        return {"name": space}
    return {"name": name, "file": file}


def default_recipe(data: Path | None, space: str | None = None) -> str:
    """The recipe named after the space if there is one, ``demo`` on the synthetic data set, else the recipe
    that fits this machine."""
    if space is not None and space in recipe_names():
        return space
    if data is None:
        return "demo"
    import torch

    return "default" if torch.cuda.is_available() else "cpu"


def _announce(recipe: Recipe, name: str, *, asked: bool) -> None:
    data = recipe.data.path or recipe.space.options.get("file") or "the synthetic data set"
    # A description may have been written over several lines.
    described = " ".join(recipe.description.split()) if recipe.description else "no description"
    parts = f"Space: {recipe.space.name}. Controller: {recipe.controller.name}. Seed: {recipe.seed}."
    console.print(printable(f"Recipe {name}: {described}"), markup=False)
    console.print(printable(f"Data: {data}. {parts}"), markup=False)
    if not asked:
        console.print(f"(No --recipe given. Others: {', '.join(n for n in recipe_names() if n != name)}.)")


def _drop_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None and value != {}}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(search)
