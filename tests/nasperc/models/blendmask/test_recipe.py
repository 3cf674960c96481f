import pytest
from pydantic import ValidationError

from nasperc.models.blendmask.deeplab_bottom import DeepLabBottomRecipe
from nasperc.models.blendmask.protonet import ProtoNetRecipe
from nasperc.models.blendmask.recipe import BlendMaskRecipe


def test_the_defaults_are_adelaidets() -> None:
    recipe = BlendMaskRecipe()
    assert recipe.name == "56_4_14"
    assert recipe.top_channels == 784
    assert recipe.bottom == ProtoNetRecipe(inputs=("P3", "P4", "P5"), width=128, convolutions=4)
    assert recipe.semantic is not None
    assert (recipe.semantic.weight, recipe.semantic.level) == (0.3, "P3")


def test_the_bottom_is_chosen_by_name() -> None:
    recipe = BlendMaskRecipe.model_validate({"bottom": {"name": "deeplab_v3_plus", "inputs": ["C3", "C5"]}})
    assert recipe.bottom == DeepLabBottomRecipe(inputs=("C3", "C5"), width=128)


def test_plain_values_say_it_all() -> None:
    for recipe in (BlendMaskRecipe(), BlendMaskRecipe(bottom=DeepLabBottomRecipe(width=256), semantic=None)):
        assert BlendMaskRecipe.model_validate(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize(
    "choices",
    [
        {"merger": "weighted_sum", "attention": 1},
        {"merger": "assembler", "attention": 4, "bases": 16, "top_interpolation": "nearest"},
        {"region": 14, "attention": 14},
        {"bases": 1},
    ],
)
def test_configurations_at_the_border_are_taken(choices: dict[str, object]) -> None:
    BlendMaskRecipe.model_validate(choices)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"region": 13}, "must not exceed region"),
        ({"merger": "weighted_sum"}, "set merger .* or attention"),
        ({"attention": 1}, "set merger .* or attention"),
        ({"merger": "assembler", "attention": 4, "bases": 15, "top_interpolation": "nearest"}, "to 16"),
        ({"merger": "assembler", "attention": 2, "bases": 4}, "set top_interpolation to nearest"),
        ({"bottom": {"name": "deeplab_v3_plus", "inputs": ["P3"]}}, "inputs"),
        ({"bottom": {"name": "deeplab_v3_plus", "convolutions": 3}}, "convolutions"),
        ({"bottom": {"name": "protonet", "inputs": []}}, "inputs"),
        ({"bottom": {"name": "aspp"}}, "deeplab_v3_plus.*protonet"),
        ({"top_layer_on": "neck"}, "box_tower"),
        ({"resolution": 56}, "resolution"),
        ({"positives": 0}, "positives"),
    ],
)
def test_what_does_not_fit_is_refused(choices: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        BlendMaskRecipe.model_validate(choices)


def test_the_assembler_predicts_nothing_at_the_top() -> None:
    recipe = BlendMaskRecipe(merger="assembler", bases=16, attention=4, top_interpolation="nearest")
    assert recipe.top_channels == 0
