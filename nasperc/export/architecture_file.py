"""Architecture files: JSON with space, variant, tokens and hash, and the widths they were trained at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nasperc.errors import InputError
from nasperc.plain_files import read_json
from nasperc.plugins import load_component, require_registered
from nasperc.whole_files import write_whole
from search_spaces.base import WIDEST, Architecture, SearchSpace, parse_architecture

_REPAIR = "Write it anew with nasperc export architecture."


class ArchitectureFile(NamedTuple):
    """What an architecture file holds; ``widths`` None where it does not say."""

    space: SearchSpace
    architecture: Architecture
    widths: dict[str, int] | None


def write_architecture(
    path: Path, space: SearchSpace, architecture: Architecture, widths: Mapping[str, int] | None = None
) -> None:
    """Write an architecture; a file that is there already is replaced whole or not at all.

    Raises:
        InputError: the architecture is not one of the space, or the file cannot be written.
    """
    space.validate(architecture, where=str(path))
    values = space.to_dict(architecture)
    if widths is not None:
        values["widths"] = dict(widths)
    _write(path, _format(values))


def read_architecture(path: Path, space: SearchSpace | None = None) -> ArchitectureFile:
    """Read and validate an architecture file.

    Args:
        path: the file.
        space: the space that it must belong to; None: the registered space that the file names, in its
            variant.

    Raises:
        InputError: no readable JSON, a key missing or unknown, a wrong type, a token that is not allowed, a
            hash that does not fit, another space.
    """
    values = _read_object(path)
    widths = _checked_widths(values.pop("widths", None), path)
    if space is None:
        space = open_space(parse_architecture(values, where=str(path)))
    return ArchitectureFile(space, space.from_dict(values, where=str(path)), widths)


def open_space(architecture: Architecture) -> SearchSpace:
    """The registered space of an architecture, in its variant.

    Raises:
        InputError: no such space, or not in that variant.
    """
    require_registered("space", architecture.space, where="architecture")
    component = load_component("space", architecture.space)
    recipe = component.Recipe
    options = {"variant": architecture.variant} if "variant" in recipe.model_fields else {}
    try:
        space = component(recipe.model_validate(options))
    except ValueError as error:
        raise InputError(
            f"the variant must be one of the space {architecture.space}",
            value=repr(architecture.variant),
            where="architecture",
            repair=_REPAIR,
        ) from error
    assert isinstance(space, SearchSpace)
    return space


def _read_object(path: Path) -> dict[str, Any]:
    try:
        values = read_json(path)
    except OSError as error:
        raise InputError(
            "an architecture file must be readable",
            value=error.strerror,
            where=path,
            repair="Check the path.",
        ) from error
    except json.JSONDecodeError as error:
        raise InputError(
            "an architecture file must be well-formed JSON",
            value=error.msg,
            where=f"{path}, line {error.lineno}, column {error.colno}",
            repair=_REPAIR,
        ) from error
    except ValueError as error:
        raise InputError(
            "an architecture file must be JSON of plain values in UTF-8",
            value=error,
            where=path,
            repair=_REPAIR,
        ) from error
    if not isinstance(values, dict):
        raise InputError(
            "an architecture must be a JSON object", value=type(values).__name__, where=path, repair=_REPAIR
        )
    return values


def _checked_widths(widths: Any, path: Path) -> dict[str, int] | None:
    if widths is None:
        return None
    if not isinstance(widths, dict) or not all(
        type(width) is int and 0 < width <= WIDEST for width in widths.values()
    ):
        raise InputError(
            f"widths must be whole numbers from 1 to {WIDEST} by part",
            value=widths,
            where=f"{path}, key widths",
            repair='Expected for example {"fpn": 128, "head": 256}.',
        )
    return widths


def _format(values: Mapping[str, Any]) -> str:
    """Indented, but each token list on one line."""
    lines = []
    for key, value in values.items():
        if key == "parts":
            parts = ",\n".join(f"    {json.dumps(name)}: {json.dumps(part)}" for name, part in value.items())
            lines.append(f'  "parts": {{\n{parts}\n  }}')
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text, durable=True)
    except OSError as error:
        raise InputError(
            "an architecture file must be writable",
            value=error.strerror,
            where=path,
            repair="Check the folder and the space left on the disk.",
        ) from error
