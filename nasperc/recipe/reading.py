"""How a recipe is read: YAML with ``base:`` and ``rows:``, what was typed on top."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from nasperc.errors import InputError, shown
from nasperc.plain_files import read_bounded
from nasperc.plain_yaml import MOST_YAML_BYTES, parse_yaml
from nasperc.plugins import KINDS, load_component, name_plugins, require_named_plugins
from nasperc.recipe.root import ComponentSection, Recipe

SUFFIXES = {".yaml", ".yml"}


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(
        file.name.removesuffix(".yaml")
        for file in resources.files("experiments").iterdir()
        if file.name.endswith(".yaml")
    )


def load_recipe(
    name: str, overrides: Sequence[Mapping[str, Any]] = (), settings: Sequence[str] = ()
) -> Recipe:
    """Read a recipe by package name or file, ``NAME:ROW`` for one of its rows, and apply what was typed.

    Args:
        name: ``demo``, ``my/recipe.yaml``, ``table_7_4:head``.
        overrides: nested dicts, later ones win.
        settings: ``key.sub=value`` strings (``--set``), values in YAML; they win over all.

    Raises:
        InputError: unknown recipe, row or key; ill-typed value; broken YAML.
    """
    typed = [*overrides, *map(parse_setting, settings)]
    for override in typed:
        name_plugins(override)
    document = _document(name)
    require_named_plugins(document, where=f"recipe {name}")
    for override in typed:
        document = merge(document, override)
    return parse_recipe(document, where=f"recipe {name}")


def parse_recipe(document: Mapping[str, Any], *, where: str) -> Recipe:
    """Validate a whole recipe, the components' sections too, with their defaults filled in.

    Raises:
        InputError: see :func:`load_recipe`.
    """
    try:
        recipe = Recipe.model_validate(document)
    except ValidationError as error:
        raise _input_error(error, Recipe, where) from error
    resolved: dict[str, ComponentSection] = {}
    for kind in KINDS:
        section: ComponentSection | None = getattr(recipe, kind)
        if section is None:
            continue
        try:
            model = load_component(kind, section.name).Recipe
        except InputError as error:
            raise InputError(
                error.rule, value=error.value, where=f"{error.where}, {where}", repair=error.repair
            ) from error
        try:
            options = model.model_validate(section.options)
        except ValidationError as error:
            raise _input_error(error, model, where, prefix=f"{kind}.") from error
        resolved[kind] = ComponentSection(name=section.name, **options.model_dump(mode="json"))
    recipe.search.check_costs(recipe.proxy.name, where)
    recipe.model.head_preset()
    return recipe.model_copy(update=resolved)


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """``override`` laid over ``base``; nested dicts are merged, everything else is replaced.

    A component section with another ``name`` replaces the section: its keys belong to the other component.
    """
    merged = dict(base)
    for key, value in override.items():
        old = merged.get(key)
        other_component = (
            isinstance(value, Mapping)
            and "name" in value
            and isinstance(old, Mapping)
            and old.get("name", value["name"]) != value["name"]
        )
        if isinstance(value, Mapping) and isinstance(old, Mapping) and not other_component:
            merged[key] = merge(old, value)
        else:
            merged[key] = dict(value) if isinstance(value, Mapping) else value
    return merged


def _document(name: str, chain: tuple[str, ...] = ()) -> dict[str, Any]:
    """The merged plain values of a recipe and its bases. ``origin`` is the first that comes with the package."""
    if name in chain:
        raise InputError(
            "the bases of a recipe must not form a circle",
            value=" -> ".join((*chain, name)),
            where=name,
            repair="Remove one of the base: lines.",
        )
    file_name, _, row = name.partition(":")
    text, where = _read(file_name)
    try:
        document = parse_yaml(text)
    except ValueError as error:
        raise InputError(
            "a recipe must be YAML of plain values",
            value=error,
            where=where,
            repair="Correct the file at that line.",
        ) from error
    document = {} if document is None else document
    if not isinstance(document, dict):
        raise InputError(
            "a recipe must be a YAML mapping",
            value=type(document).__name__,
            where=where,
            repair="Write sections such as data:, search:, proxy:.",
        )
    rows = document.pop("rows", {})
    if not isinstance(rows, dict) or not all(isinstance(value, dict | None) for value in rows.values()):
        raise InputError(
            "the rows of a recipe must be mappings by name",
            value=type(rows).__name__,
            where=where,
            repair="Write rows: {name: {section: ...}}.",
        )
    base = document.pop("base", None)
    if base is not None:
        base = str(base)
        if Path(base).suffix in SUFFIXES:
            # Beside the file that names it, wherever the command is typed.
            base = str(Path(file_name).parent / base)
        document = merge(_document(base, (*chain, name)), document)
    if row:
        if row not in rows:
            raise InputError(
                "a row must be one of the recipe's",
                value=row,
                where=where,
                repair=f"Rows: {', '.join(rows) or 'none'}.",
            )
        document = merge(document, rows[row] or {})
    if Path(file_name).suffix not in SUFFIXES:
        document["origin"] = name
    return document


def _read(name: str) -> tuple[str, str]:
    path = Path(name)
    if path.suffix in SUFFIXES:
        try:
            return read_bounded(path, MOST_YAML_BYTES).decode(), str(path)
        except (OSError, ValueError) as error:
            raise InputError(
                "a recipe file must be readable text", value=error, where=path, repair="Check the path."
            ) from error
    # Among the names, not as a path: a base: in a file may be ../anything, or longer than any name.
    if name not in recipe_names():
        raise InputError(
            "a recipe must be a package recipe or a .yaml file",
            value=name,
            where="--recipe",
            repair=f"Package recipes: {', '.join(recipe_names())}.",
        )
    packaged = resources.files("experiments") / f"{name}.yaml"
    return packaged.read_text(encoding="utf-8"), f"package recipe {name}"


def parse_setting(setting: str) -> dict[str, Any]:
    key, separator, text = setting.partition("=")
    if not separator or not key:
        raise InputError(
            "a setting must be key=value",
            value=setting,
            where="--set",
            repair="For example --set proxy.iterations=100.",
        )
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise InputError(
            "the value of a setting must be YAML", value=text, where=f"--set {key}", repair="Quote it."
        ) from error
    nested: Any = value
    for part in reversed(key.split(".")):
        nested = {part: nested}
    assert isinstance(nested, dict)
    return nested


def _input_error(error: ValidationError, model: type[BaseModel], where: str, prefix: str = "") -> InputError:
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    key = prefix + ".".join(location)
    if first["type"] != "extra_forbidden":
        return InputError(
            f"recipe key {key} is not valid: {first['msg']}",
            value=shown(first["input"]),
            where=where,
            repair="Correct the value.",
        )
    known = _keys(model, location[:-1])
    close = difflib.get_close_matches(location[-1], known, n=1)
    repair = f"Did you mean {close[0]}?" if close else f"Known keys here: {', '.join(known)}."
    return InputError("a recipe key must be known", value=key, where=where, repair=repair)


def _keys(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Keys of the (nested) recipe model at ``path``."""
    for part in path:
        field = model.model_fields.get(part)
        if field is None or not (
            isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        ):
            return []
        model = field.annotation
    return list(model.model_fields)
