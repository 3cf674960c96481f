from __future__ import annotations

from pathlib import Path

import pytest

from nasperc.errors import InputError
from nasperc.fulltrain.run import results_folder
from nasperc.plugins import component_names
from nasperc.recipe.reading import parse_recipe
from nasperc.search.top10 import read_top10
from nasperc.tasks.base import Task
from nasperc.tasks.detection.task import DetectionTask
from nasperc.tasks.lookup import load_trained, model_names, own_task, recipe_task, task_section
from nasperc.tasks.video.task import VideoTask
from nasperc.training.checkpoint import save_checkpoint


def test_no_two_tasks_have_a_model_of_one_name() -> None:
    models = [model for name in component_names("task") for model in _task(name).models]
    assert len(models) == len(set(models))
    assert {"detection", "fcos", "video", "video_segmentation"} <= set(model_names())


def _task(name: str) -> type[Task]:
    return recipe_task(parse_recipe({"task": {"name": name}}, where="test"))


def test_a_proxy_task_names_its_full_training() -> None:
    assert recipe_task(parse_recipe({}, where="test")) is DetectionTask
    video = {"space": {"name": "dynamic_cell"}, "proxy": {"name": "video_segmentation"}}
    assert recipe_task(parse_recipe(video, where="test")) is VideoTask
    assert recipe_task(parse_recipe({**video, "task": {"name": "detection"}}, where="test")) is DetectionTask


def test_what_names_none_is_refused_and_never_taken_for_detection(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("op1,score\n0,0.5\n1,0.25\n")
    document = {"space": {"name": "table", "file": str(table)}, "proxy": {"name": "table"}}
    recipe = parse_recipe(document, where="test")
    assert own_task(recipe) is None
    with pytest.raises(
        InputError, match=r"needs a task, but got the proxy task table, which names none.*--task"
    ):
        recipe_task(recipe)


@pytest.mark.parametrize(
    ("typed", "section"),
    [
        ("fcos", {"name": "detection", "model": "fcos"}),
        ("detection", {"name": "detection"}),
        ("video_segmentation", {"name": "video", "model": "video_segmentation"}),
        ("my/file.py:Mine", {"name": "my/file.py:Mine"}),
    ],
)
def test_a_task_is_typed_by_its_name_or_by_that_of_a_model(typed: str, section: dict[str, str]) -> None:
    assert task_section(typed) == section


def test_another_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InputError, match=r"one of .*fcos.*video_segmentation, but got boxes"):
        task_section("boxes")


def test_an_unknown_model_of_a_task_is_refused() -> None:
    recipe = parse_recipe({"task": {"name": "detection", "model": "boxes"}}, where="test")
    with pytest.raises(InputError, match="model of the task detection must be one of fcos, but got boxes"):
        recipe_task(recipe)


def test_the_search_s_own_task_has_the_plain_folder(top10: Path) -> None:
    recipe = read_top10(top10).recipe
    for typed in (None, "fcos", "detection"):
        assert results_folder(top10.parent, recipe, typed) == top10.parent / "fulltrain"
    assert results_folder(top10.parent, recipe, "video") == top10.parent / "fulltrain-video_segmentation"


def test_a_checkpoint_of_an_unknown_task(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pt", {"task": "boxes"})
    with pytest.raises(
        InputError,
        match=r"must be one of fcos, blendmask, .*blendmask_panoptic, .*video_segmentation, but got boxes",
    ):
        load_trained(tmp_path / "a.pt")
