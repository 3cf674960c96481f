"""What the thesis prints for the rows of a recipe: ``NAME_thesis.json`` beside the package recipe ``NAME``."""

from __future__ import annotations

import json
from importlib import resources
from typing import NamedTuple

from nasperc.recipe.reading import load_recipe, recipe_names


class PrintedRow(NamedTuple):
    """``name``: of the recipe's row, or of other people's method, which the thesis quotes (``quoted``). ``figures`` by
    name, in the units of the print (AP in percent). ``note``: what must be known of them."""

    name: str
    quoted: bool
    figures: dict[str, float]
    note: str | None


class PrintedTable(NamedTuple):
    """A table of the thesis in its order. ``about``: its number and what it is of; ``own``: the row that a run began
    as."""

    about: str
    own: str
    rows: tuple[PrintedRow, ...]


def printed_rows(recipe: str) -> tuple[PrintedRow, ...]:
    """What is printed for a package recipe; nothing where it is no table, or one without figures."""
    # Among the names, not as a path: a recipe's origin may come from a file.
    if recipe not in recipe_names():
        return ()
    file = resources.files("experiments") / f"{recipe}_thesis.json"
    if not file.is_file():
        return ()
    return tuple(_row(each) for each in json.loads(file.read_text(encoding="utf-8")))


def printed_table(origin: str) -> PrintedTable | None:
    """The table that a recipe's ``origin`` (``NAME:ROW``) is a row of; None: of none that has figures."""
    recipe, _, own = origin.partition(":")
    rows = printed_rows(recipe)
    if not any(row.name == own and not row.quoted for row in rows):
        return None
    return PrintedTable(load_recipe(recipe).description, own, rows)


def _row(values: dict[str, str | float]) -> PrintedRow:
    quoted = "method" in values
    if "decoder" in values:
        name = f"{values['decoder']} {values['backbone']}"
    else:
        name = str(values["method" if quoted else "row"])
    figures = {key: float(value) for key, value in values.items() if not isinstance(value, str)}
    note = values.get("note")
    return PrintedRow(name, quoted, figures, None if note is None else str(note))
