"""The recipe section of the backbone, and the table of known backbones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from nasperc.errors import InputError
from nasperc.models.backbones.mobilenet_v2 import MobileNetV2

NormalisationName = Literal["imagenet", "tf", "caffe"]

BACKBONES: dict[str, Callable[..., nn.Module]] = {"mobilenet_v2": MobileNetV2}

# torchvision's release files carry the start of their hash in the name; all of them expect mean / std.
_TORCHVISION_RELEASES = ("mobilenet_v2-b0353104", "mobilenet_v2-7ebf99e0")


class BackboneRecipe(BaseModel):
    """Which backbone, from which weights.

    ``normalisation`` belongs to the weights: null only where it is known without being told (no weights, or
    a torchvision release file). ``freeze_at`` (stages without gradient) and ``frozen_bn`` are null for "as
    the weights allow". With weights the stem and the first stage are frozen (NAS-FCOS release) and BatchNorm
    is constant (the release does so with its ResNets; its MobileNetV2, and so Table 7.2, has it trainable).
    A random initialisation trains everything: a constant BatchNorm with made-up statistics would leave it
    without any normalisation.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["mobilenet_v2"] = "mobilenet_v2"
    weights: Path | None = None
    normalisation: NormalisationName | None = None
    freeze_at: int | None = Field(default=None, ge=0, le=8)
    frozen_bn: bool | None = None
    width_mult: float = Field(default=1.0, gt=0)

    def input_normalisation(self) -> NormalisationName:
        """The normalisation of the images.

        Raises:
            InputError: weights are given whose normalisation cannot be known.
        """
        if self.normalisation is not None:
            return self.normalisation
        if self.weights is None or self.weights.stem in _TORCHVISION_RELEASES:
            return "imagenet"
        raise InputError(
            "the normalisation that backbone weights expect must be named",
            value="null",
            where="recipe key model.backbone.normalisation",
            repair=f"Set imagenet, tf or caffe (--normalisation) for {self.weights}, as its source says.",
        )


def build_backbone(recipe: BackboneRecipe) -> nn.Module:
    """The backbone of ``recipe``, randomly initialised: the weights file, if any, is loaded by the caller.

    Raises:
        InputError: no backbone has that name.
    """
    if recipe.name not in BACKBONES:
        raise InputError(
            f"a backbone must be one of {', '.join(sorted(BACKBONES))}",
            value=repr(recipe.name),
            where="recipe key model.backbone.name",
            repair="Choose one of them.",
        )
    pretrained = recipe.weights is not None
    options: dict[str, Any] = {
        "freeze_at": recipe.freeze_at if recipe.freeze_at is not None else (2 if pretrained else 0),
        "frozen_bn": recipe.frozen_bn if recipe.frozen_bn is not None else pretrained,
    }
    return BACKBONES[recipe.name](width_mult=recipe.width_mult, **options)
