"""The reward curve of one or more runs: summary numbers and a plot (Fig. 7.2 of the thesis)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from controllers.costs import objective
from nasperc.report.figure_file import save_figure
from nasperc.shown_text import for_plot

WINDOW = 30


@dataclass(frozen=True)
class RewardCurve:
    """Rewards of the completed candidates of one stage, in the order of their completion."""

    stage: str
    rewards: tuple[float, ...]
    seconds: tuple[float, ...]

    @property
    def first_mean(self) -> float:
        """Mean of the first :data:`WINDOW` rewards."""
        return float(np.mean(self.rewards[:WINDOW]))

    @property
    def last_mean(self) -> float:
        """Mean of the last :data:`WINDOW` rewards."""
        return float(np.mean(self.rewards[-WINDOW:]))

    @property
    def best(self) -> float:
        """The best reward."""
        return max(self.rewards)

    @property
    def mean_seconds(self) -> float:
        """Mean seconds a candidate."""
        return float(np.mean(self.seconds))


def reward_curves(events: Sequence[Mapping[str, Any]], metric: str | None = None) -> list[RewardCurve]:
    """One curve a stage, in the order of the stages, from a journal's events.

    Rewards as the controller saw them: less what a cost target takes off.

    Args:
        events: of a journal.
        metric: take this metric of the candidates instead of the reward (Fig. 7.9 shows AP under two rewards).

    Raises:
        KeyError: a candidate has no such metric.
    """
    stages: dict[str, tuple[list[float], list[float]]] = {}
    for event in events:
        if event["event"] == "completion":
            rewards, seconds = stages.setdefault(str(event["stage"]), ([], []))
            value = objective(event) if metric is None else event["metrics"][metric]
            if value is None:
                raise KeyError(metric)
            rewards.append(float(value))
            seconds.append(float(event["seconds"]))
    return [
        RewardCurve(stage, tuple(rewards), tuple(seconds)) for stage, (rewards, seconds) in stages.items()
    ]


def moving_average(values: Sequence[float], window: int = WINDOW) -> np.ndarray:
    """Mean of the last ``window`` values at each position (fewer at the start)."""
    total = np.cumsum(np.asarray(values, dtype=float))
    total[window:] = total[window:] - total[:-window]
    return total / np.minimum(np.arange(1, len(values) + 1), window)


def plot_reward_curves(runs: Mapping[str, Sequence[RewardCurve]], path: Path, label: str = "reward") -> None:
    """One panel a stage; each run's rewards as dots, its moving average as a line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    stages = list(dict.fromkeys(curve.stage for curves in runs.values() for curve in curves))
    figure, axes = pyplot.subplots(1, len(stages), figsize=(6 * len(stages), 4), squeeze=False)
    for axis, stage in zip(axes[0], stages, strict=True):
        for number, (run, curves) in enumerate(runs.items()):
            for curve in curves:
                if curve.stage == stage:
                    axis.plot(curve.rewards, ".", color=f"C{number}", alpha=0.35, markersize=4)
                    axis.plot(moving_average(curve.rewards), color=f"C{number}", label=for_plot(run))
        # A few candidates that learned nothing would flatten everything else.
        lowest, highest = np.percentile(
            [r for cs in runs.values() for c in cs if c.stage == stage for r in c.rewards], [2, 100]
        )
        margin = 0.05 * (highest - lowest) or 0.1
        axis.set_ylim(lowest - margin, highest + margin)
        axis.set(title=for_plot(f"stage {stage}"), xlabel="completed candidates", ylabel=for_plot(label))
        axis.grid(alpha=0.3)
        # Good rewards come late: the upper left is where the fewest dots are.
        axis.legend(title=f"mean of the last {WINDOW}", loc="upper left", framealpha=0.6)
    figure.tight_layout()
    save_figure(figure, path)
    pyplot.close(figure)
