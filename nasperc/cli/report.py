"""``nasperc report``: the reward curves of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from controllers.service.journal import Event, Journal
from nasperc.cli.console import console
from nasperc.cli.latest import existing_run, latest_top10
from nasperc.errors import InputError
from nasperc.report.pareto import plot_pareto
from nasperc.report.reward_curve import WINDOW, plot_reward_curves, reward_curves
from nasperc.report.sampling import plot_sampling, sampling_proportions
from nasperc.report.search_metrics import metric_curves, plot_metric_curves
from nasperc.report.weight_sharing import fully_shared, plot_weight_sharing
from nasperc.search.components import build_space
from nasperc.search.run_folder import RunFolder
from nasperc.shown_text import printable
from search_spaces.base import SearchSpace


def report(
    runs: Annotated[list[Path] | None, typer.Argument(help="Runs to compare; the latest by default.")] = None,
    out: Annotated[Path, typer.Option(help="The plot.")] = Path("reward_curve.png"),
    metric: Annotated[
        str | None, typer.Option(help="A metric of the candidates instead of their reward, such as ap.")
    ] = None,
) -> None:
    """Means of first and last rewards, the best, seconds a candidate; plots of Fig. 7.2 and 7.5, of the rewards
    against costs and, in each run's folder, of what it sampled (Fig. 6.4) and of its metrics (Fig. 6.3)."""
    folders = [existing_run(run) for run in runs or [latest_top10().parent]]
    events = {run.path.name: Journal.read(run.journal) for run in folders}
    try:
        curves = {name: reward_curves(journal, metric) for name, journal in events.items()}
    except KeyError as error:
        raise InputError(
            "a metric must have been measured for every candidate",
            value=metric,
            where="--metric",
            repair="Search with --set proxy.measure_ap=true to have ap.",
        ) from error
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
                printable(name),
                printable(curve.stage),
                str(len(curve.rewards)),
                *(f"{number:.4f}" for number in numbers),
                f"{curve.mean_seconds:.1f}",
            )
    console.print(table)
    plot_reward_curves(curves, out, metric or "reward")
    console.print(f"{out} written", markup=False)
    path = out.with_name("pareto.png")
    if plot_pareto(events, path):
        console.print(f"{path} written", markup=False)
    spaces = {run.path.name: build_space(run.read_recipe()) for run in folders}
    sharing = {name: fully_shared(journal, spaces[name]) for name, journal in events.items()}
    if any(len(proportions) > 1 for proportions in sharing.values()):
        path = out.with_name("weight_sharing.png")
        plot_weight_sharing(sharing, path)
        console.print(f"{path} written", markup=False)
    for run in folders:
        _analyse(run, events[run.path.name], spaces[run.path.name])


def _analyse(run: RunFolder, events: Sequence[Event], space: SearchSpace) -> None:
    """Plots of one run alone, into its folder."""
    metrics = metric_curves(events)
    if metrics:
        path = run.path / "search_metrics.png"
        plot_metric_curves(metrics, path)
        console.print(f"{path} written", markup=False)
    panels = sampling_proportions(events, space)
    if panels:
        path = run.path / "sampling.png"
        plot_sampling(panels, path)
        console.print(f"{path} written", markup=False)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(report)
