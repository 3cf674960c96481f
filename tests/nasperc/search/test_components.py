from __future__ import annotations

from pathlib import Path

import pytest

from nasperc.errors import InputError
from nasperc.recipe.reading import parse_recipe
from nasperc.recipe.root import Recipe
from nasperc.search.components import build_proxy, build_space
from proxy_tasks.detection import DetectionProxy
from proxy_tasks.table import TableProxy
from proxy_tasks.video_segmentation import VideoSegmentationProxy


@pytest.fixture
def video_recipe() -> Recipe:
    names = {"space": {"name": "dynamic_cell"}, "proxy": {"name": "video_segmentation"}}
    return parse_recipe({**names, "video": {"static": {"epochs": 3}}}, where="test")


def test_a_proxy_task_gets_the_sections_that_it_asks_for(video_recipe: Recipe, tmp_path: Path) -> None:
    task = build_proxy(video_recipe, build_space(video_recipe), tmp_path)
    assert isinstance(task, VideoSegmentationProxy)
    assert task.setup.context.sections == {"video": video_recipe.video}
    assert task.setup.static_training.epochs == 3
    recipe = parse_recipe({}, where="test")
    detection = build_proxy(recipe, build_space(recipe), tmp_path)
    assert isinstance(detection, DetectionProxy)
    assert detection.setup.context.sections == {}


@pytest.mark.parametrize("name", ["nowhere", "seed", "to_dict"])
def test_only_sections_may_be_asked_for(
    video_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(VideoSegmentationProxy, "sections", (name,))
    with pytest.raises(InputError, match=f"sections of the recipe only.*{name}.*fulltrain"):
        build_proxy(video_recipe, build_space(video_recipe), tmp_path)


def test_proxy_tasks_name_their_full_training() -> None:
    named = (DetectionProxy.fulltrain, VideoSegmentationProxy.fulltrain, TableProxy.fulltrain)
    assert named == ("detection", "video", None)
