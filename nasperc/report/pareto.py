"""Rewards of a search against what the architectures cost, and the front that nobody beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from controllers.costs import COSTS, CostName
from nasperc.report.figure_file import save_figure
from nasperc.search.pareto import ParetoFronts
from nasperc.shown_text import for_plot

LABELS: dict[CostName, str] = {
    "flops": "MACs",
    "params": "parameters",
    "latency_ms": "latency in ms, one thread or GPU",
}

# Of one panel: for each run its completed candidates and its front, both as (cost, reward).
Points = list[tuple[float, float]]
Panel = dict[str, tuple[Points, Points]]


def pareto_panels(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[tuple[str, CostName], Panel]:
    """A panel for each stage and each cost that was measured in it.

    Args:
        runs: events of a journal, by the run's name.
    """
    panels: dict[tuple[str, CostName], Panel] = {}
    for run, events in runs.items():
        fronts = ParetoFronts()
        for event in events:
            fronts.apply(dict(event))
        for (stage, cost), front in fronts.fronts().items():
            candidates = [
                (event["cost"][cost], event["reward"])
                for event in events
                if event["event"] == "completion"
                and event["stage"] == stage
                and event["cost"].get(cost) is not None
            ]
            points = [(event["cost"][cost], event["reward"]) for event in front]
            panels.setdefault((stage, cost), {})[run] = (candidates, points)
    return panels


def plot_pareto(runs: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> bool:
    """A row a stage, a column a cost; each run's candidates as dots, its front as steps.

    Args:
        runs: events of a journal, by the run's name.
        path: of the plot.

    Returns:
        False, and no plot, where no cost was measured.
    """
    panels = pareto_panels(runs)
    if not panels:
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import EngFormatter

    stages = list(dict.fromkeys(stage for stage, _ in panels))
    costs = [cost for cost in COSTS if any(cost == each for _, each in panels)]
    size = (5.5 * len(costs), 4 * len(stages))
    figure, axes = pyplot.subplots(len(stages), len(costs), figsize=size, squeeze=False, layout="constrained")
    for row, stage in enumerate(stages):
        for column, cost in enumerate(costs):
            axis = axes[row][column]
            for number, (run, (candidates, front)) in enumerate(panels.get((stage, cost), {}).items()):
                axis.plot(*zip(*candidates, strict=True), ".", color=f"C{number}", alpha=0.35, markersize=4)
                # From the cheapest on: what reward a cost buys at most.
                axis.step(
                    *zip(*reversed(front), strict=True),
                    "o-",
                    color=f"C{number}",
                    where="post",
                    label=for_plot(run),
                )
            axis.set(title=for_plot(f"stage {stage}"), xlabel=LABELS[cost], ylabel="reward")
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))
            axis.grid(alpha=0.3)
            if axis.lines:
                axis.legend(title="Pareto front", loc="lower right", framealpha=0.6)
    save_figure(figure, path)
    pyplot.close(figure)
    return True
