"""Lets the tests of this folder share what they inject and count; the counts are printed at the end."""

from __future__ import annotations

import io
import os
import random
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent))

from tally import Tally

from nasperc.search.recipe import parse_recipe
from nasperc.search.run import run_search

SEED = int(os.environ.get("NASPERC_FAULTS_SEED", "0"))
_TALLY = Tally()

MakeUndisturbed = Callable[[Mapping[str, Any]], Path]


@pytest.fixture
def tally() -> Tally:
    return _TALLY


@pytest.fixture
def moments(request: pytest.FixtureRequest) -> random.Random:
    """Random moments, others for each test."""
    return random.Random(f"{SEED} {request.node.name}")


@pytest.fixture
def undisturbed(tmp_path: Path) -> MakeUndisturbed:
    """Runs a recipe with one worker in this process, from begin to end; its folder."""

    def run(document: Mapping[str, Any]) -> Path:
        search = {**document["search"], "executor": "local"}
        # What takes time makes no difference to what is found.
        proxy = {
            **document["proxy"],
            "seconds": 0.0,
            "held": [],
            "notes": str(tmp_path / "undisturbed.jsonl"),
        }
        recipe = parse_recipe({**document, "search": search, "proxy": proxy}, where="test")
        folder = tmp_path / "undisturbed" / "run"
        run_search(recipe, folder, console=Console(file=io.StringIO()))
        return folder

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _TALLY.injected:
        terminalreporter.section(f"faults (seed {SEED})")
        for line in _TALLY.lines():
            terminalreporter.write_line(line)
