"""``nasperc export architecture``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from nasperc.cli.console import console
from nasperc.cli.latest import find_top10
from nasperc.cli.size import parse_size
from nasperc.errors import InputError
from nasperc.export.architecture_file import ArchitectureFile, read_architecture, write_architecture
from nasperc.export.network import NetworkFormat
from nasperc.export.onnx_file import OnnxFormat, onnx_installed
from nasperc.export.pt2_file import Pt2Format
from nasperc.export.svg import render_svg
from nasperc.export.text import describe
from nasperc.fulltrain.run import results_folder
from nasperc.search.top10 import Top10File, read_top10
from nasperc.tasks.lookup import load_trained
from nasperc.tasks.row import CHECKPOINT
from nasperc.tasks.trained import ExportOptions, Trained
from nasperc.whole_files import write_whole

export_app = typer.Typer(help="Hand over what was found.", no_args_is_help=True)

FORMATS = ("json", "txt", "svg", "onnx", "pt2")
TRAINED: dict[str, NetworkFormat] = {"onnx": OnnxFormat(), "pt2": Pt2Format()}


@export_app.callback()
def export() -> None:
    """Hand over what was found."""


@export_app.command("architecture")
def export_architecture(
    source: Annotated[
        Path | None, typer.Argument(help="A run or a top10.json; the latest run by default.")
    ] = None,
    arch: Annotated[Path | None, typer.Option(help="An architecture file instead.")] = None,
    rank: Annotated[int, typer.Option(min=1, help="Which entry of top10.json.")] = 1,
    to: Annotated[
        list[str] | None,
        typer.Option(help="json, txt, svg, onnx, pt2; repeatable. Default: all that can be written."),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Trained weights for ONNX and pt2; by default those that nasperc fulltrain left in the run."
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="Of the models that fulltrain trained: fcos, ...; the search's own by default."),
    ] = None,
    with_nms: Annotated[
        bool, typer.Option("--with-nms", help="Final detections, as without it: of older command lines.")
    ] = False,
    dense: Annotated[
        bool,
        typer.Option("--dense", help="What is predicted everywhere: maps of detectors, logits of videos."),
    ] = False,
    paste: Annotated[
        bool, typer.Option("--paste", help="Masks of the image's size, in place of R x R inside of boxes.")
    ] = False,
    size: Annotated[
        str | None,
        typer.Option(help="Videos: fix the frames at HxW; any size by default."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("export"),
) -> None:
    """Write an architecture as JSON, text and diagram, and with trained weights as ONNX and torch.export program."""
    for format in to or ():
        if format not in FORMATS:
            raise InputError(
                f"a format must be one of {', '.join(FORMATS)}",
                value=format,
                where="--to",
                repair="Leave --to out to write them all.",
            )
    options = ExportOptions(
        size=None if size is None else parse_size(size), dense=dense, paste=paste, with_nms=with_nms
    )
    trained: Trained | None = None
    if arch is not None:
        file, name = read_architecture(arch), arch.stem
    else:
        top10 = find_top10(source)
        content = read_top10(top10)
        file, name = _entry(content, rank), f"{top10.resolve().parent.name}-rank{rank}"
        results = results_folder(top10.parent, content.recipe, task)
        left_by_fulltrain = results / f"rank{rank:02d}" / CHECKPOINT
        if checkpoint is None and left_by_fulltrain.is_file():
            trained = load_trained(left_by_fulltrain)
            if not _is_of(trained, file):
                console.print(f"{left_by_fulltrain} is of another architecture: left out", markup=False)
                trained = None
    if checkpoint is not None:
        trained = load_trained(checkpoint)
        if not _is_of(trained, file):
            raise InputError(
                "a checkpoint must be of the architecture that is exported",
                value="another one",
                where=checkpoint,
                repair="Give its own --rank or --arch.",
            )
    if trained is not None and not trained.finished:
        console.print(f"The training of these weights has not ended (iteration {trained.step}).")
    impossible = set(TRAINED) if trained is None else set() if onnx_installed() else {"onnx"}
    wanted = to or [format for format in FORMATS if format not in impossible]
    out.mkdir(parents=True, exist_ok=True)
    writers: dict[str, Callable[[Path], str]] = {
        "json": lambda path: _json(path, file),
        "txt": lambda path: _text(path, describe(file.architecture, file.space)),
        "svg": lambda path: _text(path, render_svg(file.space.draw(file.architecture))),
        **{format: partial(_network, trained=trained, options=options) for format in TRAINED},
    }
    for format in wanted:
        console.print(writers[format](out / f"{name}.{format}"), markup=False)
    if trained is None:
        console.print("For ONNX and pt2, train it first: nasperc fulltrain --arch top10.json")
    elif "onnx" in impossible and "onnx" not in wanted:
        console.print('For ONNX, install its packages: pip install "nasperc[export]"', markup=False)


def _is_of(trained: Trained, file: ArchitectureFile) -> bool:
    """Whether the weights belong to the architecture."""
    found = trained.searched
    return found is not None and found.space.hash(found.architecture) == file.space.hash(file.architecture)


def _entry(content: Top10File, rank: int) -> ArchitectureFile:
    for entry in content.entries:
        if entry.rank == rank:
            return ArchitectureFile(content.space, entry.architecture, dict(entry.widths))
    raise InputError(
        f"a rank must be one of 1 to {len(content.entries)}",
        value=rank,
        where=f"--rank of {content.path}",
        repair="nasperc runs shows how many entries a run has.",
    )


def _json(path: Path, file: ArchitectureFile) -> str:
    write_architecture(path, file.space, file.architecture, file.widths)
    return f"{path} written"


def _text(path: Path, text: str) -> str:
    write_whole(path, text)
    return f"{path} written"


def _network(path: Path, trained: Trained | None, options: ExportOptions) -> str:
    if trained is None:
        raise InputError(
            f"{path.suffix[1:]} needs trained weights",
            value="no checkpoint",
            where=f"--to {path.suffix[1:]}",
            repair="Give --checkpoint FILE, or train first: nasperc fulltrain --arch top10.json",
        )
    trained.require_own(options)
    return str(TRAINED[path.suffix[1:]].export(trained.exported(options), path))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.add_typer(export_app, name="export")
