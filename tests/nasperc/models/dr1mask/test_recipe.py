import pytest
from pydantic import ValidationError

from nasperc.models.dr1mask.recipe import DR1MaskRecipe


def test_the_defaults_are_the_instance_segmenter_of_table_5_8() -> None:
    recipe = DR1MaskRecipe()
    assert (recipe.width, recipe.factors, recipe.context_on) == (32, "both", "box_tower")
    assert (recipe.embedding, recipe.bases, recipe.attention, recipe.rank) == ("factored", 4, 14, 4)
    assert (recipe.divisor, recipe.upsampling, recipe.region) == (4, "aligned", 56)
    assert recipe.semantic is not None
    assert (recipe.semantic.weight, recipe.semantic.level) == (0.3, "P3")


@pytest.mark.parametrize(("factors", "channels"), [("neither", 0), ("A", 32), ("B", 32), ("both", 64)])
def test_a_context_has_the_factors_that_are_used(factors: str, channels: int) -> None:
    assert DR1MaskRecipe.model_validate({"factors": factors}).context_channels == channels


def test_plain_values_say_it_all() -> None:
    recipe = DR1MaskRecipe(embedding="vector", divisor=128, upsampling="resized", semantic=None)
    assert DR1MaskRecipe.model_validate(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"factors": "C"}, "neither.*both"),
        ({"context_on": "backbone"}, "neck.*box_tower"),
        ({"embedding": "tensor"}, "vector.*full.*factored"),
        ({"divisor": 16}, "4, 32 or 128"),
        ({"region": 7}, "must not exceed region"),
        ({"merger": "blender"}, "merger"),
        ({"positives": 0}, "positives"),
    ],
)
def test_what_does_not_fit_is_refused(choices: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DR1MaskRecipe.model_validate(choices)


def test_a_vector_has_no_attention_to_fit() -> None:
    assert DR1MaskRecipe(region=7, embedding="vector").region == 7
