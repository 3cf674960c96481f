"""``nasperc report``: the reward curves of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from controllers.journal import Journal
from nasperc.cli.console import console
from nasperc.cli.latest import existing_run, latest_top10
from nasperc.errors import InputError
from nasperc.report.reward_curve import WINDOW, plot_reward_curves, reward_curves


def report(
    runs: Annotated[list[Path] | None, typer.Argument(help="Runs to compare; the latest by default.")] = None,
    out: Annotated[Path, typer.Option(help="The plot.")] = Path("reward_curve.png"),
) -> None:
    """Means of first and last rewards, the best, seconds a candidate; and a plot (Fig. 7.2)."""
    folders = [existing_run(run) for run in runs or [latest_top10().parent]]
    curves = {run.path.name: reward_curves(Journal.read(run.journal)) for run in folders}
    if not any(curves.values()):
        raise InputError(
            "a report needs completed candidates",
            value="none yet",
            where=", ".join(str(run.path) for run in folders),
            repair="Go on with the search: nasperc search --resume RUN",
        )
    table = Table("run", "stage", "completed", f"first {WINDOW}", f"last {WINDOW}", "best", "s / candidate")
    for name, stages in curves.items():
        for curve in stages:
            numbers = (curve.first_mean, curve.last_mean, curve.best)
            table.add_row(
                name,
                curve.stage,
                str(len(curve.rewards)),
                *(f"{number:.4f}" for number in numbers),
                f"{curve.mean_seconds:.1f}",
            )
    console.print(table)
    plot_reward_curves(curves, out)
    console.print(f"{out} written", markup=False)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(report)
