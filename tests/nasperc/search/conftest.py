from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nasperc.search.recipe import Recipe, parse_recipe

PLUGIN = Path(__file__).with_name("toy_plugin.py")


@pytest.fixture
def console() -> Console:
    """Not a terminal; what was printed is in ``console.file.getvalue()``."""
    return Console(file=io.StringIO(), width=200)


@pytest.fixture
def toy_recipe() -> Callable[..., Recipe]:
    """A recipe of the toy space: keyword arguments go to its proxy task, ``search`` to the search section."""

    def make(search: dict[str, Any] | None = None, **proxy: Any) -> Recipe:
        document = {
            "seed": 3,
            "space": {"name": f"{PLUGIN}:ToySpace"},
            "controller": {"name": "random"},
            "proxy": {"name": f"{PLUGIN}:ToyProxy", **proxy},
            "search": {"budget": "24", "executor": "local", "early_stop_k": None, **(search or {})},
        }
        return parse_recipe(document, where="test")

    return make
