"""``nasperc cost``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from nasperc.assembly.detector import BASELINE_PARTS, Searched
from nasperc.cli.console import console, error_console, print_json
from nasperc.cli.size import parse_size
from nasperc.errors import InputError
from nasperc.evaluation.latency import OnRun, doubt
from nasperc.export.architecture_file import read_architecture
from nasperc.fulltrain.entries import parse_width
from nasperc.recipe.reading import load_recipe
from nasperc.report.cost import ModelCost, TableRow, model_cost, thesis_table
from nasperc.shown_text import printable


def cost(
    recipe: Annotated[
        str | None, typer.Option(help="Package recipe, or a .yaml file; NAME:ROW for a row.")
    ] = None,
    arch: Annotated[Path | None, typer.Option(help="An architecture file instead of its decoder.")] = None,
    width: Annotated[str | None, typer.Option(help="Channels: 128, 256 or 128-256 (FPN-head).")] = None,
    backbone: Annotated[str | None, typer.Option(help="For example mobilenet_v2 or resnet50.")] = None,
    classes: Annotated[int | None, typer.Option(help="Number of classes; 80 by default.")] = None,
    size: Annotated[str | None, typer.Option(help="Input HxW in pixels; 800x1088 by default.")] = None,
    latency: Annotated[bool, typer.Option("--latency", help="Measure it, with random weights.")] = False,
    table: Annotated[str | None, typer.Option(help="Count a table of the thesis again: 7.2.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Recipe key=value, repeatable.")] = None,
) -> None:
    """FLOPs, parameters, activation memory and latency of a model; nothing is trained or downloaded."""
    if table is not None:
        if any(value is not None for value in (recipe, arch, width, backbone, classes, size)) or set_:
            raise InputError(
                "a table of the thesis fixes its models and their input",
                value="other options",
                where="--table",
                repair="Give --latency or --json at the most; --recipe table_7_2:ROW is one of its models.",
            )
        with _progress(latency) as on_run:
            rows = list(thesis_table(table, latency=latency, on_run=on_run))
        if as_json:
            print_json([row.to_dict() for row in rows])
        else:
            console.print(_thesis_table(table, rows))
        return
    overrides: dict[str, Any] = {"model": {"backbone": {} if backbone is None else {"name": backbone}}}
    overrides["cost"] = {} if size is None else {"size": parse_size(size, multiple=32)}
    if classes is not None:
        overrides["cost"]["classes"] = classes
    if width is not None and arch is None:
        widths = parse_width(width, BASELINE_PARTS)
        overrides["decoder"] = {f"{part}_width": channels for part, channels in widths.items()}
    loaded = load_recipe(recipe or "default", [overrides], set_ or [])
    decoder = None if arch is None else _searched(arch, width)
    with _progress(latency) as on_run:
        counted = model_cost(loaded, decoder, latency=latency, on_run=on_run)
    if as_json:
        print_json(counted.to_dict())
    else:
        console.print(_model_table(counted))


def _searched(arch: Path, width: str | None) -> Searched:
    """The decoder of an architecture file, at the widths that were typed, else at those of the file."""
    space, architecture, widths = read_architecture(arch)
    if width is not None or not widths:
        widths = parse_width(width or "256", space.parts)
    return Searched(space, architecture, widths)


@contextmanager
def _progress(latency: bool) -> Iterator[OnRun | None]:
    """What a measurement of latencies says of its progress, beside the output."""
    if not latency:
        yield None
        return
    with error_console.status("measuring latency") as status:
        yield lambda share: status.update(f"measuring latency, {share:.0%}")


def _model_table(counted: ModelCost) -> Table:
    height, width = counted.size
    table = Table(title=f"{printable(counted.name)}, {height} x {width}, {counted.classes} classes")
    table.add_column("cost")
    table.add_column("value", justify="right")
    table.add_row("FLOPs (multiply-accumulates)", f"{counted.flops / 1e9:.2f} G")
    table.add_row("parameters", f"{counted.params_total / 1e6:.2f} M")
    table.add_row("parameters that are trained", f"{counted.params_trainable / 1e6:.2f} M")
    if counted.activation_bytes is not None:
        table.add_row("activations kept in training, an image", f"{counted.activation_bytes / 1e6:.0f} MB")
    if (latency := counted.latency) is not None:
        times = f"{latency.median_s * 1e3:.1f} ms"
        spread = f"{latency.fastest_s * 1e3:.1f} to {latency.slowest_s * 1e3:.1f}"
        table.add_row(f"latency ({latency.device}), median of {latency.runs}: {spread}", times)
        if latency.doubt is not None:
            table.caption = f"latency {latency.doubt}; it may not hold"
    return table


def _thesis_table(name: str, rows: Sequence[TableRow]) -> Table:
    height, width = rows[0].cost.size
    title = f"Table {name}, counted at {height} x {width} for {rows[0].cost.classes} classes"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    # Of 80 columns the numbers take what they need; long names go on in a second line.
    table.add_column("model")
    headings = ["GFLOPs", "thesis", "%", "params, M", "thesis", "%"]
    if rows[0].cost.latency is not None:
        headings.append("ms")
        latencies = [row.cost.latency for row in rows if row.cost.latency is not None]
        table.caption = f"ms: median latency ({latencies[0].device})"
        share = min((each.core_share for each in latencies if each.core_share is not None), default=None)
        if (doubted := doubt(share)) is not None:
            table.caption += f", {doubted}; they may not hold"
        table.caption_justify = "left"
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for cost, thesis in rows:
        flops, params = cost.flops / 1e9, cost.params_trainable / 1e6
        cells = [
            cost.name,
            *_compared(flops, thesis["flops_g"], digits=2),
            *_compared(params, thesis["params_m"], digits=3),
        ]
        if cost.latency is not None:
            cells.append(f"{cost.latency.median_s * 1e3:.0f}")
        table.add_row(*cells)
    return table


def _compared(value: float, printed: float, digits: int) -> tuple[str, str, str]:
    return f"{value:.{digits}f}", f"{printed:.1f}", f"{100 * (value / printed - 1):+.2f}"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(cost)
