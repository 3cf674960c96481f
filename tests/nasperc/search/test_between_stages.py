"""A search whose second stage builds on what somebody outside has chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from rich.console import Console

from controllers.service.journal import Journal
from nasperc.errors import InputError
from nasperc.recipe.root import Recipe
from nasperc.search.between_stages import Selection, selected_count
from nasperc.search.run import run_search
from nasperc.search.top10 import read_top10

MakeRecipe = Callable[..., Recipe]


class Chosen:
    """A selector of any function, which allows any data."""

    def __init__(self, choose: Callable[[Path, Mapping[str, int]], Selection]) -> None:
        self._choose = choose

    def check(self, recipe: Recipe, prepared: Path) -> None:
        pass

    def __call__(self, candidates: Path, widths: Mapping[str, int]) -> Selection:
        return self._choose(candidates, widths)


@Chosen
def third(path: Path, widths: Mapping[str, int]) -> Selection:
    assert widths == {"body": 16}
    entries = read_top10(path).entries
    assert len(entries) == 4
    assert all(entry.stage == "body" for entry in entries)
    return Selection(entries[2].hash, {entry.hash: float(entry.rank) for entry in entries})


def test_the_rule_of_selection() -> None:
    assert selected_count("proxy") is None
    assert selected_count("fulltrain:20") == 20


@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_the_second_stage_builds_on_the_selected_architecture(
    tmp_path: Path, toy_recipe: MakeRecipe, console: Console, executor: str
) -> None:
    recipe = toy_recipe({"select": "fulltrain:4", "executor": executor, "dashboard": False})
    folder = tmp_path / "runs" / "one"
    run_search(recipe, folder, console=console, selector=third)
    chosen = read_top10(folder / "select-body.json").entries[2]
    events = Journal.read(folder / "journal.jsonl")
    heads = [event for event in events if event["event"] == "completion" and event["stage"] == "head"]
    assert len(heads) == 6
    assert all(
        tuple(event["architecture"]["parts"]["body"]) == chosen.architecture.parts["body"] for event in heads
    )
    (selection,) = [event for event in events if event["event"] == "selection"]
    assert selection["hash"] == chosen.hash
    assert selection["scores"][chosen.hash] == 3.0
    assert f"chosen: {chosen.hash[:8]}" in console.file.getvalue()  # type: ignore[attr-defined]


def test_an_interrupted_selection_is_made_again(
    tmp_path: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    @Chosen
    def interrupted(path: Path, widths: Mapping[str, int]) -> Selection:
        raise KeyboardInterrupt

    folder = tmp_path / "runs" / "one"
    with pytest.raises(KeyboardInterrupt):
        run_search(toy_recipe({"select": "fulltrain:4"}), folder, console=console, selector=interrupted)
    run_search(None, folder, resume=True, console=console, selector=third)
    events = Journal.read(folder / "journal.jsonl")
    assert [event["id"] for event in events if event["event"] == "completion"] == list(range(24))
    assert sum(event["event"] == "selection" for event in events) == 1


def test_a_selector_must_choose_a_candidate(tmp_path: Path, toy_recipe: MakeRecipe, console: Console) -> None:
    with pytest.raises(InputError, match="one of the candidates"):
        run_search(
            toy_recipe({"select": "fulltrain:4"}),
            tmp_path / "runs" / "one",
            console=console,
            selector=Chosen(lambda path, widths: Selection("0" * 64, {})),
        )


def test_data_that_cannot_select_are_refused_before_anything_is_prepared(
    tmp_path: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    class Refusing(Chosen):
        def check(self, recipe: Recipe, prepared: Path) -> None:
            raise InputError("AP must be defined", value="val", where=prepared, repair="Annotate it.")

    folder = tmp_path / "runs" / "one"
    refusing = Refusing(lambda path, widths: Selection("", {}))
    with pytest.raises(InputError, match="AP must be defined"):
        run_search(toy_recipe({"select": "fulltrain:4"}), folder, console=console, selector=refusing)
    assert not folder.exists()
    # Where nothing is selected, nobody asks.
    run_search(toy_recipe(), folder, console=console, selector=refusing)


@pytest.mark.parametrize("rule", ["fulltrain", "fulltrain:0", "ap", "fulltrain:x"])
def test_another_rule_is_refused(toy_recipe: MakeRecipe, rule: str) -> None:
    with pytest.raises(InputError, match=r"search\.select"):
        toy_recipe({"select": rule})


@pytest.mark.parametrize("select", ["proxy", "fulltrain:4"])
def test_every_stage_is_prepared_with_its_fixed_parts(
    tmp_path: Path, toy_recipe: MakeRecipe, console: Console, select: str
) -> None:
    folder = tmp_path / "runs" / "one"
    recipe = toy_recipe({"select": select}, prepares_stages=True, interrupts_once=[20])
    with pytest.raises(KeyboardInterrupt):
        run_search(recipe, folder, console=console, selector=third)
    prepared = [path for path in (tmp_path / "runs" / "prepared").iterdir() if path.name.startswith("head-")]
    assert len(prepared) == 1
    # What a later session needs is made again.
    prepared[0].unlink()
    run_search(None, folder, resume=True, console=console, selector=third)
    kinds = [event["event"] for event in Journal.read(folder / "journal.jsonl")]
    assert kinds.count("completion") == 24
    assert "failure" not in kinds
    assert kinds.count("selection") == 1
