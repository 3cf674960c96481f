from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel

from controllers.service.resume import first_difference
from nasperc.recipe.reading import load_recipe
from nasperc.recipe.root import Recipe
from nasperc.search.recorded_recipe import EXECUTION, LIMITS, _plain, recorded_recipe

MakeRecipe = Callable[..., Recipe]


def test_what_may_change_is_not_in_it(toy_recipe: MakeRecipe) -> None:
    recipe = toy_recipe()
    recorded = recorded_recipe(recipe)
    assert recorded == json.loads(json.dumps(recorded, allow_nan=False))
    assert recorded == recorded_recipe(recipe.to_dict())
    others = {
        "workers": 7,
        "executor": "ray",
        "top": 3,
        "candidate_time_limit_s": 5.0,
        "worker_memory_gib": 3.0,
    }
    assert recorded_recipe(toy_recipe(others)) == recorded
    assert not recorded["search"].keys() & {*EXECUTION, *LIMITS}
    # A plugin may lie elsewhere.
    assert recorded["space"]["name"] == "toy_plugin.py:ToySpace"


def test_everything_else_is(toy_recipe: MakeRecipe) -> None:
    recipe = load_recipe("demo")
    recorded, whole = recorded_recipe(recipe), recipe.to_dict()
    for key in (*EXECUTION, *LIMITS):
        del whole["search"][key]
    assert recorded == whole
    changed = recorded_recipe(load_recipe("demo", [{"controller": {"name": "evolution"}, "seed": 9}]))
    assert first_difference(recorded, changed) == ("seed", recipe.seed, 9)
    budget = toy_recipe().search.budget
    difference = first_difference(
        recorded_recipe(toy_recipe()), recorded_recipe(toy_recipe({"budget": "7"}, raises=[1]))
    )
    assert difference in (("proxy.raises", [], [1]), ("search.budget", budget, "7"))


def test_of_a_path_only_that_there_is_one(tmp_path: Path, toy_recipe: MakeRecipe) -> None:
    def at(path: Path) -> Recipe:
        recipe = toy_recipe({"warm_start": [str(path)]})
        return recipe.model_copy(update={"data": recipe.data.model_copy(update={"path": path})})

    one, other, none = (
        recorded_recipe(at(tmp_path / "a")),
        recorded_recipe(at(tmp_path / "b")),
        recorded_recipe(toy_recipe()),
    )
    assert one == other
    assert str(tmp_path) not in json.dumps(one)
    assert first_difference(one, none) == ("data.path", "(a path)", None)


def test_numbers_that_json_has_not_are_written_out() -> None:
    class Options(BaseModel):
        limit: float = float("inf")

    assert _plain(Options()) == {"limit": "inf"}
