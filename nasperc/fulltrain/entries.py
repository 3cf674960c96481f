"""Which entries of ``top10.json`` are trained, at which widths, by which recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nasperc.errors import InputError
from nasperc.recipe.reading import merge, parse_recipe
from nasperc.recipe.reading import parse_setting as parse_setting
from nasperc.recipe.root import Recipe
from nasperc.search.run_folder import resolve_paths
from nasperc.search.top10 import Top10Entry, Top10File


def select(entries: Sequence[Top10Entry], top: int | None) -> tuple[Top10Entry, ...]:
    """The first ``top`` entries by rank; None: all.

    Raises:
        InputError: ``top`` is not positive, or larger than what there is.
    """
    if top is not None and not 1 <= top <= len(entries):
        raise InputError(
            f"--top must lie between 1 and the number of entries, {len(entries)}",
            value=top,
            where="--top",
            repair="Choose fewer, or search longer.",
        )
    return tuple(entries[:top])


def parse_width(text: str, parts: Sequence[str]) -> dict[str, int]:
    """``128``: every part's width; ``128-256``: one for each of ``parts``, in order (FPN, head).

    Raises:
        InputError: anything else, or a width that is not a positive multiple of 32.
    """
    fields = text.split("-")
    widths = [int(field) for field in fields if field.isascii() and field.isdigit()]
    fits = len(widths) == len(fields) and len(fields) in {1, len(parts)}
    if not fits or any(width < 32 or width % 32 for width in widths):
        raise InputError(
            f"a width must be a multiple of 32, or one for each of {', '.join(parts)} joined by '-'",
            value=repr(text),
            where="--width",
            repair="For example --width 128 or --width 128-256.",
        )
    return dict(zip(parts, widths * len(parts) if len(widths) == 1 else widths, strict=True))


def training_recipe(
    top10: Top10File, overrides: Sequence[Mapping[str, Any]] = (), settings: Sequence[str] = ()
) -> Recipe:
    """The recipe of the search with what was typed laid over it.

    Args:
        top10: the file whose recipe it is.
        overrides: nested dicts, later ones win.
        settings: ``key.sub=value`` strings (``--set``); they win over all.

    Raises:
        InputError: an unknown key or an ill-typed value; another space than that of the entries.
    """
    document: Mapping[str, Any] = top10.recipe.to_dict()
    for override in [*overrides, *map(parse_setting, settings)]:
        document = merge(document, override)
    recipe = resolve_paths(parse_recipe(document, where=f"recipe of {top10.path} and the command line"))
    if recipe.space != top10.recipe.space:
        raise InputError(
            "the space of full training must be that of the search",
            value=recipe.space.name,
            where="recipe section space",
            repair="Leave the section out.",
        )
    return recipe
