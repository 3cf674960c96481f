"""What of a recipe the journal of a run holds: all that says what is searched, nothing that a resumption may change.

Where files lie may change, what they hold is the fingerprints' concern: so of a path it is kept only that there is one,
of a plugin's name the file's own name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from nasperc.plugins import KINDS, load_component
from nasperc.recipe.reading import parse_recipe
from nasperc.recipe.root import Recipe

EXECUTION = ("workers", "gpus_per_worker", "executor", "ray_address", "dashboard", "dashboard_host", "top")
# Where candidates fail of them, a resumed run may have others.
LIMITS = ("candidate_time_limit_s", "worker_memory_gib")
_A_PATH = "(a path)"


def recorded_recipe(recipe: Recipe | Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved recipe that a run keeps from its begin to its end, as plain values of JSON.

    Raises:
        InputError: it is no recipe.
    """
    if not isinstance(recipe, Recipe):
        recipe = parse_recipe(recipe, where="the resolved recipe")
    recorded: dict[str, Any] = _plain(recipe)
    for kind in KINDS:
        section = getattr(recipe, kind)
        if section is None:
            continue
        file, colon, name = section.name.rpartition(":")
        options = load_component(kind, section.name).Recipe.model_validate(section.options)
        recorded[kind] = {"name": f"{Path(file).name}{colon}{name}", **_plain(options)}
    for key in (*EXECUTION, *LIMITS):
        del recorded["search"][key]
    return recorded


def _plain(model: BaseModel) -> dict[str, Any]:
    kept: dict[str, Any] = _without_paths(model, model.model_dump(mode="json"))
    return kept


def _without_paths(value: Any, dumped: Any) -> Any:
    """``dumped``, the plain values of ``value``, without where its paths lead."""
    if isinstance(value, Path):
        return _A_PATH
    if isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, Mapping) and isinstance(dumped, Mapping):
        pairs = [(key, value.get(key, plain), plain) for key, plain in dumped.items()]
        return {key: _without_paths(item, plain) for key, item, plain in pairs}
    if isinstance(value, list | tuple) and isinstance(dumped, list) and len(value) == len(dumped):
        items = zip(value, dumped, strict=True)
        return [_without_paths(item, plain) for item, plain in items]
    # JSON has no such number.
    return str(dumped) if isinstance(dumped, float) and not math.isfinite(dumped) else dumped
