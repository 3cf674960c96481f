from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nasperc.errors import InputError
from nasperc.recipe.reading import merge, parse_recipe
from nasperc.recipe.root import Recipe
from nasperc.search.run_folder import RunFolder, list_runs, resolve_paths

MakeRecipe = Callable[..., Recipe]


def test_a_recipe_comes_back_as_it_was_kept(tmp_path: Path, toy_recipe: MakeRecipe) -> None:
    folder = RunFolder(tmp_path / "runs" / "one")
    folder.create(toy_recipe())
    assert folder.read_recipe() == resolve_paths(toy_recipe())


def test_paths_are_kept_absolute(
    tmp_path: Path, toy_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plugin.py").write_text(Path(toy_recipe().space.name.rpartition(":")[0]).read_text())
    paths = {
        "space": {"name": "plugin.py:ToySpace"},
        "data": {"path": "my/images", "classes": "names.txt"},
        "model": {"backbone": {"weights": "mobilenet.pth", "normalisation": "imagenet"}},
    }
    recipe = resolve_paths(parse_recipe(merge(toy_recipe().to_dict(), paths), where="test"))
    assert recipe.space.name == f"{tmp_path}/plugin.py:ToySpace"
    assert recipe.data.path == tmp_path / "my/images"
    assert recipe.data.classes == tmp_path / "names.txt"
    assert recipe.model.backbone.weights == tmp_path / "mobilenet.pth"


def test_the_run_that_was_written_last_comes_first(tmp_path: Path, toy_recipe: MakeRecipe) -> None:
    assert list_runs(tmp_path / "runs") == []
    created = []
    for number, age in enumerate((0, 20, 10), start=1):
        path = tmp_path / "runs" / f"search-{number:03d}"
        RunFolder(path).create(toy_recipe())
        os.utime(path / "recipe.yaml", (1000 - age, 1000 - age))
        created.append(path)
    (tmp_path / "runs" / "prepared").mkdir()
    assert list_runs(tmp_path / "runs") == [created[0], created[2], created[1]]


@pytest.mark.parametrize("text", [None, "seed: [", "- 1", "seeds: 1"])
def test_a_folder_without_a_valid_recipe(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        RunFolder(tmp_path).read_recipe()
    assert str(tmp_path) in caught.value.where
