"""The recipe section of the model: backbone, head preset, segmentation decoder."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nasperc.errors import InputError, shown
from nasperc.models.backbones.build import BackboneRecipe
from nasperc.models.fcos.preset import FCOSPreset, get_preset


class ModelRecipe(BaseModel):
    """``preset`` is one of the detection head's; ``preset_overrides`` replaces some of its keys.

    ``segmentation_decoder``: of the per-frame network that dynamic cells are put on, by the name of the whole network.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: BackboneRecipe = BackboneRecipe()
    preset: str = "nas_fcos"
    preset_overrides: dict[str, Any] = Field(default_factory=dict)
    segmentation_decoder: Literal["arch2", "deeplab_v3_plus"] = "arch2"

    def head_preset(self) -> FCOSPreset:
        """The preset with its overrides.

        Raises:
            InputError: unknown preset, unknown or ill-typed override.
        """
        base = get_preset(self.preset)
        try:
            return FCOSPreset.model_validate({**base.model_dump(), **self.preset_overrides})
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(
                "a preset override must be a key of the head preset with a valid value",
                value=f"{'.'.join(map(str, first['loc']))}={shown(first['input'])} ({first['msg']})",
                where="recipe key model.preset_overrides",
                repair=f"Known keys: {', '.join(FCOSPreset.model_fields)}.",
            ) from error
