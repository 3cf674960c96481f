"""A plot as a file: whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nasperc.errors import InputError
from nasperc.whole_files import writing_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DEFAULT = "png"


def save_figure(figure: Figure, path: Path) -> None:
    """Write ``figure`` in the format that the ending of ``path`` names, PNG without one.

    Raises:
        InputError: no such format; no plain file stands in its place.
    """
    format = path.suffix.removeprefix(".").lower() or _DEFAULT
    known = figure.canvas.get_supported_filetypes()
    if format not in known:
        raise InputError(
            f"a plot must be one of {', '.join(sorted(known))}",
            value=format,
            where=path,
            repair="For example reward_curve.png.",
        )
    with writing_whole(path) as part:
        figure.savefig(part, dpi=110, format=format)
