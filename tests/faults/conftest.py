"""Lets the tests of this folder share what they inject and count; the counts are printed at the end."""

from __future__ import annotations

import io
import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1] / "nasperc"))
sys.path.insert(0, str(Path(__file__).parent))
# The small run folder of the tests of full training.
sys.path.append(str(Path(__file__).parents[1] / "nasperc"))
# As in nasperc.search.ray_start: at niceness 15 a worker beside other load hardly runs.
os.environ.setdefault("RAY_worker_niceness", "0")

from command import PLUGIN, SPACE
from tally import Tally

from nasperc.plugins import NAMED
from nasperc.recipe.reading import parse_recipe
from nasperc.search.run import run_search

# Resuming is not typing their names: see nasperc.plugins.
os.environ[NAMED] = os.pathsep.join((str(PLUGIN), str(SPACE)))
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


@pytest.fixture(scope="package")
def head() -> Iterator[Cluster]:
    """A Ray with room for one slot: a driver that comes and goes need not start one. Begun again where Ray finds this
    machine too busy."""
    arguments = {"num_cpus": 1, "include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
    for attempt in range(5):
        try:
            found = Cluster(initialize_head=True, head_node_args=arguments)
            break
        # A bare Exception is what Ray raises.
        except Exception as error:
            if attempt == 4 or "timed out during startup" not in str(error):
                raise
    yield found
    found.shutdown()


def pytest_sessionfinish(session: pytest.Session) -> None:
    # A process of pytest-xdist has no screen: tests/conftest.py prints it.
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["faults"] = _report()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in _report():
        terminalreporter.write_line(line)


def _report() -> list[str]:
    return [f"faults (seed {SEED})", *_TALLY.lines()] if _TALLY.injected or _TALLY.damage else []
