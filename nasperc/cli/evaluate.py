"""``nasperc evaluate``: what a checkpoint is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from nasperc.cli.console import console, error_console, print_json
from nasperc.data.formats import LAYOUTS, either, titles
from nasperc.data.recipe import AUTO
from nasperc.shown_text import printable
from nasperc.tasks.lookup import load_trained
from nasperc.tasks.presentation import TableText
from nasperc.tasks.trained import EvaluateOptions

Checkpoint = Annotated[Path, typer.Argument(help="checkpoint.pt of a full training.")]


def evaluate(
    checkpoint: Checkpoint,
    data: Annotated[
        Path, typer.Option(help=f"Folder with images and annotations in the layout of {titles(LAYOUTS)}.")
    ],
    split: Annotated[str | None, typer.Option(help="By default test, or val where there is no test.")] = None,
    format: Annotated[str, typer.Option(help=f"{either(LAYOUTS)}; recognised by default.")] = AUTO,
    strict: Annotated[bool, typer.Option("--strict", help="Degenerate or outside boxes are errors.")] = False,
    sequence_length: Annotated[
        int | None,
        typer.Option(help="Videos: start anew after so many frames; by default a whole run is one sequence."),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(
            help="COCO file in place of the data set's own (one of LVIS with COCO's ids: federated rules)."
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            help="Write what is found in COCO's result format, with the data set's own ids: a file, of a panoptic "
            "network a folder."
        ),
    ] = None,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Detectors and segmenters: AP of each class, too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """COCO's 12 numbers of a detector on a data set, of a segmenter for masks and boxes; of a panoptic network PQ; of
    a network for videos IoU and accuracy, and ms a frame."""
    trained = load_trained(checkpoint)
    options = EvaluateOptions(
        split=split,
        format=format,
        strict=strict,
        sequence_length=sequence_length,
        annotations=annotations,
        results=results,
        per_class=per_class,
    )
    trained.require_own(options)
    with progress_of(trained.examples) as on_progress:
        report = trained.evaluate(data, options, on_progress)
    for line in report.notes:
        error_console.print(printable(line), markup=False)
    if as_json:
        print_json(report.values)
        return
    for number, table in enumerate(report.tables):
        console.print(_table(table, title=f"{checkpoint} {table.title}" if number == 0 else table.title))
    for line in report.remarks:
        console.print(line, markup=False)
    if results is not None:
        console.print(f"{results} written", markup=False)


@contextmanager
def progress_of(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar while something goes over data, to be told what is done and of how many."""
    with Progress(console=error_console, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _table(text: TableText, title: str) -> Table:
    table = Table(*map(printable, text.header), title=printable(title), title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in text.body:
        table.add_row(*map(printable, row))
    return table


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(evaluate)
