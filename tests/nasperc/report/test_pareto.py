from pathlib import Path
from typing import Any

from nasperc.report.pareto import pareto_panels, plot_pareto


def event(
    reward: float, stage: str = "fpn", kind: str = "completion", **cost: float | None
) -> dict[str, Any]:
    return {"event": kind, "stage": stage, "reward": reward, "halfway": reward, "cost": cost}


EVENTS = [
    event(-2.0, flops=3.0, params=5.0),
    event(-1.0, flops=4.0, params=None),
    event(-3.0, flops=3.5, params=4.0),
    event(-9.0, flops=1.0, kind="stop"),
    event(-5.0, stage="head", flops=1.0),
]


def test_a_panel_for_each_stage_and_each_cost_that_was_measured() -> None:
    panels = pareto_panels({"one": EVENTS, "none": []})
    assert panels == {
        ("fpn", "flops"): {
            "one": ([(3.0, -2.0), (4.0, -1.0), (3.5, -3.0)], [(4.0, -1.0), (3.0, -2.0)]),
        },
        ("fpn", "params"): {"one": ([(5.0, -2.0), (4.0, -3.0)], [(5.0, -2.0), (4.0, -3.0)])},
        ("head", "flops"): {"one": ([(1.0, -5.0)], [(1.0, -5.0)])},
    }


def test_the_plot(tmp_path: Path) -> None:
    # The second run adds a cost that the first does not have; of the head nobody has it.
    more = [event(-1.5, flops=2.0, latency_ms=7.0)]
    assert plot_pareto({"one": EVENTS, "two": more}, tmp_path / "pareto.png")
    assert (tmp_path / "pareto.png").read_bytes()[1:4] == b"PNG"


def test_without_costs_there_is_no_plot(tmp_path: Path) -> None:
    assert not plot_pareto({"one": [event(-1.0)]}, tmp_path / "pareto.png")
    assert not (tmp_path / "pareto.png").exists()
