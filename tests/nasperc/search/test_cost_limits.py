"""Whole searches under limits, with a cost target, and after another run."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from controllers.service.journal import Event, Journal
from nasperc.errors import InputError
from nasperc.recipe.root import Recipe
from nasperc.search.pareto import read_pareto
from nasperc.search.run import run_search
from nasperc.search.top10 import read_top10

MakeRecipe = Callable[..., Recipe]


def events(folder: Path, kind: str) -> list[Event]:
    return [event for event in Journal.read(folder / "journal.jsonl") if event["event"] == kind]


def printed(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_search_under_a_limit(tmp_path: Path, toy_recipe: MakeRecipe, console: Console) -> None:
    """The sum of five tokens of 0 to 3, each a million: half of the bodies cost more than 8 million."""
    folder = tmp_path / "runs" / "one"
    recipe = toy_recipe({"limits": {"flops": "8.5M", "latency_ms": 100}}, knows_latency=True)
    path = run_search(recipe, folder, console=console)
    completions, rejections = events(folder, "completion"), events(folder, "rejection")
    # Of the eight heads on the best body some are too dear; the others are soon known.
    stages = [event["stage"] for event in completions]
    assert stages.count("body") == 18
    assert 1 <= stages.count("head") < 6
    assert len(rejections) > 3
    assert all(event["cost"]["flops"] <= 8e6 for event in completions)
    assert all(event["cost"]["flops"] >= 9e6 for event in rejections)
    assert not {event["hash"] for event in rejections} & {event["hash"] for event in completions}
    # Under a limit latency is measured and journaled, but not of what is too dear already.
    assert {event["cost"]["latency_ms"] for event in completions if event["stage"] == "body"} == {8.0}
    assert all("latency_ms" not in event["cost"] for event in rejections)
    assert f", {len(rejections)} rejected," in printed(console)
    top10, fronts = read_top10(path), read_pareto(folder / "pareto.json")
    assert len(top10.entries) == 10
    assert top10.entries[0].cost["latency_ms"] == 16.0
    measured = {(front.stage, front.cost) for front in fronts}
    assert measured == {(s, c) for s in ("body", "head") for c in ("flops", "params", "latency_ms")}
    assert events(folder, "run_start")[0]["plan"]["limits"] == {
        "flops": 8.5e6,
        "params": None,
        "latency_ms": 100.0,
    }
    text = (folder / "pareto.json").read_text()
    (folder / "pareto.json").unlink()
    run_search(None, folder, resume=True, console=console)
    assert (folder / "pareto.json").read_text() == text


def test_a_limit_that_nothing_keeps_is_one_clear_error(
    tmp_path: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    recipe = toy_recipe({"limits": {"params": 999}})
    with pytest.raises(InputError, match="params limited to 999, the cheapest rejected 1000") as caught:
        run_search(recipe, tmp_path / "run", console=console)
    assert "higher limits" in caught.value.repair
    assert not events(tmp_path / "run", "completion")


def test_a_search_with_a_cost_target(tmp_path: Path, toy_recipe: MakeRecipe, console: Console) -> None:
    folder = tmp_path / "run"
    target = {"weight": 5.0, "target": "1M"}
    path = run_search(toy_recipe({"cost_target": target}), folder, console=console)
    for event in events(folder, "completion"):
        tokens = [
            token for part in event["architecture"]["parts"].values() if part != "original" for token in part
        ]
        assert event["penalty"] == pytest.approx(5 * math.log(1 + sum(tokens)))
    heads = [event for event in events(folder, "completion") if event["stage"] == "head"]
    best = max(heads, key=lambda event: event["reward"] - event["penalty"])
    entry = read_top10(path).entries[0]
    assert (entry.hash, entry.reward, entry.penalty) == (best["hash"], best["reward"], best["penalty"])
    # The next stage builds on the best body after its penalty, which at this weight is the cheapest one.
    bodies = [event for event in events(folder, "completion") if event["stage"] == "body"]
    chosen = min(bodies, key=lambda event: event["penalty"] - event["reward"])
    assert heads[0]["architecture"]["parts"]["body"] == chosen["architecture"]["parts"]["body"]
    assert "penalised" in printed(console)


def test_a_warm_start_from_another_run(tmp_path: Path, toy_recipe: MakeRecipe, console: Console) -> None:
    first = tmp_path / "runs" / "first"
    run_search(toy_recipe(), first, console=console)
    bodies = sum(event["stage"] == "body" for event in events(first, "completion"))
    second = tmp_path / "runs" / "second"
    recipe = toy_recipe({"warm_start": [str(first)], "budget": "8"}).model_copy(update={"seed": 4})
    path = run_search(recipe, second, console=console)
    assert len(events(second, "external")) == bodies == 18
    assert events(second, "warm_start")[0]["evaluations"] == bodies
    assert len(events(second, "completion")) == 8
    assert len(read_top10(path).entries) == 8
    # The heads of the first run stand on another body.
    assert "no warm start for the stage head" in printed(console)
    assert "fixed parts" in printed(console)


def test_a_warm_start_that_does_not_fit_is_refused_before_the_search(
    tmp_path: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    first = tmp_path / "runs" / "first"
    run_search(toy_recipe(), first, console=console)
    recipe = toy_recipe({"warm_start": [str(first)]}, measures="something else")
    with pytest.raises(InputError, match="must have the proxy fingerprint of this run"):
        run_search(recipe, tmp_path / "runs" / "second", console=console)
    assert not (tmp_path / "runs" / "second" / "journal.jsonl").exists()
