"""``nasperc cache verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from feature_cache.verify import verify
from nasperc.cli.console import console

cache_app = typer.Typer(help="Look after feature caches.", no_args_is_help=True)


@cache_app.callback()
def cache() -> None:
    """Look after feature caches."""


@cache_app.command("verify")
def verify_command(file: Annotated[Path, typer.Argument(help="A cache file (.h5).")]) -> None:
    """Read a whole cache and compare it with its checksum."""
    report = verify(file)
    console.print(str(report), markup=False)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(cache_app, name="cache")
