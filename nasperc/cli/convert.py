"""``nasperc convert``: weights of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from nasperc.cli.console import console
from nasperc.convert.conversion import convert as convert_weights
from nasperc.convert.matching import KeyReport
from nasperc.convert.weights_file import read_weights
from nasperc.data.classes_file import read_classes_file
from nasperc.limits import LARGEST_BOUND, LONGEST_SIDE
from nasperc.shown_text import printable

_SHOWN = 12


def convert(
    weights: Annotated[
        Path, typer.Argument(help=".pth or .pkl of AdelaiDet, detectron2, MSRA, torchvision.")
    ],
    out: Annotated[Path | None, typer.Option(help="By default NAME.nasperc.pt in this folder.")] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Class names, one a line; not needed for COCO's 80.")
    ] = None,
    normalisation: Annotated[
        str | None, typer.Option(help="imagenet, tf or caffe; by default the kind's.")
    ] = None,
    stride_in: Annotated[
        str | None, typer.Option(help="1x1 or 3x3, of bottlenecks; by default the kind's.")
    ] = None,
    short_side: Annotated[
        int | None,
        typer.Option(min=32, max=LONGEST_SIDE, help="Of the images of a detector: 800, without P7 550."),
    ] = None,
    long_side: Annotated[
        int | None,
        typer.Option(min=32, max=LARGEST_BOUND, help="Their longest: 1333, without P7 916."),
    ] = None,
    all_keys: Annotated[bool, typer.Option("--all-keys", help="Name every key, not the first few.")] = False,
) -> None:
    """Turn foreign weights into a checkpoint or a backbone of ours, and say what became of every key."""
    names = None if classes is None else read_classes_file(classes)
    conversion = convert_weights(
        read_weights(weights),
        classes=names,
        normalisation=normalisation,
        stride_in=stride_in,
        short_side=short_side,
        long_side=long_side,
    )
    console.print(f"{weights}: {conversion.kind}\n{conversion.network}", markup=False)
    console.print(_table(conversion.report, None if all_keys else _SHOWN))
    out = Path(f"{weights.stem}.nasperc.pt") if out is None else out
    conversion.write(out)
    console.print(f"{out} written\nnext: {conversion.next_command.format(out=out)}", markup=False)


def _table(report: KeyReport, shown: int | None) -> Table:
    table = Table("keys", "number", "names")
    rows = {
        "used": report.used,
        "filled (0 / 1)": report.filled,
        "missing": report.missing,
        "other shape": report.misfits,
        "left over": report.left_over,
    }
    for title, keys in rows.items():
        more = (
            "" if shown is None or len(keys) <= shown else f"\n... and {len(keys) - shown} more (--all-keys)"
        )
        table.add_row(title, str(len(keys)), "\n".join(map(printable, keys[:shown])) + more)
    return table


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(convert)
