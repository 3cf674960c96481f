"""What SmalMask changes of the preset of its detector."""

from __future__ import annotations

from nasperc.models.fcos.preset import FCOSPreset, sizes_of_interest
from nasperc.models.smalmask.recipe import SmalMaskRecipe


def smalmask_preset(preset: FCOSPreset, recipe: SmalMaskRecipe) -> FCOSPreset:
    """``preset`` with the sizes of interest of the recipe's canonical length, for as many levels (thesis 3.3.2).

    They are the boxes' too: "these also affect the bounding box detection" (3.5.1).
    """
    if recipe.canonical_length is None:
        return preset
    sizes = sizes_of_interest(recipe.canonical_length, len(preset.sizes_of_interest))
    return preset.model_copy(update={"sizes_of_interest": sizes})
