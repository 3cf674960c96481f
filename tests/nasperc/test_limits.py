from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from nasperc.data.classes_file import read_classes_file
from nasperc.data.dataset import DetectionDataset
from nasperc.data.recipe import DataRecipe, SyntheticRecipe
from nasperc.errors import InputError
from nasperc.evaluation.recipe import CostRecipe
from nasperc.limits import LONGEST_NAME, LONGEST_SIDE, MOST_CLASSES, require_names
from nasperc.models.backbones.build import BackboneRecipe
from nasperc.recipe.reading import load_recipe, recipe_names
from nasperc.training.recipe import TrainingRecipe
from nasperc.training.segmentation_recipe import StaticTrainingRecipe, VideoTrainingRecipe
from proxy_tasks.detection_recipe import DetectionProxyRecipe
from proxy_tasks.video_recipe import VideoProxyRecipe


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [
        (TrainingRecipe, "test_short_side", 60_000),
        (TrainingRecipe, "max_long_side", 10**7),
        (TrainingRecipe, "short_sides", (800, 60_000)),
        (TrainingRecipe, "crop", 60_000),
        (TrainingRecipe, "batch_size", 10**6),
        (StaticTrainingRecipe, "crop", (600, 60_000)),
        (StaticTrainingRecipe, "scales", (1.0, 1000.0)),
        (StaticTrainingRecipe, "batch_size", 10**6),
        (VideoTrainingRecipe, "pad", 60_000),
        (VideoTrainingRecipe, "sequence_length", 10**6),
        (DetectionProxyRecipe, "short_side", 60_000),
        (DetectionProxyRecipe, "views", 10**6),
        (DetectionProxyRecipe, "batch_size", 10**6),
        (DetectionProxyRecipe, "finetune_width", 32_000),
        (VideoProxyRecipe, "long_side", 60_000),
        (VideoProxyRecipe, "views", 10**6),
        (CostRecipe, "size", (64_000, 64)),
        (CostRecipe, "classes", 10**9),
        (BackboneRecipe, "width_mult", 1000.0),
        (SyntheticRecipe, "size", (60_000, 60_000)),
        (DataRecipe, "val_split", "x" * 1000),
    ],
)
def test_a_digit_too_many_is_refused(model: type[BaseModel], key: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=key):
        model.model_validate({key: value})


def test_no_bound_is_a_large_one() -> None:
    """As it is commonly written."""
    assert TrainingRecipe(max_long_side=99_999).max_long_side == 99_999


@pytest.mark.parametrize("name", recipe_names())
def test_the_recipes_of_the_package_are_far_below(name: str) -> None:
    recipe = load_recipe(name)
    assert 2 * recipe.fulltrain.max_long_side < LONGEST_SIDE


def test_names_are_bounded(tmp_path: Path) -> None:
    longest = "x" * LONGEST_NAME
    require_names([longest, "b"], where="here")
    require_names([], where="here")
    with pytest.raises(
        InputError, match=r"a class may have 200 characters at most, but got 201: xxx.*\(in here\)"
    ):
        require_names(["a", longest + "x"], where="here")
    with pytest.raises(InputError, match="10000 classes at most, but got 10001"):
        require_names([str(number) for number in range(MOST_CLASSES + 1)], where="here")
    with pytest.raises(InputError, match=r"200 characters .*\(in toy train\)"):
        DetectionDataset("toy", "train", ("x" * 1_000_000,), [])
    (tmp_path / "classes.txt").write_text("a\n" + "x" * 1000)
    with pytest.raises(InputError, match=r"200 characters .*classes\.txt"):
        read_classes_file(tmp_path / "classes.txt")
