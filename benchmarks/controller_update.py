"""What a controller costs: ``python benchmarks/controller_update.py [--candidates N]``.

Every registered controller at its defaults, and the one of the recipe ``paper``, proposes architectures of
``fcos_decoder`` (FPN and head together, 42 decisions) and observes random rewards. Times are CPU seconds of the
process, on one thread, of ``propose`` and ``observe`` over all candidates, divided by their number: updates that
come every few candidates are spread over them. ``slowest`` is a single candidate; ``ratio`` is to random search.

Bound: 50 ms a candidate. (What the controllers find is told by ``benchmarks/controllers.py``.)
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    # The script's own folder would hide the package `controllers`; the one above shows all.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from nasperc.errors import InputError
from nasperc.plugins import component_names, load_component
from nasperc.recipe.reading import load_recipe
from search_spaces.base import TokenSpace

BOUND_MS = 50.0
BASELINE = "random"


class Row(NamedTuple):
    """A controller and its settings, as a recipe has them."""

    name: str
    controller: str
    options: dict[str, Any]


def rows(names: list[str], recipes: list[str]) -> Iterator[Row]:
    """Controllers at their defaults, then those of recipes; random search comes first."""
    for name in sorted({BASELINE, *names}, key=lambda name: (name != BASELINE, name)):
        yield Row(name, name, {})
    for recipe in recipes:
        section = load_recipe(recipe).controller
        yield Row(f"{section.name} of {recipe}", section.name, section.options)


def token_space() -> TokenSpace:
    """All decisions of ``fcos_decoder``."""
    component = load_component("space", "fcos_decoder")
    space = component(component.Recipe(mode="joint"))
    return TokenSpace(space, space.stages()[0])


def measure(row: Row, tokens: TokenSpace, candidates: int, seed: int = 0) -> list[float]:
    """CPU milliseconds of each candidate.

    Raises:
        InputError: the controller's library is not installed.
    """
    component = load_component("controller", row.controller)
    controller = component(tokens, component.Recipe.model_validate(row.options), seed)
    rewards = np.random.default_rng(seed).normal(size=candidates).tolist()
    times = []
    for reward in rewards:
        start = time.process_time()
        controller.observe(controller.propose().id, reward)
        times.append((time.process_time() - start) * 1e3)
    return times


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--controllers", nargs="+", default=component_names("controller"))
    parser.add_argument("--recipes", nargs="*", default=["paper"], help="whose controllers are measured too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokens = token_space()
    title = f"{arguments.candidates} candidates of {len(tokens.decisions)} decisions"
    table = Table("controller", title=title)
    for column in ("ms a candidate", "slowest ms", "ratio", f"bound {BOUND_MS:g} ms"):
        table.add_column(column, justify="right")
    baseline, over = 0.0, []
    for row in rows(arguments.controllers, arguments.recipes):
        try:
            times = measure(row, tokens, arguments.candidates)
        except InputError as error:
            print(f"{row.name} is left out: {error}")
            continue
        mean = statistics.mean(times)
        baseline = baseline or mean
        if mean > BOUND_MS:
            over.append(row.name)
        held = "missed" if mean > BOUND_MS else "held"
        table.add_row(row.name, f"{mean:.2f}", f"{max(times):.1f}", f"{mean / baseline:.1f}", held)
    Console(width=100).print(table)
    print(f"bound {BOUND_MS:g} ms a candidate: {'missed by ' + ', '.join(over) if over else 'held by all'}")


if __name__ == "__main__":
    main()
