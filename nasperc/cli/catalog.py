"""``nasperc spaces``, ``nasperc recipes`` and ``nasperc runs``: what there is."""

from __future__ import annotations

import typer
from rich.table import Table

from nasperc.cli.console import console
from nasperc.errors import InputError
from nasperc.plugins import KINDS, component_names
from nasperc.recipe.reading import load_recipe, recipe_names
from nasperc.search.run_folder import RunFolder, list_runs
from nasperc.search.top10 import read_top10
from nasperc.shown_text import printable


def spaces() -> None:
    """List the registered search spaces, controllers, proxy tasks and tasks."""
    table = Table("kind", "names")
    for kind in KINDS:
        table.add_row(kind, ", ".join(component_names(kind)))
    console.print(table)


def recipes() -> None:
    """List the recipes that come with the package."""
    table = Table("recipe", "what it is")
    for name in recipe_names():
        table.add_row(name, load_recipe(name).description)
    console.print(table)


def runs() -> None:
    """List the runs under the working folder, the latest first."""
    table = Table("run", "best reward", "entries")
    for folder in list_runs():
        top10 = RunFolder(folder).top10
        if not top10.exists():
            table.add_row(printable(str(folder)), "-", "no top10.json yet")
            continue
        try:
            entries = read_top10(top10).entries
        except InputError as error:
            table.add_row(printable(str(folder)), "unreadable", error.rule)
        else:
            table.add_row(printable(str(folder)), f"{entries[0].reward:.4f}", str(len(entries)))
    console.print(table)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (spaces, recipes, runs):
        app.command()(command)
