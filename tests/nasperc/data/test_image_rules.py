import pytest
from pydantic import ValidationError

from nasperc.data.image_rules import AS_STORED, ImageRules
from nasperc.data.recipe import DataRecipe


@pytest.mark.parametrize(
    "bounds",
    [(1, 1), (2, 1), (0, float("inf")), (float("nan"), 1), (-1.7e308, 1.7e308), (0,), (0, 1, 2), "ab"],
)
def test_a_range_is_two_finite_numbers_in_order(bounds):
    with pytest.raises(ValidationError):
        ImageRules(range=bounds)


def test_rules_are_plain_values_and_back():
    rules = ImageRules(range=(-1, 2.5), exif="apply")
    plain = rules.model_dump(mode="json")
    assert plain == {"range": [-1.0, 2.5], "exif": "apply"}
    assert ImageRules.model_validate(plain) == rules
    # What checkpoints and recipes meant that do not have the keys.
    assert ImageRules.model_validate({}) == AS_STORED
    assert AS_STORED.model_dump(mode="json") == {"range": None, "exif": "ignore"}


def test_the_data_section_of_a_recipe_has_the_keys():
    data = DataRecipe.model_validate({"range": [0, 4095], "exif": "refuse", "format": "coco"})
    assert data.images == ImageRules(range=(0, 4095), exif="refuse")
    assert DataRecipe().images == AS_STORED
    with pytest.raises(ValidationError):
        DataRecipe.model_validate({"exif": "upright"})
