from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from controllers.service.journal import Event
from nasperc.plugins import NAMED
from nasperc.recipe.reading import parse_recipe
from nasperc.recipe.root import Recipe
from nasperc.search.components import build_space
from search_spaces.base import SearchSpace

PLUGIN = Path(__file__).with_name("toy_plugin.py")


@pytest.fixture(autouse=True)
def _named_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the user had typed the name of the toy plugin."""
    monkeypatch.setenv(NAMED, str(PLUGIN))


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


@pytest.fixture
def toy_space(toy_recipe: Callable[..., Recipe]) -> SearchSpace:
    return build_space(toy_recipe())


@pytest.fixture
def make_event(toy_space: SearchSpace) -> Callable[..., Event]:
    """Hand-made journal events; candidate ``id`` has the tokens ``(0, 0, 0, 0, id)`` unless given others. ``time`` is a
    reading of both clocks."""
    zero = 0.0

    def make(kind: str, time: float = 0.0, stage: str | None = "body", **values: Any) -> Event:
        nonlocal zero
        defaults: dict[str, Any] = {}
        if kind in {"run_start", "run_resume"}:
            zero = time
        if kind == "run_start":
            defaults = {"plan": {"candidates": 10, "seconds": None}}
            defaults["stages"] = [{"name": stage.name} for stage in toy_space.stages()]
        if kind in {"run_start", "run_resume"}:
            defaults |= {"zero": zero, "boot": "this one", "session": "driver"}
        if kind == "stage_start":
            defaults = {"free": [stage]}
        if kind in {"proposal", "completion", "stop", "failure", "rejection"}:
            parts = values.pop("parts", {"body": (0, 0, 0, 0, values["id"]), "head": "original"})
            architecture = toy_space.architecture(parts)
            defaults = {
                "slot": 0,
                "architecture": architecture.to_dict(),
                "hash": toy_space.hash(architecture),
                "seed": 1,
                "widths": {"body": 8},
            }
        if kind in {"completion", "stop", "failure"}:
            cost = {"flops": 2e9}
            defaults |= {"halfway": 0.25, "metrics": {"val_loss": 0.5}, "cost": cost, "seconds": 36.0}
        if kind == "rejection":
            defaults |= {"reason": "flops over", "observed": None, "cost": {"flops": 9e9}, "seconds": 3.6}
        return {"event": kind, "time": time, "at": time - zero, "stage": stage, **defaults, **values}

    return make
