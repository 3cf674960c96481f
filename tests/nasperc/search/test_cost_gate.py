"""What a worker counts and times before it trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from controllers.base import Candidate
from controllers.costs import CostLimits, CostTarget
from nasperc.evaluation.latency import Latency
from nasperc.recipe.root import Recipe
from nasperc.search.components import build_proxy, build_space
from nasperc.search.cost_gate import CostGate
from proxy_tasks.base import ProxyTask
from search_spaces.base import Architecture


class Calls(list[str]):
    """Of which method of the proxy task, in their order."""


@pytest.fixture
def proxy(tmp_path: Path, toy_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch) -> ProxyTask:
    """The toy task, with what it was asked in ``calls``: 7e6 MACs, 1e3 parameters, 16 ms."""
    recipe = toy_recipe(knows_latency=True)
    proxy = build_proxy(recipe, build_space(recipe), tmp_path)
    cost, latency = proxy.cost, proxy.latency
    proxy.calls = Calls()  # type: ignore[attr-defined]

    def noting_cost(candidate: Candidate) -> Mapping[str, float]:
        proxy.calls.append("cost")  # type: ignore[attr-defined]
        return cost(candidate)

    def noting_latency(architecture: Architecture, widths: Mapping[str, int]) -> Latency | None:
        proxy.calls.append("latency")  # type: ignore[attr-defined]
        return latency(architecture, widths)

    monkeypatch.setattr(proxy, "cost", noting_cost)
    monkeypatch.setattr(proxy, "latency", noting_latency)
    return proxy


def make_candidate(latency_ms: float | None = None) -> Candidate:
    architecture = Architecture("toy", 1, "plain", {"body": (1, 2, 0, 0, 3), "head": "original"})
    return Candidate(0, "body", architecture, {"body": 16}, "hash", 1, latency_ms=latency_ms)


@pytest.mark.parametrize(
    ("limits", "target", "calls", "cost", "reason"),
    [
        ({}, None, [], {}, None),
        ({}, "flops", [], {}, None),
        ({"flops": 7e6}, None, ["cost"], {"flops": 7e6, "params": 1e3}, None),
        ({"flops": 6e6}, None, ["cost"], {"flops": 7e6, "params": 1e3}, "flops 7e+06 exceed"),
        # Nobody waits for a latency that decides nothing.
        (
            {"params": 10, "latency_ms": 1},
            None,
            ["cost"],
            {"flops": 7e6, "params": 1e3},
            "params 1000 exceed",
        ),
        ({"latency_ms": 15}, None, ["latency"], {"latency_ms": 16.0}, "latency_ms 16 exceed the limit of 15"),
        ({}, "latency_ms", ["latency"], {"latency_ms": 16.0}, None),
        ({"params": 1e3, "latency_ms": 16}, None, ["cost", "latency"], None, None),
    ],
)
def test_only_what_is_asked_for_is_measured(
    proxy: ProxyTask,
    limits: dict[str, float],
    target: str | None,
    calls: list[str],
    cost: dict[str, float] | None,
    reason: str | None,
) -> None:
    terms = CostTarget.model_validate({"cost": target, "weight": 1, "target": 1}) if target else None
    gate = CostGate(proxy, CostLimits(**limits), terms)
    result = gate.reject(make_candidate())
    assert proxy.calls == calls  # type: ignore[attr-defined]
    assert cost is None or gate.cost == cost
    if reason is None:
        assert result is None
    else:
        assert result is not None
        assert result.status == "rejected"
        assert result.reason is not None
        assert result.reason.startswith(reason)
        assert result.cost == gate.cost


def test_a_latency_is_never_measured_twice(proxy: ProxyTask) -> None:
    gate = CostGate(proxy, CostLimits(latency_ms=20), None)
    assert gate.reject(make_candidate(latency_ms=19.5)) is None
    assert gate.cost == {"latency_ms": 19.5}
    rejection = gate.reject(make_candidate(latency_ms=20.5))
    assert rejection is not None
    assert rejection.cost == {"latency_ms": 20.5}
    assert proxy.calls == []  # type: ignore[attr-defined]


def test_a_task_that_does_not_tell_its_cost_is_at_fault(
    proxy: ProxyTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy, "latency", lambda architecture, widths: None)
    with pytest.raises(RuntimeError, match="must tell latency_ms"):
        CostGate(proxy, CostLimits(latency_ms=20), None).reject(make_candidate())
    monkeypatch.setattr(proxy, "cost", lambda candidate: {"flops": math.nan})
    for limits in (CostLimits(flops=1), CostLimits(params=1)):
        with pytest.raises(RuntimeError, match="must tell"):
            CostGate(proxy, limits, None).reject(make_candidate())


@pytest.mark.parametrize(("share", "said"), [(0.95, False), (0.4, True), (None, False)])
def test_a_latency_of_a_busy_machine_is_rejected_by_saying_so(
    tmp_path: Path, toy_recipe: Callable[..., Recipe], share: float | None, said: bool
) -> None:
    recipe = toy_recipe(knows_latency=True, core_share=share)
    proxy = build_proxy(recipe, build_space(recipe), tmp_path)
    gate = CostGate(proxy, CostLimits(latency_ms=10), None)
    rejection = gate.reject(make_candidate())
    assert rejection is not None
    beside = {"latency_core_share": share} if said else {}
    assert rejection.cost == {"latency_ms": 16.0, **beside}
    why = "; measured on a busy machine (40 % of a core)" if said else ""
    assert rejection.reason == f"latency_ms 16 exceed the limit of 10{why}"
