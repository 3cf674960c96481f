"""What a search for segmentation networks reaches on meta-val, over its candidates (thesis Fig. 6.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nasperc.report.figure_file import save_figure
from nasperc.report.reward_curve import WINDOW, moving_average
from nasperc.shown_text import for_plot

# Of these the reward is the geometric mean.
METRICS = {"miou": "mIoU", "fwiou": "fwIoU", "macc": "mAcc"}
REWARD = "reward"

# By name, in the order of completion.
Curves = dict[str, list[float]]


def metric_curves(events: Sequence[Mapping[str, Any]]) -> dict[str, Curves]:
    """Reward and metrics of the completed candidates of each stage; empty where the proxy task has others.

    Args:
        events: of a journal.
    """
    stages: dict[str, Curves] = {}
    for event in events:
        if event["event"] != "completion":
            continue
        values = [event["metrics"].get(name) for name in METRICS]
        if any(value is None for value in values):
            return {}
        curves = stages.setdefault(event["stage"], {name: [] for name in (*METRICS.values(), REWARD)})
        for name, value in zip(curves, (*values, event["reward"]), strict=True):
            curves[name].append(float(value))
    return stages


def plot_metric_curves(stages: Mapping[str, Curves], path: Path) -> None:
    """A panel a stage: moving averages as lines, each with its last value; single rewards as dots."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(stages), figsize=(6.5 * len(stages), 4.2), squeeze=False, layout="constrained"
    )
    for axis, (stage, curves) in zip(axes[0], stages.items(), strict=True):
        for number, (name, values) in enumerate(curves.items()):
            average, candidates = moving_average(values), range(1, len(values) + 1)
            style = {"color": f"C{number}", "linewidth": 2.5 if name == REWARD else 1.5}
            axis.plot(candidates, average, label=for_plot(f"{name}  {average[-1]:.3f}"), **style)
            if name == REWARD:
                axis.plot(candidates, values, ".", color=f"C{number}", alpha=0.3, markersize=4)
        axis.set(
            title=for_plot(f"stage {stage}"),
            xlabel="completed candidates",
            ylabel=f"mean of the last {WINDOW}",
        )
        axis.grid(alpha=0.3)
        axis.legend(title="the last value", loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    save_figure(figure, path)
    pyplot.close(figure)
