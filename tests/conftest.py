"""What holds for every test, and how tests are shared out to processes (``pytest -n 2``)."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import nasperc.cli.main

# More threads than cores make small tensors slower by an order of magnitude.
torch.set_num_threads(1)
# A shell starts what runs in the background with Ctrl-C ignored, and so would be the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
# A command typed in this process would change how it allocates for good, and tests that measure memory would depend on
# which ones ran before them. (tests/nasperc/training/test_freed_memory.py has the real one, in a process of its own.)
nasperc.cli.main.keep_freed_memory = lambda: False

ROOT = Path(__file__).parents[1]
# What the process of the faults reports to this one, of processes of pytest-xdist.
_REPORTS: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest in one process comes first."""
    items.sort(key=lambda item: not alone(item.path))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The tests of a file share fixtures and stay together, and so do all that start a Ray: one at a time is enough."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "alone" if alone(ROOT / file) else file

    return ByFile(config, log)


def alone(file: Path) -> bool:
    """Whether a file's tests start a Ray or kill processes; the latter are counted together, too."""
    return "pytest.mark.ray" in file.read_text() or file.parent.name == "faults"


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A process of pytest-xdist has ended."""
    _REPORTS.extend(getattr(node, "workeroutput", {}).get("faults", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the faults cost, where another process counted it."""
    for line in _REPORTS:
        terminalreporter.write_line(line)
