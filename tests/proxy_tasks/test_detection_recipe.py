"""The thesis's numbers, and what a stage may override."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from nasperc.errors import InputError
from proxy_tasks.detection_recipe import DetectionProxyRecipe


def test_defaults_are_those_of_thesis_7_4_1() -> None:
    recipe = DetectionProxyRecipe()
    assert (recipe.short_side, recipe.crop, recipe.batch_size, recipe.iterations) == (384, 384, 200, 300)
    assert (recipe.learning_rate, recipe.polyak) == (8e-4, 0.9)
    assert round(5715 * recipe.meta_train) == 4000
    assert recipe.interest_scale == pytest.approx(0.48)


def test_a_crop_larger_than_the_image_is_refused() -> None:
    with pytest.raises(ValidationError, match="crop <= short_side"):
        DetectionProxyRecipe(short_side=384, crop=416)


def test_a_stage_overrides_the_schedule() -> None:
    recipe = DetectionProxyRecipe().for_stage({"iterations": 7})
    assert recipe == DetectionProxyRecipe(iterations=7)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"crop": 256}, "cache depends on.*crop"),
        ({"iteration": 7}, "key of the proxy recipe.*iteration.*Known keys: batch_size"),
        ({"iterations": 0}, "key of the proxy recipe.*iterations=0"),
    ],
)
def test_a_stage_override_that_cannot_be_is_one_clear_line(overrides: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DetectionProxyRecipe().for_stage(overrides)
