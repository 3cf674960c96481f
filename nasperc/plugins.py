"""Finding components by name: search spaces, controllers, proxy tasks, tasks.

The built-in ones register through entry points, the door that a plugin package uses too. A class in a plain file is
named ``path/to/file.py:Class``. Such a file is a program: it is run where its user names it (on the command line, or
in the environment variable ``NASPERC_PLUGINS``), and not because a recipe, a ``top10.json`` or a checkpoint that
came from elsewhere names it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from nasperc.errors import InputError

KINDS = {
    "space": "nasperc.search_spaces",
    "controller": "nasperc.controllers",
    "proxy": "nasperc.proxy_tasks",
    "task": "nasperc.tasks",
}
# Plugin files that the user has named, like PATH.
NAMED = "NASPERC_PLUGINS"


def component_names(kind: str) -> list[str]:
    """Names registered for ``kind`` (of :data:`KINDS`), sorted."""
    return sorted({entry.name for entry in entry_points(group=KINDS[kind])})


def load_component(kind: str, name: str) -> type[Any]:
    """The class registered as ``name``, or the one that ``file.py:Class`` names.

    Raises:
        InputError: nothing is registered under that name, or the file or class cannot be loaded.
    """
    if is_plugin_file(name):
        return _checked(_load_from_file(kind, name), kind, name)
    for entry in entry_points(group=KINDS[kind]):
        if entry.name == name:
            try:
                component = entry.load()
            except Exception as error:
                raise InputError(
                    f"an installed {kind} must import without errors",
                    value=f"{type(error).__name__}: {error}",
                    where=f"entry point {name} = {entry.value}",
                    repair="Install the package that it comes from again.",
                ) from error
            return _checked(component, kind, name)
    known = ", ".join(component_names(kind)) or "none"
    raise InputError(
        f"a {kind} must be a registered name or file.py:Class",
        value=name,
        where=f"recipe key {kind}.name",
        repair=f"Known: {known}.",
    )


def name_plugins(sections: Mapping[str, Any]) -> None:
    """Take note of the plugin files in recipe sections that the user typed; processes started later know them too."""
    for _, name in _plugin_names(sections):
        files = dict.fromkeys((*_named_files(), _file_of(name)))
        os.environ[NAMED] = os.pathsep.join(map(str, files))


def require_named_plugins(document: Mapping[str, Any], *, where: str) -> None:
    """Check, before anything is loaded, that the plugin files in a recipe were named by the user.

    Raises:
        InputError: one was not.
    """
    for kind, name in _plugin_names(document):
        file = _file_of(name)
        if file not in _named_files():
            raise InputError(
                "a plugin file must be named by the user: it is a program, and a file from elsewhere may name any",
                value=name,
                where=f"{where}, {kind}.name",
                repair=f"If you trust that file, set {NAMED}={file} and type the command again.",
            )


def require_registered(kind: str, name: str, *, where: str) -> None:
    """Check that a name that stands in a file is no plugin file.

    Raises:
        InputError: it is one.
    """
    if is_plugin_file(name):
        raise InputError(
            f"the {kind} in a file must be a registered name",
            value=name,
            where=where,
            repair="Correct the file.",
        )


def is_plugin_file(name: str) -> bool:
    """Whether a component's name is that of a class in a plain file."""
    return ".py:" in name


def _plugin_names(sections: Mapping[str, Any]) -> list[tuple[str, str]]:
    given = [(kind, sections.get(kind)) for kind in KINDS]
    names = [(kind, section.get("name")) for kind, section in given if isinstance(section, Mapping)]
    return [(kind, name) for kind, name in names if isinstance(name, str) and is_plugin_file(name)]


def _file_of(name: str) -> Path:
    return Path(name.rpartition(":")[0]).resolve()


def _named_files() -> list[Path]:
    return [Path(file).resolve() for file in os.environ.get(NAMED, "").split(os.pathsep) if file]


def _checked(component: Any, kind: str, name: str) -> type[Any]:
    recipe = getattr(component, "Recipe", None)
    if not isinstance(component, type) or not isinstance(recipe, type) or not issubclass(recipe, BaseModel):
        raise InputError(
            f"a {kind} must be a class with a pydantic model Recipe",
            value=repr(component),
            where=name,
            repair="Derive it from the contract in base.py and give it a Recipe.",
        )
    return component


def _load_from_file(kind: str, name: str) -> type[Any]:
    file_name, _, class_name = name.rpartition(":")
    path = Path(file_name).resolve()
    where = f"recipe key {kind}.name"
    if not path.is_file():
        raise InputError("a plugin file must exist", value=path, where=where, repair="Check the path.")
    # A stable name, so that instances can travel between processes; two files of one name must not collide.
    module_name = f"nasperc_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    module = sys.modules.get(module_name)
    if module is None:
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[module_name]
            raise InputError(
                "a plugin file must import without errors",
                value=f"{type(error).__name__}: {error}",
                where=path,
                repair="Run it with python to see the whole traceback.",
            ) from error
    component = getattr(module, class_name, None)
    if not isinstance(component, type):
        raise InputError(
            "a plugin file must define the class", value=class_name, where=path, repair="Check the name."
        )
    return component
