"""The thesis's numbers, and what cannot be."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from nasperc.errors import InputError
from proxy_tasks.video_recipe import VideoProxyRecipe


def test_defaults_are_those_of_thesis_6_4_1() -> None:
    recipe = VideoProxyRecipe()
    assert (recipe.sequence_length, recipe.pad, recipe.crop) == (3, 400, (600, 600))
    assert (recipe.batch_size, recipe.epochs, recipe.learning_rate, recipe.meta_val) == (48, 20, 8e-3, 0.1)
    # 321 of CamVid's 357 triplets, 20 times.
    assert recipe.iterations(321) == 134


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block": 2}, "block >= sequence_length"),
        ({"sequence_length": 1}, "sequence_length"),
        ({"batch_size": 1}, "at least two"),
        ({"crop": (16, 600)}, "crop"),
        ({"loss_size": "images"}, "loss_size"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        VideoProxyRecipe.model_validate(changes)


def test_a_stage_may_not_change_what_is_cached() -> None:
    assert VideoProxyRecipe().for_stage({"epochs": 3}) == VideoProxyRecipe(epochs=3)
    with pytest.raises(InputError, match=r"cache depends on.*crop, views"):
        VideoProxyRecipe().for_stage({"views": 2, "crop": (64, 64)})
