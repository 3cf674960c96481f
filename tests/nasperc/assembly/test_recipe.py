import pytest

from nasperc.assembly.recipe import ModelRecipe
from nasperc.errors import InputError
from nasperc.models.fcos.preset import PRESETS


def test_overrides_replace_keys_of_the_preset():
    preset = ModelRecipe(preset="adelaidet", preset_overrides={"nms_iou": 0.5}).head_preset()
    assert preset.nms_iou == 0.5
    assert preset.box_loss == PRESETS["adelaidet"].box_loss


@pytest.mark.parametrize("recipe", [{"preset": "fcos"}, {"preset_overrides": {"nms": 0.5}}])
def test_unknown_presets_and_keys_are_refused(recipe):
    with pytest.raises(InputError):
        ModelRecipe(**recipe).head_preset()
